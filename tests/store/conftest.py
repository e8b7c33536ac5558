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


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path):
    """Somewhere to put a database: a directory, or a URL in a real object store."""
    return str(tmp_path / "db") if request.param == "disk" else request.getfixturevalue("url")


@pytest.fixture
def stored(pristine, place):
    """The files of a complete database that the test may damage, wherever, and its manifest."""
    import s3

    from pyloric_db.store.files import files_at

    path, manifest = pristine
    s3.upload(path, place)
    return files_at(place), manifest
