"""What is left for the host when a GPU integrates: everything around the kernel, per circuit.

    python benchmarks/host.py [--write-docs]

Needs no GPU: epochs of 1,024 circuits are recorded on the processor, and then a shard is built as
on an H100, in 67,584 lanes, with an engine that plays these records back. All the rest is a
build's: drawing parameters, lanes, spikes, settling, features, files.
"""

import resource
import sys
import tempfile
import time
from functools import reduce
from pathlib import Path

import numpy as np
from build import FULL_CIRCUITS, FULL_CORES
from page import arguments, publish, setting
from problem import Problem, random_circuits

from pyloric_db.integrate.engine import Batch, Engine, Epoch
from pyloric_db.integrate.kernel import BLOCKS_PER_MULTIPROCESSOR, THREADS
from pyloric_db.pipeline import run, task
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.states import States
from pyloric_db.pipeline.thermalise import distinct_cells
from pyloric_db.rhythm.spikes import SpikeTrains, offsets_of
from pyloric_db.store.create import create

DISTINCT = 1_024
LANES = 132 * BLOCKS_PER_MULTIPROCESSOR * THREADS  # an H100 has 132 multiprocessors
SHARD_CIRCUITS = 3 * LANES
#: What an epoch says of each lane, beside its spikes.
STATISTICS = ("V_min", "V_max", "V_mean", "crowded", "nonfinite", "out_of_range")


class Replay:
    """An engine that plays back epochs; in `seconds` is the time that this takes.

    Lanes hold in place of their parameters which circuit they play, and how many epochs it has run.
    """

    lanes = LANES

    def __init__(self, engine: Engine, problem: Problem, n_epochs: int) -> None:
        self.stepper = engine.stepper
        self.seconds = 0.0
        self._started = 0
        n = engine.lanes
        parts = [problem.take([*range(i, i + n)]) for i in range(0, len(problem), n)]
        batches = [engine.start(part.states, part.gbar, part.gsyn) for part in parts]
        epochs: list[Epoch] = []
        for _ in range(n_epochs):
            done = [engine.epoch(batch) for batch in batches]
            batches = [batch for batch, _ in done]
            epochs += [epoch for _, epoch in done]
        self._end = reduce(Batch.join, batches)
        self._trains = reduce(
            SpikeTrains.join,
            (SpikeTrains(e.spike_ms, offsets_of(e.n_spikes), *e.n_spikes.shape) for e in epochs),
        )
        self._statistics = {n: np.concatenate([getattr(e, n) for e in epochs]) for n in STATISTICS}

    def start(self, initial: States, gbar: np.ndarray, gsyn: np.ndarray) -> Batch:
        which = (self._started + np.arange(len(gbar))) % DISTINCT
        self._started += len(gbar)
        end = self._end.take(which)
        return Batch(end.state, end.V_before, (which, np.zeros_like(which), which))

    def epoch(self, batch: Batch) -> tuple[Batch, Epoch]:
        began = time.perf_counter()
        which, n_run, _ = batch.parameters
        at = n_run * DISTINCT + which
        trains = self._trains.select(at)
        found = {name: values[at] for name, values in self._statistics.items()}
        after = Batch(batch.state, batch.V_before, (which, n_run + 1, which))
        self.seconds += time.perf_counter() - began
        return after, Epoch(spike_ms=trains.times, n_spikes=trains.counts, **found)


def main() -> None:
    args = arguments(__doc__).parse_args()
    recipe = load_recipe("prinz2004")
    store = recipe.store.model_copy(update={"shard_circuits": SHARD_CIRCUITS})
    plan = make_plan(recipe.model_copy(update={"store": store}), sample=4 * SHARD_CIRCUITS, seed=1)
    protocol = plan.protocol
    circuit = plan.recipe.circuit.circuit()
    print(f"recording {DISTINCT:,} circuits", file=sys.stderr, flush=True)
    n_epochs = round(protocol.max_ms / protocol.epoch_ms)
    replay = Replay(run.protocol_engine(circuit, protocol), random_circuits(DISTINCT), n_epochs)
    for module in (run, task):
        vars(module)["protocol_engine"] = lambda circuit, protocol: replay
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "db")
        manifest = create(path, plan.manifest)
        ids = plan.shard_ids(0)
        cells = distinct_cells(parameters(plan.recipe, ids)[1])[0]
        print(f"a shard of {len(ids):,} circuits", file=sys.stderr, flush=True)
        task.store_cells(path, cells, protocol)
        receipt = task.build_shard(path, plan.recipe, manifest, 0, ids)
    host_s = receipt.seconds - receipt.kernel_seconds
    minutes = FULL_CIRCUITS * host_s / len(ids) / FULL_CORES / 60
    peak_GiB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    publish(
        "The host's part when a GPU integrates",
        setting("python benchmarks/host.py", "numpy", "pyarrow", "zarr"),
        f"A shard of {len(ids):,} circuits in {LANES:,} lanes, as on an H100, with recorded epochs "
        f"in place of the kernel, in one process that held {peak_GiB:.1f} GiB at most: "
        f"{1e6 * host_s / len(ids):.0f} us of the host per circuit, for all but the kernel. "
        f"{FULL_CIRCUITS:,} circuits are {minutes:.1f} minutes of {FULL_CORES} such cores, which "
        "work while the GPU integrates for other workers.",
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
