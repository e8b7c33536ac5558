"""Build 8,192 random circuits of the 2004 grid on all cores, and say where the time went.

python benchmarks/build.py [--circuits N] [--write-docs]
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from page import arguments, publish, setting, table

import pyloric_db
from pyloric_db.pipeline.machine import cores
from pyloric_db.store.verify import status

FULL_CIRCUITS = 20_250_000
FULL_CORES = 16


@dataclass(frozen=True)
class Build:
    """Wall times of a build, s, and what its ledger says of its shards.

    `start_up_s` ends when the first shard is handed out: processes and libraries are loaded and
    the cells thermalised. `closing_s` begins when the last shard is in the ledger.
    """

    circuits: int
    workers: int
    wall_s: float
    start_up_s: float
    closing_s: float
    in_shards_s: float  # all workers
    integrating_s: float  # all workers

    @property
    def worker_s(self) -> float:
        return self.workers * self.wall_s

    @property
    def waiting_s(self) -> float:
        """Workers' time without a shard between the first shard and the last."""
        running = self.wall_s - self.start_up_s - self.closing_s
        return self.workers * running - self.in_shards_s

    @property
    def full_hours(self) -> float:
        """The full recipe on 16 such cores, where start-up and end hardly count."""
        return FULL_CIRCUITS * self.in_shards_s / self.circuits / FULL_CORES / 3600


def measure(circuits: int) -> Build:
    """Build a sample of the full recipe in a temporary folder."""
    moments: list[float] = []
    last_shown = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal last_shown
        moments.append(time.monotonic())
        if moments[-1] - last_shown > 5:
            last_shown = moments[-1]
            print(f"{done:,} of {total:,} circuits", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        began = time.monotonic()
        pyloric_db.build("prinz2004", path, sample=circuits, workers=cores(), progress=progress)
        ended = time.monotonic()
        found = status(path)
    return Build(
        circuits=found.circuits_done,
        workers=cores(),
        wall_s=ended - began,
        start_up_s=moments[0] - began,
        closing_s=ended - moments[-1],
        in_shards_s=found.seconds,
        integrating_s=found.kernel_seconds,
    )


def report(b: Build) -> str:
    share = {
        "integrating": b.integrating_s,
        "in shards, outside the kernel": b.in_shards_s - b.integrating_s,
        "start-up: processes, libraries, thermalised cells": b.workers * b.start_up_s,
        "without a shard, between the first and the last": b.waiting_s,
        "closing": b.workers * b.closing_s,
    }
    rows = [[name, f"{s:.1f} s", f"{100 * s / b.worker_s:.1f}%"] for name, s in share.items()]
    rows.append(["all", f"{b.worker_s:.1f} s", "100%"])
    return (
        f"{b.circuits:,} random circuits of the full recipe, from its name to a database, in "
        f"{b.wall_s:.1f} s on {b.workers} worker processes: "
        f"{b.circuits / b.wall_s:.0f} circuits per second. Where the workers' time went:\n\n"
        + table(["", "seconds", "share"], rows)
        + f"\n\nOf the time in shards {100 * (1 - b.integrating_s / b.in_shards_s):.1f}% is "
        f"outside the kernel. At this cost of a shard, {FULL_CIRCUITS:,} circuits take "
        f"{b.full_hours:.1f} hours on {FULL_CORES} such cores; start-up and end are then spread "
        "over hours."
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--circuits", type=int, default=8192)
    args = parser.parse_args()
    found = measure(args.circuits)
    publish(
        "Building",
        setting("python benchmarks/build.py", "jax", "numpy", "dask"),
        report(found),
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
