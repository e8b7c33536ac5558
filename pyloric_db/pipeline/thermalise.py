"""Cells alone, from the cold start until they are steady, and their state at a phase of the cycle.

Which rhythm a multistable circuit falls into depends on where in their cycles its cells were
when the synapses were switched on. So the state is taken at a defined phase: of the burst
cycle counted from burst start, or of the inter-spike interval of a tonic cell.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from pyloric_db.integrate.engine import Batch, Engine
from pyloric_db.model.circuit import SINGLE_CELL, Circuit
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.run import protocol_engine
from pyloric_db.pipeline.states import States, cold_states
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import BURSTING, IRREGULAR, TONIC
from pyloric_db.rhythm.settle import steady
from pyloric_db.rhythm.spikes import SpikeTrains, offsets_of
from pyloric_db.vocabulary import ACTIVITIES

#: A cell is asked only after this long, and the first half of its run never counts.
FIRST_LOOK_MS = 10_000.0
#: A cell without a spike for this long, at rest to the tolerance below, is silent for good.
SILENT_MS = 20_000.0
REST_mV = 0.05
#: A cell that spikes neither regularly nor in regular bursts is taken as it is after this long.
IRREGULAR_MS = 60_000.0


@dataclass(frozen=True)
class ThermalCells:
    """Thermalised cells, all (cell, ...): what they do alone, and their states.

    `activity` names of `vocabulary.ACTIVITIES`; `period_ms` from burst start to burst start (of a
    tonic cell, spike to spike), NaN without one; `steady` False where a limit was reached;
    `states` V, Ca, m, h with the cell axis in place of (circuit, cell).
    """

    gbar: np.ndarray
    activity: np.ndarray
    period_ms: np.ndarray
    steady: np.ndarray
    states: States


def thermalise(
    gbar: np.ndarray, protocol: Protocol, constants: Constants = Constants()
) -> ThermalCells:
    """Run cells alone from the cold start until steady.

    Args:
        gbar: (cell, channel) mS/cm2.
        protocol: `thermal_phase`, `thermal_max_ms`, temperature, and how to integrate.
        constants: the model's numbers.

    Returns:
        the cells' activity, period and state at the phase, of a cell that bursts or fires but does
        not repeat in its last cycle; a cell without a cycle is taken at the end of its run.
    """
    n = len(gbar)
    cells = ThermalCells(
        gbar=gbar,
        activity=np.full(n, "", dtype=object),
        period_ms=np.full(n, np.nan),
        steady=np.zeros(n, bool),
        states={k: v[:, 0] for k, v in _cold(n, constants).items() if k != "s"},
    )
    engine = protocol_engine(SINGLE_CELL, protocol, constants)
    for a in range(0, n, engine.lanes):
        _thermalise_batch(cells, np.arange(a, min(a + engine.lanes, n)), engine, protocol)
    return cells


def _cold(n: int, constants: Constants) -> States:
    return cold_states(n, SINGLE_CELL, constants.channel_names)


def _thermalise_batch(
    cells: ThermalCells, index: np.ndarray, engine: Engine, protocol: Protocol
) -> None:
    """Fill in the cells at `index`."""
    all_cells = index
    gbar = cells.gbar[index][:, None]
    cold = _cold(len(index), engine.stepper.constants)
    batch = engine.start(cold, gbar, np.zeros((len(index), 0)))
    trains = SpikeTrains(np.zeros(0), offsets_of(np.zeros(len(index), int)), len(index), 1)
    snapshots: list[tuple[np.ndarray, Batch]] = []  # cells and batch at the start of each epoch
    target = np.zeros(len(cells.gbar))  # when to take the state, ms
    now = 0.0
    while index.size:
        snapshots.append((index, batch))
        batch, epoch = engine.epoch(batch)
        later = SpikeTrains(now + epoch.spike_ms, offsets_of(epoch.n_spikes), len(index), 1)
        trains = trains.append(later)
        now += protocol.epoch_ms
        limit = now >= protocol.thermal_max_ms
        if now < FIRST_LOOK_MS and not limit:
            continue
        found = steady(trains, now / 2, now, protocol)
        spiked_lately = trains.window(now - SILENT_MS, now).counts[:, 0] > 0
        at_rest = (epoch.V_max - epoch.V_min)[:, 0] < REST_mV
        silent = ~spiked_lately & at_rest & (now >= SILENT_MS)
        irregular = (found.activity == IRREGULAR) & (now >= IRREGULAR_MS)
        failed = epoch.nonfinite | epoch.crowded | epoch.out_of_range
        done = found.repeats | silent | irregular | failed | limit

        where = index[done]
        cells.activity[where] = np.array(ACTIVITIES, dtype=object)[found.activity[done]]
        cells.period_ms[where] = found.period_ms[done]
        cells.steady[where] = ((found.repeats | silent) & ~failed)[done]
        # what failed is not silent, for all that it has no spikes
        cells.activity[index[failed]] = ""
        cells.period_ms[index[failed]] = np.nan
        cycle = found.onset_ms - found.previous_onset_ms
        assert isinstance(protocol.thermal_phase, float)  # `thermal_start` asks for each phase
        in_cycle = found.previous_onset_ms + protocol.thermal_phase * cycle
        cycles = found.repeats | (limit & np.isin(found.activity, (BURSTING, TONIC)))
        target[where] = np.where(cycles & np.isfinite(in_cycle), in_cycle, now)[done]
        keep = np.flatnonzero(~done)
        index, batch, trains = index[keep], batch.take(keep), trains.select(keep)

    _take_states(cells, all_cells, target[all_cells], snapshots, engine)


def _take_states(
    cells: ThermalCells,
    index: np.ndarray,
    target_ms: np.ndarray,
    snapshots: list[tuple[np.ndarray, Batch]],
    engine: Engine,
) -> None:
    """Fill in the states of the cells at `index`, each at its moment.

    The epoch that holds it is run again, up to that moment.
    """
    epochs = np.maximum(np.ceil(target_ms / engine.epoch_ms).astype(int) - 1, 0)
    order: list[np.ndarray] = []
    replay: Batch | None = None
    for e in np.unique(epochs):
        there, at_start = snapshots[e]
        wanted = np.flatnonzero(epochs == e)
        part = at_start.take(np.searchsorted(there, index[wanted]))
        replay = part if replay is None else replay.join(part)
        order.append(wanted)
    assert replay is not None
    which = np.concatenate(order)
    into_epoch = target_ms[which] - epochs[which] * engine.epoch_ms
    state = engine.advance(replay, np.round(into_epoch / engine.dt_ms).astype(int))
    for name, values in engine.stepper.unpack(state).items():
        if name != "s":
            cells.states[name][index[which]] = values[:, 0]


#: Thermalised cells that a process remembers per settings: those of any grid, under 10 MB.
MOST_REMEMBERED = 10_000


@lru_cache(maxsize=4)
def _thermalised(*_: Any) -> dict[bytes, tuple[Any, ...]]:
    """This process's thermalised cells under these settings, by the bytes of their gbar."""
    return {}


def thermal_cells(
    gbar: np.ndarray, protocol: Protocol, constants: Constants = Constants()
) -> ThermalCells:
    """Thermalised cells for all distinct gbar vectors; some thousand are remembered per settings.

    Args:
        gbar: (circuit, cell, channel) mS/cm2.
        protocol: see `thermalise`, as for the others.
    """
    distinct, _ = distinct_cells(gbar)
    remembered = _thermalised(protocol, constants)
    memory = dict(remembered)
    missing = np.array([g.tobytes() not in memory for g in distinct], bool)
    if missing.any():
        fresh = thermalise(distinct[missing], protocol, constants)
        for i, g in enumerate(fresh.gbar):
            memory[g.tobytes()] = (
                fresh.activity[i],
                fresh.period_ms[i],
                fresh.steady[i],
                {k: v[i] for k, v in fresh.states.items()},
            )
        if len(memory) <= MOST_REMEMBERED:
            remembered.update(memory)
    rows = [memory[g.tobytes()] for g in distinct]
    return ThermalCells(
        gbar=distinct,
        activity=np.array([r[0] for r in rows], dtype=object),
        period_ms=np.array([r[1] for r in rows]),
        steady=np.array([r[2] for r in rows]),
        states={k: np.stack([r[3][k] for r in rows]) for k in rows[0][3]},
    )


def initial_states(gbar: np.ndarray, cells: ThermalCells, circuit: Circuit) -> States:
    """Thermal start of circuits: each cell in its thermalised state, s = 0.

    Args:
        gbar: (circuit, cell, channel); every row must be among `cells.gbar`.
        cells: thermalised cells.
        circuit: the topology.
    """
    rows = {g.tobytes(): i for i, g in enumerate(np.ascontiguousarray(cells.gbar) + 0.0)}
    distinct, inverse = distinct_cells(gbar)
    at = np.array([rows[g.tobytes()] for g in distinct])[inverse].reshape(gbar.shape[:2])
    states = {name: values[at] for name, values in cells.states.items()}
    states["s"] = np.zeros((len(gbar), len(circuit.sources)))
    return states


def thermal_start(
    gbar: np.ndarray,
    circuit: Circuit,
    protocol: Protocol,
    cells_of: Callable[[np.ndarray, Protocol], ThermalCells],
) -> States:
    """Thermal start of circuits, each cell in the phase that the protocol gives it; s = 0.

    Args:
        gbar: (circuit, cell, channel).
        circuit: the topology.
        protocol: for `thermal_phase`.
        cells_of: thermalises the cells of a gbar in the one phase of a protocol.

    Raises:
        ConfigError: there are phases of another number of cells.
    """
    protocol.check_cells(len(circuit.cells))
    phases = protocol.thermal_phase
    if isinstance(phases, float):
        return initial_states(gbar, cells_of(gbar, protocol), circuit)
    each = []
    for i, phase in enumerate(phases):
        own = gbar[:, [i]]
        cells = cells_of(own, replace(protocol, thermal_phase=phase))
        each.append(initial_states(own, cells, SINGLE_CELL))
    states = {name: np.concatenate([e[name] for e in each], axis=1) for name in each[0]}
    states["s"] = np.zeros((len(gbar), len(circuit.sources)))
    return states


def distinct_cells(gbar: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct cells among circuits, and which is where.

    Args:
        gbar: (circuit, cell, channel).

    Returns:
        distinct gbar vectors (distinct, channel) in ascending order, and the index of each
        circuit's cells, flattened.
    """
    flat = np.ascontiguousarray(gbar.reshape(-1, gbar.shape[-1])) + 0.0  # -0.0 is 0.0
    rows = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(flat.itemsize * flat.shape[1]), len(flat), [None, pa.py_buffer(flat)]
    ).dictionary_encode()  # hashes, where NumPy sorts all rows
    seen = np.frombuffer(rows.dictionary.buffers()[1], count=len(rows.dictionary) * flat.shape[1])
    seen = seen.reshape(-1, flat.shape[1])
    order = np.lexsort(seen.T[::-1])
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    return seen[order], rank[rows.indices.to_numpy()]
