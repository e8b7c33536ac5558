import numpy as np
import pytest

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.bursts import find_bursts
from pyloric_db.rhythm.spikes import SpikeTrains


def bursts_of(times, start=0.0, stop=10_000.0, **protocol):
    trains = SpikeTrains.from_lists([[times]], ("abpd",))
    return find_bursts(trains, start, stop, Protocol(**protocol))


def test_threshold_is_half_the_longest_interval():
    # intervals 20 20 300 20 20 130 20: mean 75.7, longest 300 is over twice that
    # => threshold 150, and 130 does not separate
    b = bursts_of([1000, 1020, 1040, 1340, 1360, 1380, 1510, 1530])
    assert b.start_ms.tolist() == [1000, 1340]
    assert b.end_ms.tolist() == [1040, 1530]
    assert b.n_spikes.tolist() == [3, 5]


def test_threshold_is_the_mean_where_no_interval_stands_out():
    # doublets: intervals 60, 100 in turn, mean 80 (5 and 4 of them: 77.8)
    b = bursts_of(1000 + np.cumsum([0, 60, 100, 60, 100, 60, 100, 60, 100, 60]))
    assert b.n_spikes.tolist() == [2, 2, 2, 2, 2]
    assert (b.end_ms - b.start_ms).tolist() == [60] * 5


def test_threshold_is_capped():
    # longest interval 4000: half of it is 2000, but 600 separates too
    times = [1000, 1010, 1610, 1620, 5620, 5630]
    assert bursts_of(times).n_spikes.tolist() == [2, 2, 2]
    assert bursts_of(times, max_burst_gap_ms=700.0).n_spikes.tolist() == [4, 2]


@pytest.mark.parametrize("stop", [5_000.0, 10_000.0, 60_000.0])
def test_regular_spikes_are_tonic_below_the_cap_and_one_spike_bursts_above(stop):
    tonic = bursts_of(np.arange(100.0, stop, 490.0), stop=stop)
    assert tonic.tonic.tolist() == [True]
    assert tonic.start_ms.size == 0
    slow = bursts_of(np.arange(100.0, stop, 510.0), stop=stop)
    assert slow.tonic.tolist() == [False]
    assert (slow.n_spikes == 1).all()
    assert slow.n_spikes.size == len(np.arange(100.0, stop, 510.0))


def test_slightly_irregular_slow_spikes_are_each_a_burst():
    # 500 ms is within the range of the intervals: the cap must not split them in two kinds
    b = bursts_of(np.cumsum(np.tile([495.0, 510.0], 9)))
    assert (b.n_spikes == 1).all()


def test_tonic_allows_five_per_cent():
    def train(spread):
        return np.cumsum(np.tile([100.0 - spread / 2, 100.0 + spread / 2], 49))

    assert bursts_of(train(4.9)).tonic[0]
    assert not bursts_of(train(5.1)).tonic[0]


def test_tonic_is_judged_after_the_transient_and_until_the_end():
    late = np.concatenate([[50.0, 300.0, 420.0], np.arange(600.0, 10_000.0, 100.0)])
    assert bursts_of(late).tonic[0]
    assert not bursts_of(np.arange(100.0, 9_000.0, 100.0)).tonic[0]  # stopped a second ago
    steady = np.arange(100.0, 9_801.0, 100.0)
    assert bursts_of(steady, stop=10_000.0).tonic[0]  # a pause of two intervals is not longer
    assert not bursts_of(steady, stop=10_000.5).tonic[0]


@pytest.mark.parametrize("start", [2000.0, 9650.0])  # amid the window, and at its end
def test_a_regular_run_that_does_not_fill_the_window_is_one_burst(start):
    b = bursts_of(start + np.cumsum([0.0, 50, 51, 49, 50, 51, 50]))
    assert not b.tonic[0]
    assert b.n_spikes.tolist() == [7]
    assert b.begun.tolist() == [True]
    assert b.ended.tolist() == [start < 9000]


def test_bursts_at_the_edges_are_marked():
    burst = np.array([0.0, 15.0, 40.0, 80.0])
    times = np.concatenate([burst + 1000 * k for k in range(5)])  # threshold 460
    b = bursts_of(times + 100, stop=4300.0)  # 100 ms before the first, 120 ms after the last
    assert b.begun.tolist() == [False, True, True, True, True]
    assert b.ended.tolist() == [True, True, True, True, False]
    b = bursts_of(times + 461, stop=5002.0)  # 461 ms on both sides
    assert b.begun.all()
    assert b.ended.all()
    b = bursts_of(times + 460, stop=5000.0)  # the threshold itself does not exceed it
    assert not b.begun[0]
    assert not b.ended[-1]


def test_lone_spikes_and_silence():
    assert bursts_of([]).start_ms.size == 0
    b = bursts_of([600.0])
    assert (b.n_spikes.tolist(), b.begun.tolist(), b.ended.tolist()) == ([1], [True], [True])
    b = bursts_of([400.0, 450.0])  # their mean interval is 50: a pause of 400 exceeds it
    assert (b.n_spikes.tolist(), b.begun.tolist(), b.ended.tolist()) == ([2], [True], [True])
    assert bursts_of([400.0, 1400.0]).n_spikes.tolist() == [1, 1]


def test_a_tonic_neighbour_leaves_bursts_alone():
    burster = np.concatenate([np.array([0.0, 15.0, 40.0]) + 1000 * k for k in range(9)])
    tonic = np.arange(5.0, 10_000.0, 100.0)
    trains = SpikeTrains.from_lists([[tonic, burster, tonic], [[], burster, []]], "abc")
    b = find_bursts(trains, 0.0, 10_000.0, Protocol())
    assert b.counts.tolist() == [0, 9, 0, 0, 9, 0]
    assert b.start_ms.tolist() == list(range(0, 9000, 1000)) * 2
    assert b.tonic.tolist() == [True, False, True, False, False, False]
