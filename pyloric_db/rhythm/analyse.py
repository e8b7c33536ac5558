"""Spike trains to every rhythm column of the feature table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyloric_db.errors import ConfigError
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import activities, burst_cycles
from pyloric_db.rhythm.bursts import find_bursts
from pyloric_db.rhythm.classify import criteria_met, in_pyloric_order, periodic
from pyloric_db.rhythm.features import EARLY_PHASE, cell_features, following, period
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import ACTIVITIES, CELLS, CRITERIA, feature_columns, has_pyloric_cells


def analyse(
    trains: SpikeTrains,
    cells: Sequence[str],
    start_ms: ArrayLike,
    stop_ms: ArrayLike,
    protocol: Protocol,
) -> dict[str, NDArray[Any]]:
    """Rhythm of every circuit: all columns of `vocabulary.feature_columns(cells)`.

    The result of a circuit does not depend on the other circuits, to the last bit.

    Args:
        trains: spike times, ms; spikes outside the window do not count.
        cells: names of the cells; bursts of the first delimit the cycles.
        start_ms: begin of the window, scalar or (circuit,).
        stop_ms: end of the window, scalar or (circuit,); a spike at it is outside.
        protocol: for `max_burst_gap_ms` and `period_cv`.

    Returns:
        One array (circuit,) per column, in the order of the vocabulary: float32 with NaN for
        null (`n_criteria_met` too), bool, or strings of `vocabulary.ACTIVITIES`. A period needs
        a bursting first cell with two cycles; a cell's duration and spikes per burst need that
        it bursts; a duty cycle needs both, and bursts no longer than the period; gaps, delays and
        phases of LP and PY need `triphasic`, the delay and the phases of another cell that just one
        of its bursts starts in every cycle, or up to a tenth of a cycle before (they are negative
        then).

    Raises:
        ConfigError: `cells` does not fit the trains, names a cell twice, or has AB/PD, LP and PY
            but not AB/PD first; a window does not end after it begins.

    Source: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345; see `bursts` for differences.
    """
    names = tuple(cells)
    if len(names) != trains.n_cells:
        raise ConfigError(
            f"expected one name for each of the {trains.n_cells} cells, not {len(names)} "
            f"({', '.join(names)})"
        )
    if len(set(names)) != len(names):
        raise ConfigError(f"cell names must differ, not {', '.join(names)}")
    check_pacemaker(names)
    n = trains.n_circuits
    start = np.broadcast_to(np.asarray(start_ms, dtype=np.float64), n)
    stop = np.broadcast_to(np.asarray(stop_ms, dtype=np.float64), n)
    wrong = np.flatnonzero(~(stop > start))
    if wrong.size:
        i = wrong[0]
        raise ConfigError(
            f"a window must end after it begins, not {start[i]:g} to {stop[i]:g} ms (circuit {i})"
        )
    blocks = [
        _analyse_block(part, names, start[here], stop[here], protocol)
        for here, part in trains.blocks()
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def check_pacemaker(cells: Sequence[str]) -> None:
    """ConfigError where AB/PD, LP and PY are among the cells, but AB/PD is not the first."""
    if has_pyloric_cells(cells) and cells[0] != CELLS[0]:
        raise ConfigError(
            f"{CELLS[0]} must be the first cell, because its bursts delimit the cycles, "
            f"not {cells[0]}"
        )


def _analyse_block(
    trains: SpikeTrains,
    cells: tuple[str, ...],
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
    protocol: Protocol,
) -> dict[str, NDArray[Any]]:
    trains = trains.window(start, stop)
    bursts = find_bursts(trains, start, stop, protocol)
    cycles = burst_cycles(bursts)
    activity = activities(trains, bursts, cycles, stop, protocol)
    per_cell = cell_features(bursts, activity)
    period_ms, period_cv = period(cycles, activity)
    rate = trains.counts / ((stop - start) / 1000.0)[:, None]

    values: dict[str, NDArray[Any]] = {"period_ms": period_ms, "period_cv": period_cv}
    for i, cell in enumerate(cells):
        values[f"burst_duration_{cell}_ms"] = per_cell.duration_ms[:, i]
        duty = per_cell.duration_ms[:, i] / period_ms
        values[f"duty_cycle_{cell}"] = np.where(duty <= 1, duty, np.nan)  # else it is of no cycle
        values[f"spikes_per_burst_{cell}"] = per_cell.spikes_per_burst[:, i]
        values[f"spike_rate_{cell}_Hz"] = rate[:, i]
        values[f"activity_{cell}"] = np.array(ACTIVITIES)[activity[:, i]]
    values["periodic"] = periodic(period_cv, protocol)

    delays: dict[str, NDArray[np.float64]] = {}
    triphasic = has_pyloric_cells(cells)
    if triphasic:
        three = following(bursts, activity, [cells.index(cell) for cell in CELLS[1:]])
        values["triphasic"] = three.once
        values["gap_abpd_lp_ms"], values["gap_lp_py_ms"] = three.gap_ms
        values["phase_gap_abpd_lp"], values["phase_gap_lp_py"] = (
            gap / period_ms for gap in three.gap_ms
        )
        delays = dict(zip(CELLS[1:], three.delay_ms, strict=True))
    early_ms = np.nan_to_num(EARLY_PHASE * period_ms)
    for i, cell in enumerate(cells[1:], start=1):
        if cell in delays:
            delay = delays[cell]
        else:
            delay = following(bursts, activity, [i], early_ms).delay_ms[0]
        values[f"delay_{cells[0]}_{cell}_ms"] = delay
        values[f"phase_start_{cell}"] = delay / period_ms
        values[f"phase_end_{cell}"] = (delay + values[f"burst_duration_{cell}_ms"]) / period_ms
    if triphasic:
        values["pyloric_like"] = values["periodic"] & values["triphasic"] & in_pyloric_order(values)
        # counted on the numbers as they are stored, so that anyone can count again
        stored = {c.column: values[c.column].astype(np.float32) for c in CRITERIA}
        values["n_criteria_met"] = criteria_met(stored)
        values["pyloric"] = values["pyloric_like"] & (values["n_criteria_met"] == len(CRITERIA))

    columns = feature_columns(cells)
    return {
        column.name: values[column.name].astype(np.float32)
        if column.kind == "float32"
        else values[column.name]
        for column in columns
    }
