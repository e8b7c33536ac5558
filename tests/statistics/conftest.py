import pytest
import synthetic

from pyloric_db.query import database


@pytest.fixture(scope="session")
def db(tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "db"
    synthetic.build(path)
    return database.open(path)
