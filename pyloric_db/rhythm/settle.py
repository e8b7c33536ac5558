"""When to stop: is a circuit's class decided, does a cell alone repeat?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING, TONIC, activities, burst_cycles
from pyloric_db.rhythm.bursts import find_bursts
from pyloric_db.rhythm.spikes import Bools, Floats, Integers, SpikeTrains, segment_reduce

#: A cell alone repeats when its last so many intervals agree to so much of their mean.
STEADY_INTERVALS = 3
STEADY_SPREAD = 0.01


@dataclass(frozen=True)
class Steady:
    """What single cells do; all (cell,).

    `activity`: index into `vocabulary.ACTIVITIES`. `period_ms`: mean of the last three intervals
    from burst start to burst start (fewer if there are not three), for a tonic cell from spike
    to spike; NaN without an interval. `onset_ms` and `previous_onset_ms`: the last burst start
    (spike) that the window shows and the one before; NaN if there is none. `repeats`: the
    cell is bursting or tonic, and its last three intervals agree to 1% of their mean.
    """

    activity: NDArray[np.int8]
    period_ms: Floats
    onset_ms: Floats
    previous_onset_ms: Floats
    repeats: Bools


def settled(
    trains: SpikeTrains, start_ms: ArrayLike, now_ms: ArrayLike, protocol: Protocol
) -> Bools:
    """Circuits whose class longer running would not change (circuit,).

    A cell is steady when it has not fired in the last `protocol.silent_ms` (and the window is at
    least that long), is tonic, or bursts over at least `protocol.settled_cycles` cycles that
    spread by at most `protocol.settled_cv`. A circuit is decided when all its cells are
    steady; and, because a circuit with a silent cell has no triphasic rhythm whatever the others
    do, when one is silent and the first cell, whose period is a feature, is steady.

    Args:
        trains: spike times, ms.
        start_ms: begin of the window (end of the transient), scalar or (circuit,).
        now_ms: the time that the simulation has reached, scalar or (circuit,).
        protocol: for the numbers named above, `max_burst_gap_ms` and `period_cv`.
    """
    trains = trains.window(start_ms, now_ms)
    shape = (trains.n_circuits, trains.n_cells)
    last_spike = segment_reduce(np.maximum, trains.times, trains.offsets, -np.inf).reshape(shape)
    start, now = (np.broadcast_to(edge, trains.n_circuits) for edge in (start_ms, now_ms))
    since = now - protocol.silent_ms
    quiet = (last_spike < since[:, None]) & (start <= since)[:, None]

    bursts = find_bursts(trains, start, now, protocol)
    cycles = burst_cycles(bursts)
    activity = activities(trains, bursts, cycles, now, protocol)
    repeats = (cycles.n >= protocol.settled_cycles) & (cycles.cv <= protocol.settled_cv)
    steady = quiet | (activity == TONIC) | ((activity == BURSTING) & repeats.reshape(shape))
    return np.asarray(steady.all(axis=1) | (quiet.any(axis=1) & steady[:, 0]))


def steady(
    trains: SpikeTrains, start_ms: ArrayLike, now_ms: ArrayLike, protocol: Protocol
) -> Steady:
    """Activity, cycle and last onsets of cells that run alone.

    Args:
        trains: spike times, ms, one cell per circuit.
        start_ms: begin of the window, scalar or (cell,).
        now_ms: the time that the simulation has reached, scalar or (cell,).
        protocol: for `max_burst_gap_ms` and `period_cv`.
    """
    assert trains.n_cells == 1
    trains = trains.window(start_ms, now_ms)
    bursts = find_bursts(trains, start_ms, now_ms, protocol)
    activity = activities(trains, bursts, burst_cycles(bursts), now_ms, protocol)[:, 0]
    tonic = activity == TONIC
    # a burst that was cut by the window's begin has no known start
    starts = np.where(bursts.begun, bursts.start_ms, np.nan)
    onsets = np.where(
        tonic[:, None], _last(trains.times, trains.offsets), _last(starts, bursts.offsets)
    )
    intervals = np.diff(onsets, axis=1)
    known = ~np.isnan(intervals)
    total = np.where(known, intervals, 0.0).sum(axis=1)
    period = total / np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    spread = intervals.max(axis=1) - intervals.min(axis=1)  # NaN with an unknown interval
    # regular single spikes that follow a transient within the window are a tonic cell to be
    last_spikes = _last(np.where(bursts.begun, bursts.n_spikes, np.nan), bursts.offsets)
    to_be_tonic = (last_spikes == 1).all(axis=1) & (period < protocol.max_burst_gap_ms)
    bursting = (activity == BURSTING) & ~to_be_tonic
    return Steady(
        activity=activity,
        period_ms=period,
        onset_ms=onsets[:, -1],
        previous_onset_ms=onsets[:, -2],
        repeats=(tonic | bursting) & (spread <= STEADY_SPREAD * period),
    )


def _last(values: Floats, offsets: Integers) -> Floats:
    """The last values of each segment (segment, STEADY_INTERVALS + 1), NaN in front."""
    index = offsets[1:, None] + np.arange(-STEADY_INTERVALS - 1, 0)
    present = index >= offsets[:-1, None]
    out = np.full(index.shape, np.nan)
    out[present] = values[index[present]]
    return out
