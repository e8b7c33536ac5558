"""Parameter sets to features: the lanes in which circuits run until they are decided.

A batch is a set of lanes. After each epoch the circuits that are decided leave, new ones take
their lanes, and so the batch stays full while there is work. What comes out for a circuit
does not depend on which others shared the batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pyloric_db.integrate.engine import Batch, Engine, Epoch
from pyloric_db.model.cells import are_published
from pyloric_db.model.circuit import Circuit
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.last_periods import LastPeriods
from pyloric_db.pipeline.states import States
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.settle import settled
from pyloric_db.rhythm.spikes import SpikeTrains, offsets_of
from pyloric_db.vocabulary import feature_columns

Columns = dict[str, np.ndarray]

#: Made and compiled once per process for the same arguments.
_engine = lru_cache(maxsize=16)(Engine)


def protocol_engine(
    circuit: Circuit,
    protocol: Protocol,
    constants: Constants = Constants(),
    epoch_ms: float | None = None,
) -> Engine:
    """The engine that runs a circuit under a protocol, in its epochs if no other are asked for."""
    return _engine(
        circuit,
        dt_ms=protocol.dt_ms,
        epoch_ms=epoch_ms or protocol.epoch_ms,
        scheme=protocol.scheme,
        dtype=protocol.dtype,
        spike_threshold_mV=protocol.spike_threshold_mV,
        constants=constants,
        temperature_K=protocol.temperature_K,
    )


@dataclass
class _Lanes:
    """The circuits that are running; arrays over lanes."""

    batch: Batch
    index: np.ndarray  # which circuit
    epochs: np.ndarray  # epochs done
    trains: SpikeTrains  # spikes since the first window's begin, ms from the start of the run
    V: np.ndarray  # (lane, epoch, 3, cell): lowest, highest and mean voltage, NaN where to come

    def take(self, keep: np.ndarray) -> "_Lanes":
        return _Lanes(
            self.batch.take(keep),
            self.index[keep],
            self.epochs[keep],
            self.trains.select(keep),
            self.V[keep],
        )

    def join(self, other: "_Lanes") -> "_Lanes":
        return _Lanes(
            self.batch.join(other.batch),
            np.concatenate([self.index, other.index]),
            np.concatenate([self.epochs, other.epochs]),
            self.trains.join(other.trains),
            np.concatenate([self.V, other.V]),
        )

    def V_range(self, ms: float, epoch_ms: float) -> np.ndarray:
        """Highest minus lowest voltage (lane, cell) in at least the last so many ms, mV."""
        back = np.arange(-math.ceil(ms / epoch_ms), 0)
        last = np.maximum(self.epochs[:, None] + back, 0)
        recent = self.V[np.arange(len(last))[:, None], last]
        return recent[:, :, 1].max(axis=1).astype(float) - recent[:, :, 0].min(axis=1)


def run_circuits(
    gbar: np.ndarray,
    gsyn: np.ndarray,
    initial: States,
    *,
    circuit: Circuit,
    protocol: Protocol,
    constants: Constants = Constants(),
    i_ext_nA: np.ndarray | None = None,
    on_done: Callable[[int], None] | None = None,
    keep: LastPeriods | None = None,
) -> tuple[Columns, States]:
    """Run circuits under a protocol and analyse their rhythms.

    Args:
        gbar: (circuit, cell, channel) mS/cm2.
        gsyn: (circuit, synapse) nS.
        initial: states at the start, circuit first.
        circuit: the topology.
        protocol: times, thresholds and tolerances.
        constants: the model's numbers.
        i_ext_nA: injected current (circuit, cell); None for none.
        on_done: called with the number of circuits finished since the last call.
        keep: is given the spikes of every circuit.

    Returns:
        the feature and run columns, each (circuit,), and the states at the end of each
        circuit's run. A circuit that failed has a status, null features and False flags.
    """
    engine = protocol_engine(circuit, protocol, constants)
    n, n_cells = len(gbar), len(circuit.cells)
    first, last = (round(t / protocol.epoch_ms) for t in (protocol.min_ms, protocol.max_ms))
    injected = np.zeros((n, n_cells)) if i_ext_nA is None else i_ext_nA
    published = np.zeros(n, bool)
    if constants == Constants():
        published = are_published(gbar) & ~injected.any(axis=1)
    columns: Columns = {}
    states = {name: np.empty(a.shape, np.dtype(protocol.dtype)) for name, a in initial.items()}

    def start(index: np.ndarray) -> _Lanes:
        begin = {k: v[index] for k, v in initial.items()}
        batch = engine.start(begin, gbar[index], gsyn[index], injected[index])
        none = np.zeros((len(index), n_cells), int)
        return _Lanes(
            batch,
            index,
            np.zeros(len(index), int),
            SpikeTrains(np.zeros(0), offsets_of(none), len(index), n_cells),
            np.full((len(index), last, 3, n_cells), np.nan, protocol.dtype),
        )

    def finish(lanes: _Lanes, status: np.ndarray, start_ms: np.ndarray) -> None:
        found = _columns(lanes, status, start_ms, circuit, protocol)
        for name, values in found.items():
            if name not in columns:
                columns[name] = np.empty(n, values.dtype)
            columns[name][lanes.index] = values
        for name, values in engine.stepper.unpack(lanes.batch.state).items():
            states[name][lanes.index] = values
        if keep is not None:
            stop_ms = lanes.epochs * protocol.epoch_ms
            keep.add(lanes.index, lanes.trains, found["period_ms"], stop_ms, status != "ok")

    started = 0
    lanes: _Lanes | None = None
    while started < n or lanes is not None:
        free = engine.lanes - (len(lanes.index) if lanes is not None else 0)
        if free and started < n:
            new = start(np.arange(started, min(started + free, n)))
            started += len(new.index)
            lanes = new if lanes is None else lanes.join(new)
        assert lanes is not None
        lanes.batch, epoch = engine.epoch(lanes.batch)
        _collect(lanes, epoch, protocol)
        status = status_of(epoch)
        done = (status != "ok") | (lanes.epochs >= last)
        ask = np.flatnonzero(~done & (lanes.epochs >= first))
        start_ms = np.full(len(done), protocol.transient_ms)
        if ask.size:
            now = lanes.epochs[ask] * protocol.epoch_ms
            V_range = lanes.V_range(protocol.rest_ms, protocol.epoch_ms)[ask]
            some = lanes.trains.select(ask)
            known = published[lanes.index[ask]]
            since = settled(some, circuit.cells, known, V_range, now, protocol)
            done[ask] = ~np.isnan(since)
            start_ms[ask] = since
        if done.any():
            finish(lanes.take(np.flatnonzero(done)), status[done], start_ms[done])
            lanes = None if done.all() else lanes.take(np.flatnonzero(~done))
            if on_done is not None:
                on_done(int(done.sum()))
    return columns, states


def status_of(*epochs: Epoch) -> np.ndarray:
    """What became of each circuit in these epochs (circuit,): `ok`, or the gravest failure."""
    status = np.full(len(epochs[0].crowded), "ok", dtype=object)
    for name, failed in (
        ("event_overflow", [e.crowded for e in epochs]),
        ("out_of_range", [e.out_of_range for e in epochs]),
        ("nonfinite", [e.nonfinite for e in epochs]),
    ):
        status[np.any(failed, axis=0)] = name
    return status


def _collect(lanes: _Lanes, epoch: Epoch, protocol: Protocol) -> None:
    """Add what an epoch found to the lanes' records; nothing before the windows is kept."""
    kept_from = min(protocol.early_ms, protocol.transient_ms)
    counted = (lanes.epochs + 1) * protocol.epoch_ms > kept_from
    counts = np.where(counted[:, None], epoch.n_spikes, 0)
    per_lane = epoch.n_spikes.sum(axis=1)
    begin = np.repeat(lanes.epochs * protocol.epoch_ms, per_lane)
    times = (begin + epoch.spike_ms)[np.repeat(counted, per_lane)]
    later = SpikeTrains(times, offsets_of(counts), len(counts), counts.shape[1])
    lanes.trains = lanes.trains.append(later)
    statistics = np.stack([epoch.V_min, epoch.V_max, epoch.V_mean], axis=1)
    lanes.V[np.arange(len(counts)), lanes.epochs] = statistics
    lanes.epochs = lanes.epochs + 1


def _columns(
    lanes: _Lanes, status: np.ndarray, start_ms: np.ndarray, circuit: Circuit, protocol: Protocol
) -> Columns:
    """Feature and run columns of lanes that are done; windows begin at start_ms (lane,)."""
    n = len(lanes.index)
    ok = status == "ok"
    # the spikes of a failed run may be infinite; they are not looked at
    trains = lanes.trains.select(np.flatnonzero(ok))
    stop_ms = lanes.epochs * protocol.epoch_ms
    found = analyse(trains, circuit.cells, start_ms[ok], stop_ms[ok], protocol)
    columns: Columns = {}
    for column in feature_columns(circuit.cells):
        if column.kind == "category":
            values = np.full(n, "", dtype=object)
        elif column.kind == "bool":
            values = np.zeros(n, bool)
        else:
            values = np.full(n, np.nan, np.float32)
        values[ok] = found[column.name]
        columns[column.name] = values
    begins = np.arange(lanes.V.shape[1]) * protocol.epoch_ms
    inside = (begins + protocol.epoch_ms > start_ms[:, None]) & (begins < stop_ms[:, None])
    V = np.where(inside[:, :, None, None], lanes.V, np.nan)[ok]
    lowest, highest, mean = (
        (
            np.nanmin(V[:, :, 0], axis=1),
            np.nanmax(V[:, :, 1], axis=1),
            np.nanmean(V[:, :, 2], axis=1, dtype=float),
        )
        if ok.any()
        else np.zeros((3, 0, len(circuit.cells)))
    )
    for i, cell in enumerate(circuit.cells):
        for name, statistic in (("min", lowest), ("max", highest), ("mean", mean)):
            values = np.full(n, np.nan, np.float32)
            values[ok] = statistic[:, i]
            columns[f"v_{name}_{cell}_mV"] = values
    columns["t_simulated_ms"] = stop_ms.astype(np.float32)
    columns["status"] = status
    return columns
