"""Circuits as people name them."""

import pytest
import synthetic

from pyloric_db.errors import QueryError
from pyloric_db.query.database import open as open_database
from pyloric_db.query.named import find_circuit


@pytest.fixture(scope="module")
def db(tmp_path_factory):
    path = tmp_path_factory.mktemp("named") / "db"
    synthetic.build(path)
    return open_database(path)


def test_by_id_and_by_netcode(db):
    netcode = db.query("circuit_id == 7", columns=["netcode"])["netcode"].item()
    assert find_circuit(db, "7") == 7
    if len(netcode) == 10 and netcode.isdigit():
        assert find_circuit(db, netcode) == 7


def test_a_netcode_that_is_not_there_is_no_id(db):
    with pytest.raises(QueryError, match="no circuit of the database has the netcode 0000000007"):
        find_circuit(db, "0000000007")
    with pytest.raises(QueryError, match="circuit 99 is not in the database"):
        find_circuit(db, "99")
