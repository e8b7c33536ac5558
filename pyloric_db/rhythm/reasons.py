"""Why a recording has no period, or a cell of it no phase: sentences for people."""

import numpy as np
import xarray as xr

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING_CV, burst_cycles, longest_interval, recurs
from pyloric_db.rhythm.bursts import Bursts, find_bursts
from pyloric_db.rhythm.features import EARLY_PHASE, bursts_of_cell
from pyloric_db.rhythm.recordings import extent
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELL, CELLS, has_pyloric_cells


def recorded_bursts(spikes: xr.DataArray, protocol: Protocol) -> tuple[Bursts, float]:
    """Bursts of a recording as `features_from_spikes` measures them, and the recording's end, ms.

    Args:
        spikes: (cell, spike) ms, as `read_recording` gives them.
        protocol: that of the analysis.
    """
    trains = SpikeTrains.from_padded(spikes.values[None], _cells(spikes))
    start, stop, _ = extent(trains)
    return find_bursts(trains, start, stop, protocol), float(stop[0])


def why_no_period(spikes: xr.DataArray, protocol: Protocol) -> str:
    """What the first cell does instead of bursting with a period, to be read after its name."""
    found, stop = recorded_bursts(spikes, protocol)
    bursts = _alone(found, 0)
    cycles = burst_cycles(bursts)
    if bursts.tonic[0]:
        return "fires regularly, without bursts"
    if cycles.n[0] < 2:
        return "has fewer than two whole cycles of bursts"
    if not recurs(bursts, cycles, protocol)[0]:
        return (
            f"bursts irregularly: its cycles vary by {cycles.cv[0]:.0%} (SD over mean), "
            f"more than {BURSTING_CV:.0%}"
        )
    last, longest = bursts.start_ms[-1], longest_interval(bursts)[0]
    return (
        f"begins its last burst {(stop - last) / 1000:.3g} s before the recording's last spike, "
        f"twice its longest cycle of {longest / 1000:.3g} s or more: to measure what is before, "
        f"leave out all spikes after {(last + longest) / 1000:.2f} s"
    )


def why_no_phase(spikes: xr.DataArray, protocol: Protocol) -> dict[str, str]:
    """What is odd about cells that do not burst once in each cycle of the first, and where first.

    Returns:
        by cell, to be read after its name; without those of which nothing is odd.
    """
    bursts, _ = recorded_bursts(spikes, protocol)
    cells = _cells(spikes)
    first, *others = (_alone(bursts, i) for i in range(len(cells)))
    of = dict(zip(cells[1:], others, strict=True))
    early_ms = np.nan_to_num(EARLY_PHASE * burst_cycles(first).mean_ms[0])
    found = {}
    for cell, own in of.items():
        if not own.start_ms.size:
            found[cell] = "fires regularly, without bursts" if own.tonic[0] else "has no spikes"
            continue
        together = has_pyloric_cells(cells) and cell in CELLS
        early = 0.0 if together else early_ms
        cut = max(
            (
                float(start) + early
                for b in ([of[c] for c in CELLS[1:]] if together else [own])
                for start in b.start_ms[~b.begun]
            ),
            default=-np.inf,
        )
        onsets = first.start_ms[first.begun]
        onsets = onsets[onsets > cut]
        per_cycle = np.diff(np.searchsorted(own.start_ms + early, onsets))
        odd = np.flatnonzero(per_cycle != 1)
        if odd.size:
            how = "not at all" if per_cycle[odd[0]] == 0 else f"{per_cycle[odd[0]]} times"
            found[cell] = (
                f"does not burst once in {odd.size} of {per_cycle.size} cycles: "
                f"{how} in the one that begins at {onsets[odd[0]] / 1000:.2f} s"
            )
    return found


def _alone(bursts: Bursts, cell: int) -> Bursts:
    """The bursts of one cell of a recording."""
    return bursts_of_cell(bursts, cell, bursts.tonic.size, np.ones(1, bool))


def _cells(spikes: xr.DataArray) -> list[str]:
    return [str(name) for name in spikes[CELL].values]
