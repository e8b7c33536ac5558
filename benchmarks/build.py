"""Build 8,192 random circuits of the 2004 grid on all cores, and say where the time went.

python benchmarks/build.py [--circuits N ...] [--write-docs]

Where there is a GPU, eight processes share it, or as many as there are cores, and shards fill it.
Give it work then: `--circuits 2000000`.
"""

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from page import arguments, publish, setting, table

import pyloric_db
from pyloric_db.pipeline.machine import cores
from pyloric_db.pipeline.recipe import load_recipe
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
    gpu: str | None

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
        """The full recipe on 16 such cores, or on the GPU; start-up and end hardly count."""
        if self.gpu:
            s_per_circuit = (self.wall_s - self.start_up_s - self.closing_s) / self.circuits
        else:
            s_per_circuit = self.in_shards_s / self.circuits / FULL_CORES
        return FULL_CIRCUITS * s_per_circuit / 3600


def on_gpu() -> tuple[str | None, int, int]:
    """The GPU's name if there is one, how many processes share it, and circuits of a shard.

    For a process of its own: a build loads JAX in its workers only.
    """
    from pyloric_db.pipeline.bench import GPU_FILLS, GPU_PROCESSES
    from pyloric_db.pipeline.run import protocol_engine

    recipe = load_recipe("prinz2004")
    engine = protocol_engine(recipe.circuit.circuit(), recipe.run_protocol())
    return engine.gpu, GPU_PROCESSES, GPU_FILLS * engine.lanes


def measure(circuits: int) -> Build:
    """Build a sample of the full recipe in a temporary folder."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        gpu, processes, shard = child.submit(on_gpu).result()
    recipe = load_recipe("prinz2004")
    workers = cores()
    if gpu:
        workers = min(workers, processes)
        recipe = recipe.in_shards_of(shard)
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
        pyloric_db.build(recipe, path, sample=circuits, workers=workers, progress=progress)
        ended = time.monotonic()
        found = status(path)
    return Build(
        circuits=found.circuits_done,
        workers=workers,
        wall_s=ended - began,
        start_up_s=moments[0] - began,
        closing_s=ended - moments[-1],
        in_shards_s=found.seconds,
        integrating_s=found.kernel_seconds,
        gpu=gpu,
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
    if b.gpu:
        full = (
            f"At this rate between the first shard and the last, {FULL_CIRCUITS:,} circuits take "
            f"{60 * b.full_hours:.1f} minutes on one {b.gpu}."
        )
    else:
        full = (
            f"At this cost of a shard, {FULL_CIRCUITS:,} circuits take {b.full_hours:.1f} hours "
            f"on {FULL_CORES} such cores; start-up and end are then spread over hours."
        )
    return (
        f"{b.circuits:,} random circuits of the full recipe, from its name to a database, in "
        f"{b.wall_s:.1f} s on {b.workers} worker processes: "
        f"{b.circuits / b.wall_s:.0f} circuits per second. Where the workers' time went:\n\n"
        + table(["", "seconds", "share"], rows)
        + f"\n\nOf the time in shards {100 * (1 - b.integrating_s / b.in_shards_s):.1f}% is "
        f"outside the kernel. {full}"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--circuits", type=int, nargs="+", default=[8192], metavar="N")
    args = parser.parse_args()
    command = " ".join(["python benchmarks/build.py --circuits", *map(str, args.circuits)])
    publish(
        "Building",
        setting(command, "jax", "numpy", "dask", "cupy-cuda13x"),
        *(report(measure(circuits)) for circuits in args.circuits),
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
