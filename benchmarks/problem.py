"""What every engine is asked: circuits of the 2004 grid, their start, and the spikes they fire."""

from dataclasses import dataclass

import numpy as np

from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.states import States
from pyloric_db.pipeline.thermalise import distinct_cells, initial_states, thermalise

#: Spikes of each (circuit, cell), ms, ascending.
Spikes = list[list[np.ndarray]]


@dataclass(frozen=True)
class Problem:
    """gbar (circuit, 3, 8) mS/cm2, gsyn (circuit, 7) nS, and states as `pipeline.states`."""

    gbar: np.ndarray
    gsyn: np.ndarray
    states: States

    def __len__(self) -> int:
        return len(self.gbar)

    def take(self, index: list[int]) -> "Problem":
        """The circuits at these places."""
        states = {k: v[index] for k, v in self.states.items()}
        return Problem(self.gbar[index], self.gsyn[index], states)


def random_circuits(n: int, seed: int = 2004) -> Problem:
    """n random circuits of the 2004 grid in random order, with their thermal start."""
    plan = make_plan("prinz2004", sample=n, seed=seed)
    ids = np.random.default_rng(seed).permutation(plan.selection.part(0, n))
    _, gbar, gsyn = parameters(plan.recipe, ids)
    cells = thermalise(distinct_cells(gbar)[0], plan.protocol)
    return Problem(gbar, gsyn, initial_states(gbar, cells, PRINZ2004))


@dataclass(frozen=True)
class Run:
    """One timed run: circuit-steps in million, seconds of wall and of processor time."""

    Mcs: float
    wall_s: float
    cpu_s: float
