"""Rates of the engine and of everything around it, measured on this machine."""

import resource
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pyloric_db.integrate.engine import WIDTHS
from pyloric_db.pipeline.build import circuit_of
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.plan import LEAST_SHARDS, make_plan
from pyloric_db.pipeline.run import protocol_engine
from pyloric_db.pipeline.task import build_shard, store_cells, stored_cells
from pyloric_db.pipeline.thermalise import distinct_cells, initial_states
from pyloric_db.store.create import create

REPETITIONS = 5
CIRCUITS = 2048


def measure() -> dict[str, Any]:
    """Measure on one core with random circuits of the Prinz 2004 grid, after warm-up.

    Returns:
        the kernel's rate in million circuit-steps per second (one circuit-step is one dt of a
        three-cell circuit) with spike finding on, the median of five epochs; a whole shard of
        2,048 circuits from ids to files; what of that is spent outside the kernel; peak
        memory in MiB.
    """
    plan = make_plan("prinz2004", sample=LEAST_SHARDS * CIRCUITS, seed=1)
    circuit = circuit_of(plan.manifest)
    engine = protocol_engine(circuit, plan.protocol)
    ids = plan.shard_ids(0)
    _, gbar, gsyn = parameters(plan.recipe, ids)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "db")
        manifest = create(path, plan.manifest)
        began = time.perf_counter()
        store_cells(path, distinct_cells(gbar)[0], plan.protocol)
        thermal_s = time.perf_counter() - began
        cells = stored_cells(path)
        assert cells is not None
        width = WIDTHS[-1]
        states = {k: v[:width] for k, v in initial_states(gbar, cells, circuit).items()}
        batch, _ = engine.epoch(engine.start(states, gbar[:width], gsyn[:width]))
        rates = []
        for _ in range(REPETITIONS):
            began = time.perf_counter()
            batch, _ = engine.epoch(batch)
            rates.append(width * engine.n_steps / (time.perf_counter() - began) / 1e6)
        for w in WIDTHS[:-1]:  # compile the narrower widths before the clock starts
            engine.epoch(batch.take(np.arange(w)))
        engine.seconds = 0.0
        began = time.perf_counter()
        build_shard(path, plan.recipe, manifest, 0, ids)
        shard_s = time.perf_counter() - began
        part = next(Path(path, "features").glob("*.parquet"))
        n_s = pq.read_table(part)["t_simulated_ms"].to_numpy().sum() / 1000
    steps = n_s * 1000 / plan.protocol.dt_ms / 1e6
    rate = median(rates)
    return {
        "kernel_Mcs_per_s": rate,
        "kernel_simulated_s_per_s": rate * 1e6 * plan.protocol.dt_ms / 1000,
        "end_to_end_Mcs_per_s": float(steps / shard_s),
        "circuits_per_s": CIRCUITS / shard_s,
        "simulated_s_per_circuit": float(n_s) / CIRCUITS,
        "share_outside_kernel": 1 - engine.seconds / shard_s,
        "thermalise_16_cells_s": thermal_s,
        "peak_memory_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "hours_for_20250000_circuits_on_16_cores": 20_250_000 * shard_s / CIRCUITS / 16 / 3600,
    }
