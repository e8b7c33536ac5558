"""Rates of the kernel and of JAX's own program on the GPU that is here, each in its own process.

python benchmarks/gpu_rate.py [--write-docs]

Random circuits of the 2004 grid fill the lanes; spikes are found. With CuPy (the extra `gpu`) the
kernel runs, with `jax[cuda13]` JAX's own program.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from statistics import median

import numpy as np
from build import FULL_CIRCUITS
from page import arguments, publish, setting, table

from pyloric_db.integrate.engine import Engine
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.jax_settings import set_up_jax
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.run import protocol_engine
from pyloric_db.pipeline.states import cold_states

REPETITIONS = 7
VEHICLES = {"kernel": "the kernel", "jax": "JAX's own program"}


@dataclass(frozen=True)
class Rate:
    """Billions of circuit-steps per second in each epoch after the first, which compiles."""

    gpu: str | None
    lanes: int
    billions: tuple[float, ...]


def measure(vehicle: str) -> Rate:
    """Rates of a vehicle; to be called in a process that has computed nothing yet."""
    if vehicle == "jax":
        vars(sys)["modules"]["cupy"] = None  # as if it were not installed
    set_up_jax()
    recipe = load_recipe("prinz2004")
    engine = protocol_engine(recipe.circuit.circuit(), recipe.run_protocol())
    return Rate(engine.gpu, engine.lanes, rates(engine, engine.lanes) if engine.gpu else ())


def rates(engine: Engine, lanes: int) -> tuple[float, ...]:
    ids = np.sort(np.random.default_rng(1).integers(0, FULL_CIRCUITS, lanes))
    _, gbar, gsyn = parameters(load_recipe("prinz2004"), ids)
    batch = engine.start(cold_states(lanes, engine.circuit), gbar, gsyn)
    batch, _ = engine.epoch(batch)
    found = []
    for _ in range(REPETITIONS):
        began = time.perf_counter()
        batch, _ = engine.epoch(batch)
        found.append(lanes * engine.n_steps / (time.perf_counter() - began) / 1e9)
    return tuple(found)


def report(found: dict[str, Rate]) -> str:
    rows = [
        [VEHICLES[name], f"{r.lanes:,}", f"{median(r.billions):.2f}",
         f"{min(r.billions):.2f} to {max(r.billions):.2f}"]
        for name, r in found.items()
    ]  # fmt: skip
    head = ["", "circuits at once", "10⁹ circuit-steps per second", "lowest to highest"]
    gpu = next(iter(found.values())).gpu
    return f"On one {gpu}; medians of {REPETITIONS} epochs.\n\n" + table(head, rows)


def main() -> None:
    args = arguments(__doc__).parse_args()
    found = {}
    for vehicle in VEHICLES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            rate = child.submit(measure, vehicle).result()
        if rate.gpu:
            found[vehicle] = rate
    if not found:
        raise SystemExit("there is no GPU here that CuPy or JAX can use")
    publish(
        "GPU",
        setting("python benchmarks/gpu_rate.py", "jax", "cupy-cuda13x", "numpy"),
        report(found),
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
