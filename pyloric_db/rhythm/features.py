"""Bursts to rhythm features: period, durations, duty cycles, gaps, delays, phases.

Source: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345, table 1. A burst starts with its first
spike and ends with its last; everything is counted from AB/PD burst start to the next.
Duty cycles and phases are mean times over the mean period, as in their table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pyloric_db.rhythm.activity import BURSTING, Cycles
from pyloric_db.rhythm.bursts import Bursts
from pyloric_db.rhythm.spikes import (
    Bools,
    Floats,
    Integers,
    offsets_of,
    segment_count,
    segment_reduce,
)

#: A burst that starts up to so much of a cycle before the first cell's belongs to that cycle, so
#: that the phases of cells in synchrony lie together around 0.
EARLY_PHASE = 0.1
#: Fewer cycles than this have no mean period and cannot show one burst each per cycle.
MIN_CYCLES = 2


@dataclass(frozen=True)
class CellFeatures:
    """Per cell (circuit, cell); NaN where the cell is not bursting or has no whole burst.

    `duration_ms`: mean burst duration; `spikes_per_burst`: mean number of spikes. Both over the
    bursts that begin and end in the window.
    """

    duration_ms: Floats
    spikes_per_burst: Floats


@dataclass(frozen=True)
class Following:
    """How the bursts of some cells follow those of the first; all (circuit,).

    `once`: the first cell and all of these are bursting, and in every cycle exactly one burst of
    each starts. Of each of them, in ms, means over the cycles, NaN where not `once`: `delay_ms`
    from the start of the first cell's burst to the start of its own, `gap_ms` from the end of the
    burst of the one before it (of the first cell, where there is none) to the start of its own.
    """

    once: Bools
    delay_ms: list[Floats]
    gap_ms: list[Floats]


def period(cycles: Cycles, activity: NDArray[np.int8]) -> tuple[Floats, Floats]:
    """Mean period, ms, and its coefficient of variation, both (circuit,), of the first cell.

    NaN unless the cell is bursting with at least two cycles.
    """
    n_cells = activity.shape[1]
    known = (activity[:, 0] == BURSTING) & (cycles.n[::n_cells] >= MIN_CYCLES)
    return (
        np.where(known, cycles.mean_ms[::n_cells], np.nan),
        np.where(known, cycles.cv[::n_cells], np.nan),
    )


def cell_features(bursts: Bursts, activity: NDArray[np.int8]) -> CellFeatures:
    """Burst duration and spikes per burst of every cell; `activity` is (circuit, cell)."""
    whole = bursts.begun & bursts.ended
    n_whole = segment_count(whole, bursts.offsets)
    bursting = activity.ravel() == BURSTING
    divisor = np.where(bursting & (n_whole > 0), n_whole, np.nan)

    def mean(values: NDArray[np.float64] | Integers) -> Floats:
        total = segment_reduce(np.add, np.where(whole, values, 0), bursts.offsets, 0.0)
        return np.asarray(total / divisor).reshape(activity.shape)

    return CellFeatures(mean(bursts.end_ms - bursts.start_ms), mean(bursts.n_spikes))


def following(
    bursts: Bursts,
    activity: NDArray[np.int8],
    cells: Sequence[int],
    early_ms: Floats | float = 0.0,
) -> Following:
    """How the bursts of the cells at these places on the cell axis follow those of the first.

    Only cycles between two starts of the first cell that the window shows count, and only after
    the begin of the window is out of play: a burst of another that was cut there has no known
    start, and the cycles before it are left aside. A burst that is cut at the end of the window
    has no known end, and its cycle does not enter the gap that follows it.

    Args:
        bursts: of all cells.
        activity: (circuit, cell).
        cells: places on the cell axis.
        early_ms: how much before a burst of the first cell one of the same cycle may start,
            scalar or (circuit,); its delay is negative then.
    """
    n_cells = activity.shape[1]
    bursting = (activity[:, [0, *cells]] == BURSTING).all(axis=1)
    pacemaker, *others = (bursts_of_cell(bursts, c, n_cells, bursting) for c in (0, *cells))
    early = np.broadcast_to(early_ms, len(bursting))

    def opens_ms(first: Bursts) -> Floats:
        """From when on a burst belongs to the cycle that each of the first cell's bursts begins."""
        return first.start_ms - np.repeat(early, first.counts)

    cut = np.repeat(np.max([_cut_start(cell) for cell in others], axis=0), pacemaker.counts)
    pacemaker = bursts_where(pacemaker, pacemaker.begun & (opens_ms(pacemaker) > cut))
    n_cycles = pacemaker.counts - 1
    first = segment_reduce(np.minimum, opens_ms(pacemaker), pacemaker.offsets, np.inf)
    last = segment_reduce(np.maximum, opens_ms(pacemaker), pacemaker.offsets, -np.inf)
    others = [bursts_where(cell, _inside(cell, first, last)) for cell in others]
    once = n_cycles >= MIN_CYCLES
    for cell in others:
        once &= cell.counts == n_cycles

    # from here on only these have bursts: one per cycle, so that the cells' arrays align
    pacemaker, *others = (
        bursts_where(cell, np.repeat(once, cell.counts)) for cell in (pacemaker, *others)
    )
    opening, closing = np.zeros((2, pacemaker.start_ms.size), dtype=bool)
    opening[pacemaker.offsets[:-1][once]] = True  # it begins the first cycle, ends none
    closing[pacemaker.offsets[1:][once] - 1] = True  # it ends the last, begins none
    next_opens = opens_ms(pacemaker)[~opening]
    pacemaker = bursts_where(pacemaker, ~closing)
    aligned = np.ones(next_opens.size, dtype=bool)
    for cell in others:
        aligned &= (cell.start_ms >= opens_ms(pacemaker)) & (cell.start_ms < next_opens)
    once &= segment_count(~aligned, pacemaker.offsets) == 0

    def mean(values: Floats, used: Bools) -> Floats:
        n = segment_count(used, pacemaker.offsets)
        total = segment_reduce(np.add, np.where(used, values, 0.0), pacemaker.offsets, 0.0)
        return total / np.where(once & (n > 0), n, np.nan)

    every = np.ones(next_opens.size, dtype=bool)
    return Following(
        once=once,
        delay_ms=[mean(cell.start_ms - pacemaker.start_ms, every) for cell in others],
        gap_ms=[
            mean(cell.start_ms - before.end_ms, before.ended)
            for before, cell in pairwise((pacemaker, *others))
        ],
    )


def bursts_where(bursts: Bursts, kept: Bools) -> Bursts:
    """Those of the bursts for which a flag (burst,) is true."""
    return _picked(bursts, kept, segment_count(kept, bursts.offsets), bursts.tonic)


def bursts_of_cell(bursts: Bursts, cell: int, n_cells: int, circuits: Bools) -> Bursts:
    """Bursts of one cell, one segment per circuit; other circuits than these have none."""
    wanted = np.zeros((circuits.size, n_cells), dtype=bool)
    wanted[:, cell] = circuits
    kept = np.repeat(wanted.ravel(), bursts.counts)
    counts = np.where(circuits, bursts.counts[cell::n_cells], 0)
    return _picked(bursts, kept, counts, bursts.tonic[cell::n_cells])


def _picked(bursts: Bursts, kept: Bools, counts: Integers, tonic: Bools) -> Bursts:
    """Some of the bursts, `counts` of them in each of the segments that `tonic` is about."""
    return Bursts(
        bursts.start_ms[kept],
        bursts.end_ms[kept],
        bursts.n_spikes[kept],
        bursts.begun[kept],
        bursts.ended[kept],
        offsets_of(counts),
        tonic,
    )


def _cut_start(bursts: Bursts) -> Floats:
    """First spike seen of the burst that the window's begin may have cut, else -inf."""
    start = np.where(bursts.begun, -np.inf, bursts.start_ms)
    return segment_reduce(np.maximum, start, bursts.offsets, -np.inf)


def _inside(bursts: Bursts, first: Floats, last: Floats) -> Bools:
    counts = bursts.counts
    starts = bursts.start_ms
    return np.asarray((starts >= np.repeat(first, counts)) & (starts < np.repeat(last, counts)))
