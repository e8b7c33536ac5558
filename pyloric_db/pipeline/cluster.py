"""Dask clusters."""

from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster

#: Settings of every cluster that we start; see store/STORE notes in docs/architecture.md.
DASK_SETTINGS = {
    # a shard is minutes of work tied to no data: moving it is all cost
    "distributed.scheduler.work-stealing": False,
    # how often a shard may lose its worker before the coordinator hears of it
    "distributed.scheduler.allowed-failures": 2,
    # JAX and fork deadlock
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.log-format": "%(name)s - %(levelname)s - %(message)s",
    "distributed.logging": {"distributed": "critical", "tornado.application": "critical"},
}


@contextmanager
def local_client(workers: int | None = None) -> Iterator[Client]:
    """A client of a local cluster: one process per core, one thread each, on loopback.

    Args:
        workers: number of worker processes; None for one per core.
    """
    with (
        dask.config.set(DASK_SETTINGS),
        LocalCluster(
            n_workers=workers or dask.system.CPU_COUNT,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
