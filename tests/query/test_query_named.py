"""Circuits as people name them."""

import pytest

from pyloric_db.errors import QueryError
from pyloric_db.query.database import open as open_database
from pyloric_db.query.named import find_circuit


def test_a_netcode_that_is_not_there_is_no_id(named_db):
    db = open_database(named_db)
    assert find_circuit(db, "15") == find_circuit(db, "1013111220") == 15
    with pytest.raises(QueryError, match="no circuit of the database has the netcode 0000000015"):
        find_circuit(db, "0000000015")
    with pytest.raises(QueryError, match="circuit 99999 is not in the database"):
        find_circuit(db, "99999")
    with pytest.raises(
        QueryError, match="'lp' is no circuit id: give a whole number or a netcode$"
    ):
        find_circuit(db, "lp")


def test_where_circuits_have_no_netcodes_none_is_asked_for(tiny_db):
    db = open_database(tiny_db)
    assert find_circuit(db, "15") == 15
    with pytest.raises(QueryError, match="'lp' is no circuit id: give a whole number$"):
        find_circuit(db, "lp")
    with pytest.raises(QueryError, match="circuit 1013111220 is not in the database"):
        find_circuit(db, "1013111220")
    with pytest.raises(QueryError, match="circuit 9999999999999999999 is not in the database"):
        find_circuit(db, "9" * 19)  # more than an integer of 64 bits
