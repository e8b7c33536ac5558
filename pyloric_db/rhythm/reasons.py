"""Why a recording has no period, or a cell of it no phase: sentences for people."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import xarray as xr

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING_CV, burst_cycles, longest_interval, recurs
from pyloric_db.rhythm.bursts import Bursts, find_bursts
from pyloric_db.rhythm.features import EARLY_PHASE, MIN_CYCLES, bursts_of_cell
from pyloric_db.rhythm.recordings import span_of
from pyloric_db.rhythm.spikes import Floats, Integers, SpikeTrains
from pyloric_db.vocabulary import CELL, CELLS, has_pyloric_cells


def recorded_bursts(spikes: xr.DataArray, protocol: Protocol) -> tuple[Bursts, float]:
    """Bursts of a recording as `features_from_spikes` measures them, and the recording's end, ms.

    Args:
        spikes: (cell, spike) ms, as `read_recording` gives them.
        protocol: that of the analysis.
    """
    trains = SpikeTrains.from_padded(spikes.values[None], _cells(spikes))
    start, stop, _ = span_of(trains)
    return find_bursts(trains, start, stop, protocol), float(stop[0])


def why_no_period(spikes: xr.DataArray, protocol: Protocol) -> str:
    """What the first cell does instead of bursting with a period, to be read after its name."""
    found, stop = recorded_bursts(spikes, protocol)
    bursts = _alone(found, 0)
    cycles = burst_cycles(bursts)
    if bursts.tonic[0]:
        return "fires regularly, without bursts"
    joined = _joined(spikes, 0, protocol)
    apart = joined and _alone(recorded_bursts(spikes, joined.mended(protocol))[0], 0)
    why_joined = f", {joined}" if apart and _steady(apart) and not _steady(bursts) else ""
    if cycles.n[0] < 2:
        return f"has fewer than two whole cycles of bursts{why_joined}"
    if not recurs(bursts, cycles, protocol)[0]:
        return (
            f"bursts irregularly: its cycles vary by {cycles.cv[0]:.0%} (SD over mean), "
            f"more than {BURSTING_CV:.0%}{why_joined or _longest_cycle(bursts)}"
        )
    last, longest = bursts.start_ms[-1], longest_interval(bursts)[0]
    return (
        f"begins its last burst {(stop - last) / 1000:.3g} s before the recording's last spike, "
        f"twice its longest cycle of {longest / 1000:.3g} s or more"
        + (
            why_joined
            or ": to measure what is before, "
            f"leave out all spikes after {(last + longest) / 1000:.2f} s"
        )
    )


def why_no_phase(spikes: xr.DataArray, protocol: Protocol) -> dict[str, str]:
    """What is odd about cells that do not burst once in each cycle of the first, and where first.

    Returns:
        by cell, to be read after its name; without those of which nothing is odd.
    """
    bursts, _ = recorded_bursts(spikes, protocol)
    cells = _cells(spikes)
    found = {}
    for i, cell in enumerate(cells[1:], start=1):
        own = _alone(bursts, i)
        if not own.start_ms.size:
            found[cell] = "fires regularly, without bursts" if own.tonic[0] else "has no spikes"
            continue
        per_cycle, onsets = _bursts_per_cycle(bursts, cells, i)
        odd = np.flatnonzero(per_cycle != 1)
        if not odd.size:
            continue
        how = "not at all" if per_cycle[odd[0]] == 0 else f"{per_cycle[odd[0]]} times"
        why = f": {how} in the one that begins at {onsets[odd[0]] / 1000:.2f} s"
        joined = _joined(spikes, i, protocol)
        if joined:
            apart, _ = recorded_bursts(spikes, joined.mended(protocol))
            mended, _ = _bursts_per_cycle(apart, cells, i)
            if mended.size >= per_cycle.size and 2 * (mended != 1).sum() <= odd.size:
                why = f", {joined}"
        found[cell] = f"does not burst once in {odd.size} of {per_cycle.size} cycles{why}"
    return found


def _bursts_per_cycle(bursts: Bursts, cells: list[str], cell: int) -> tuple[Integers, Floats]:
    """How many bursts of a cell start in each cycle of the first, and when cycles begin, ms."""
    first, own = _alone(bursts, 0), _alone(bursts, cell)
    together = has_pyloric_cells(cells) and cells[cell] in CELLS
    early = 0.0 if together else np.nan_to_num(EARLY_PHASE * burst_cycles(first).mean_ms[0])
    same_time = [_alone(bursts, cells.index(c)) for c in CELLS[1:]] if together else [own]
    cut = max(
        (float(start) + early for b in same_time for start in b.start_ms[~b.begun]),
        default=-np.inf,
    )
    onsets = first.start_ms[first.begun]
    onsets = onsets[onsets > cut]
    return np.diff(np.searchsorted(own.start_ms + early, onsets)), onsets


class _Joined(NamedTuple):
    """How the longest pause of a cell may have joined its bursts; times in ms."""

    limit: float
    pause: float
    after: float
    better: float

    def mended(self, protocol: Protocol) -> Protocol:
        """With the limit that would tell the bursts apart."""
        return replace(protocol, max_burst_gap_ms=self.better)

    def __str__(self) -> str:
        return (
            f"as bursts less than {self.limit:.0f} ms apart are joined: its pause of "
            f"{self.pause / 1000:.3g} s after {self.after / 1000:.2f} s sets this limit; "
            f"max_burst_gap_ms {self.better:g} would tell them apart"
        )


def _joined(spikes: xr.DataArray, cell: int, protocol: Protocol) -> _Joined | None:
    """The limit between the bursts of a cell, by the rule of `bursts`, where a pause sets it.

    None where half of the usual interval between bursts is no lower limit. Whether bursts have
    been joined must be asked of the bursts that this lower limit finds.
    """
    times = spikes.values[cell]
    times = times[~np.isnan(times)]
    intervals = np.diff(times)
    if intervals.size < 2 or intervals.max() <= 2 * intervals.mean():
        return None
    better = intervals.mean()
    for _ in range(3):
        better = intervals[intervals > better].mean() / 2
    better = float(f"{better:.2g}")
    longest = int(intervals.argmax())
    limit = min(intervals[longest] / 2, protocol.max_burst_gap_ms)
    return _Joined(limit, intervals[longest], times[longest], better) if better < limit else None


def _steady(bursts: Bursts) -> bool:
    """Whether most cycles of a cell are alike, and most of its bursts more than a spike."""
    lengths = np.diff(bursts.start_ms[bursts.begun])
    if lengths.size < MIN_CYCLES or np.median(bursts.n_spikes) < 2:
        return False
    usual = np.median(lengths)
    return bool(np.median(np.abs(lengths - usual)) <= BURSTING_CV * usual)


def _longest_cycle(bursts: Bursts) -> str:
    """Where it is, and, where most are alike, that the recording may be cut there."""
    starts = bursts.start_ms[bursts.begun]
    longest = int(np.diff(starts).argmax())
    begin, end = starts[longest : longest + 2] / 1000
    cut = ": leave out the spikes before or after it" if _steady(bursts) else ""
    return f"; the longest of {end - begin:.3g} s begins at {begin:.2f} s{cut}"


def _alone(bursts: Bursts, cell: int) -> Bursts:
    """The bursts of one cell of a recording."""
    return bursts_of_cell(bursts, cell, bursts.tonic.size, np.ones(1, bool))


def _cells(spikes: xr.DataArray) -> list[str]:
    return [str(name) for name in spikes[CELL].values]
