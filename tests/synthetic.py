"""Small databases of seeded random values, for tests that need files but no simulation."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pyloric_db.store.cells import cell_columns as columns_of_cells
from pyloric_db.store.cells import write_cells
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger, Receipt
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Axis, Manifest
from pyloric_db.store.parameters import grid_columns, parameter_columns
from pyloric_db.store.shards import write_shard
from pyloric_db.store.template import state_shape
from pyloric_db.vocabulary import (
    CELLS,
    CHANNELS,
    SOURCES,
    STATE_VARIABLES,
    SYNAPSES,
    Column,
    feature_columns,
    run_columns,
)

ID = Column("circuit_id", "int64", "1", "grid index of the circuit")
NETCODE = Column("netcode", "string", "1", "name of the circuit")


def cell_axis(name: str, n: int) -> Axis:
    gbar = tuple(tuple(float(10 * i + j) for j in range(len(CHANNELS))) for i in range(n))
    return Axis(name, "cell", labels=tuple(f"{name.upper()} {i + 1}" for i in range(n)), gbar=gbar)


GRID = (
    cell_axis("abpd", 2),
    cell_axis("lp", 3),
    Axis("gsyn_ab_lp_nS", "value", (0.0, 0.1, 3.0, 30.0)),
    Axis("gsyn_lp_py_nS", "value", (0.0, 10.0)),
)


def make_manifest(
    axes=GRID,
    n_circuits=48,
    shard_circuits=20,
    chunk_circuits=5,
    cells=CELLS,
    synapses=SYNAPSES,
    **changes,
) -> Manifest:
    columns = (
        ID,
        NETCODE,
        *parameter_columns(axes, cells, synapses),
        *feature_columns(cells),
        *run_columns(cells),
    )
    manifest = Manifest(
        name="tiny",
        recipe={"name": "tiny", "grid": {"gsyn_ab_lp_nS": [0, 0.1, 3, 30]}},
        selection={"kind": "all"},
        n_circuits=n_circuits,
        shard_circuits=shard_circuits,
        chunk_circuits=chunk_circuits,
        cells=cells,
        synapses=synapses,
        sources=SOURCES,
        axes=axes,
        columns=columns,
        settings={
            "dt_ms": 0.05,
            "scheme": "gates_first",
            "dtype": "float32",
            "spike_threshold_mV": 5.0,
        },  # fmt: skip
        versions={"pyloric_db": "0"},
    )
    return replace(manifest, **changes)


def other_cells(cells=("a", "b")) -> Manifest:
    """A grid of twelve circuits of other cells, whose first two are on its axes."""
    axes = (cell_axis(cells[0], 2), cell_axis(cells[1], 3), Axis("gsyn_s_nS", "value", (0.0, 1.0)))
    return make_manifest(axes, 12, 5, 5, cells, ("s",), sources=("s",))


def shard_ids(manifest: Manifest, shard: int) -> np.ndarray:
    return np.arange(manifest.shard_size(shard)) + shard * manifest.shard_circuits


def shard_data(manifest: Manifest, shard: int, ids=None):
    """Ids, columns and states of a shard; the same at every call."""
    ids = shard_ids(manifest, shard) if ids is None else np.asarray(ids)
    rng = np.random.default_rng([7, shard])
    n = len(ids)
    columns = {"circuit_id": ids}
    if manifest.axes is not None:
        columns |= grid_columns(manifest.axes, ids)
    for column in manifest.columns:
        if column.name in columns:
            continue
        if column.kind == "bool":
            values = rng.random(n) < 0.4
        elif column.kind == "category":
            values = rng.choice(np.array(column.categories, dtype=object), n)
        elif column.kind == "string":
            values = np.array([f"circuit {i}" for i in ids], dtype=object)
        elif column.kind == "int8":
            values = rng.integers(0, 16, n).astype(np.float32)
        else:
            values = np.round(rng.normal(1000, 500, n), 1).astype(np.float32)
        if column.nullable:
            missing = rng.random(n) < 0.25
            values[missing] = "" if column.kind in ("category", "string") else np.nan
        columns[column.name] = values
    states = {
        name: rng.random((n, *state_shape(manifest, name)), dtype=np.float32)
        for name in STATE_VARIABLES
    }
    return ids, columns, states


def write(path: Path, manifest: Manifest, shard: int, ids=None) -> Receipt:
    return write_shard(path, manifest, shard, *shard_data(manifest, shard, ids))


def cell_columns(n=3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    columns = {name: rng.random(n) for name in columns_of_cells()}
    columns["activity"] = np.array(["silent", "tonic", "bursting"][:n], dtype=object)
    columns["steady"] = np.ones(n, dtype=bool)
    columns["period_ms"][0] = np.nan
    return columns


def build(path: Path, manifest: Manifest | None = None, shards=None) -> Manifest:
    """A database with these shards, in this order (all of them if not said)."""
    with build_lock(path):
        ledger = Ledger(path)
        manifest = create(ledger, manifest or make_manifest())
        ledger.append(write_cells(path, cell_columns()))
        for shard in range(manifest.n_shards) if shards is None else shards:
            ledger.record(write(path, manifest, shard))
    return manifest


def expected(manifest: Manifest) -> dict[str, np.ndarray]:
    """All columns of the whole table."""
    shards = [shard_data(manifest, s)[1] for s in range(manifest.n_shards)]
    return {k: np.concatenate([s[k] for s in shards]) for k in shards[0]}
