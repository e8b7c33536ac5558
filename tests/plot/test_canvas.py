import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.plot.canvas import check_suffix, new_figure, save

pytest.importorskip("matplotlib")

SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}


@pytest.fixture
def figure():
    drawn = new_figure()
    drawn.subplots().plot([0, 1], [1, 0])
    return drawn


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_the_suffix_says_the_format(figure, tmp_path, suffix):
    from matplotlib import pyplot as plt

    file = tmp_path / f"x.{suffix}"
    save(figure, file)
    data = file.read_bytes()
    assert data.startswith(SIGNATURES[suffix]) and len(data) > 3000
    assert plt.get_fignums() == []  # none is left open


@pytest.mark.parametrize("name", ["x.txt", "x", "x.png.gif2"])
def test_unknown_formats(figure, tmp_path, name):
    for refuse in (check_suffix, lambda path: save(figure, path)):
        with pytest.raises(ConfigError, match=r"must end in one of \.png, \.svg and \.pdf"):
            refuse(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(figure, tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        save(figure, tmp_path / "nowhere" / "x.png")
