import pytest
import synthetic

import pyloric_db


@pytest.fixture(scope="session")
def db(tmp_path_factory):
    """48 circuits on a complete grid of 2 x 3 x 4 x 2, with seeded random features."""
    path = tmp_path_factory.mktemp("figures") / "db"
    synthetic.build(path)
    return pyloric_db.open(path)


@pytest.fixture(scope="session")
def table(db):
    """All its columns."""
    return synthetic.expected(db.manifest)


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """Twelve circuits of two other cells."""
    path = tmp_path_factory.mktemp("figures") / "other"
    synthetic.build(path, synthetic.other_cells())
    return pyloric_db.open(path)


@pytest.fixture(scope="session")
def part(tmp_path_factory):
    """The same, of which one of three shards is finished: 20 circuits of the grid."""
    path = tmp_path_factory.mktemp("figures") / "part"
    synthetic.build(path, shards=[0])
    return pyloric_db.open(path)
