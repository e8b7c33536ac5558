"""Rates of the engine and of everything around it, measured on this machine.

Every process is an interpreter of its own, as in a build. Repetitions on one process take turns
with repetitions on several at the same time, so that a disturbance of the machine meets both.
"""

import cProfile
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import FunctionType
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pyloric_db.errors import ConfigError
from pyloric_db.integrate.engine import Batch, Engine
from pyloric_db.pipeline.build import grid_cells
from pyloric_db.pipeline.draw import netcodes, parameters, select
from pyloric_db.pipeline.expect import duration
from pyloric_db.pipeline.jax_settings import set_up_jax
from pyloric_db.pipeline.kept_memory import keep_memory
from pyloric_db.pipeline.machine import cores, machine, version_line
from pyloric_db.pipeline.plan import DESKTOP_SHARDS, LEAST_SHARDS, SMALL_SHARD, Plan, make_plan
from pyloric_db.pipeline.recipe import Recipe, circuit_of, load_recipe
from pyloric_db.pipeline.run import protocol_engine, run_circuits
from pyloric_db.pipeline.states import cold_states
from pyloric_db.pipeline.task import build_shard, store_cells, stored_cells
from pyloric_db.pipeline.thermalise import initial_states, thermalise
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.settle import settled
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.shards import write_shard

#: Measurements of the kernel on one process, and as many on all.
KERNEL_REPETITIONS = 5
#: Epochs of a full batch in each.
KERNEL_EPOCHS = 2
#: Whole shards on one process, and as many on all; the first also loads and compiles what is
#: missing.
SHARD_REPETITIONS = 3
SHARD_CIRCUITS = 2048
#: On a GPU so many processes share it, and their shards fill it so many times.
GPU_PROCESSES = 8
GPU_FILLS = 3
#: The cores of a desktop, for a projection.
DESKTOP_CORES = 16


@dataclass(frozen=True)
class Rates:
    """Rates of so many processes at the same time, together; medians over repetitions.

    Mcs are million circuit-steps, one dt of a circuit each. The kernel is an epoch with spike
    finding on. `per_cpu_s` is per second of processor time of one process, which
    is steadier than wall time on a shared machine. End to end is from circuit ids to files.
    """

    processes: int
    kernel_Mcs_per_s: float
    kernel_Mcs_per_cpu_s: float
    end_to_end_Mcs_per_s: float
    end_to_end_Mcs_per_cpu_s: float
    circuits_per_s: float


@dataclass(frozen=True)
class Bench:
    """What `measure` found; `stages` are shares of the time of the median shard on one process.

    `speedup_kernel` and `speedup_end_to_end` are the rates of the most processes over those of
    one, the median over pairs of neighbouring repetitions. `start_up_s` is from the start of a
    process to the end of its first epoch, of one circuit, with what is kept in the cache;
    `thermalise_s` what the cells of a grid take before the first shard, 0 where shards have
    their own. `gpu` is the name of the GPU, if there is one. `hours_here` are for the whole recipe
    on all cores or the GPU, `hours_on_16_cores` on as many such cores, None with a GPU.
    """

    machine: str
    gpu: str | None
    versions: str
    recipe: str
    n_circuits: int
    shard_circuits: int
    rates: tuple[Rates, ...]
    speedup_kernel: float
    speedup_end_to_end: float
    stages: dict[str, float]
    simulated_s_per_circuit: float
    start_up_s: float
    thermalise_s: float
    peak_memory_MiB: float
    hours_here: float
    hours_on_16_cores: float | None

    def estimate(self) -> str:
        """How long the whole recipe takes, in words."""
        here = f"one {self.gpu}" if self.gpu else "this machine"
        text = f"{self.n_circuits:,} circuits: {duration(self.hours_here)} on {here}"
        if self.hours_on_16_cores is not None:
            text += f", {duration(self.hours_on_16_cores)} on {DESKTOP_CORES} such cores"
        return text


@dataclass(frozen=True)
class _Job:
    """One shard of a database, as a process gets it."""

    path: str
    recipe: Recipe
    manifest: Manifest
    shard: int
    ids: bytes  # int64; bytes, so that a job can be a key

    def circuit_ids(self) -> np.ndarray:
        return np.frombuffer(self.ids, np.int64)

    def __hash__(self) -> int:
        return hash((self.path, self.shard))


@dataclass(frozen=True)
class _Timing:
    Mcs: float
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.Mcs / self.wall_s

    @property
    def rate_per_cpu_s(self) -> float:
        return self.Mcs / self.cpu_s


def measure(
    progress: Callable[[int, int], None] | None = None,
    *,
    recipe: Any = "prinz2004",
    shard_circuits: int | None = None,
) -> Bench:
    """Measure with random circuits of a recipe, on one process and on more, at most one per core:
    on two, or on the eight that share a GPU. Takes half a minute on two quiet cores.

    Args:
        progress: called with (measurements done, measurements in all).
        recipe: a packaged name, a TOML file, a dict or a `Recipe`.
        shard_circuits: circuits of a shard; None for a few batches. Shards of a small recipe are
            smaller.

    Raises:
        ConfigError: the recipe is not valid, or has fewer circuits than there are shards.
    """
    set_up_jax()
    loaded = load_recipe(recipe)
    engine = protocol_engine(
        loaded.circuit.circuit(), loaded.run_protocol(), loaded.run_constants()
    )
    most = min(cores(), GPU_PROCESSES if engine.gpu else 2)
    counts = (1, most) if most > 1 else (1,)
    if shard_circuits is None:
        shard_circuits = GPU_FILLS * engine.lanes if engine.gpu else SHARD_CIRCUITS
    # fewer large ones would be cut into smaller ones
    n_shards = LEAST_SHARDS if shard_circuits <= SMALL_SHARD else DESKTOP_SHARDS
    total = counts[-1] + 1 + len(counts) * (KERNEL_REPETITIONS + SHARD_REPETITIONS)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    if progress is not None:
        progress(0, total)
    n_circuits = select(loaded).count
    shard_circuits = min(shard_circuits, n_circuits // n_shards)
    if not shard_circuits:
        raise ConfigError(
            f"recipe {loaded.name} has {n_circuits} circuits: to measure takes {n_shards} at least"
        )
    plan = make_plan(loaded.in_shards_of(shard_circuits), sample=n_shards * shard_circuits, seed=1)
    shard_circuits = plan.manifest.shard_circuits  # of whole chunks
    thermalise_s, start_up_s, kernel, shards = _measured(plan, counts, step)
    rates = tuple(_rates(n, kernel[n], shards[n], shard_circuits) for n in counts)
    typical = sorted((found[0] for found in shards[1]), key=lambda s: s.timing.wall_s)
    hours = n_circuits / rates[-1].circuits_per_s / 3600
    core_hours = hours * rates[-1].processes
    every = [s for found in shards[counts[-1]] for s in found]
    return Bench(
        machine=machine(),
        gpu=engine.gpu,
        versions=version_line("jax", "jaxlib", "numpy", "cupy-cuda13x"),
        recipe=loaded.name,
        n_circuits=n_circuits,
        shard_circuits=shard_circuits,
        rates=rates,
        speedup_kernel=_speedup(kernel[1], kernel[counts[-1]]),
        speedup_end_to_end=_speedup(
            [[s.timing for s in found] for found in shards[1]],
            [[s.timing for s in found] for found in shards[counts[-1]]],
        ),
        stages=typical[len(typical) // 2].stages,
        simulated_s_per_circuit=float(np.mean([s.simulated_s for s in every])) / shard_circuits,
        start_up_s=start_up_s,
        thermalise_s=thermalise_s,
        peak_memory_MiB=max(s.peak_memory_MiB for s in every),
        # cores add up; a GPU is one
        hours_here=hours if engine.gpu else core_hours / cores(),
        hours_on_16_cores=None if engine.gpu else core_hours / DESKTOP_CORES,
    )


def _measured(
    plan: Plan, counts: Sequence[int], step: Callable[[], None]
) -> tuple[float, float, dict[int, list[list[_Timing]]], dict[int, list[list["_Shard"]]]]:
    """How long cells and a process's start took, and the repetitions on so many processes each.

    `step` is called after every measurement.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = str(Path(folder) / "db")
        ledger = Ledger(path)
        manifest = create(ledger, plan.manifest)
        began = time.perf_counter()
        cells = grid_cells(plan)
        if cells is not None:
            ledger.append(store_cells(path, cells, plan.recipe))
        thermalise_s = 0.0 if cells is None else time.perf_counter() - began
        step()
        # a shard of a build is a stretch of the grid; these are samples of all of it
        ids, size = plan.selection.part(0, plan.selection.count), manifest.shard_circuits
        jobs = [
            _Job(path, plan.recipe, manifest, k, ids[k :: len(ids) // size][:size].tobytes())
            for k in range(counts[-1])
        ]
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            for _ in jobs
        ]
        start_ups = []
        for pool, job in zip(pools, jobs, strict=True):
            began = time.perf_counter()
            pool.submit(_get_ready, job).result()
            start_ups.append(time.perf_counter() - began)
            step()

        def together(n: int, task: Callable[[_Job], Any]) -> list[Any]:
            running = [pool.submit(task, job) for pool, job in zip(pools, jobs[:n], strict=False)]
            found = [r.result() for r in running]
            step()
            return found

        kernel: dict[int, list[list[_Timing]]] = {n: [] for n in counts}
        shards: dict[int, list[list[_Shard]]] = {n: [] for n in counts}
        for _ in range(KERNEL_REPETITIONS):
            for n in counts:
                kernel[n].append(together(n, _kernel))
        for _ in range(SHARD_REPETITIONS):
            for n in counts:
                shards[n].append(together(n, _shard))
    return thermalise_s, start_ups[-1], kernel, shards


def _rates(
    n: int, kernel: list[list[_Timing]], shards: list[list["_Shard"]], circuits: int
) -> Rates:
    whole = [[s.timing for s in found] for found in shards]
    return Rates(
        processes=n,
        kernel_Mcs_per_s=_together(kernel),
        kernel_Mcs_per_cpu_s=median(t.rate_per_cpu_s for found in kernel for t in found),
        end_to_end_Mcs_per_s=_together(whole),
        end_to_end_Mcs_per_cpu_s=median(t.rate_per_cpu_s for found in whole for t in found),
        circuits_per_s=median(sum(circuits / t.wall_s for t in found) for found in whole),
    )


def _together(repetitions: list[list[_Timing]]) -> float:
    """The median of the processes' rates, added up."""
    return median(sum(t.rate for t in found) for found in repetitions)


def _speedup(alone: list[list[_Timing]], together: list[list[_Timing]]) -> float:
    return median(
        sum(t.rate for t in many) / one[0].rate for one, many in zip(alone, together, strict=True)
    )


# ------------------------------------------------------------------ in a process of its own


@cache
def _ready(job: _Job) -> tuple[Engine, Batch]:
    """This process's engine, which has run a circuit for an epoch, and a full batch."""
    set_up_jax()
    keep_memory()
    circuit = circuit_of(job.manifest)
    engine = protocol_engine(circuit, job.recipe.run_protocol(), job.recipe.run_constants())
    _, gbar, gsyn = parameters(job.recipe, np.resize(job.circuit_ids(), engine.lanes))
    channels = job.manifest.channels
    cells = stored_cells(job.path, channels)
    initial = (
        cold_states(engine.lanes, circuit, channels)
        if cells is None
        else initial_states(gbar, cells, circuit)
    )
    batch = engine.start(initial, gbar, gsyn)
    engine.epoch(batch.take(np.arange(1)))
    return engine, batch


@cache
def _warm(job: _Job) -> tuple[Engine, Batch]:
    """The same, and the batch after an epoch."""
    engine, batch = _ready(job)
    return engine, engine.epoch(batch)[0]


def _get_ready(job: _Job) -> None:
    """Loads the libraries and the program, and runs an epoch of one circuit."""
    _ready(job)


def _kernel(job: _Job) -> _Timing:
    engine, batch = _warm(job)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(KERNEL_EPOCHS):
        batch, _ = engine.epoch(batch)
    return _Timing(
        KERNEL_EPOCHS * len(batch) * engine.n_steps / 1e6,
        time.perf_counter() - wall,
        time.process_time() - cpu,
    )


@dataclass(frozen=True)
class _Shard:
    timing: _Timing
    simulated_s: float
    stages: dict[str, float]
    peak_memory_MiB: float


def _shard(job: _Job) -> _Shard:
    """Build a shard under a profiler, which knows how long each stage took.

    A shard is few Python calls that do much each: the profiler costs under one per cent.
    """
    _warm(job)
    profile = cProfile.Profile()
    wall, cpu = time.perf_counter(), time.process_time()
    receipt = profile.runcall(
        build_shard, job.path, job.recipe, job.manifest, job.shard, job.circuit_ids()
    )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    part = next(f.path for f in receipt.files if f.path.endswith(".parquet"))
    simulated_s = pq.read_table(Path(job.path) / part)["t_simulated_ms"].to_numpy().sum() / 1000
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _Shard(
        _Timing(float(simulated_s) * 1e-3 / job.recipe.run_protocol().dt_ms, wall, cpu),
        float(simulated_s),
        _stages(pstats.Stats(profile), wall, receipt.kernel_seconds),
        peak / (2**20 if sys.platform == "darwin" else 2**10),
    )


def _stages(stats: pstats.Stats, wall_s: float, kernel_s: float) -> dict[str, float]:
    """Shares of a shard's time."""
    timings = vars(stats)["stats"]  # by file, line and name; its public views have only the name

    def inside(*functions: Any) -> float:
        """Seconds in these functions and in what they call."""
        found = 0.0
        for f in functions:
            assert isinstance(f, FunctionType)
            code = f.__code__
            key = (code.co_filename, code.co_firstlineno, code.co_name)
            found += timings.get(key, (0, 0, 0.0, 0.0, {}))[3]
        return found

    run = inside(run_circuits)
    asking, analysing = inside(settled), inside(analyse)
    drawing = inside(parameters, stored_cells, initial_states, netcodes)
    thermalising = inside(thermalise)
    writing = inside(write_shard)
    seconds = {
        "drawing parameters and first states": drawing,
        "thermalising cells": thermalising,
        "integrating": kernel_s,
        "asking whether rhythms are settled": asking,
        "collecting spikes, moving lanes": run - kernel_s - asking - analysing,
        "analysing features": analysing,
        "writing": writing,
        "other": wall_s - run - drawing - thermalising - writing,
    }
    return {name: s / wall_s for name, s in seconds.items()}
