import pytest
import synthetic


@pytest.fixture(scope="session")
def figures_db(tmp_path_factory):
    """48 circuits with seeded random features. Not to be changed."""
    path = tmp_path_factory.mktemp("looking") / "db"
    synthetic.build(path)
    return path
