import pytest


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
