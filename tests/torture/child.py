"""What a forked builder runs; imported once by the server that forks, which makes it cheap."""

import os
import sys

# what a build imports on its way
import dask.array
import duckdb
import pyarrow.parquet
import zarr

import pyloric_db.cli
import pyloric_db.pipeline.build
import pyloric_db.pipeline.cluster
import pyloric_db.pipeline.task
import pyloric_db.summary

__all__ = ["command", "dask", "duckdb", "pyarrow", "zarr"]


def command(argv: list[str], log: str) -> None:
    """The command line with these arguments in a session of its own, its output in a file."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv = ["pyloric-db", *argv]
    pyloric_db.cli.main()
