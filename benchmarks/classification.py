"""Features of a million circuits from their spikes, on one core.

python benchmarks/classification.py [--write-docs]

The spikes are those of 4,096 random circuits of the 2004 grid over 10 s, over and over.
"""

import sys
import time
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import numpy as np
from page import arguments, publish, setting, table
from problem import random_circuits

from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline.last_periods import LastPeriods
from pyloric_db.pipeline.run import run_circuits
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.settle import settled
from pyloric_db.rhythm.spikes import SpikeTrains

CIRCUITS = 1_000_000
DISTINCT = 4_096
FIXED = Protocol(min_ms=13_000)  # 3 s discarded, 10 s analysed
#: Circuits that are analysed at once: as many as leave a CPU's lanes after an epoch, and more.
BATCHES = (64, 512, 4_096)


class Kept(LastPeriods):
    """Collects all spikes of circuits as they finish."""

    def __init__(self) -> None:
        super().__init__(PRINZ2004.cells, FIXED)
        self.trains: list[SpikeTrains] = []

    def add(self, index: np.ndarray, trains: SpikeTrains, *_: Any, **__: Any) -> None:
        self.trains.append(trains)


def spikes() -> SpikeTrains:
    """Those of all circuits: they run equally long, so they finish in order."""
    problem, kept = random_circuits(DISTINCT), Kept()
    run_circuits(
        problem.gbar, problem.gsyn, problem.states, circuit=PRINZ2004, protocol=FIXED, keep=kept
    )
    return reduce(SpikeTrains.join, kept.trains)


def million(ask: Callable[..., object], blocks: list[SpikeTrains]) -> float:
    """Seconds for a million circuits, in blocks of equally many."""
    ask(blocks[0], protocol=FIXED)
    repetitions = CIRCUITS // blocks[0].n_circuits
    began = time.perf_counter()
    for i in range(repetitions):
        ask(blocks[i % len(blocks)], protocol=FIXED)
    return (time.perf_counter() - began) * CIRCUITS / (repetitions * blocks[0].n_circuits)


def main() -> None:
    args = arguments(__doc__).parse_args()
    print("simulating", file=sys.stderr, flush=True)
    trains = spikes()
    rows = []
    for n in BATCHES:
        blocks = [trains.block(i, i + n) for i in range(0, DISTINCT, n)]
        start, stop = np.full(n, 3_000.0), np.full(n, 13_000.0)
        analysing = partial(analyse, cells=PRINZ2004.cells, start_ms=start, stop_ms=stop)
        asking = partial(
            settled,
            cells=PRINZ2004.cells,
            published=np.ones(n, bool),
            V_range_mV=np.full((n, 3), np.inf),
            now_ms=stop,
        )
        seconds = [million(ask, blocks) for ask in (analysing, asking)]
        rows.append([f"{n:,}", *(f"{s:.1f} s" for s in seconds)])
        print(rows[-1], file=sys.stderr, flush=True)
    per_circuit = trains.counts.sum() / DISTINCT
    publish(
        "Classification",
        setting("python benchmarks/classification.py", "numpy"),
        f"A million circuits in one process, from spikes in memory ({per_circuit:.0f} per circuit, "
        "in a window of 10 s). As many are analysed at once as leave their lanes after an epoch: "
        "tens on a CPU, thousands on a GPU.",
        table(["circuits at once", "features and classes", "is the rhythm steady?"], rows),
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
