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
