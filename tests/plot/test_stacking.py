import numpy as np
import pytest
from images import clutter_of

from pyloric_db.errors import QueryError
from pyloric_db.plot.stacking import _classes, _pooled, stack, stack_figure

AXES = ["abpd", "lp", "gsyn_ab_lp_nS", "gsyn_lp_py_nS"]
SHAPE = (2, 3, 4, 2)


def at(laid, **index):
    """The pixel at an index of each stacked axis."""
    sizes = dict(zip(AXES, SHAPE, strict=True))
    row = col = 0
    for name in laid.y:
        row = row * sizes[name] + index[name]
    for name in laid.x:
        col = col * sizes[name] + index[name]
    return laid.image[row, col]


def test_a_pixel_is_one_circuit_on_a_complete_grid(db, table):
    laid = stack(db, "period_ms")
    assert sorted(laid.x + laid.y) == sorted(AXES)
    assert laid.image.shape == (6, 8) and laid.circuits == np.isfinite(table["period_ms"]).sum()
    for circuit, index in enumerate(np.ndindex(SHAPE)):
        pixel = at(laid, **dict(zip(AXES, index, strict=True)))
        np.testing.assert_equal(pixel, table["period_ms"][circuit])
    assert clutter_of(_classes(laid.image)) == laid.clutter


def test_other_axes_are_averaged_over_circuits_with_a_value(db, table):
    laid = stack(db, "period_ms", ["lp", "gsyn_lp_py_nS"])
    cube = table["period_ms"].reshape(SHAPE)
    for lp in range(3):
        for g in range(2):
            mean = np.nanmean(cube[:, lp, :, g])
            assert at(laid, lp=lp, gsyn_lp_py_nS=g) == pytest.approx(mean, rel=1e-6)
    assert laid.circuits / laid.image.size == np.isfinite(cube).sum() / 6 < 8


def test_a_sample_is_stacked_over_the_axes_that_matter(part, table):
    laid = stack(part, "pyloric")
    flags = table["pyloric"][:20]
    where = np.array([np.unravel_index(i, SHAPE) for i in range(20)])
    spread = [
        np.var([flags[where[:, d] == v].mean() for v in np.unique(where[:, d])]) for d in range(4)
    ]
    assert AXES[int(np.argmax(spread))] in laid.x + laid.y
    assert laid.circuits / laid.image.size >= 5
    assert np.nansum(laid.image) > 0


def test_circuits_without_a_value_fill_no_pixel(part, table, monkeypatch):
    monkeypatch.setattr("pyloric_db.plot.stacking.CIRCUITS_PER_PIXEL", 2)
    laid = stack(part, "period_ms")
    assert laid.circuits == np.isfinite(table["period_ms"][:20]).sum() < 20
    assert laid.circuits / laid.image.size >= 2


def test_places_without_circuits_have_no_value(part):
    laid = stack(part, "pyloric", AXES)
    assert np.isfinite(laid.image).sum() == 20 and laid.image.size == 48


def test_the_figure_names_axes_values_and_units(db):
    figure = stack_figure(db, "period_ms")
    image, scale, upright, across = figure.axes
    laid = stack(db, "period_ms")
    drawn = image.images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(drawn, np.nan), laid.image)
    assert scale.get_ylabel() == "AB/PD burst start to next start (ms)"
    names = {"AB/PD", "LP", "AB-LP", "LP-PY"}
    labels = {t.get_text().strip() for t in upright.texts}
    labels |= {t.get_text() for t in across.get_yticklabels()}
    assert labels == names
    assert "AB-LP: 0, 0.1, 3, 30 nS" in figure._supxlabel.get_text()
    strips = across.images[0].get_array()
    assert strips.shape == (len(laid.x), laid.image.shape[1]) and strips.max() == 1


def test_a_scale_is_of_shares_or_goes_on_beyond_its_ends(db):
    flag = stack_figure(db, "pyloric").axes[0].images[0]
    assert flag.colorbar.extend == "neither" and flag.get_clim()[0] == 0
    assert flag.colorbar.ax.get_ylabel().startswith("share of circuits: ")
    number = stack_figure(db, "period_ms").axes[0].images[0]
    values = stack(db, "period_ms").image
    ends = np.quantile(values[np.isfinite(values)], (0.01, 0.99))
    assert number.colorbar.extend == "both" and number.get_clim() == pytest.approx(ends)


def test_a_stack_of_one_axis(db, table):
    figure = stack_figure(db, "period_ms", ["lp"])
    means = np.nanmean(table["period_ms"].reshape(SHAPE), axis=(0, 2, 3))
    assert figure.axes[0].images[0].get_array().tolist()[0] == pytest.approx(means.tolist())


def test_large_images_are_averaged_over_blocks(monkeypatch):
    monkeypatch.setattr("pyloric_db.plot.stacking.MOST_DRAWN", 2)
    image = np.array([[1, 3, np.nan], [np.nan, 5, np.nan], [7, 7, np.nan]], np.float32)
    assert _pooled(image).tolist()[0][0] == 3
    np.testing.assert_array_equal(_pooled(image), [[3, np.nan], [7, np.nan]])


def test_classes_have_as_many_pixels_each_and_none_for_no_value():
    grid = np.arange(81, dtype=np.float32)
    grid[80] = np.nan
    codes = _classes(grid)
    assert codes[80] == 0 and np.bincount(codes)[1:].tolist() == [10] * 8
    flags = np.array([0, 1, 1, 0], np.float32)
    assert _classes(flags).tolist() == [1, 2, 2, 1]


def test_classes_are_those_of_all_pixels_of_a_large_grid():
    """Values that repeat with the innermost axis, a rare flag, and quantiles."""
    levels = np.tile(np.array([5, 7, 9], np.float32), (300_000, 1))
    assert (_classes(levels) == [1, 2, 3]).all()
    rare = np.zeros((300_000, 3), np.float32)
    rare[1000, 2] = 1
    assert np.bincount(_classes(rare).ravel()).tolist() == [0, 899_999, 1]
    many = np.arange(900_000, dtype=np.float32).reshape(-1, 9) % 9_000
    shares = np.bincount(_classes(many).ravel())[1:] / many.size
    assert shares == pytest.approx(np.full(8, 1 / 8), abs=0.01)


@pytest.mark.parametrize(
    "column, axes, message",
    [
        ("perod_ms", None, "unknown column 'perod_ms'"),
        ("activity_lp", None, "activity_lp holds text"),
        ("period_ms", ["lpp"], "no axis 'lpp'; did you mean 'lp'"),
        ("period_ms", [], "no axis with several values"),
    ],
)
def test_stacks_that_cannot_be(db, column, axes, message):
    with pytest.raises(QueryError, match=message):
        stack(db, column, axes)


def test_circuits_that_are_no_grid(tmp_path):
    import synthetic

    import pyloric_db

    manifest = synthetic.make_manifest(axes=None, n_circuits=20)
    synthetic.build(tmp_path / "db", manifest)
    with pytest.raises(QueryError, match="no grid"):
        stack(pyloric_db.open(tmp_path / "db"))


def test_the_title_says_what_a_pixel_is(db, part, monkeypatch):
    def title(*arguments):
        return stack_figure(*arguments).axes[0].get_title()

    assert "a pixel is one circuit;" in title(db, "period_ms")
    with_period = stack(db, "period_ms").circuits
    assert f"({with_period} with a value on 6 pixels)" in title(db, "period_ms", ["abpd", "lp"])
    assert f"({stack(part).circuits} with a value on " in title(part)
    monkeypatch.setattr("pyloric_db.plot.stacking.MOST_DRAWN", 4)
    assert f"({with_period} with a value on 12 pixels)" in title(db, "period_ms")
