"""Writes a database of full size without simulating it: for measuring queries, not for science.

The circuits are those of the packaged recipe prinz2004, and everything is written by the writers
that a build uses: manifest, Parquet parts, states, ledger. The features of a circuit are those of
a circuit drawn at random from a database that was really built, among those with the same
AB/PD cell and the same LP-PY synapse (the parameters that decide most), with every number
changed by a random 0.1% so that files are as large as real ones. The states are NaN throughout:
no query reads them.

    python benchmarks/make_database.py demo-db /tmp/big --circuits 20250000
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import pyloric_db
from pyloric_db.cli.console import progress_bar
from pyloric_db.pipeline.draw import netcodes, parameters
from pyloric_db.pipeline.plan import Plan, make_plan
from pyloric_db.store.cells import cell_columns, write_cells
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger, Receipt
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.shards import write_shard
from pyloric_db.store.template import state_shape
from pyloric_db.vocabulary import STATE_VARIABLES, feature_columns, run_columns

CHANGE = 1e-3
SEED = 20250000

Columns = dict[str, np.ndarray]


def write_database(source: Path, target: Path, circuits: int | None = None) -> None:
    """Writes the first `circuits` of prinz2004 with features drawn from the database `source`."""
    from rich.progress import MofNCompleteColumn

    plan = make_plan("prinz2004", limit=circuits)
    donors, cells = _donors(source)
    target.mkdir(parents=True, exist_ok=True)
    with build_lock(target), progress_bar("circuits", MofNCompleteColumn()) as progress:
        ledger, done = Ledger(target), 0
        manifest = create(ledger, plan.manifest)
        ledger.append(write_cells(target, cells))
        todo = sorted(set(range(manifest.n_shards)) - ledger.done_shards())
        with ProcessPoolExecutor(initializer=_prepare, initargs=(target, plan, donors)) as pool:
            for receipt in pool.map(_write, todo):
                ledger.record(receipt)
                done += receipt.n_circuits
                progress(done, manifest.n_circuits)


def _donors(source: Path) -> tuple[Columns, Columns]:
    """Columns of the circuits to draw from, and the thermalised cells."""
    db = pyloric_db.open(source)
    names = [c.name for c in (*feature_columns(), *run_columns())]
    wanted = db.circuits[[*names, "abpd", "gsyn_lp_py_index"]]
    cells = db.cells()
    return (
        {str(n): wanted[n].values for n in wanted.data_vars},
        {name: cells[name].values for name in cell_columns()},
    )


#: Of a process that writes.
_path: Path
_plan: Plan
_groups: dict[int, np.ndarray]
_features: Columns


def _prepare(target: Path, plan: Plan, donors: Columns) -> None:
    global _path, _plan, _groups, _features
    _path, _plan = target, plan
    _groups = {}
    keys = donors["abpd"].astype(int) * 10 + donors["gsyn_lp_py_index"]
    for key in np.unique(keys):
        _groups[int(key)] = np.flatnonzero(keys == key)
    _features = {k: v for k, v in donors.items() if k not in ("abpd", "gsyn_lp_py_index")}


def _write(shard: int) -> Receipt:
    manifest: Manifest = _plan.manifest
    ids = _plan.shard_ids(shard)
    rng = np.random.default_rng([SEED, shard])
    table, _, _ = parameters(_plan.recipe, ids)
    keys = table["abpd"].astype(int) * 10 + table["gsyn_lp_py_index"]
    drawn = np.empty(len(ids), np.int64)
    for key in np.unique(keys):
        here = np.flatnonzero(keys == key)
        drawn[here] = rng.choice(_groups[int(key)], len(here))
    table = {"circuit_id": ids, "netcode": netcodes(_plan.recipe, table), **table}
    for name, values in _features.items():
        chosen = values[drawn]
        if manifest.by_name[name].kind == "float32" and name != "t_simulated_ms":
            chosen = chosen * (1 + CHANGE * rng.uniform(-1, 1, len(ids)).astype(np.float32))
        table[name] = chosen
    states = {
        name: np.full((len(ids), *state_shape(manifest, name)), np.nan, np.float32)
        for name in STATE_VARIABLES
    }
    return write_shard(_path, manifest, shard, ids, table, states)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a database that was built")
    parser.add_argument("target", type=Path, help="where to write")
    parser.add_argument("--circuits", type=int, help="only the first N of 20,250,000")
    arguments = parser.parse_args()
    began = time.monotonic()
    write_database(arguments.source, arguments.target, arguments.circuits)
    size = sum(p.stat().st_size for p in arguments.target.rglob("*.parquet"))
    print(
        f"{len(pyloric_db.open(arguments.target)):,} circuits in {time.monotonic() - began:.0f} s, "
        f"{size / 1e9:.2f} GB of features",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
