"""Dask clusters, from profiles."""

import logging
import resource
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker, spawn
from numbers import Integral
from pathlib import Path
from typing import Any

import dask
from dask.utils import key_split
from distributed import (
    Client,
    LocalCluster,
    Nanny,
    Scheduler,
    SchedulerPlugin,
    SpecCluster,
    Worker,
    WorkerPlugin,
)
from distributed.deploy import Cluster
from distributed.security import Security

from pyloric_db.errors import ClusterError, ConfigError, PyloricDBWarning
from pyloric_db.pipeline.coordinate import Workers, is_shard
from pyloric_db.pipeline.jax_settings import set_up_jax
from pyloric_db.pipeline.kept_memory import keep_memory
from pyloric_db.pipeline.machine import cores
from pyloric_db.pipeline.plan import check_versions, versions
from pyloric_db.pipeline.profile import (
    LocalGpuProfile,
    LocalProfile,
    Profile,
    SchedulerProfile,
    SlurmProfile,
    load_profile,
    visible_gpus,
)
from pyloric_db.pipeline.slurm import check_slurm, keep_jobs, slurm_cluster
from pyloric_db.pipeline.steady_clock import keep_steady
from pyloric_db.store.shards import load_libraries

#: Open files that are asked for, where the system sets no limit of its own.
MOST_FILES = 65_536

#: Settings of every cluster that we start.
DASK_SETTINGS = {
    # a shard is minutes of work tied to no data: moving it is all cost
    "distributed.scheduler.work-stealing": False,
    # how often a shard may lose its worker before the coordinator hears of it
    "distributed.scheduler.allowed-failures": 2,
    # a process that does not even say that it is alive is replaced after this long
    "distributed.scheduler.worker-ttl": "60s",
    # one that is late to come back is not given up: its nanny or, in Slurm, `keep_jobs` sees to it
    "distributed.deploy.lost-worker-timeout": "1d",
    # JAX and fork deadlock
    "distributed.worker.multiprocessing-method": "spawn",
}
#: After so long without any worker process a build ends, s; in Slurm `keep_jobs` sees to it.
NO_WORKERS_S = 300.0
#: What Dask's nannies call the processes that they start.
WORKER_PROCESS = "Dask Worker process (from Nanny)"
LOOPBACK = "127.0.0.1"
#: Any free port: with the default one, a second build would warn.
DASHBOARD = f"{LOOPBACK}:0"


class Prepare(WorkerPlugin):
    """Gets a worker process ready: loads the engine and what writes shards, and sets JAX up."""

    name = "pyloric-db"
    idempotent = True

    def setup(self, worker: Worker) -> None:
        import pyloric_db.pipeline.task  # noqa: F401

        load_libraries()
        keep_steady()
        keep_memory()
        set_up_jax()


class PrepareScheduler(SchedulerPlugin):
    """Gets the process of a scheduler ready for builds of any length: its clock does not jump,
    and it keeps nothing of the shards that are done."""

    name = "pyloric-db"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        keep_steady()

    def update_graph(self, scheduler: Scheduler, *, tasks: list[Any], **_: Any) -> None:
        """Drops what Dask notes with each call of `submit`: a line in the span, for good, and the
        key in a cache of 100,000."""
        for key in filter(is_shard, tasks):
            span = scheduler.extensions["spans"].spans[scheduler.tasks[key].group.span_id]
            del span.metadata["collections"][1:]
            key_split.cache_clear()


@dataclass(frozen=True)
class Crew:
    """The workers that a build has: their client, how long one may take for a shard, and what to
    call now and then, with what the scheduler says of them, so that there go on being workers."""

    client: Client
    shard_limit_s: float
    keep: Callable[[Workers], None] = lambda _: None


def profile_of(cluster: Any, workers: int | None, n_shards: int) -> Profile | None:
    """The profile that `build(cluster=..., workers=...)` asks for; None for a Dask object.

    A local cluster has no more workers than there are shards.

    Raises:
        ConfigError: it is not valid, or cannot be used on this machine.
    """
    if workers is not None and (not isinstance(workers, Integral) or workers < 1):
        raise ConfigError(f"workers must be a whole number from 1 on, not {workers!r}")
    if cluster is not None and not isinstance(cluster, str | Path | dict | Profile):
        if not isinstance(cluster, Client | Cluster):
            raise ConfigError(
                "cluster must be the name of a profile, a TOML file, a dict, or a Dask cluster or "
                f"client, not {cluster!r}"
            )
        if workers is not None:
            raise ConfigError("workers is for a local cluster: a Dask cluster has its own")
        state = "asynchronous" if cluster.asynchronous else _status_of(cluster)
        if state != "running":
            raise ConfigError(
                f"a Dask cluster or client must be running, not asynchronous; this one is {state}"
            )
        return None
    profile = load_profile("local" if cluster is None else cluster)
    if workers is not None:
        if not isinstance(profile, LocalProfile):
            raise ConfigError("workers is for a local cluster: others have it in their profile")
        profile = profile.model_copy(update={"workers": workers})
    if isinstance(profile, LocalProfile):
        wanted = profile.workers or cores()
        profile = profile.model_copy(update={"workers": min(wanted, n_shards)})
    if isinstance(profile, LocalGpuProfile):
        visible_gpus(profile)
    if isinstance(profile, SlurmProfile):
        check_slurm(profile)
    return profile


def _status_of(cluster: Client | Cluster) -> str:
    """Clients have a text, clusters a member of an enumeration."""
    status = cluster.status
    return status if isinstance(status, str) else str(status.name)


@contextmanager
def open_crew(cluster: Any, profile: Profile | None) -> Iterator[Crew]:
    """Workers of a profile, or of a given Dask cluster or client, which is left running.

    Raises:
        ClusterError: there is no scheduler at the address, or jobs cannot be submitted.
    """
    limit_s = 60 * (profile or load_profile("local")).shard_limit_minutes
    if profile is None:
        with nullcontext(cluster) if isinstance(cluster, Client) else Client(cluster) as client:
            _say_if_idle(client)
            yield _crew(client, limit_s, keep_processes())
        return
    with dask.config.set(DASK_SETTINGS), _quiet():
        if isinstance(profile, SchedulerProfile):
            with _client_of(profile) as client:
                _say_if_idle(client)
                yield _crew(client, limit_s, keep_processes())
        elif isinstance(profile, SlurmProfile):
            with slurm_cluster(profile, DASHBOARD) as jobs, Client(jobs) as client:
                yield _crew(client, limit_s, keep_jobs(jobs, profile))
        elif isinstance(profile, LocalGpuProfile):
            with without_main(), _gpu_cluster(profile) as gpus, Client(gpus) as client:
                yield _crew(client, limit_s, keep_processes())
        else:
            with local_client(profile.workers) as client:
                yield _crew(client, limit_s, keep_processes())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what dask logs: what goes wrong in a shard or with a cluster comes as an error."""
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] == "distributed"]
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _crew(client: Client, limit_s: float, keep: Callable[[Workers], None]) -> Crew:
    keep_steady()
    try:
        client.register_plugin(PrepareScheduler())
    except ImportError as err:
        raise ClusterError(
            f"the scheduler must have pyloric-db installed, as the workers have: {err}"
        ) from err
    _check_workers(client)
    with suppress(OSError):  # a worker went meanwhile: the others have it, as those to come will
        client.register_plugin(Prepare())
    return Crew(client, limit_s, keep)


@contextmanager
def _scheduler_there() -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise ClusterError(f"the scheduler was lost before the build began: {err}") from err


def _check_workers(client: Client) -> None:
    """Refuses workers that are there already and cannot build what this process plans."""
    ours = versions()
    with _scheduler_there():
        all_theirs = client.run(versions, on_error="return")
    for worker, theirs in all_theirs.items():
        if isinstance(theirs, OSError):  # it went meanwhile
            continue
        if isinstance(theirs, Exception):
            raise ClusterError(
                f"the worker at {worker} must have pyloric-db {ours['pyloric-db']} installed, as "
                f"is here: {theirs}"
            ) from theirs
        check_versions(worker, theirs, ours)


def keep_processes() -> Callable[[Workers], None]:
    """What to call now and then: it ends a build whose worker processes do not come (back)."""
    seen = time.monotonic()

    def keep(workers: Workers) -> None:
        nonlocal seen
        if workers:
            seen = time.monotonic()
        elif time.monotonic() - seen > NO_WORKERS_S:
            raise ClusterError(
                f"there has been no worker process for {NO_WORKERS_S / 60:g} min; what is finished "
                "is kept, and the same command goes on"
            )

    return keep


def _client_of(profile: SchedulerProfile) -> Client:
    security = None
    if profile.tls_ca_file:
        security = Security(
            require_encryption=True,
            tls_ca_file=profile.tls_ca_file,
            tls_client_cert=profile.tls_client_cert,
            tls_client_key=profile.tls_client_key,
        )
    try:
        return Client(profile.address, security=security)
    except OSError as err:
        raise ClusterError(f"there is no Dask scheduler at {profile.address}: {err}") from err


def _say_if_idle(client: Client) -> None:
    """Says that the build waits, which would look as if it hung."""
    with _scheduler_there():
        info = client.scheduler_info(n_workers=-1)
    if not info.get("workers"):
        warnings.warn(
            f"waiting for workers of {info.get('address', 'the cluster')}, "
            f"for {NO_WORKERS_S / 60:g} min at most",
            PyloricDBWarning,
            stacklevel=2,
        )


@contextmanager
def local_client(workers: int | None = None) -> Iterator[Client]:
    """A client of a local cluster: one process per core, one thread each, on loopback.

    Args:
        workers: number of worker processes; None for one per core.
    """
    _allow_files()
    with dask.config.set(DASK_SETTINGS), _deaf_to_interrupts(), without_main():
        cluster = LocalCluster(
            n_workers=workers or cores(),
            threads_per_worker=1,
            processes=True,
            dashboard_address=DASHBOARD,
            worker_dashboard_address=DASHBOARD,
            host=LOOPBACK,
            silence_logs=logging.CRITICAL,
        )
    with dask.config.set(DASK_SETTINGS), without_main(), cluster, Client(cluster) as client:
        yield client


def _allow_files() -> None:
    """As many open files as the system lets this process have: a worker takes a dozen of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if wanted > soft != resource.RLIM_INFINITY:
        with suppress(OSError, ValueError):  # macOS may allow fewer than its limit says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _gpu_cluster(profile: LocalGpuProfile) -> SpecCluster:
    """Processes that see one GPU each, the first of every GPU before the second of any."""
    gpus = visible_gpus(profile) * profile.workers_per_gpu
    workers = {
        name: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": 1.0 / len(gpus),  # of the machine's; else it is a core's share
                "host": LOOPBACK,
                "env": {"CUDA_VISIBLE_DEVICES": gpu},
                "resources": {"GPU": 1},
                "dashboard_address": DASHBOARD,
            },
        }
        for name, gpu in enumerate(gpus)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": LOOPBACK, "dashboard_address": DASHBOARD},
    }
    with _deaf_to_interrupts():
        return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


@contextmanager
def without_main() -> Iterator[None]:
    """Starts worker processes, now and when one is replaced, that do not import the main module.

    Python's spawn runs it again in each, and a script that builds outside of
    `if __name__ == "__main__"` would build in each. Workers need nothing of it.
    """
    prepared = spawn.get_preparation_data

    def without(name: str) -> dict[str, Any]:
        data = prepared(name)
        if name == WORKER_PROCESS:
            data = {k: v for k, v in data.items() if not k.startswith("init_main")}
        return data

    spawn.get_preparation_data = without
    try:
        yield
    finally:
        spawn.get_preparation_data = prepared


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Blocks SIGINT for the processes that are started meanwhile.

    Ctrl-C reaches every process of a terminal: workers that took it would print tracebacks
    over the coordinator, which stops them itself. Threads and processes inherit the mask.
    """
    resource_tracker.ensure_running()  # started later, it would unblock the signal again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
