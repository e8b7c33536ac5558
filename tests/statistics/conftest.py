import pytest

from pyloric_db.query import database


@pytest.fixture(scope="session")
def db(pristine):
    return database.open(pristine[0])
