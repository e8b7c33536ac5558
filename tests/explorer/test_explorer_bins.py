import numpy as np
import pytest
import synthetic

import pyloric_db
from pyloric_db.errors import QueryError
from pyloric_db.explorer import bins as bins_module
from pyloric_db.explorer.bins import RHYTHM, Bins, _numbers
from pyloric_db.explorer.crossfilter import CrossFilter
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Axis
from pyloric_db.vocabulary import Column


@pytest.fixture(scope="module")
def bins(explorer_db):
    return Bins(explorer_db)


@pytest.fixture(scope="module")
def table(explorer_db):
    return synthetic.expected(explorer_db.manifest)


def test_numbers_are_counted_as_numpy_counts_them(bins, table):
    binned = bins.load("period_ms")
    values = table["period_ms"].astype(np.float64)
    finite = np.clip(values[np.isfinite(values)], binned.edges[0], binned.edges[-1])
    assert binned.whole.tolist() == np.histogram(finite, binned.edges)[0].tolist()
    assert binned.missing == np.isnan(values).sum() > 0
    assert (binned.codes == binned.n).sum() == binned.missing
    assert binned.title == "AB/PD burst start to next start (ms)"


def test_few_values_have_a_bin_each(bins, table):
    binned = bins.load("n_criteria_met")
    values = table["n_criteria_met"]
    distinct = np.unique(values[np.isfinite(values)])
    assert binned.names == tuple(f"{v:g}" for v in distinct)
    assert binned.whole.tolist() == [int((values == v).sum()) for v in distinct]


def test_flags_and_categories(bins, table):
    flags = bins.load("triphasic")
    assert flags.names == ("no", "yes") and flags.missing == 0
    assert flags.whole.tolist() == np.bincount(table["triphasic"].astype(int)).tolist()
    activity = bins.load("activity_lp")
    assert activity.names == ("silent", "tonic", "bursting", "irregular")
    values = table["activity_lp"]
    assert activity.whole.tolist() == [int((values == n).sum()) for n in activity.names]
    assert activity.missing == (values == "").sum() > 0


def test_a_rhythm_is_the_strictest_label_and_a_failed_run_has_none(bins, table):
    binned = bins.load(RHYTHM)
    assert binned.names == ("pyloric", "pyloric-like", "periodic", "other", "failed")
    for row in range(100):
        if table["status"][row] != "ok":
            expected = "failed"
        elif table["pyloric"][row]:
            expected = "pyloric"
        elif table["pyloric_like"][row]:
            expected = "pyloric-like"
        else:
            expected = "periodic" if table["periodic"][row] else "other"
        assert binned.names[binned.codes[row]] == expected


def test_axes_of_a_grid(tmp_path):
    synthetic.build(tmp_path / "db")
    bins = Bins(pyloric_db.open(tmp_path / "db"))
    assert bins.load("lp").names == ("LP 1", "LP 2", "LP 3")
    assert bins.load("lp").whole.tolist() == [16, 16, 16]
    assert bins.load("gsyn_ab_lp_nS").names == ("0", "0.1", "3", "30")
    assert "gsyn_ab_lp_index" not in bins.choices and "netcode" not in bins.choices


def test_values_that_repeat_in_step_with_the_rows_are_all_seen():
    """Rows of a grid repeat: every k-th row has only some of the values of an inner axis."""
    n = 600_000
    values = np.tile(np.array([0, 3, 100], np.float32), n // 3)
    parameter = _numbers(Column("gsyn_lp_py_nS", "float32", "nS", ""), values)
    assert parameter.names == ("0", "3", "100") and parameter.whole.tolist() == [n // 3] * 3
    measured = values + np.random.default_rng(0).normal(size=n).astype(np.float32)
    period = _numbers(Column("period_ms", "float32", "ms", ""), measured)
    ends = np.quantile(measured, (0.001, 0.999)).astype(np.float32)
    assert period.edges[[0, -1]].tolist() == ends.tolist()
    rare = np.zeros(n, np.float32)
    rare[-1] = 15
    assert _numbers(Column("n_criteria_met", "int8", "1", "", True), rare).names == ("0", "15")


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_pieces_of_the_rows_make_no_difference(monkeypatch, n):
    few = np.arange(n, dtype=np.float32) // 64  # whose values come in one piece after the other
    few[::7] = np.nan
    many = np.random.default_rng(1).normal(size=n).astype(np.float32)
    parameter = Column("gsyn_lp_py_nS", "float32", "nS", "")
    period = Column("period_ms", "float32", "ms", "")
    at_once = _numbers(parameter, few), _numbers(period, many)
    monkeypatch.setattr(bins_module, "_ROWS", 64)
    for whole, pieces in zip(
        at_once, (_numbers(parameter, few), _numbers(period, many)), strict=True
    ):
        assert pieces.names == whole.names and pieces.missing == whole.missing
        assert np.array_equal(pieces.codes, whole.codes)
        assert np.array_equal(pieces.edges, whole.edges)


def test_a_parameter_has_a_bin_for_each_value_on_its_axis(tmp_path):
    axes = (Axis("gsyn_ab_lp_nS", "value", (0.0, 10.0, 3.0)), synthetic.cell_axis("lp", 5))
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes, 15, 5, 5), shards=[0])
    binned = Bins(pyloric_db.open(tmp_path / "db")).load("gsyn_ab_lp_nS")
    assert binned.names == ("0", "3", "10") and binned.whole.tolist() == [5, 0, 0]


def test_a_brush_takes_the_bins_that_it_touches(bins):
    binned = bins.load("period_ms")
    e = binned.edges
    assert binned.bins_between(e[3], e[5]) == (3, 5)
    assert binned.bins_between((e[3] + e[4]) / 2, (e[5] + e[6]) / 2) == (3, 6)
    assert binned.bins_between(e[0] - 100, e[-1] + 100) == (0, binned.n)
    first, last = binned.bins_between(e[0] - 100, e[0] - 50)
    assert first >= last
    first, last = binned.bins_between(e[-1] + 50, e[-1] + 100)
    assert first >= last


def test_unknown_choices(bins):
    with pytest.raises(QueryError, match="did you mean 'period_ms'"):
        bins.load("perod_ms")


def test_columns_without_any_value():
    # a column of one value, and one of none
    for column in (
        Column("period_ms", "float32", "ms", ""),
        Column("gsyn_s_nS", "float32", "", ""),
    ):
        nothing = _numbers(column, np.full(5, np.nan, np.float32))
        assert nothing.missing == 5 and nothing.whole.sum() == 0
        same = _numbers(column, np.full(5, 3.0, np.float32))
        assert same.names == (() if column.measured else ("3",))
        assert same.whole.tolist() == [5] + [0] * (same.n - 1)


def test_no_two_bins_have_the_same_name():
    near = np.array([12.34567, 12.34568, 20], np.float32)
    for name in ("v_min_lp_mV", "gbar_lp_Kd"):
        assert _numbers(Column(name, "float32", "", ""), near).names == ()
    assert _numbers(Column("gbar_lp_Kd", "float32", "", ""), near[1:]).names == ("12.3457", "20")


def test_all_columns_are_of_the_same_circuits_while_a_build_goes_on(tmp_path):
    manifest = synthetic.build(tmp_path / "db", shards=[0])
    bins = Bins(pyloric_db.open(tmp_path / "db"))
    before = bins.load("period_ms")
    with build_lock(tmp_path / "db"):
        Ledger(tmp_path / "db").record(synthetic.write(tmp_path / "db", manifest, 1))
    columns = [before, *(bins.load(n) for n in ("lp", "activity_lp", RHYTHM))]
    assert {len(c.codes) for c in columns} == {bins.rows} == {20}
    CrossFilter(columns, (columns[0], columns[1])).brush("lp", (0, 1))


@pytest.mark.parametrize("n", [254, 255, 300])
def test_an_axis_of_many_cells(tmp_path, n):
    axes = (synthetic.cell_axis("abpd", 2), synthetic.cell_axis("lp", n))
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes, 2 * n, 600, 5))
    bins = Bins(pyloric_db.open(tmp_path / "db"))
    lp, abpd = bins.load("lp"), bins.load("abpd")
    assert lp.whole.tolist() == [2] * n and lp.missing == 0
    cross = CrossFilter([lp, abpd], (lp, abpd))
    cross.brush("abpd", (0, 1))
    linked = cross.brush("lp", (n - 2, n))
    assert linked.selected == 2 and linked.histograms["abpd"].tolist() == [2, 2]
    assert cross.brush("abpd", None).histograms["lp"].tolist() == [2] * n
