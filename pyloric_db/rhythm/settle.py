"""When to stop: is a circuit's class decided, does a cell alone repeat?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING, LONGEST_PATTERN, TONIC, activities, burst_cycles
from pyloric_db.rhythm.bursts import Bursts, find_bursts
from pyloric_db.rhythm.spikes import Bools, Floats, Integers, SpikeTrains, segment_reduce
from pyloric_db.vocabulary import CELLS

#: A voltage that stays within this range is at rest. Between short bursts some cells depolarise
#: by little more in a second; the published AB/PD, LP and PY are known not to do so, with the
#: published constants.
REST_mV = 1.0

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
    trains: SpikeTrains,
    cells: Sequence[str],
    published: ArrayLike,
    V_range_mV: ArrayLike,
    now_ms: ArrayLike,
    protocol: Protocol,
) -> Floats:
    """From when on the class of each circuit is decided, ms (circuit,); NaN where it is not yet.

    Two windows are tried, from `protocol.early_ms` and from `protocol.transient_ms` to now. A
    cell is steady in a window when it is silent, tonic, or bursts over at least
    `protocol.settled_cycles` cycles that spread by at most `protocol.settled_cv`. A silent cell
    has not fired for `protocol.silent_ms`, or for `protocol.rest_ms` in which its voltage did
    not move by `protocol.rest_mV` (in circuits that are not of published AB/PD, LP and PY by
    `REST_mV`, if that is less); in the early window, not at all. In circuits that are not of AB/PD,
    LP and PY alone a cell that has burst in the window is not silent, and none is steady of which
    the window's edge cuts a burst that has two spikes more than its longest whole one.

    A circuit is decided when all its cells are steady, and those that burst keep time with the
    first if that bursts: the mean lengths of their cycles are alike, or one is two or three of the
    other, to `protocol.settled_cv`. Else phases drift, and cells that pull at each other may yet
    fall into another rhythm.

    A circuit of AB/PD, LP and PY alone is decided in the window after the transient, too, once
    that is as long as `protocol.silent_ms`, when the first cell, whose period is a feature, is
    steady and any cell is silent or tonic: no triphasic rhythm can come of it, whatever the others
    do. A first cell that is silent must then have been so for `protocol.silent_ms`: it may wait
    for the end of another's long burst.

    Args:
        trains: spike times, ms, at least since the earlier window's begin.
        cells: names of the cells.
        published: (circuit,), whether all its cells are published ones, without injected current,
            and so are the constants.
        V_range_mV: (circuit, cell), highest minus lowest voltage in the last `protocol.rest_ms`.
        now_ms: the time that the simulation has reached, scalar or (circuit,).
        protocol: for the numbers named above, `max_burst_gap_ms` and `period_cv`.
    """
    found = np.full(trains.n_circuits, np.nan)
    now = np.broadcast_to(np.asarray(now_ms, float), trains.n_circuits)
    V_range = np.asarray(V_range_mV)
    three = set(cells) == set(CELLS)
    other_mV = min(protocol.rest_mV, REST_mV)
    rest_mV = np.where(np.logical_and(published, three), protocol.rest_mV, other_mV)
    rests = V_range < rest_mV[:, None]
    begins = sorted({min(protocol.early_ms, protocol.transient_ms), protocol.transient_ms})
    for here, part in trains.blocks():
        for begin in begins:
            ask = np.flatnonzero(np.isnan(found[here]) & (now[here] > begin))
            if ask.size:
                which = here.start + ask
                some = part.select(ask)
                decided = _settled_from(begin, some, rests[which], now[which], protocol, three)
                found[which[decided]] = begin
    return found


def _settled_from(
    begin: float,
    trains: SpikeTrains,
    rests: Bools,
    now: Floats,
    protocol: Protocol,
    three: bool,
) -> Bools:
    """Circuits that are decided in the window from `begin` to now.

    `rests` (circuit, cell): the voltage did not move lately; `three`: they are AB/PD, LP and PY.
    """
    trains = trains.window(begin, now)
    shape = (trains.n_circuits, trains.n_cells)
    last_spike = segment_reduce(np.maximum, trains.times, trains.offsets, -np.inf).reshape(shape)
    pause = np.where(rests, protocol.rest_ms, protocol.silent_ms)
    since = now[:, None] - pause
    silent = (last_spike < since) & (begin <= since)
    pausing = silent & (last_spike >= now[:, None] - protocol.silent_ms)
    after_transient = begin >= protocol.transient_ms
    if not after_transient:
        silent &= trains.counts == 0

    bursts = find_bursts(trains, begin, now, protocol)
    cycles = burst_cycles(bursts)
    activity = activities(trains, bursts, cycles, now, protocol)
    repeats = (cycles.n >= protocol.settled_cycles) & (cycles.cv <= protocol.settled_cv)
    bursting = activity == BURSTING
    if not three:  # whose labels it would not change, but whose runs it would make longer
        repeats &= ~_longer_at_edge(bursts)
        silent &= ~bursting
    steady = silent | (activity == TONIC) | (bursting & repeats.reshape(shape))
    mean_ms = np.where(bursting, cycles.mean_ms.reshape(shape), np.nan)
    ratio = np.maximum(mean_ms / mean_ms[:, :1], mean_ms[:, :1] / mean_ms)
    whole = np.round(ratio)
    in_time = (whole <= LONGEST_PATTERN) & (np.abs(ratio - whole) <= protocol.settled_cv * whole)
    decided = (steady & (np.isnan(ratio) | in_time)).all(axis=1)
    if after_transient and three:
        never = (silent | (activity == TONIC)).any(axis=1) & (now - begin >= protocol.silent_ms)
        decided |= never & steady[:, 0] & ~pausing[:, 0]
    return np.asarray(decided)


def _longer_at_edge(bursts: Bursts) -> Bools:
    """Segments with more spikes in a burst that the window cuts than in any whole one, by two.

    Such a burst is firing that the rhythm has only just followed, or into which it turns.
    """
    whole = bursts.begun & bursts.ended
    most, most_in_cut = (
        segment_reduce(np.maximum, np.where(which, bursts.n_spikes, 0), bursts.offsets, 0.0)
        for which in (whole, ~whole)
    )
    return np.asarray(most_in_cut >= most + 2)


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
