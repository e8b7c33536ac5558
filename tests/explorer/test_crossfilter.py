import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.explorer import crossfilter
from pyloric_db.explorer.bins import _counted
from pyloric_db.explorer.crossfilter import CrossFilter

NAMES = ("a", "b", "c", "d")


def columns(n_rows, seed=0):
    """Random codes in 3 to 6 bins, some rows without a value."""
    rng = np.random.default_rng(seed)
    made = []
    for k, name in enumerate(NAMES):
        n = 3 + k
        codes = rng.integers(0, n + 1, n_rows).astype(np.uint8)
        made.append(_counted(name, name, codes, np.arange(n + 1.0), ()))
    return made


def by_hand(made, pair, brushes):
    """The same counts, by masks over all rows."""

    def mask(but=None):
        inside = np.ones(len(made[0].codes), bool)
        for column in made:
            if column.name in brushes and column.name != but:
                first, last = brushes[column.name]
                inside &= (column.codes >= first) & (column.codes < last)
        return inside

    histograms = {
        c.name: np.bincount(c.codes[mask(c.name)], minlength=c.n + 1)[: c.n] for c in made
    }
    x, y = pair
    density = np.zeros((y.n + 1, x.n + 1), int)
    np.add.at(density, (y.codes[mask()], x.codes[mask()]), 1)
    return histograms, density[: y.n, : x.n], np.flatnonzero(mask())


def same(linked, expected):
    histograms, density, rows = expected
    assert {n: c.tolist() for n, c in linked.histograms.items()} == {
        n: c.tolist() for n, c in histograms.items()
    }
    assert linked.density.tolist() == density.tolist()
    assert linked.selected == len(rows)


brush = st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda b: (min(b), max(b)))
moves = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | brush), max_size=8)


@settings(max_examples=60, deadline=None)
@given(moves, st.integers(0, 50), st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_any_moves_of_brushes_count_what_masks_count(moves, n_rows, x, y):
    made = columns(n_rows)
    by_name = {c.name: c for c in made}
    pair = by_name[x], by_name[y]
    cross = CrossFilter(made, pair)
    brushes = {}
    same(cross.linked(), by_hand(made, pair, brushes))
    for name, b in moves:
        if b is None:
            brushes.pop(name, None)
        else:
            brushes[name] = b
        expected = by_hand(made, pair, brushes)
        same(cross.brush(name, b), expected)
        assert cross.first_rows(7).tolist() == expected[2][:7].tolist()
    same(cross.clear(), by_hand(made, pair, {}))


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_pieces_make_no_difference(monkeypatch, rows):
    monkeypatch.setattr(crossfilter, "_ROWS", 64)
    monkeypatch.setattr(crossfilter, "_MANY_ROWS", 64)
    made = columns(rows)
    cross = CrossFilter(made, (made[1], made[3]))
    cross.brush("b", (1, 3))
    linked = cross.brush("a", (0, 2))
    expected = by_hand(made, (made[1], made[3]), {"b": (1, 3), "a": (0, 2)})
    same(linked, expected)
    assert cross.first_rows(1000).tolist() == expected[2].tolist()


def test_a_move_reads_no_rows(monkeypatch):
    made = columns(1000)
    cross = CrossFilter(made, (made[0], made[1]))
    cross.brush("a", (0, 1))
    monkeypatch.setattr(crossfilter, "_table", None)
    same(cross.brush("a", (1, 3)), by_hand(made, (made[0], made[1]), {"a": (1, 3)}))


def test_other_columns_keep_the_brushes_that_remain():
    made = columns(300)
    cross = CrossFilter(made, (made[0], made[1]))
    cross.brush("a", (0, 2))
    cross.brush("b", (1, 2))
    cross.replace(made[1:], (made[2], made[3]))
    assert cross.brushes == {"b": (1, 2)}
    same(cross.linked(), by_hand(made[1:], (made[2], made[3]), {"b": (1, 2)}))
