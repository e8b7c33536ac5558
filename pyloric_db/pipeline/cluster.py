"""Dask clusters."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import dask
from distributed import Client, LocalCluster, Worker, WorkerPlugin

from pyloric_db.pipeline.compile_cache import use_compile_cache

#: Settings of every cluster that we start.
DASK_SETTINGS = {
    # a shard is minutes of work tied to no data: moving it is all cost
    "distributed.scheduler.work-stealing": False,
    # how often a shard may lose its worker before the coordinator hears of it
    "distributed.scheduler.allowed-failures": 2,
    # JAX and fork deadlock
    "distributed.worker.multiprocessing-method": "spawn",
}


class Prepare(WorkerPlugin):
    """Gets a worker process ready: loads the engine and turns on the cache of programs."""

    def setup(self, worker: Worker) -> None:
        import pyloric_db.pipeline.task  # noqa: F401

        use_compile_cache()


@contextmanager
def local_client(workers: int | None = None) -> Iterator[Client]:
    """A client of a local cluster: one process per core, one thread each, on loopback.

    Args:
        workers: number of worker processes; None for one per core.
    """
    with (
        dask.config.set(DASK_SETTINGS),
        _local_cluster(workers) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _local_cluster(workers: int | None) -> LocalCluster:
    """Starts the cluster with SIGINT blocked for its processes.

    Ctrl-C reaches every process of a terminal: workers that took it would print tracebacks
    over the coordinator, which stops them itself. Threads and processes inherit the mask.
    """
    resource_tracker.ensure_running()  # started later, it would unblock the signal again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return LocalCluster(
            n_workers=workers or dask.system.CPU_COUNT,
            threads_per_worker=1,
            processes=True,
            # any free port: with the default one, a second build would warn
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            # what goes wrong in a shard comes back as its error
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
