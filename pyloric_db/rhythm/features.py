"""Bursts to rhythm features: period, durations, duty cycles, gaps, delays, phases.

Source: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345, table 1. A burst starts with its first
spike and ends with its last; everything is counted from AB/PD burst start to the next.
Duty cycles and phases are mean times over the mean period, as in their table.
"""

from dataclasses import dataclass

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
class BetweenCells:
    """How AB/PD, LP and PY bursts follow one another; all (circuit,).

    `triphasic`: the three cells are bursting, and in every cycle exactly one LP burst and one PY
    burst start. The times are means over the cycles, ms, NaN where not triphasic.
    """

    triphasic: Bools
    delay_abpd_lp_ms: Floats
    delay_abpd_py_ms: Floats
    gap_abpd_lp_ms: Floats
    gap_lp_py_ms: Floats


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


def between_cells(
    bursts: Bursts, activity: NDArray[np.int8], abpd: int, lp: int, py: int
) -> BetweenCells:
    """Order of the bursts of the three cells whose positions on the cell axis are given.

    Only cycles between two AB/PD starts that the window shows count, and only after the begin
    of the window is out of play: an LP or PY burst that was cut there has no known start, and the
    cycles before it are left aside. An LP burst cut at the end of the window has no known
    end, and its cycle does not enter the gap from LP to PY.
    """
    n_cells = activity.shape[1]
    candidate = (activity[:, [abpd, lp, py]] == BURSTING).all(axis=1)
    pacemaker, second, third = (
        _bursts_of_cell(bursts, cell, n_cells, candidate) for cell in (abpd, lp, py)
    )
    cut = np.maximum(_cut_start(second), _cut_start(third))
    known = pacemaker.begun & (pacemaker.start_ms > np.repeat(cut, pacemaker.counts))
    pacemaker = _bursts_where(pacemaker, known)
    n_cycles = np.where(candidate, pacemaker.counts - 1, 0)
    candidate = n_cycles >= MIN_CYCLES

    # from here on only candidates have bursts: one per cycle, so that the cells' arrays align
    pacemaker = _bursts_where(pacemaker, np.repeat(candidate, pacemaker.counts))
    first = segment_reduce(np.minimum, pacemaker.start_ms, pacemaker.offsets, np.inf)
    last = segment_reduce(np.maximum, pacemaker.start_ms, pacemaker.offsets, -np.inf)
    for cell in (second, third):
        inside = _inside(cell, first, last)
        in_cycles = segment_count(inside, cell.offsets)
        candidate = candidate & (in_cycles == n_cycles)
    n_cycles = np.where(candidate, n_cycles, 0)
    second, third = (
        _bursts_where(cell, _inside(cell, first, last) & np.repeat(candidate, cell.counts))
        for cell in (second, third)
    )
    pacemaker = _bursts_where(pacemaker, np.repeat(candidate, pacemaker.counts))
    closing = np.zeros(pacemaker.start_ms.size, dtype=bool)  # it ends the last cycle, begins none
    closing[pacemaker.offsets[1:][candidate] - 1] = True
    onset, end = pacemaker.start_ms[~closing], pacemaker.end_ms[~closing]
    opening = np.zeros(closing.size, dtype=bool)
    opening[pacemaker.offsets[:-1][candidate]] = True
    next_onset = pacemaker.start_ms[~opening]

    offsets = offsets_of(n_cycles)
    aligned = np.ones(onset.size, dtype=bool)
    for cell in (second, third):
        aligned &= (cell.start_ms >= onset) & (cell.start_ms < next_onset)
    misses = segment_count(~aligned, offsets)
    triphasic = candidate & (misses == 0)

    def mean(values: Floats, used: Bools | None = None) -> Floats:
        n = n_cycles if used is None else segment_count(used, offsets)
        kept = values if used is None else np.where(used, values, 0.0)
        total = segment_reduce(np.add, kept, offsets, 0.0)
        return total / np.where(triphasic & (n > 0), n, np.nan)

    return BetweenCells(
        triphasic=triphasic,
        delay_abpd_lp_ms=mean(second.start_ms - onset),
        delay_abpd_py_ms=mean(third.start_ms - onset),
        gap_abpd_lp_ms=mean(second.start_ms - end),
        gap_lp_py_ms=mean(third.start_ms - second.end_ms, second.ended),
    )


def _bursts_where(bursts: Bursts, kept: Bools) -> Bursts:
    return _picked(bursts, kept, segment_count(kept, bursts.offsets), bursts.tonic)


def _bursts_of_cell(bursts: Bursts, cell: int, n_cells: int, circuits: Bools) -> Bursts:
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
