"""The expression of brushes finds what the brushes select."""

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

import pyloric_db
from pyloric_db.explorer.bins import RHYTHM, Bins
from pyloric_db.explorer.conditions import expression
from pyloric_db.explorer.crossfilter import CrossFilter

#: One of each kind: labels, numbers, what has whole numbers, flags, categories, axes.
NAMES = (
    RHYTHM, "period_ms", "v_min_lp_mV", "n_criteria_met", "triphasic", "activity_lp", "status",
    "lp", "gsyn_ab_lp_nS",
)  # fmt: skip


@pytest.fixture(scope="module")
def columns(explorer_db):
    bins = Bins(explorer_db)
    return {name: bins.load(name) for name in NAMES}


def same(db, columns, brushes):
    """Whether an expression finds just the circuits that are selected."""
    cross = CrossFilter(list(columns.values()), (columns[NAMES[1]], columns[NAMES[1]]))
    for name, brush in brushes.items():
        cross.brush(name, brush)
    found = db.query(expression(cross.columns, cross.brushes), columns=[])["circuit_id"].values
    rows = cross.first_rows(cross.linked().selected + 1)
    assert found.tolist() == db.circuits["circuit_id"].values[rows].tolist()
    return cross.linked().selected


@pytest.mark.parametrize("name", NAMES)
def test_each_brush_that_begins_or_ends_at_an_end_or_is_one_bin(explorer_db, columns, name):
    n = columns[name].n
    brushes = [(0, n), (0, 1), (n - 1, n), *((0, k) for k in range(1, n))]
    brushes += [(k, n) for k in range(1, n)] + [(k, k + 1) for k in range(n)]
    found = {brush: same(explorer_db, columns, {name: brush}) for brush in brushes}
    assert found[0, n] == 600 - columns[name].missing
    assert found[0, n // 2] + found[n // 2, n] == found[0, n]


@st.composite
def some_brushes(draw):
    shares = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)
    return draw(st.dictionaries(st.sampled_from(NAMES), shares, min_size=1, max_size=4))


@settings(max_examples=60, deadline=None)
@given(some_brushes())
def test_any_brushes_together(explorer_db, columns, shares):
    brushes = {}
    for name, (low, high) in shares.items():
        first = min(int(low * columns[name].n), columns[name].n - 1)
        brushes[name] = first, max(first + 1, int(high * columns[name].n))
    same(explorer_db, columns, brushes)


def test_values_at_the_ends_of_bins_are_found_where_they_are_counted(tmp_path, monkeypatch):
    """Also those next to them: an end is no number with few digits."""
    ends = np.linspace(-61.7, -49.3, 51).astype(np.float32)
    near = [np.nextafter(ends, np.float32(k)) for k in (-100, 0)]
    values = np.concatenate([ends, *near, np.full(2, ends[7])])
    made = synthetic.shard_data

    def at_ends(manifest, shard, ids=None):
        ids, table, states = made(manifest, shard, ids)
        missing = np.where(np.arange(len(values)) % 5 == 0, np.float32(np.nan), values)
        return ids, table | {"v_min_lp_mV": missing, "gbar_lp_Kd": values}, states

    monkeypatch.setattr(synthetic, "shard_data", at_ends)
    synthetic.build(tmp_path / "db", synthetic.make_manifest(None, len(values), len(values)))
    db = pyloric_db.open(tmp_path / "db")
    bins = Bins(db)
    for name in ("v_min_lp_mV", "gbar_lp_Kd"):
        binned = bins.load(name)
        assert not binned.names
        for k in range(binned.n):
            text = expression({name: binned}, {name: (k, k + 1)})
            assert db.count(text) == binned.whole[k]


def test_it_reads_as_people_write_it(columns):
    def of(**brushes):
        return expression(columns, brushes)

    edges = [str(edge) for edge in columns["period_ms"].edges]  # those of float32 are short
    assert of() == ""
    assert of(period_ms=(3, 5)) == f"{edges[3]} <= period_ms < {edges[5]}"
    assert of(period_ms=(0, 5)) == f"period_ms < {edges[5]}"
    assert of(period_ms=(3, 50)) == f"{edges[3]} <= period_ms"
    assert of(period_ms=(0, 50)) == "not isnull(period_ms)"
    assert of(lp=(2, 3), gsyn_ab_lp_nS=(1, 3)) == "lp == 2 and gsyn_ab_lp_nS in [1, 3]"
    assert of(triphasic=(1, 2), status=(0, 1)) == "triphasic and status == 'ok'"
    assert of(activity_lp=(1, 3)) == "activity_lp in ['tonic', 'bursting']"
    assert of(rhythm=(0, 2)) == "status == 'ok' and (pyloric or pyloric_like)"
    assert of(rhythm=(1, 2)) == "status == 'ok' and not pyloric and pyloric_like"
    assert of(rhythm=(4, 5)) == "status != 'ok'"


def test_many_cells_are_a_range(tmp_path):
    axes = (synthetic.cell_axis("abpd", 1), synthetic.cell_axis("lp", 300))
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes, 300, 300, 5))
    db = pyloric_db.open(tmp_path / "db")
    lp = Bins(db).load("lp")
    text = expression({"lp": lp}, {"lp": (3, 250)})
    assert text == "3 <= lp <= 249" and db.count(text) == 247
