"""What is left for the host when a GPU integrates: everything around the kernel, per circuit.

    python benchmarks/host.py [--write-docs]

Needs no GPU: epochs of 1,024 circuits are recorded on the processor, and then shards are built as
on an H100, in 67,584 lanes, with an engine that plays these records back. All the rest is a
build's: drawing parameters, lanes, spikes, settling, features, files. First one process, whose
epochs take no time; then several that take turns at a device, which is as fast for the cores
of this machine as a GPU of the rate aimed at is for sixteen.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_UN, flock
from functools import partial, reduce
from pathlib import Path

import numpy as np
from build import FULL_CIRCUITS, FULL_CORES
from gpu_kernels import LANES
from page import arguments, publish, setting
from problem import Problem, random_circuits

from pyloric_db.integrate.engine import Batch, Engine, Epoch
from pyloric_db.pipeline import run, task
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.machine import cores
from pyloric_db.pipeline.plan import DESKTOP_SHARDS, Plan, make_plan
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.states import States
from pyloric_db.pipeline.thermalise import distinct_cells
from pyloric_db.rhythm.spikes import SpikeTrains, offsets_of
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger, Receipt
from pyloric_db.store.manifest import Manifest

DISTINCT = 1_024
SHARD_CIRCUITS = 6 * LANES
#: What an epoch says of each lane, beside its spikes.
STATISTICS = ("V_min", "V_max", "V_mean", "crowded", "nonfinite", "out_of_range")
#: Circuit-steps per second of the GPU beside `FULL_CORES` cores: what docs/gpu.md expects.
GPU_RATE = 2.1e10
#: An epoch of fewer circuits takes as long as one of these: a scheduler with one warp waits for its
#: results (docs/gpu_code.md: the fewest circuits there, at the lower rate).
LEAST_CIRCUITS = 31_000
WORKERS_PER_CORE = 2
SHARDS_PER_WORKER = 2


@dataclass(frozen=True)
class Records:
    """Epochs of circuits, the first of all, then the second; and the circuits after the last."""

    end: Batch
    trains: SpikeTrains
    statistics: dict[str, np.ndarray]


def record(engine: Engine, problem: Problem, n_epochs: int) -> Records:
    batch = engine.start(problem.states, problem.gbar, problem.gsyn)
    epochs: list[Epoch] = []
    for _ in range(n_epochs):
        batch, epoch = engine.epoch(batch)
        epochs.append(epoch)
    return Records(
        batch,
        reduce(
            SpikeTrains.join,
            (SpikeTrains(e.spike_ms, offsets_of(e.n_spikes), *e.n_spikes.shape) for e in epochs),
        ),
        {n: np.concatenate([getattr(e, n) for e in epochs]) for n in STATISTICS},
    )


class Device:
    """What processes take turns at; `rate` in circuit-steps per second.

    `turns` are this process's: when each began and ended, s, and its circuit-steps.
    """

    def __init__(self, lock: Path, rate: float) -> None:
        self.lock = lock.open("w")
        self.rate = rate
        self.turns: list[tuple[float, float, int]] = []

    @property
    def seconds(self) -> float:
        return sum(ended - began for began, ended, _ in self.turns)

    @contextmanager
    def busy(self, circuits: int, steps: int) -> Iterator[None]:
        flock(self.lock, LOCK_EX)
        began = time.monotonic()
        yield
        takes = max(circuits, LEAST_CIRCUITS) * steps / self.rate
        time.sleep(max(0.0, began + takes - time.monotonic()))
        self.turns.append((began, time.monotonic(), circuits * steps))
        flock(self.lock, LOCK_UN)


class Replay:
    """An engine that plays back epochs on a device.

    Lanes hold in place of their parameters which circuit they play, and how many epochs it has run.
    """

    lanes = LANES

    def __init__(self, engine: Engine, records: Records, device: Device) -> None:
        self.stepper = engine.stepper
        self._n_steps = engine.n_steps
        self._records = records
        self._device = device
        self._started = 0

    @property
    def seconds(self) -> float:
        return self._device.seconds

    def start(self, initial: States, gbar: np.ndarray, gsyn: np.ndarray) -> Batch:
        which = (self._started + np.arange(len(gbar))) % DISTINCT
        self._started += len(gbar)
        end = self._records.end.take(which)
        return Batch(end.state, end.V_before, (which, np.zeros_like(which), which))

    def epoch(self, batch: Batch) -> tuple[Batch, Epoch]:
        which, n_run, _ = batch.parameters
        with self._device.busy(len(which), self._n_steps):
            at = n_run * DISTINCT + which
            trains = self._records.trains.select(at)
            found = {name: values[at] for name, values in self._records.statistics.items()}
            after = Batch(batch.state, batch.V_before, (which, n_run + 1, which))
        return after, Epoch(spike_ms=trains.times, n_spikes=trains.counts, **found)


@dataclass(frozen=True)
class Work:
    """What a process did: its shards, and its turns at the device."""

    receipts: list[Receipt]
    turns: list[tuple[float, float, int]]


def work(
    path: str, plan: Plan, manifest: Manifest, shards: range, records: Records, rate: float
) -> Work:
    """Build shards in this process, in turns with others that work at the same database."""
    device = Device(Path(path).with_name("device"), rate)
    replay = Replay(
        run.protocol_engine(plan.recipe.circuit.circuit(), plan.protocol), records, device
    )
    for module in (run, task):
        vars(module)["protocol_engine"] = lambda *_: replay
    receipts = [
        task.build_shard(path, plan.recipe, manifest, shard, plan.shard_ids(shard))
        for shard in shards
    ]
    return Work(receipts, device.turns)


def main() -> None:
    args = arguments(__doc__).parse_args()
    workers = WORKERS_PER_CORE * cores()
    recipe = load_recipe("prinz2004")
    n_shards = 1 + SHARDS_PER_WORKER * workers
    # fewer shards would be cut into smaller ones
    sample = max(n_shards, DESKTOP_SHARDS) * SHARD_CIRCUITS
    plan = make_plan(recipe.in_shards_of(SHARD_CIRCUITS), sample=sample, seed=1)
    print(f"recording {DISTINCT:,} circuits", file=sys.stderr, flush=True)
    n_epochs = round(plan.protocol.max_ms / plan.protocol.epoch_ms)
    engine = run.protocol_engine(plan.recipe.circuit.circuit(), plan.protocol)
    records = record(engine, random_circuits(DISTINCT), n_epochs)
    rate = GPU_RATE * cores() / FULL_CORES
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "db")
        ledger = Ledger(path)
        manifest = create(ledger, plan.manifest)
        some = np.concatenate([plan.shard_ids(shard)[::100] for shard in range(n_shards)])
        _, gbar, _ = parameters(plan.recipe, some)
        ledger.append(task.store_cells(path, distinct_cells(gbar)[0], plan.recipe))
        job = partial(work, path, plan, manifest)
        spawn = partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn"))
        print(f"a shard of {SHARD_CIRCUITS:,} circuits", file=sys.stderr, flush=True)
        with spawn(1) as process:
            alone = process.submit(job, range(1), records, np.inf).result()
        print(f"{n_shards - 1} shards in {workers} processes", file=sys.stderr, flush=True)
        with spawn(workers) as processes:
            jobs = [
                processes.submit(job, range(1 + i, n_shards, workers), records, rate)
                for i in range(workers)
            ]
            together = [j.result() for j in jobs]
    (receipt,) = alone.receipts
    host_s = (receipt.seconds - receipt.kernel_seconds) / SHARD_CIRCUITS
    minutes = FULL_CIRCUITS * host_s / FULL_CORES / 60
    began, ended, steps = np.array([turn for w in together for turn in w.turns]).T
    elapsed = ended.max() - began.min()
    busy, useful = (ended - began).sum() / elapsed, steps.sum() / rate / elapsed
    peak_GiB = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    publish(
        "The host's part when a GPU integrates",
        setting("python benchmarks/host.py", "numpy", "pyarrow", "zarr"),
        f"A shard of {SHARD_CIRCUITS:,} circuits in {LANES:,} lanes, as on an H100, with recorded "
        f"epochs in place of the kernel, in one process that held {peak_GiB:.1f} GiB at most: "
        f"{1e6 * host_s:.0f} us of the host per circuit, for all but the kernel. "
        f"{FULL_CIRCUITS:,} circuits are {minutes:.1f} minutes of {FULL_CORES} such cores.",
        f"{n_shards - 1} such shards in {workers} processes on {cores()} cores, which take turns "
        f"at a device of {rate / 1e9:.3g}e9 circuit-steps per second, as many per core as a GPU of "
        f"{GPU_RATE / 1e9:g}e9 beside {FULL_CORES} cores, but at least as long for an epoch as "
        f"{LEAST_CIRCUITS:,} circuits take: the device is busy for {100 * busy:.1f}% of the time "
        f"from the first epoch to the last, and does {100 * useful:.1f}% of what it could. It "
        "stands for a GPU; none was there.",
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
