import pytest
import synthetic
from browsing import chromium
from serving import served

import pyloric_db
from pyloric_db.store.manifest import Axis

#: The synthetic circuits can be simulated, from their random states, if a circuit is said.
RECIPE = {
    "name": "tiny",
    "circuit": {"preset": "prinz2004"},
    "description": "<script>alert(1)</script> & co",
}


@pytest.fixture(scope="session")
def explorer_db(tmp_path_factory):
    """600 circuits of a grid with seeded random features. Not to be changed."""
    path = tmp_path_factory.mktemp("explorer") / "db"
    axes = (
        synthetic.cell_axis("abpd", 5),
        synthetic.cell_axis("lp", 5),
        Axis("gsyn_ab_lp_nS", "value", (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)),
        Axis("gsyn_lp_py_nS", "value", (0.0, 1.0, 10.0, 100.0)),
    )
    manifest = synthetic.make_manifest(axes, 600, 200, 5, recipe=RECIPE)
    synthetic.build(path, manifest)
    return pyloric_db.open(path)


@pytest.fixture(scope="session")
def address(explorer_db):
    """Where the explorer of `explorer_db` is served."""
    with served(explorer_db.path) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    """Closed with the module, early, for its event loop."""
    with chromium() as browser:
        yield browser
