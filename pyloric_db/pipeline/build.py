"""Build a database: hand out shards, keep the ledger, go on where an earlier build stopped."""

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.errors import (
    ClusterError,
    DatabaseError,
    PyloricDBWarning,
    ShardError,
)
from pyloric_db.pipeline.coordinate import ATTEMPTS, PROGRESS_TOPIC, Coordinator
from pyloric_db.pipeline.plan import Plan, check_versions, make_plan, versions
from pyloric_db.pipeline.ranges import Ranges
from pyloric_db.query.database import Database
from pyloric_db.query.database import open as open_database
from pyloric_db.query.index import WORTHWHILE, make_index
from pyloric_db.store.cells import cells_intact
from pyloric_db.store.create import check_target, create
from pyloric_db.store.derived import derived_files
from pyloric_db.store.files import (
    LEDGER_FILE,
    MANIFEST_FILE,
    Files,
    FileSum,
    Location,
    check_sizes,
    difference,
    files_at,
    remove_all_partials,
)
from pyloric_db.store.ledger import (
    Failure,
    Ledger,
    Receipt,
    clear_failures,
    failures,
    record_failure,
)
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.parameters import conductances, gbar_column, grid_columns, grid_values
from pyloric_db.store.table import part_name
from pyloric_db.store.verify import damaged_shards

if TYPE_CHECKING:
    from pyloric_db.pipeline.cluster import Crew

#: So many shards that were set aside are named in a message.
NAMED_SHARDS = 10
#: Of so many thermalised cells of each place at most a database keeps a table.
MOST_CELLS = 10_000
#: A file system may need so long, s, until a file of another machine is seen.
NOTICED_S = 5.0

Progress = Callable[[int, int], None]


def build(
    recipe: Any,
    path: Location,
    *,
    cluster: Any = None,
    workers: int | None = None,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    ids: Ranges | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    progress: Progress | None = None,
    checking: Progress | None = None,
) -> Database:
    """Build a database, or go on building it, and open it.

    May be interrupted, also killed, at any time: what the ledger lists is on disk, and the next
    call does the rest. Before it is done, it reads what earlier calls left, and makes damaged
    files of finished shards again.

    Args:
        recipe: a packaged name, a TOML file, a dict or a `Recipe`.
        path: directory of the database, made if it does not exist, or its URL.
        cluster: where to run: a packaged profile, a TOML file or a dict of one, or a Dask cluster
            or client; None for the profile `local`.
        workers: worker processes of the local cluster, at most one per shard; None for one per
            core.
        limit: only the first so many circuits of the recipe.
        sample: only so many at random, drawn with `seed`.
        seed: of the sample; None for 0.
        ids: only circuits in these ranges of ids, such as `[range(0, 1000)]`; see `merge`.
        resume: False refuses to go on with an existing database.
        retry_failed: try shards again that an earlier build set aside; otherwise they stay so.
        progress: called with (circuits done, circuits in all) as they finish.
        checking: called with (shards read, shards in all) as what earlier builds left is read.

    Warns:
        PyloricDBWarning: the database was begun with other versions of the libraries.

    Raises:
        ConfigError: the recipe or an argument is not valid; nothing was touched.
        DatabaseError: the directory holds something else, cannot be written, or is being built
            by another process; nothing was touched. Or the disk filled up: what is finished is
            kept.
        ClusterError: there are no workers, or their scheduler was lost; what is finished is kept.
        ShardError: shards failed three times, now or before, and are set aside; the rest is built.
    """
    from pyloric_db.pipeline.cluster import profile_of

    plan = make_plan(recipe, limit=limit, sample=sample, seed=seed, ids=ids)
    profile = profile_of(cluster, workers, plan.manifest.n_shards)
    files = files_at(path)
    ledger = Ledger(files)
    check_target(ledger, plan.manifest)
    begun = files.exists(MANIFEST_FILE) or files.exists(LEDGER_FILE)  # the other may be lost
    if not resume and begun:
        raise DatabaseError(f"{files} holds a database already, and resume is off")
    with build_lock(files), writing(files), ExitStack() as stack:
        # a new build looks for its workers before there is anything on disk
        crew = None if begun else _crew(stack, cluster, profile)
        manifest = create(ledger, plan.manifest)
        if retry_failed:
            clear_failures(files)
        finished, aside, todo = todo_of(ledger, manifest)
        has_cells = grid_cells(plan) is None or cells_intact(ledger)
        del ledger  # its rows may be a gigabyte

        def run(shards: list[int]) -> list[int]:
            nonlocal crew, has_cells
            if crew is None:
                _say_other_versions(files, manifest)
                crew = _crew(stack, cluster, profile)
            failed = _run(crew, files, plan, manifest, shards, aside, has_cells, progress)
            has_cells = True
            return failed

        if todo or not has_cells:
            aside |= set(run(todo))
        # only now, so that a build goes on at once. A kill in the middle of a repair may have
        # left a good line of the ledger with a bad file
        damaged = damaged_shards(Ledger(files), finished, checking)
        if damaged:
            aside |= set(run(sorted(damaged)))
        if begun:
            remove_all_partials(files)
        else:
            files.remove_leftovers()  # of workers that were killed
        if aside:
            raise _set_aside(files, manifest, sorted(aside))
        clear_failures(files)
        Ledger(files).compact()
    return finished_database(files, manifest)


def finished_database(files: Files, manifest: Manifest) -> Database:
    """Opens a database that is complete; a large one, or one that has it, gets its index first."""
    if manifest.has_labels and (manifest.n_circuits >= WORTHWHILE or derived_files(files)):
        make_index(files)
    return open_database(files)


def _say_other_versions(files: Files, manifest: Manifest) -> None:
    others = [
        f"{name} {manifest.versions.get(name, 'unknown')} (now {here})"
        for name, here in versions().items()
        if manifest.versions.get(name) != here
    ]
    if others:
        warnings.warn(
            f"{files} was begun with {', '.join(others)}: what is built now may differ from the "
            f"rest in rounding, and {MANIFEST_FILE} keeps the versions of then",
            PyloricDBWarning,
            stacklevel=3,
        )


def todo_of(ledger: Ledger, manifest: Manifest) -> tuple[set[int], set[int], list[int]]:
    """Shards that are finished, that were set aside, and that are to be built."""
    finished = ledger.done_shards()
    aside = {f.shard for f in failures(ledger.files)} - finished
    todo = [s for s in range(manifest.n_shards) if s not in finished and s not in aside]
    return finished, aside, todo


def _crew(stack: ExitStack, cluster: Any, profile: Any) -> "Crew":
    from pyloric_db.pipeline.cluster import open_crew

    try:
        return stack.enter_context(open_crew(cluster, profile))
    except (OSError, RuntimeError) as err:  # a nanny that fails is a RuntimeError
        raise ClusterError(f"no workers could be started: {err}") from err


@contextmanager
def writing(files: Files) -> Iterator[None]:
    """A disk that takes no more is said in a sentence."""
    try:
        yield
    except OSError as err:
        raise DatabaseError(
            f"{files} cannot be written ({err.strerror or err}); what is finished is kept, and the "
            "same command goes on when it can be"
        ) from err


def _set_aside(files: Files, manifest: Manifest, shards: list[int]) -> ShardError:
    names = ", ".join(map(str, shards[:NAMED_SHARDS]))
    more = ", ..." if len(shards) > NAMED_SHARDS else ""
    return ShardError(
        f"{len(shards)} of {manifest.n_shards} shards failed {ATTEMPTS} times and were set aside "
        f"({names}{more}); the rest of {files} is built. `pyloric-db status {files}` shows the "
        "errors, `pyloric-db build --retry-failed` tries again"
    )


def grid_cells(plan: Plan) -> np.ndarray | None:
    """The cells (cell, channel) of a grid over named cells, None where shards have their own."""
    axes = plan.manifest.axes
    in_phases = isinstance(plan.protocol.thermal_phase, tuple)
    if plan.protocol.initial == "cold" or axes is None or in_phases:
        return None
    cells, channels = plan.manifest.cells, plan.manifest.channels.all
    if not set(cells) <= {a.name for a in axes}:
        return None
    each = []
    for cell in cells:
        own = {cell, *(gbar_column(cell, channel) for channel in channels)}
        of_cell = tuple(a for a in axes if a.name in own)
        n = math.prod(map(len, of_cell))
        if n > MOST_CELLS:
            return None
        values = grid_values(of_cell, grid_columns(of_cell, np.arange(n)))
        each.append(conductances(values, (cell,), (), channels, n)[0][:, 0])
    return np.unique(np.concatenate(each), axis=0)


def _run(
    crew: "Crew",
    files: Files,
    plan: Plan,
    manifest: Manifest,
    todo: list[int],
    aside: set[int],
    has_cells: bool,
    progress: Progress | None,
) -> list[int]:
    """Build shards on a cluster; returns those that were set aside. `aside` are so already."""
    here, ours = files.address, versions()
    seen = here, files.sum(MANIFEST_FILE).to_text()
    ledger = Ledger(files)
    if not has_cells:
        cells = grid_cells(plan)
        job = (_task, ours, seen, "store_cells", here, cells, plan.recipe)
        Coordinator(crew, lambda _: job, lambda rows: ledger.append(*rows), _no_cells).run([0])
    counter = _Counter(manifest, aside.union(todo), progress)

    def done(receipts: Sequence[Receipt]) -> None:
        _check_here(files, receipts)
        ledger.record(*receipts)
        counter.finished(receipts)

    crew.client.subscribe_topic(PROGRESS_TOPIC, counter.on_event)
    try:
        return Coordinator(
            crew,
            lambda shard: (
                _task,
                ours,
                seen,
                "build_shard",
                here,
                plan.recipe,
                manifest,
                shard,
                plan.shard_ids(shard),
            ),
            done=done,
            aside=lambda failure: record_failure(files, failure),
        ).run(todo)
    finally:
        crew.client.unsubscribe_topic(PROGRESS_TOPIC)


def _check_here(files: Files, receipts: Sequence[Receipt]) -> None:
    """ClusterError where a worker wrote a shard that is not where the ledger would say it is."""
    parts = [f for r in receipts for f in r.files if f.path == part_name(r.shard)]
    for again in (True, False):
        try:
            check_sizes(files, parts)
            return
        except DatabaseError as err:
            if not again:
                raise ClusterError(
                    f"a worker has written a shard that is not in {files} here: workers must see "
                    f"the same files ({err})"
                ) from err
            time.sleep(NOTICED_S)


def _task(ours: dict[str, str], seen: tuple[str, str], name: str, *arguments: Any) -> Any:
    """Runs a function of `pipeline.task` on a worker; the coordinator itself loads no JAX.

    The versions, and what the worker sees of the database, are compared with each shard, since
    workers may join at any time.
    """
    from distributed import get_worker

    address = get_worker().address
    check_versions(address, versions(), ours)
    _check_seen(address, *seen)
    from pyloric_db.pipeline import task

    return getattr(task, name)(*arguments)


def _check_seen(worker: str, place: str, manifest: str) -> None:
    """ClusterError where a worker does not see the database that is built."""
    try:
        wrong = difference(place, FileSum.from_text(manifest))
    except (DatabaseError, OSError) as err:
        wrong = str(err)
    if wrong:
        raise ClusterError(
            f"the worker at {worker} does not see the database {place} as it is here "
            f"({MANIFEST_FILE} {wrong}): all machines must reach it by the same name"
        )


def _no_cells(failure: Failure) -> None:
    raise ShardError(
        f"the cells could not be thermalised ({failure.attempts} times tried): {failure.error}"
    )


class _Counter:
    """Circuits done: those of finished shards, and those that running shards have reported."""

    def __init__(self, manifest: Manifest, undone: Iterable[int], progress: Progress | None):
        self.total = manifest.n_circuits
        self.recorded = self.total - sum(map(manifest.shard_size, undone))
        self.reported = self.recorded
        self.progress = progress
        if progress is not None:
            progress(self.recorded, self.total)

    def on_event(self, event: tuple[float, int]) -> None:
        self.reported += event[1]
        self._show()

    def finished(self, receipts: Sequence[Receipt]) -> None:
        self.recorded += sum(receipt.n_circuits for receipt in receipts)
        self._show()

    def _show(self) -> None:
        if self.progress is not None:
            self.progress(min(max(self.reported, self.recorded), self.total), self.total)
