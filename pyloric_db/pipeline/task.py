"""What a worker does: one shard, from circuit ids to files."""

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
from distributed import get_worker

from pyloric_db.pipeline.coordinate import PROGRESS_TOPIC
from pyloric_db.pipeline.draw import has_netcode, netcodes, parameters
from pyloric_db.pipeline.last_periods import LastPeriods
from pyloric_db.pipeline.recipe import Recipe
from pyloric_db.pipeline.run import protocol_engine, run_circuits
from pyloric_db.pipeline.states import cold_states
from pyloric_db.pipeline.thermalise import ThermalCells, distinct_cells, thermal_start, thermalise
from pyloric_db.protocol import Protocol
from pyloric_db.store.cells import read_cells, write_cells
from pyloric_db.store.events import has_events
from pyloric_db.store.files import CELLS_FILE, files_at
from pyloric_db.store.ledger import Receipt
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.sealed import Row
from pyloric_db.store.shards import write_shard
from pyloric_db.vocabulary import ChannelNames


def store_cells(path: str, gbar: np.ndarray, recipe: Recipe) -> Row:
    """Thermalise the distinct cells (cell, channel) of a recipe and store them in the database.

    Returns:
        their row for the ledger.
    """
    constants = recipe.run_constants()
    names = constants.channel_names
    cells = thermalise(gbar, recipe.run_protocol(), constants)
    return write_cells(
        path,
        {
            **{f"gbar_{c}": cells.gbar[:, i] for i, c in enumerate(names.all)},
            "activity": cells.activity,
            "period_ms": cells.period_ms,
            "steady": cells.steady,
            "V": cells.states["V"],
            "Ca": cells.states["Ca"],
            **{f"m_{g}": cells.states["m"][:, i] for i, g in enumerate(names.m_gates)},
            **{f"h_{g}": cells.states["h"][:, i] for i, g in enumerate(names.h_gates)},
        },
        names,
    )


def stored_cells(path: str, channels: ChannelNames) -> ThermalCells | None:
    """The thermalised cells of a database, None where it has none."""
    try:
        version = files_at(path).version(CELLS_FILE)
    except FileNotFoundError:
        return None
    return _read_cells(path, channels, version)


@lru_cache(maxsize=1)
def _read_cells(path: str, channels: ChannelNames, _: object) -> ThermalCells:
    """The cells of a file in one state: another build may have put others at its path."""
    columns = read_cells(path, channels)
    return ThermalCells(
        gbar=np.stack([columns[f"gbar_{c}"] for c in channels.all], axis=1),
        activity=columns["activity"],
        period_ms=columns["period_ms"],
        steady=columns["steady"],
        states={
            "V": columns["V"],
            "Ca": columns["Ca"],
            "m": np.stack([columns[f"m_{g}"] for g in channels.m_gates], axis=1),
            "h": np.stack([columns[f"h_{g}"] for g in channels.h_gates], axis=1),
        },
    )


def build_shard(
    path: str, recipe: Recipe, manifest: Manifest, shard: int, ids: np.ndarray
) -> Receipt:
    """Run one shard's circuits and write its files.

    Args:
        path: the database.
        recipe: for the parameters of the circuits.
        manifest: as stored.
        shard: which shard.
        ids: its circuits, ascending.

    Returns:
        the receipt for the ledger; nothing else leaves the worker.
    """
    began = time.monotonic()
    protocol, constants = recipe.run_protocol(), recipe.run_constants()
    circuit = recipe.circuit.circuit()
    columns, gbar, gsyn = parameters(recipe, ids)
    if protocol.initial == "cold":
        initial = cold_states(len(ids), circuit, constants.channel_names)
    else:
        stored = stored_cells(path, constants.channel_names)

        def cells_of(gbar: np.ndarray, protocol: Protocol) -> ThermalCells:
            return stored or thermalise(distinct_cells(gbar)[0], protocol, constants)

        initial = thermal_start(gbar, circuit, protocol, cells_of)
    keep = LastPeriods(circuit.cells, protocol) if has_events(manifest) else None
    engine = protocol_engine(circuit, protocol, constants)
    kernel_before = engine.seconds
    found, states = run_circuits(
        gbar,
        gsyn,
        initial,
        circuit=circuit,
        protocol=protocol,
        constants=constants,
        on_done=_report,
        keep=keep,
    )
    table = {"circuit_id": ids}
    if has_netcode(recipe):
        table["netcode"] = netcodes(recipe, columns)
    table |= columns | found
    events = None if keep is None else keep.table()
    receipt = write_shard(path, manifest, shard, ids, table, states, events)
    return replace(
        receipt,
        seconds=time.monotonic() - began,
        kernel_seconds=engine.seconds - kernel_before,
    )


def _report(circuits: int) -> None:
    try:
        worker = get_worker()
    except ValueError:  # called outside Dask
        return
    worker.log_event(PROGRESS_TOPIC, circuits)
