import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `import synthetic`


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    """A complete database that no test changes, and its manifest."""
    import synthetic

    path = tmp_path_factory.mktemp("pristine") / "db"
    return path, synthetic.build(path)


@pytest.fixture
def database(pristine, tmp_path):
    """A complete database that the test may damage, and its manifest."""
    import shutil

    path, manifest = pristine
    return shutil.copytree(path, tmp_path / "db"), manifest
