"""Figures show the numbers of the table, with units: rhythm, histograms, marginals."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import synthetic

import pyloric_db
from pyloric_db.errors import QueryError
from pyloric_db.plot import tallies
from pyloric_db.plot.canvas import name_bars, new_figure, number_ticks, save, short_name
from pyloric_db.plot.histograms import _count_axis, histograms_figure
from pyloric_db.plot.marginals import LETTERS, marginals_figure
from pyloric_db.plot.rhythm import rhythm_figure
from pyloric_db.plot.stacking import stack_figure
from pyloric_db.store.manifest import Axis
from pyloric_db.vocabulary import PUBLISHED, value_names


def stairs(ax):
    """Counts and edges of the histograms in axes, in the order drawn."""
    return [p.get_data()[:2] for p in ax.patches if hasattr(p, "get_data")]


def numpy_counts(values, edges):
    finite = values[np.isfinite(values)].astype(np.float64)
    return np.histogram(finite, edges)[0]


def test_histograms_count_what_numpy_counts(db, table):
    figure = histograms_figure(db, ["period_ms", "v_min_lp_mV"])
    for ax, name in zip(figure.axes, ("period_ms", "v_min_lp_mV"), strict=True):
        ((counts, edges),) = stairs(ax)
        assert counts.tolist() == numpy_counts(table[name], edges).tolist()
        assert counts.sum() > 0
    assert figure.axes[0].get_xlabel() == "period: AB/PD burst start to next start (ms)"
    assert figure._supylabel.get_text() == "circuits"


def test_few_values_have_a_bar_each(db, table):
    names = ["gsyn_ab_lp_nS", "n_criteria_met", "pyloric"]
    figure = histograms_figure(db, names, "circuit_id < 20")
    expected = {
        "gsyn_ab_lp_nS": ["0", "0.1", "3", "30"],
        "n_criteria_met": [f"{v:g}" for v in range(16)],
        "pyloric": ["no", "yes"],
    }
    for k, (name, words) in enumerate(expected.items()):
        whole, front = figure.axes[k], figure.axes[3 + k]
        assert [t.get_text() for t in whole.get_xticklabels()] == words
        values = table[name][np.isfinite(table[name])]
        distinct = np.unique(values).tolist()
        assert [b.get_height() for b in whole.patches] == [(values == v).sum() for v in distinct]
        inside = table[name][:20]
        assert [b.get_height() for b in front.patches] == [(inside == v).sum() for v in distinct]
        assert len(distinct) == len(words)
        missing = 48 - len(values)
        assert whole.get_title(loc="right") == (f"{missing} without" if missing else "")


def test_categories_have_a_bar_each(db, table):
    whole, front = histograms_figure(db, ["activity_lp"], "circuit_id < 20").axes
    words = ["silent", "tonic", "bursting", "irregular"]
    assert [t.get_text() for t in whole.get_xticklabels()] == words
    values = table["activity_lp"]
    assert [b.get_height() for b in whole.patches] == [(values == w).sum() for w in words]
    assert [b.get_height() for b in front.patches] == [(values[:20] == w).sum() for w in words]
    assert whole.get_title(loc="right") == f"{(values == '').sum()} without"
    with pytest.raises(QueryError, match="column netcode holds text"):
        histograms_figure(db, ["netcode"])
    with pytest.raises(QueryError, match="column activity_lp holds text"):
        stack_figure(db, "activity_lp")


def test_no_two_bars_have_the_same_name(other):
    """What is measured has bins, however few the circuits; so have numbers that look alike."""
    for name in ("v_mean_a_mV", "t_simulated_ms"):
        assert len(stairs(histograms_figure(other, [name]).axes[0])) == 1
    assert histograms_figure(other, ["gsyn_s_nS"]).axes[0].get_xticklabels()[1].get_text() == "1"
    assert value_names([1_000_000.0, 1_000_001.0]) == ()
    assert len(value_names(range(20))) == 20 and value_names(range(21)) == ()


@pytest.mark.parametrize("highest", [0, 1, 2, 7, 82, 410, 999, 1_900_000])
def test_axes_of_counts_have_two_whole_numbers_at_least(highest):
    ax = new_figure(figsize=(3.4, 2.1)).subplots()
    _count_axis(ax, np.array([0, highest]))
    figure = ax.get_figure()
    figure.draw_without_rendering()
    ticks = [t for t in ax.get_yticks() if 0 < t <= max(highest, 1) * 1.08]
    texts = [t.get_text() for t in ax.get_yticklabels()]
    assert len(ticks) >= min(2, max(highest, 1)) and ticks == [int(t) for t in ticks]
    assert set(map("{:,.0f}".format, ticks)) <= set(texts) and len(set(texts)) == len(texts)
    assert ax.yaxis.get_offset_text().get_text() == ""


def test_histograms_of_a_subset_stand_in_front(db, table):
    figure = histograms_figure(db, ["period_ms"], "pyloric")
    whole, front = figure.axes
    ((_, edges),) = stairs(whole)
    ((counts, _),) = stairs(front)
    chosen = table["period_ms"][table["pyloric"].astype(bool)]
    assert counts.tolist() == numpy_counts(chosen, edges).tolist()
    assert f"the {table['pyloric'].sum()} of 'pyloric'" in figure._suptitle.get_text()


def test_histograms_show_the_published_range_and_say_what_they_leave_out(db, table, monkeypatch):
    monkeypatch.setattr("pyloric_db.plot.histograms.percentiles", lambda *_: (1300.0, 1600.0))
    figure = histograms_figure(db)
    assert len(figure.axes) == 15
    ax = figure.axes[0]
    period = PUBLISHED["period_ms"]
    (span,) = [p for p in ax.patches if getattr(p, "get_hatch", lambda: None)()]
    corners = span.get_extents().transformed(ax.transData.inverted())
    assert (corners.x0, corners.x1) == pytest.approx((period.low, period.high))
    ((counts, _),) = stairs(ax)
    known = np.isfinite(table["period_ms"]).sum()
    assert 0 < counts.sum() < known < 48
    beyond = f"{known - counts.sum()} beyond the axis, {48 - known} without"
    assert ax.get_title(loc="right") == beyond
    assert histograms_figure(db, ["pyloric"]).axes[0].get_title(loc="right") == ""


def test_other_circuits_have_the_features_of_their_cells_and_no_published_range(other):
    figure = histograms_figure(other)
    titles = [ax.get_xlabel() for ax in figure.axes if ax.get_xlabel()]
    assert titles == [
        "A activity", "B activity", "period: A burst start to next start (ms)",
        "A burst duration (ms)", "B burst duration (ms)",
        "A burst duration over period", "B burst duration over period",
        "phase of B burst start in the A cycle",
    ]  # fmt: skip
    assert not [p for ax in figure.axes for p in ax.patches if p.get_hatch()]
    assert "lobsters" not in figure._suptitle.get_text()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_axis_of_a_histogram_hides_few_circuits(db, table, name):
    ((counts, edges),) = stairs(histograms_figure(db, [name]).axes[0])
    values, published = table[name], PUBLISHED[name]
    finite = values[np.isfinite(values)]
    assert len(finite) - counts.sum() <= max(2, 0.02 * len(finite))
    assert edges[0] <= max(published.mean - 3 * published.sd, 0)
    assert edges[-1] >= published.mean + 3 * published.sd


def test_marginals_are_shares_of_values(db, table):
    figure = marginals_figure(db, "pyloric")
    axes = {ax.get_xlabel(): ax for ax in figure.axes if ax.get_xlabel()}
    assert set(axes) == {"AB/PD cell", "LP cell", "AB-LP (nS)", "LP-PY (nS)"}
    ax = axes["AB-LP (nS)"]
    heights = [bar.get_height() for bar in ax.patches]
    chosen = table["gsyn_ab_lp_index"][table["pyloric"].astype(bool)]
    shares = 100 * np.bincount(chosen, minlength=4) / len(chosen)
    assert heights == pytest.approx([25, 25, 25, 25, *shares])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0.1", "3", "30"]


def test_names_of_cells_are_cut_only_behind_the_name_of_their_axis(tmp_path):
    a, b, synapse = synthetic.other_cells().axes
    a = replace(a, labels=("AB/PD 2", "A 2"))
    manifest = replace(synthetic.other_cells(), axes=(a, b, synapse))
    synthetic.build(tmp_path / "db", manifest)
    db = pyloric_db.open(tmp_path / "db")
    axes = {ax.get_xlabel(): ax for ax in marginals_figure(db, "circuit_id >= 0").figure.axes}
    assert [t.get_text() for t in axes["A cell"].get_xticklabels()] == ["AB/PD 2", "2"]
    assert [t.get_text() for t in axes["B cell"].get_xticklabels()] == ["1", "2", "3"]
    below = stack_figure(db, "period_ms")._supxlabel.get_text()
    assert "A: AB/PD 2, A 2" in below and "\nB 1, B 2, B 3" in below


def test_cells_may_be_called_as_what_figures_ask_for(tmp_path):
    synthetic.build(tmp_path / "db", synthetic.other_cells(("place", "value")))
    db = pyloric_db.open(tmp_path / "db")
    assert marginals_figure(db, "place == 1") is not None
    assert histograms_figure(db, ["value", "v_min_place_mV"]) is not None
    assert stack_figure(db, "period_ms") is not None


def test_marginals_off_a_grid(tmp_path):
    manifest = synthetic.make_manifest(axes=None, n_circuits=60)
    synthetic.build(tmp_path / "db", manifest)
    table = synthetic.expected(manifest)
    figure = marginals_figure(pyloric_db.open(tmp_path / "db"), "pyloric")
    axes = {ax.get_xlabel(): ax for ax in figure.axes if ax.get_xlabel()}
    assert len(axes) == 24 + 7
    (whole, edges), (subset, _) = stairs(axes["LP Kd (mS/cm2)"])
    values = table["gbar_lp_Kd"]
    assert whole == pytest.approx(100 * numpy_counts(values, edges) / 60)
    chosen = values[table["pyloric"].astype(bool)]
    assert subset == pytest.approx(100 * numpy_counts(chosen, edges) / len(chosen))


def test_bins_go_from_the_lowest_to_the_highest_value(db, table, monkeypatch):
    period, synapse = (db.manifest.by_name[n] for n in ("period_ms", "gsyn_ab_lp_nS"))
    for column in (period, synapse):
        values = table[column.name]
        ends = tallies.extent(db, column)
        assert ends == (np.nanmin(values), np.nanmax(values))
        assert np.allclose(tallies.spread(db, column, 8), np.linspace(*ends, 9))
    # of parameters alone it is not known how they were chosen: orders of magnitude apart
    monkeypatch.setattr(tallies, "rows", lambda *_: [(0.5, 5000.0)])
    assert np.allclose(tallies.spread(db, synapse, 4), [0.5, 5, 50, 500, 5000])
    assert np.allclose(tallies.spread(db, period, 4), np.linspace(0.5, 5000, 5))
    monkeypatch.setattr(tallies, "rows", lambda *_: [(None, None)])
    assert tallies.spread(db, period, 2).tolist() == [0, 0.5, 1]


def test_axes_of_a_prior_are_as_it_draws(tmp_path, monkeypatch):
    """A uniform one from 0 spans orders of magnitude, too."""
    drawn = {"gsyn_ab_lp_nS": {"log_uniform": [0.1, 90]}, "gsyn_pd_lp_nS": {"uniform": [0, 90]}}
    recipe = {"name": "tiny", "parameters": {"prior": {"count": 20, "parameters": drawn}}}
    synthetic.build(tmp_path / "db", synthetic.make_manifest(None, 40, recipe=recipe))
    monkeypatch.setattr("pyloric_db.plot.tallies.extent", lambda *_: (0.05, 90.0))
    db = pyloric_db.open(tmp_path / "db")
    scales = [ax.get_xscale() for ax in histograms_figure(db, [*drawn, "v_min_lp_mV"]).axes]
    assert scales == ["log", "linear", "linear"]
    scales = {ax.get_xlabel(): ax.get_xscale() for ax in marginals_figure(db, "True").axes}
    assert scales["AB-LP (nS)"] == "log" and scales["PD-LP (nS)"] == "linear"
    synthetic.build(tmp_path / "table", synthetic.make_manifest(None, 40))
    figure = marginals_figure(pyloric_db.open(tmp_path / "table"), "True")
    assert {ax.get_xscale() for ax in figure.axes if ax.get_xlabel()} == {"log"}


def test_marginals_leave_out_what_does_not_vary(tmp_path, monkeypatch):
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes=None, n_circuits=20))
    db = pyloric_db.open(tmp_path / "db")
    constant = {"gbar_lp_Kd"}
    few, one = tallies.per_distinct, (("3",), tallies.Tally(np.ones(1), np.ones(1), 0, 0))
    monkeypatch.setattr(
        "pyloric_db.plot.marginals.per_distinct",
        lambda db, c, where: one if c.name in constant else few(db, c, where),
    )
    titles = [ax.get_xlabel() for ax in marginals_figure(db, "True").axes]
    assert "LP Kd (mS/cm2)" not in titles and "LP Na (mS/cm2)" in titles
    constant.update(c.name for c in db.manifest.columns)
    with pytest.raises(QueryError, match="no parameter of the circuits of tiny varies"):
        marginals_figure(db, "True")


def test_values_that_a_prior_chooses_from_have_a_bar_each(tmp_path, monkeypatch):
    shard_data = synthetic.shard_data

    def chosen(manifest, shard, ids=None):
        ids, columns, states = shard_data(manifest, shard, ids)
        columns["gsyn_lp_py_nS"] = np.array([0, 1, 3], np.float32)[ids % 3]
        return ids, columns, states

    monkeypatch.setattr(synthetic, "shard_data", chosen)
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes=None, n_circuits=40))
    figure = marginals_figure(pyloric_db.open(tmp_path / "db"), "circuit_id < 10")
    (ax,) = (ax for ax in figure.axes if ax.get_xlabel() == "LP-PY (nS)")
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "1", "3"]
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([35, 32.5, 32.5, 40, 30, 30])


@pytest.mark.parametrize(
    "names",
    [
        ["PY 3", "Na 100, CaT 2.5, A 50, Kd 100, H 0.03"],
        [f"Na {k}00, CaT 2.5, A 50, Kd 100, H 0.03" for k in range(5)],
        [f"12.34{k}" for k in range(10)],
        ["silent", "tonic", "bursting", "irregular"],
    ],
)
def test_names_of_bars_do_not_run_into_each_other(names):
    figure = new_figure(figsize=(2.4, 2.4))
    ax = figure.subplots()
    ax.bar(range(len(names)), 1)
    name_bars(ax, names, LETTERS)
    ax.tick_params(labelsize=7)
    figure.draw_without_rendering()
    labels = ax.get_xticklabels()
    assert [" ".join(t.get_text().split()) for t in labels] == names
    boxes = [t.get_window_extent() for t in labels]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_numbers_below_bins_do_not_run_into_each_other(tmp_path):
    figure = new_figure(figsize=(2.4, 2.4))
    ax = figure.subplots()
    edges = np.linspace(0, 0.02, 21)
    number_ticks(ax, tallies.Tally(np.ones(20), np.ones(20), 0, 0, edges), 4)
    ax.set_xlim(0, 0.02)
    ax.tick_params(labelsize=7)
    figure.draw_without_rendering()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "0.005", "0.01", "0.015", "0.02"]
    boxes = [t.get_window_extent() for t in ax.get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_marginals_of_a_grid_of_one_circuit(tmp_path):
    axes = (synthetic.cell_axis("lp", 1), Axis("gsyn_lp_py_nS", "value", (3.0,)))
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes, 1))
    with pytest.raises(QueryError, match="no parameter of the circuits of tiny varies"):
        marginals_figure(pyloric_db.open(tmp_path / "db"), "True")


#: What a rhythm diagram draws.
RHYTHM = [
    *("duty_cycle_abpd", "phase_start_lp", "phase_end_lp", "phase_start_py", "phase_end_py"),
    "period_ms",
]


def bars(ax):
    return [(round(p.get_x(), 5), round(p.get_x() + p.get_width(), 5)) for p in ax.patches]


def test_the_rhythm_diagram_shows_medians_beside_published_means(db, table):
    (ax,) = rhythm_figure(db, "circuit_id >= 0").axes
    values = [table[n][np.isfinite(table[n])].astype(np.float64) for n in RHYTHM]
    abpd, lp0, lp1, py0, py1, period = map(np.median, values)
    measured, published = bars(ax)[::2], bars(ax)[1::2]
    assert measured == [
        pytest.approx((0, abpd)), pytest.approx((lp0, lp1)), pytest.approx((py0, py1)),
    ]  # fmt: skip
    assert published == [(0, 0.385), (0.533, pytest.approx(0.797)), (0.758, pytest.approx(1.106))]
    whiskers = [tuple(line.get_xdata()) for line in ax.lines if line.get_color() == "black"]
    assert whiskers == [pytest.approx(tuple(np.quantile(v, (0.05, 0.95)))) for v in values[:5]]
    heights = [line.get_ydata()[0] for line in ax.lines if line.get_color() == "black"]
    assert len(set(heights)) == 5  # also those of one cell's start and end
    assert ax.get_title().startswith("circuit_id >= 0: 48 circuits\n")
    assert f"\nperiod {period:.0f} ms (median; 90% from " in ax.get_title()


def test_the_rhythm_diagram_says_of_how_many_circuits_each_cell_is(db, table):
    ends = ("duty_cycle_abpd", "phase_end_lp", "phase_end_py")
    (ax,) = rhythm_figure(db, "circuit_id >= 0").axes
    n = [np.isfinite(table[name]).sum() for name in ends]
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        f"{cell}\n{n} of 48" for cell, n in zip(("AB/PD", "LP", "PY"), n, strict=True)
    ]
    whole = np.isfinite(np.stack([table[n] for n in RHYTHM])).all(axis=0)
    (ax,) = rhythm_figure(db, f"circuit_id in {np.flatnonzero(whole).tolist()}").axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["AB/PD", "LP", "PY"]


def test_a_cell_without_phases_has_no_bar(db, table):
    lacking = np.isnan(table["phase_end_lp"]) & np.isfinite(table["duty_cycle_abpd"])
    there = ("period_ms", "phase_start_py", "phase_end_py")
    lacking &= np.isfinite([table[n] for n in there]).all(axis=0)
    (ax,) = rhythm_figure(db, f"circuit_id == {np.flatnonzero(lacking)[0]}").axes
    assert ax.get_yticklabels()[1].get_text() == "LP\n0 of 1"
    assert len(bars(ax)) == 5  # three published


def test_the_rhythm_diagram_of_one_circuit(db, table):
    whole = np.isfinite(np.stack([table[n] for n in RHYTHM])).all(axis=0)
    circuit = int(np.flatnonzero(whole)[0])
    (ax,) = rhythm_figure(db, f"circuit_id == {circuit}").axes
    assert bars(ax)[0] == (0, pytest.approx(table["duty_cycle_abpd"][circuit]))
    assert ax.get_title().startswith(f"circuit {circuit}: period")


@pytest.mark.parametrize("draw", [rhythm_figure, marginals_figure])
@pytest.mark.parametrize(
    "where, message",
    [
        ("circuit_id < 0", "no circuit of the 48 satisfies 'circuit_id < 0'"),
        ("perod_ms > 1", "did you mean 'period_ms'"),
        ("period_ms >", "not an expression"),
    ],
)
def test_subsets_that_cannot_be_drawn(db, draw, where, message):
    with pytest.raises(QueryError, match=message):
        draw(db, where)


def test_the_rhythm_diagram_of_circuits_of_other_cells(other):
    table = synthetic.expected(other.manifest)
    duty, start, end = (
        np.nanmedian(table[n].astype(float))
        for n in ("duty_cycle_a", "phase_start_b", "phase_end_b")
    )
    (ax,) = rhythm_figure(other, "circuit_id >= 0").axes
    assert bars(ax) == [pytest.approx((0, duty)), pytest.approx((start, end))]  # none published
    assert [t.get_text()[0] for t in ax.get_yticklabels()] == ["A", "B"]
    assert ax.get_xlabel().startswith("phase in the A cycle")


def test_a_database_from_before_phases_has_no_rhythm_diagram(tmp_path):
    manifest = synthetic.other_cells()
    before = [c for c in manifest.columns if not c.name.startswith("phase_")]
    synthetic.build(tmp_path / "db", replace(manifest, columns=tuple(before)))
    with pytest.raises(QueryError, match="has no column phase_start_b, which a rhythm diagram"):
        rhythm_figure(pyloric_db.open(tmp_path / "db"), "circuit_id >= 0")


@pytest.mark.parametrize(
    "name, printed",
    [
        ("gsyn_lp_abpd_nS", "LP-AB/PD"),
        ("gbar_abpd_Kd", "AB/PD Kd"),
        ("ggap_ab_pd_nS", "gap AB-PD"),
        ("lp", "LP"),
    ],
)
def test_parameters_as_people_print_them(name, printed):
    assert short_name(name) == printed


def test_figures_of_an_unfinished_database_say_so(db, part):
    def words(figure):
        texts = [ax.get_title() for ax in figure.axes]
        return "\n".join([*texts, figure._suptitle.get_text() if figure._suptitle else ""])

    for draw in (
        lambda db: rhythm_figure(db, "circuit_id >= 0"),
        histograms_figure,
        lambda db: marginals_figure(db, "circuit_id >= 0"),
        stack_figure,
    ):
        assert words(draw(part)).count("\nnot complete: 20 of 48 circuits") == 1
        assert "not complete" not in words(draw(db))


def test_no_global_state_is_touched(db, tmp_path):
    import matplotlib

    before = matplotlib.rcParams["backend"]
    figure = new_figure()
    figure.subplots().plot([1, 2])
    save(figure, tmp_path / "x.png")
    from matplotlib import pyplot as plt

    assert plt.get_fignums() == [] and matplotlib.rcParams["backend"] == before
