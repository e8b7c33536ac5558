import numpy as np
import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.rhythm import spikes
from pyloric_db.rhythm.spikes import SpikeTrains, segment_reduce

CELLS = ("abpd", "lp", "py")
NAN = np.nan


def rows(trains):
    return [
        trains.times[a:b].tolist()
        for a, b in zip(trains.offsets[:-1], trains.offsets[1:], strict=True)
    ]


@pytest.fixture
def trains():
    return SpikeTrains.from_lists([[[1, 2], [], [5]], [[], [], []], [[3], [1, 9], []]], CELLS)


def test_padded_and_lists_agree(trains):
    padded = np.array(
        [
            [[1, 2], [NAN, NAN], [5, NAN]],
            [[NAN, NAN]] * 3,
            [[3, NAN], [1, 9], [NAN, NAN]],
        ]
    )
    assert rows(SpikeTrains.from_padded(padded, CELLS)) == rows(trains)


def test_select_block_and_window(trains):
    assert rows(trains.select(np.array([2, 0]))) == [[3], [1, 9], [], [1, 2], [], [5]]
    assert rows(trains.select(np.array([False, True, True]))) == [[], [], [], [3], [1, 9], []]
    assert rows(trains.block(1, 3)) == rows(trains.select(np.array([1, 2])))
    assert rows(trains.window(2, 9)) == [[2], [], [5], [], [], [], [3], [], []]
    assert rows(trains.window([0, 0, 1], [2, 9, 4])) == [[1], [], [], [], [], [], [3], [1], []]


def test_append_puts_each_cells_spikes_after_its_own(trains):
    later = SpikeTrains.from_lists([[[10], [11], []], [[], [12, 13], []], [[], [14], [15]]], CELLS)
    assert rows(trains.append(later)) == [
        [1, 2, 10], [11], [5], [], [12, 13], [], [3], [1, 9, 14], [15],
    ]  # fmt: skip
    one = trains.window(9, 10)  # a single spike of a single cell
    assert rows(one.append(later))[6:] == [[], [9, 14], [15]]
    empty = trains.window(0, 0)
    assert rows(empty.append(trains)) == rows(trains.append(empty)) == rows(trains)


def test_join_puts_circuits_behind_these(trains):
    other = SpikeTrains.from_lists([[[7], [], [8, 9]], [[], [1], []]], CELLS)
    joined = trains.join(other)
    assert rows(joined) == rows(trains) + rows(other)
    assert (joined.n_circuits, joined.counts.shape) == (5, (5, 3))
    none = trains.select(np.zeros(3, bool))
    assert rows(none.join(other)) == rows(other.join(none)) == rows(other)


@pytest.mark.parametrize("n_circuits", [0, 1, 4, 5, 6, 10])
def test_blocks_hold_every_circuit_once(monkeypatch, n_circuits):
    monkeypatch.setattr(spikes, "BLOCK_CIRCUITS", 5)
    trains = SpikeTrains.from_lists([[[i], [], [i, 99]] for i in range(n_circuits)], CELLS)
    blocks = list(trains.blocks())
    places = [i for here, _ in blocks for i in range(n_circuits)[here]]
    assert places == list(range(n_circuits))
    assert [row for _, block in blocks for row in rows(block)] == rows(trains)
    assert len(blocks) == max(1, -(-n_circuits // 5))  # one without circuits, if there are none


def test_empty_segments_do_not_take_their_neighbours_value():
    values = np.array([4.0, 2.0, 7.0])
    offsets = np.array([0, 0, 2, 2, 3, 3])
    reduced = segment_reduce(np.maximum, values, offsets, -1.0)
    assert reduced.tolist() == [-1, 4, -1, 7, -1]
    assert segment_reduce(np.add, values[:0], np.zeros(3, np.int64), 0.0).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("circuits", "text"),
    [
        ([[[1], [2], [3]], [[1], [5, 4], []]], "but 4 ms comes after 5 ms: circuit 1, cell lp"),
        ([[[1], [2], [3, 3]]], "must ascend, but 3 ms comes after 3 ms: circuit 0, cell py"),
        ([[[1], [], [np.inf]]], "must be finite, not inf: circuit 0, cell py"),
        ([[[], [NAN], [1]]], "must be finite, not nan: circuit 0, cell lp"),
        ([[[1], [2]]], r"must have 3 cells \(abpd, lp, py\), not 2"),
    ],
)
def test_bad_lists_are_refused(circuits, text):
    with pytest.raises(ConfigError, match=text):
        SpikeTrains.from_lists(circuits, CELLS)


@pytest.mark.parametrize(
    ("padded", "text"),
    [
        (np.zeros((2, 2)), r"dimensions \(circuit, cell, spike\), not \(2, 2\)"),
        (np.zeros((1, 4, 0)), "must have 3 cells"),
        (np.array([[[1, 2], [NAN, 3], [1, NAN]]]), "circuit 0, cell lp has a time after a NaN"),
        (np.array([[[1, 2], [1, NAN], [4, 3]]]), "circuit 0, cell py"),
    ],
)
def test_bad_padded_arrays_are_refused(padded, text):
    with pytest.raises(ConfigError, match=text):
        SpikeTrains.from_padded(padded, CELLS)


def test_times_may_fall_from_one_cell_to_the_next():
    SpikeTrains.from_lists([[[], [8, 9], []], [[1], [], [0.5]]], CELLS)
