import pytest
import synthetic

from pyloric_db.query import database


@pytest.fixture(scope="session")
def pristine_ml(tmp_path_factory):
    """A complete database that no test changes."""
    path = tmp_path_factory.mktemp("ml") / "db"
    synthetic.build(path)
    return path


@pytest.fixture(scope="session")
def db(pristine_ml):
    return database.open(pristine_ml)
