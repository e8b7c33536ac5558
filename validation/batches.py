"""Many circuits through a protocol on all cores, and the inputs for them."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from pyloric_db.model.cells import PUBLISHED_CELLS
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline.run import run_circuits
from pyloric_db.pipeline.states import States
from pyloric_db.pipeline.thermalise import initial_states, thermalise
from pyloric_db.protocol import Protocol

#: Circuits per task: enough to keep a batch full while its circuits are decided one by one.
TASK_CIRCUITS = 2048

#: Levels of the 2004 grid, nS, in the order of the synapses; cells come before them.
FIVE = (0.0, 3.0, 10.0, 30.0, 100.0)
SIX = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)
GSYN_LEVELS = (FIVE, FIVE, SIX, SIX, FIVE, SIX, FIVE)


@dataclass(frozen=True)
class Circuits:
    """Circuits of the 2004 grid: gbar (n, 3, 8) mS/cm2, gsyn (n, 7) nS, and their cells (n, 3)
    as positions among the sixteen published cells."""

    gbar: np.ndarray
    gsyn: np.ndarray
    cells: np.ndarray

    def __len__(self) -> int:
        return len(self.gbar)


def grid_circuits(circuit_id: np.ndarray) -> Circuits:
    """Circuits by their C-order index over (abpd, lp, py, seven synapses)."""
    shape = (5, 5, 6, *(len(levels) for levels in GSYN_LEVELS))
    digits = np.unravel_index(circuit_id, shape)
    cells = np.stack([digits[0], 5 + digits[1], 10 + digits[2]], axis=1)
    gsyn = np.stack(
        [np.array(levels)[d] for levels, d in zip(GSYN_LEVELS, digits[3:], strict=True)], axis=1
    )
    return Circuits(np.array(list(PUBLISHED_CELLS.values()), float)[cells], gsyn, cells)


def states_of_cells(cell_state: np.ndarray, cells: np.ndarray) -> States:
    """Thermal starts, s = 0, from states (16, 13) of single cells: V, Ca, seven m, four h."""
    x = cell_state[cells]
    return {
        "V": x[..., 0],
        "Ca": x[..., 1],
        "m": x[..., 2:9],
        "h": x[..., 9:13],
        "s": np.zeros((len(cells), len(PRINZ2004.sources))),
    }


def thermal_start(circuits: Circuits, protocol: Protocol) -> States:
    """The package's own thermal start."""
    cells = thermalise(np.array(list(PUBLISHED_CELLS.values()), float), protocol)
    return initial_states(circuits.gbar, cells, PRINZ2004)


Task = tuple[np.ndarray, np.ndarray, States, Protocol]
Found = tuple[dict[str, np.ndarray], States]


def _run(task: Task) -> Found:
    gbar, gsyn, states, protocol = task
    return run_circuits(gbar, gsyn, states, circuit=PRINZ2004, protocol=protocol)


class Pool:
    """Worker processes that run circuits, as a context manager."""

    def __init__(self, workers: int):
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(workers, mp_context=context)
        self._workers = workers

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._executor.shutdown(cancel_futures=True)

    def run(
        self,
        circuits: Circuits,
        states: States,
        protocol: Protocol,
        progress: Callable[[int, int], None],
    ) -> Found:
        """Feature columns and end states of all circuits, in order."""
        n = len(circuits)
        size = min(TASK_CIRCUITS, -(-n // self._workers))
        parts = [slice(a, min(a + size, n)) for a in range(0, n, size)]
        futures = [
            self._executor.submit(
                _run,
                (
                    circuits.gbar[p],
                    circuits.gsyn[p],
                    {k: v[p] for k, v in states.items()},
                    protocol,
                ),
            )
            for p in parts
        ]
        found = []
        for part, future in zip(parts, futures, strict=True):
            found.append(future.result())
            progress(part.stop, n)
        columns, ends = zip(*found, strict=True)
        return (
            {k: np.concatenate([c[k] for c in columns]) for k in columns[0]},
            {k: np.concatenate([e[k] for e in ends]) for k in ends[0]},
        )
