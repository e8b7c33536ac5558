"""Spike times to bursts: the adaptive interval rule.

Source: the rule of Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345, as open re-implementations
of their unpublished code describe it. Intervals longer than a threshold separate bursts. The
threshold is half of the longest interval if that exceeds twice the mean interval, else the
mean interval, and at most `Protocol.max_burst_gap_ms` (500 ms). A cell that fires regularly,
more than ten spikes in 5 s, is tonic and has no bursts.

We differ in three places.

- Their limit of ten spikes in 5 s is a mean interval of 500 ms, the same number as their cap. We
  use `max_burst_gap_ms` for both, so that the rule holds for any length of window, and a
  regular cell is either tonic or, with longer intervals, a burster of one spike per burst.
- Whether a cell is tonic is asked of the last 5 s (ten times `max_burst_gap_ms`) of a longer
  window: a tonic cell whose first intervals still show the transient is tonic. It must
  still be firing when the window ends.
- Their rule for modulated-tonic cells needs voltage maxima below the spike threshold, which are
  not kept; it is left out.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.spikes import (
    Bools,
    Floats,
    Integers,
    SpikeTrains,
    offsets_of,
    segment_reduce,
)

#: Longest minus shortest interval of a regular cell, over the mean interval (the 2004 rule).
REGULAR_SPREAD = 0.05

#: Length of the window in which a cell is found tonic, over `max_burst_gap_ms`: the ten spikes of
#: the 2004 rule.
TONIC_SPIKES = 10

#: An activity has stopped when it pauses until the window's end for longer than so many
#: times its longest interval.
STOPPED_INTERVALS = 2.0


@dataclass(frozen=True)
class Bursts:
    """Bursts of all segments (a segment is one cell of one circuit), laid out flat.

    Per burst, in time order within a segment: `start_ms`, its first spike; `end_ms`, its last;
    `n_spikes`; `begun` and `ended`: the window shows a pause longer than the threshold before
    it and after it. A burst cut by the window's edge is not `begun` or not `ended`, and its
    start or end is only that of the part seen. `offsets` (segment + 1,) delimit the segments.

    Per segment: `tonic`, the cell fires regularly and has no bursts.
    """

    start_ms: Floats
    end_ms: Floats
    n_spikes: Integers
    begun: Bools
    ended: Bools
    offsets: Integers
    tonic: Bools

    @property
    def counts(self) -> Integers:
        """Number of bursts (segment,), cut ones included."""
        return np.diff(self.offsets)


class _Intervals(NamedTuple):
    """Interspike intervals of every segment, and the first and last spike (NaN if silent)."""

    counts: Integers  # of spikes
    longest: Floats  # -inf with fewer than two spikes
    mean: Floats
    regular: Bools
    first_spike: Floats
    last_spike: Floats
    gaps: Floats  # (spike,): to the next spike of the cell; inf after the last


def find_bursts(
    trains: SpikeTrains, start_ms: ArrayLike, stop_ms: ArrayLike, protocol: Protocol
) -> Bursts:
    """Bursts of every cell.

    Args:
        trains: spikes within the window only.
        start_ms: begin of the window, scalar or (circuit,).
        stop_ms: end of the window, scalar or (circuit,).
        protocol: for `max_burst_gap_ms`.
    """
    cap = protocol.max_burst_gap_ms
    start, stop = (
        np.repeat(np.broadcast_to(edge, trains.n_circuits), trains.n_cells).astype(np.float64)
        for edge in (start_ms, stop_ms)
    )
    whole = _intervals(trains)
    tonic = _tonic(trains, whole, start, stop, cap)

    slow = whole.regular & (whole.mean >= cap)
    threshold = np.where((whole.longest > 2 * whole.mean) | slow, whole.longest / 2, whole.mean)
    # a lone spike has no interval, and a regular run of spikes that is not tonic is one burst
    threshold[(whole.counts < 2) | (whole.regular & ~slow)] = cap
    threshold = np.minimum(threshold, cap)

    ends = np.flatnonzero(whole.gaps > np.repeat(threshold, whole.counts))
    first_burst = np.searchsorted(ends, trains.offsets)
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    counts = np.diff(first_burst)
    filled = counts > 0
    begun = np.ones(ends.size, dtype=bool)
    ended = np.ones(ends.size, dtype=bool)
    begun[first_burst[:-1][filled]] = (whole.first_spike - start > threshold)[filled]
    ended[first_burst[1:][filled] - 1] = (stop - whole.last_spike > threshold)[filled]
    kept = np.repeat(~tonic, counts)
    starts, ends = starts[kept], ends[kept]
    return Bursts(
        start_ms=trains.times[starts],
        end_ms=trains.times[ends],
        n_spikes=ends - starts + 1,
        begun=begun[kept],
        ended=ended[kept],
        offsets=offsets_of(np.where(tonic, 0, counts)),
        tonic=tonic,
    )


def _intervals(trains: SpikeTrains) -> _Intervals:
    times, offsets = trains.times, trains.offsets
    counts = np.diff(offsets)
    filled = counts > 0
    last = offsets[1:][filled] - 1
    gaps = np.empty(times.size)
    np.subtract(times[1:], times[:-1], out=gaps[:-1])
    gaps[last] = -np.inf
    longest = segment_reduce(np.maximum, gaps, offsets, -np.inf)
    gaps[last] = np.inf
    shortest = segment_reduce(np.minimum, gaps, offsets, np.inf)
    first_spike, last_spike = np.full((2, counts.size), np.nan)
    first_spike[filled] = times[offsets[:-1][filled]]
    last_spike[filled] = times[last]
    mean = (last_spike - first_spike) / np.maximum(counts - 1, 1)
    regular = (counts >= 3) & (longest - shortest < REGULAR_SPREAD * mean)
    return _Intervals(counts, longest, mean, regular, first_spike, last_spike, gaps)


def _tonic(
    trains: SpikeTrains, whole: _Intervals, start: Floats, stop: Floats, cap: float
) -> Bools:
    """Segments that fire regularly in the last part of the window; edges per segment."""
    begin = np.maximum(start, stop - TONIC_SPIKES * cap)
    late = _intervals(trains.since(begin)) if (begin > start).any() else whole
    return np.asarray(
        late.regular
        & (late.mean < cap)
        & ((late.counts + 1) * cap > stop - begin)  # they fill the window, not one burst in it
        & (stop - late.last_spike <= STOPPED_INTERVALS * late.longest)
    )
