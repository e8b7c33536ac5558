import numpy as np
import pytest

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING, IRREGULAR, SILENT, TONIC
from pyloric_db.rhythm.settle import settled, steady
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELLS

MOVING = (20.0, 20.0, 20.0)
AT_REST = (5.0, 20.0, 20.0)


def decide(cells, now=10_000.0, V_range=MOVING, names=CELLS, published=True, **protocol):
    """From when on a circuit is decided, ms; None if it is not."""
    protocol = Protocol(**{"early_ms": 0.0, "transient_ms": 0.0, **protocol})
    trains = SpikeTrains.from_lists([cells], names)
    (start,) = settled(trains, names, [published], [V_range], now, protocol)
    return None if np.isnan(start) else start


def test_cells_that_burst_each_in_its_own_time_are_not_decided(pattern):
    abpd, lp, py = pattern().cells()
    slower, twice = (
        pattern(period=1515.0).cells()[1],
        pattern(period=750.0, lp=(200, 150)).cells()[1],
    )
    assert decide([abpd, lp, py]) == 0 and decide([abpd, slower, py]) is None
    assert decide([abpd, slower, py], settled_cv=0.02) == 0
    assert decide([abpd, twice, py]) == 0  # two bursts in every cycle are in time


def test_a_silent_cell_decides_nothing_where_others_have_phases(pattern, wild):
    abpd, lp, _ = pattern().cells()
    assert decide([abpd, [], wild]) == 0  # no triphasic rhythm can come of it
    assert decide([abpd, [], wild], names=("ab", "x", "y")) is None
    five = {"names": ("abpd", "lp", "py", "ic"), "V_range": (*MOVING, 20.0)}
    assert decide([abpd, lp, wild, []], **five) is None
    assert decide([abpd, [], lp], names=("ab", "x", "y")) == 0


@pytest.fixture
def wild():
    return np.sort(np.random.default_rng(3).uniform(0, 10_000, 100))


def test_a_repeating_rhythm_is_decided_after_enough_cycles(pattern):
    cells = pattern().cells()  # PY starts at -70, 1430, ...; AB/PD at 300, 1800, ...
    assert decide(cells) == 0
    assert decide(cells, now=5000.0) == 0  # the last to show three starts is PY, at 4430
    assert decide(cells, now=4400.0) is None
    assert decide(cells, now=5000.0, settled_cycles=3) is None


def test_a_rhythm_beside_a_longer_burst_at_an_edge_is_not():
    """A cell of prinz2003 (367140) is tonic from its third burst on, others before their first."""
    burst = np.array([0.0, 6.6])
    doublets = np.concatenate([burst + start for start in (582, 1366, 2150, 2934)])
    late = np.concatenate([doublets, doublets[-1] + 14.3 * np.arange(1, 60)])
    early = 4000 - late[::-1]
    for whole in (late, early):
        assert decide([whole], names=["cell"], now=4000.0) is None
    # one spike more may be seen, two may not
    assert decide([late[:9]], names=["cell"], now=3100.0) == 0
    assert decide([late[:10]], names=["cell"], now=3100.0) is None
    assert decide([early[-9:] - 900], names=["cell"], now=3100.0) == 0
    assert decide([early[-10:] - 900], names=["cell"], now=3100.0) is None


def test_a_drifting_rhythm_is_not(pattern):
    abpd, lp, py = pattern().cells()
    drift = 1 + 5e-6 * py  # the interval grows by 15 ms per cycle
    assert decide([abpd, lp, py * drift / drift[-1]]) is None
    assert decide([abpd, lp, py * drift / drift[-1]], settled_cv=0.05) == 0


def test_a_silent_cell_decides_once_the_pacemaker_is_steady(pattern, wild):
    abpd, _, py = pattern().cells()
    assert decide([abpd, [], wild], now=5000.0) == 0  # AB/PD has shown two cycles
    assert decide([abpd, [], wild], now=3200.0) is None
    assert decide([abpd, wild, wild], now=5000.0) is None
    assert decide([wild, [], py], now=9500.0) is None
    assert decide([abpd, [2100.0], wild], now=5000.0) is None
    assert decide([abpd, [1900.0], wild], now=5000.0) == 0
    assert decide([[], [], []], now=3000.0) == 0
    assert decide([[], [], []], now=2900.0) is None


def test_a_cell_at_rest_is_silent_sooner():
    assert decide([[], [], []], now=1000.0) is None
    assert decide([[], [], []], now=1000.0, V_range=(5.0, 5.0, 5.0)) == 0
    assert decide([[], [], []], now=1000.0, V_range=AT_REST) is None
    assert decide([[], [], []], now=900.0, V_range=(5.0, 5.0, 5.0)) is None
    tonic = np.arange(10.0, 10_000.0, 130.0)
    assert decide([[], tonic, tonic], now=2000.0, V_range=AT_REST) == 0
    # a circuit that only its silent cell decides waits, whatever the voltage
    assert decide([[], tonic, [100.0, 900.0, 1500.0]], now=2000.0, V_range=AT_REST) is None
    assert decide([[], tonic, [100.0, 900.0, 1500.0]], now=3000.0, V_range=AT_REST) == 0


def test_a_first_cell_that_only_pauses_decides_nothing(pattern, wild):
    """It may start again when the other's long burst is over."""
    paused = [100.0, 200.0, 8500.0]
    assert decide([paused, wild, wild], V_range=AT_REST) is None
    assert decide([paused, wild, wild], now=11_600.0, V_range=AT_REST) == 0
    abpd = pattern().cells()[0]  # beside it, another's pause is enough
    assert decide([abpd, paused, wild], V_range=(20.0, 5.0, 20.0)) == 0


def test_tonic_cells_are_decided(pattern, wild):
    abpd, _, py = pattern().cells()
    tonic = np.arange(10.0, 10_000.0, 130.0)
    assert decide([abpd, tonic, py]) == 0
    assert decide([abpd, tonic, wild]) == 0  # no triphasic rhythm can come of it
    assert decide([wild, tonic, py]) is None
    assert decide([abpd, wild, py]) is None


def test_the_window_is_the_earliest_in_which_all_cells_are_steady(pattern, wild):
    cells = pattern().cells()
    times = {"early_ms": 1000.0, "transient_ms": 3000.0}
    assert decide(cells, **times) == 1000
    abpd = cells[0].copy()
    abpd[(abpd > 1700) & (abpd < 2600)] += 200  # its second burst is late
    assert decide([abpd, *cells[1:]], **times) == 3000
    # one spike of a cell that is silent later: it counts in the early window
    assert decide([cells[0], [1500.0], cells[2]], **times) == 3000
    assert decide([cells[0], [900.0], cells[2]], **times) == 1000
    # a silent cell alone decides after the transient only
    assert decide([cells[0], [], wild], now=8000.0, early_ms=1000.0, transient_ms=9000.0) is None
    assert decide([cells[0], [], wild], now=8000.0, **times) == 3000


def test_only_published_cells_are_known_to_rest_when_they_hardly_move():
    for range_mV, published, decided in ((5.0, True, 0), (5.0, False, None), (0.5, False, 0)):
        V_range = (range_mV,) * 3
        assert decide([[], [], []], now=1000.0, V_range=V_range, published=published) == decided


def test_circuits_differ_in_time():
    trains = SpikeTrains.from_lists([[[], [], []], [[], [], []]], CELLS)
    protocol = Protocol(early_ms=1000.0, transient_ms=3000.0)
    got = settled(trains, CELLS, [True, True], np.full((2, 3), 20.0), [3500.0, 4500.0], protocol)
    np.testing.assert_array_equal(got, [np.nan, 1000.0])


def test_cells_alone():
    burst = np.array([0.0, 15.0, 40.0, 80.0])
    burster = np.concatenate([burst + 1200 * k + 30 for k in range(8)])  # last start 8430
    tonic = np.arange(20.0, 10_000.0, 100.0)
    growing = np.concatenate([burst + s for s in 600 + np.cumsum([0, 900, 920, 940, 960, 980])])
    trains = SpikeTrains.from_lists(
        [[burster], [tonic], [[]], [growing], [burster[:8]], [[5000.0]]], ("cell",)
    )
    now = np.array([9500.0, 10_000.0, 10_000.0, 6400.0, 2000.0, 10_000.0])
    got = steady(trains, 0.0, now, Protocol())
    assert got.activity.tolist() == [BURSTING, TONIC, SILENT, BURSTING, BURSTING, IRREGULAR]
    assert got.repeats.tolist() == [True, True, False, False, False, False]
    nan = np.nan
    # the first burst of the fifth cell is cut: it has one known start and no interval
    np.testing.assert_allclose(got.period_ms, [1200, 100, nan, 960, nan, nan])
    np.testing.assert_allclose(got.onset_ms, [8430, 9920, nan, 5300, 1230, 5000])
    np.testing.assert_allclose(got.previous_onset_ms, [7230, 9820, nan, 4320, nan, nan])


def test_a_cell_that_becomes_tonic_is_not_taken_for_a_burster():
    """After uneven first intervals single spikes come regularly, closer than bursts can be."""
    times = np.cumsum([50.0, 125, 66, 49, 199, 235, 188, 163, *[176.5] * 24])
    burster = np.concatenate([np.array([0.0, 15.0, 40.0]) + 700 * k for k in range(7)])
    trains = SpikeTrains.from_lists([[times], [burster]], ("cell",))  # beside one that is one
    early = steady(trains, 0.0, 5000.0, Protocol())
    assert early.activity.tolist() == [BURSTING, BURSTING]
    assert early.repeats.tolist() == [False, True]
    late = steady(trains, 1400.0, 5000.0, Protocol())
    assert late.activity.tolist() == [TONIC, BURSTING] and late.repeats.all()


def test_steady_takes_single_cells():
    with pytest.raises(AssertionError):
        steady(SpikeTrains.from_lists([[[], []]], "ab"), 0.0, 1.0, Protocol())
