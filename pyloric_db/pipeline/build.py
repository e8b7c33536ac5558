"""Build a database: hand out shards, keep the ledger, go on where an earlier build stopped."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from typing import Any

import numpy as np

from pyloric_db.errors import ConfigError, DatabaseError, ShardError
from pyloric_db.model.circuit import Circuit
from pyloric_db.pipeline.plan import Plan, make_plan
from pyloric_db.pipeline.ranges import Ranges
from pyloric_db.pipeline.recipe import CircuitSpec
from pyloric_db.query.database import Database
from pyloric_db.query.database import open as open_database
from pyloric_db.query.index import WORTHWHILE, has_flags, make_index
from pyloric_db.store.cells import cells_intact
from pyloric_db.store.create import check_target, create
from pyloric_db.store.files import MANIFEST_FILE, Files, Where, files_at
from pyloric_db.store.ledger import Ledger, clear_failures, record_failure
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.verify import damaged_shards

#: Shards in flight per worker: one that runs and one that waits.
WINDOW = 2
#: A shard that fails so often is set aside.
ATTEMPTS = 3

Progress = Callable[[int, int], None]


def circuit_of(manifest: Manifest) -> Circuit:
    """The topology of a database's circuits.

    Raises:
        DatabaseError: its recipe does not describe one.
    """
    try:
        return CircuitSpec.model_validate_json(json.dumps(manifest.recipe["circuit"])).circuit()
    except (KeyError, ValueError) as err:
        raise DatabaseError(f"the recipe in {manifest.name} describes no circuit") from err


def build(
    recipe: Any,
    path: Where,
    *,
    cluster: Any = None,
    workers: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int = 0,
    ids: Ranges | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Database:
    """Build a database, or go on building it, and open it.

    May be interrupted, also killed, at any time: what the ledger lists is on disk, and the next
    call does the rest. Damaged files of finished shards are made again.

    Args:
        recipe: a packaged name, a TOML file, a dict or a `Recipe`.
        path: directory of the database, made if it does not exist, or its URL.
        cluster: a Dask cluster or client to run on; None for a local one.
        workers: worker processes of the local cluster; None for one per core.
        limit: only the first so many circuits of the recipe.
        sample: only so many at random, drawn with `seed`.
        seed: of the sample.
        ids: only circuits in these ranges of ids, such as `[range(0, 1000)]`; see `merge`.
        resume: False refuses to go on with an existing database.
        progress: called with (circuits done, circuits in all) as they finish.

    Raises:
        ConfigError: the recipe or an argument is not valid; nothing was touched.
        DatabaseError: the directory holds something else, cannot be written, or is being built
            by another process; nothing was touched.
        ShardError: shards failed three times and were set aside; the rest is built.
    """
    plan = make_plan(recipe, limit=limit, sample=sample, seed=seed, ids=ids)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1, not {workers}")
    path = files_at(path)
    check_target(path, plan.manifest)
    if not resume and path.exists(MANIFEST_FILE):
        raise DatabaseError(f"{path} holds a database already, and resume is off")
    with build_lock(path):
        manifest = create(path, plan.manifest)
        todo = sorted(
            (set(range(manifest.n_shards)) - Ledger(path).done_shards()) | damaged_shards(path)
        )
        cells = _grid_cells(plan)
        if todo or (cells is not None and not cells_intact(path)):
            clear_failures(path)
            with _client(cluster, workers) as client:
                failed = _run(client, path, plan, manifest, todo, cells, progress)
            if failed:
                shards = ", ".join(map(str, failed))
                raise ShardError(
                    f"{len(failed)} of {manifest.n_shards} shards failed {ATTEMPTS} times and "
                    f"were set aside ({shards}); the rest of {path} is built, and "
                    f"`pyloric-db status {path}` shows the errors"
                )
        Ledger(path).compact()
    if manifest.n_circuits >= WORTHWHILE and has_flags(manifest):
        make_index(path)
    return open_database(path)


def _client(cluster: Any, workers: int | None) -> Any:
    from distributed import Client

    from pyloric_db.pipeline.cluster import local_client

    if cluster is None:
        return local_client(workers)
    return nullcontext(cluster) if isinstance(cluster, Client) else Client(cluster)


def _grid_cells(plan: Plan) -> np.ndarray | None:
    """The cells (cell, channel) of a grid over named cells, None where shards have their own."""
    axes = plan.manifest.axes
    if plan.protocol.initial == "cold" or axes is None:
        return None
    cell_axes = [a for a in axes if a.kind == "cell"]
    if {a.name for a in cell_axes} != set(plan.manifest.cells):
        return None
    return np.unique([gbar for axis in cell_axes for gbar in axis.gbar], axis=0)


def _run(
    client: Any,
    path: Files,
    plan: Plan,
    manifest: Manifest,
    todo: list[int],
    cells: np.ndarray | None,
    progress: Progress | None,
) -> list[int]:
    """Build shards on a cluster; returns those that were set aside."""
    from distributed import as_completed

    from pyloric_db.pipeline.task import PROGRESS_TOPIC, build_shard, store_cells

    here = path.address
    if cells is not None and not cells_intact(path):
        client.submit(store_cells, here, cells, plan.protocol, pure=False).result()
    counter = _Counter(manifest, todo, progress)
    client.subscribe_topic(PROGRESS_TOPIC, counter.on_event)
    ledger = Ledger(path)
    waiting = iter(todo)
    attempts = dict.fromkeys(todo, 0)
    failed: list[int] = []
    shard_of: dict[Any, int] = {}

    def submit(shard: int) -> Any:
        attempts[shard] += 1
        future = client.submit(
            build_shard,
            here,
            plan.recipe,
            manifest,
            shard,
            plan.shard_ids(shard),
            key=f"shard-{shard}-attempt-{attempts[shard]}",
            pure=False,
        )
        shard_of[future.key] = shard
        return future

    n_workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    queue = as_completed([submit(s) for s in islice(waiting, WINDOW * n_workers)])
    for future in queue:
        shard = shard_of.pop(future.key)
        if future.status == "finished":
            receipt = future.result()
            ledger.record(receipt)
            counter.finished(shard, receipt.n_circuits)
        elif attempts[shard] < ATTEMPTS:
            queue.add(submit(shard))
            continue
        else:
            error = future.exception()
            record_failure(path, shard, f"{type(error).__name__}: {error}", attempts[shard])
            failed.append(shard)
        future.release()
        for more in islice(waiting, 1):
            queue.add(submit(more))
    client.unsubscribe_topic(PROGRESS_TOPIC)
    return failed


class _Counter:
    """Circuits done: those of finished shards, and those that running shards have reported."""

    def __init__(self, manifest: Manifest, todo: list[int], progress: Progress | None):
        self.total = manifest.n_circuits
        self.recorded = self.total - sum(manifest.shard_size(s) for s in todo)
        self.reported = self.recorded
        self.progress = progress
        if progress is not None:
            progress(self.recorded, self.total)

    def on_event(self, event: tuple[float, int]) -> None:
        self.reported += event[1]
        self._show()

    def finished(self, shard: int, circuits: int) -> None:
        self.recorded += circuits
        self._show()

    def _show(self) -> None:
        if self.progress is not None:
            self.progress(min(max(self.reported, self.recorded), self.total), self.total)
