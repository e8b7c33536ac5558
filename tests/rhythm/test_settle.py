import numpy as np
import pytest

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING, IRREGULAR, SILENT, TONIC
from pyloric_db.rhythm.settle import settled, steady
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELLS


def decide(cells, start=0.0, now=10_000.0, **protocol):
    trains = SpikeTrains.from_lists([cells], CELLS)
    return bool(settled(trains, start, now, Protocol(**protocol))[0])


def test_a_repeating_rhythm_is_decided_after_enough_cycles(pattern):
    cells = pattern().cells()  # PY starts at -70, 1430, ...; AB/PD at 300, 1800, ...
    assert decide(cells)
    assert decide(cells, now=7000.0)  # the last to show four starts is AB/PD, at 6300
    assert not decide(cells, now=6200.0)
    assert not decide(cells, now=7000.0, settled_cycles=4)


def test_a_drifting_rhythm_is_not(pattern):
    abpd, lp, py = pattern().cells()
    drift = 1 + 5e-6 * py  # the interval grows by 15 ms per cycle
    assert not decide([abpd, lp, py * drift / drift[-1]])
    assert decide([abpd, lp, py * drift / drift[-1]], settled_cv=0.05)


def test_a_silent_cell_decides_once_the_pacemaker_is_steady(pattern):
    abpd, _, py = pattern().cells()
    wild = np.sort(np.random.default_rng(3).uniform(0, 10_000, 100))
    assert decide([abpd, [], wild], now=6500.0)  # AB/PD has shown three cycles
    assert not decide([abpd, [], wild], now=6200.0)
    assert not decide([abpd, wild, wild], now=6500.0)
    assert not decide([wild, [], py], now=9500.0)
    assert not decide([abpd, [3600.0], wild], now=6500.0)
    assert decide([abpd, [3400.0], wild], now=6500.0)
    assert decide([[], [], []], now=3000.0)


def test_tonic_cells_are_decided(pattern):
    abpd, _, py = pattern().cells()
    assert decide([abpd, np.arange(10.0, 10_000.0, 130.0), py])
    wild = np.sort(np.random.default_rng(3).uniform(0, 10_000, 100))
    assert not decide([abpd, wild, py])


def test_windows_differ_per_circuit(pattern):
    cells = pattern().cells()
    trains = SpikeTrains.from_lists([cells, cells], CELLS)
    got = settled(trains, [0.0, 5000.0], [10_000.0, 9_000.0], Protocol())
    assert got.tolist() == [True, False]


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
    trains = SpikeTrains.from_lists([[times]], ("cell",))
    early = steady(trains, 0.0, 5000.0, Protocol())
    assert early.activity.tolist() == [BURSTING] and not early.repeats.any()
    late = steady(trains, 1400.0, 5000.0, Protocol())
    assert late.activity.tolist() == [TONIC] and late.repeats.all()


def test_steady_takes_single_cells():
    with pytest.raises(AssertionError):
        steady(SpikeTrains.from_lists([[[], []]], "ab"), 0.0, 1.0, Protocol())
