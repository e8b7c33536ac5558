"""What each cell does: silent, tonic, bursting or irregular, and how well its bursts repeat."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.bursts import STOPPED_INTERVALS, Bursts
from pyloric_db.rhythm.spikes import (
    Bools,
    Floats,
    Integers,
    SpikeTrains,
    offsets_of,
    segment_count,
    segment_reduce,
)
from pyloric_db.vocabulary import ACTIVITIES

SILENT, TONIC, BURSTING, IRREGULAR = (
    ACTIVITIES.index(name) for name in ("silent", "tonic", "bursting", "irregular")
)

#: Spread (SD over mean) of the intervals between burst starts up to which a cell is bursting and
#: not irregular. Wider than `Protocol.period_cv`, which says when a rhythm is periodic:
#: a burster whose period wanders is still a burster, and has a period to report.
BURSTING_CV = 0.25

#: A cell may also repeat only after two or three bursts (Prinz, Bucher & Marder 2004).
LONGEST_PATTERN = 3


@dataclass(frozen=True)
class Cycles:
    """Cycles of every segment: from burst start to burst start.

    All (segment,): `n` cycles between starts that the window shows; their `mean_ms`, NaN without
    a cycle; `cv`, their population SD over the mean, NaN with fewer than two.
    """

    n: Integers
    mean_ms: Floats
    cv: Floats


def burst_cycles(bursts: Bursts) -> Cycles:
    """Cycles that begin at every burst that has begun in the window."""
    counts = segment_count(bursts.begun, bursts.offsets)
    return _cycles(bursts.start_ms[bursts.begun], counts, 1)


def _cycles(starts: Floats, counts: Integers, pattern: int) -> Cycles:
    """Cycles of `pattern` bursts; `starts` in ms, `counts` of them per segment."""
    to_go = np.repeat(offsets_of(counts)[1:], counts) - np.arange(starts.size)
    first = np.flatnonzero(to_go > pattern)
    lengths = starts[first + pattern] - starts[first]

    n = np.maximum(counts - pattern, 0)
    offsets = offsets_of(n)
    divisor = np.where(n > 0, n, np.nan)
    mean = segment_reduce(np.add, lengths, offsets, 0.0) / divisor
    squares = (lengths - np.repeat(mean, n)) ** 2
    variance = segment_reduce(np.add, squares, offsets, 0.0) / np.where(n > 1, n, np.nan)
    return Cycles(n, mean, np.sqrt(variance) / mean)


def activities(
    trains: SpikeTrains,
    bursts: Bursts,
    cycles: Cycles,
    stop_ms: ArrayLike,
    protocol: Protocol,
) -> NDArray[np.int8]:
    """Activity of every cell (circuit, cell), as an index into `vocabulary.ACTIVITIES`.

    - silent: no spike in the window;
    - tonic: regular spikes, see `bursts`;
    - bursting: at least two bursts, of which one has two spikes, or three one-spike bursts that are
      `protocol.max_burst_gap_ms` or more apart (Prinz, Billimoria & Marder 2003 count one-spike
      bursters from 200 ms): nearer ones are a tonic cell whose rate still drifts. The intervals
      between burst starts spread by at most `BURSTING_CV`, or repeat to `protocol.period_cv` after
      two or three bursts, or are too few to tell. The last burst is not followed by a pause of
      twice the longest interval;
    - irregular: everything else, also a cell that burst once, or stopped.

    Args:
        trains: spikes in the window.
        bursts: their bursts.
        cycles: `burst_cycles(bursts)`.
        stop_ms: end of the window, scalar or (circuit,).
        protocol: for `period_cv` and `max_burst_gap_ms`.
    """
    counts = bursts.counts
    # the window's begin may have cut off one spike or many: such a burst tells nothing
    seen = np.where(bursts.begun, bursts.n_spikes, 0)
    most_spikes = segment_reduce(np.maximum, seen, bursts.offsets, 0.0)
    apart = cycles.mean_ms >= protocol.max_burst_gap_ms
    stop = np.repeat(np.broadcast_to(stop_ms, trains.n_circuits), trains.n_cells)
    bursting = (
        (counts >= 2)
        & ((most_spikes >= 2) | ((counts >= 3) & apart))
        & recurs(bursts, cycles, protocol)
        & ~_stopped(bursts, stop)
    )
    codes = np.full(counts.size, IRREGULAR, dtype=np.int8)
    codes[bursting] = BURSTING
    codes[bursts.tonic] = TONIC
    codes[trains.counts.ravel() == 0] = SILENT
    return codes.reshape(trains.n_circuits, trains.n_cells)


def recurs(bursts: Bursts, cycles: Cycles, protocol: Protocol) -> Bools:
    """Segments whose intervals between burst starts repeat, or are too few to tell."""
    recurs = (cycles.n < 2) | (cycles.cv <= BURSTING_CV)
    for pattern in range(2, LONGEST_PATTERN + 1):
        ask = ~recurs & (cycles.n >= 2 * pattern)
        starts = bursts.start_ms[bursts.begun & np.repeat(ask, bursts.counts)]
        recurs[ask] = _cycles(starts, cycles.n[ask] + 1, pattern).cv <= protocol.period_cv
    return recurs


def _stopped(bursts: Bursts, stop_ms: Floats) -> Bools:
    """Segments whose last burst is followed by a long pause; `stop_ms` (segment,)."""
    filled = bursts.counts > 0
    pause = np.zeros(filled.size)
    pause[filled] = stop_ms[filled] - bursts.start_ms[bursts.offsets[1:][filled] - 1]
    return np.asarray(pause > STOPPED_INTERVALS * longest_interval(bursts))


def longest_interval(bursts: Bursts) -> Floats:
    """Longest interval between burst starts (segment,), ms; -inf with fewer than two bursts."""
    gaps = np.empty(bursts.start_ms.size)
    gaps[:-1] = np.diff(bursts.start_ms)
    gaps[bursts.offsets[1:][bursts.counts > 0] - 1] = -np.inf
    return segment_reduce(np.maximum, gaps, bursts.offsets, -np.inf)
