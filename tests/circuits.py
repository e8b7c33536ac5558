"""Other circuits than the published one, and random inputs for them."""

import numpy as np
import reference

from pyloric_db.model.cells import PUBLISHED_CELLS, cell_gbar
from pyloric_db.model.circuit import PRINZ2004, Circuit, GapJunction, Source, Synapse
from pyloric_db.model.constants import Constants

TWO_CELLS = Circuit(
    cells=("a", "b"),
    sources=(Source("a_glu", "a", "glutamate"), Source("b_ach", "b", "acetylcholine")),
    synapses=(Synapse("a_glu", "b"), Synapse("b_ach", "a")),
    gap_junctions=(GapJunction("a", "b"),),
)

_PD = ("pd1", "pd2")
_PY = tuple(f"py{i}" for i in range(1, 6))
_LP_TARGETS = ("ab", *_PD, *_PY)

#: AB:1 PD:2 LP:1 PY:5; AB and the PDs electrically coupled, the PYs in a chain.
NINE_CELLS = Circuit(
    cells=("ab", *_PD, "lp", *_PY),
    sources=(
        Source("s_ab", "ab", "glutamate"),
        *(Source(f"s_{c}", c, "acetylcholine") for c in _PD),
        Source("s_lp", "lp", "glutamate"),
        *(Source(f"s_{c}", c, "glutamate") for c in _PY),
    ),
    synapses=(
        *(Synapse(f"s_{pre}", post) for pre in ("ab", *_PD) for post in ("lp", *_PY)),
        *(Synapse("s_lp", post) for post in _LP_TARGETS),
        *(Synapse(f"s_{c}", "lp") for c in _PY),
    ),
    gap_junctions=(
        *(GapJunction("ab", c) for c in _PD),
        GapJunction("pd1", "pd2"),
        *(GapJunction(a, b) for a, b in zip(_PY, _PY[1:], strict=False)),
    ),
)

CIRCUITS = {"prinz2004": PRINZ2004, "two": TWO_CELLS, "nine": NINE_CELLS}

#: Factors of temperature that are all different.
WARM = Constants(
    Q10_gbar=(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8),
    Q10_gsyn={"glutamate": 1.9, "acetylcholine": 2.0},
    Q10_tau_m=2.1,
    Q10_tau_h=2.2,
    Q10_tau_Ca=2.3,
    Q10_tau_s={"glutamate": 2.4, "acetylcholine": 2.5},
)


def random_state(circuit: Circuit, rng: np.random.Generator, n: int = 1) -> dict[str, np.ndarray]:
    """Any state that a run can be in, (n, ...)."""
    cells = len(circuit.cells)
    return {
        "V": rng.uniform(-90, 50, (n, cells)),
        "Ca": 10 ** rng.uniform(-1.5, 2, (n, cells)),
        "m": rng.uniform(0, 1, (n, cells, 7)),
        "h": rng.uniform(0, 1, (n, cells, 4)),
        "s": rng.uniform(0, 1, (n, len(circuit.sources))),
    }


def random_conductances(
    circuit: Circuit, rng: np.random.Generator, n: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """gbar (n, cell, 8) mS/cm2 over the published ranges, gsyn (n, synapse) nS."""
    top = np.array([500, 12.5, 10, 50, 25, 125, 0.05, 0.05])
    gbar = rng.uniform(0, 1, (n, len(circuit.cells), 8)) * top
    return gbar, rng.uniform(0, 100, (n, len(circuit.synapse_names)))


def as_reference(
    circuit: Circuit,
    state: dict[str, np.ndarray],
    gbar: np.ndarray,
    gsyn: np.ndarray,
    **options: object,
) -> tuple[reference.Network, reference.State]:
    """One circuit (without batch axis) and its state, for the independent model."""
    at = {c: i for i, c in enumerate(circuit.cells)}
    sources = {s.name: (i, s) for i, s in enumerate(circuit.sources)}
    chemical = []
    s = []
    for synapse, g in zip(circuit.synapses, gsyn, strict=False):
        i, source = sources[synapse.source]
        chemical.append((at[source.cell], at[synapse.post], source.transmitter, float(g)))
        s.append(state["s"][i])
    gaps = [
        (at[j.cell_1], at[j.cell_2], float(g))
        for j, g in zip(circuit.gap_junctions, gsyn[len(chemical) :], strict=True)
    ]
    network = reference.Network(gbar, chemical, gaps, **options)
    x = reference.State(state["V"], state["Ca"], state["m"], state["h"], np.array(s, float))
    return network, x


def published_cells(circuit: Circuit, n: int) -> tuple[np.ndarray, np.ndarray]:
    """gbar (n, cell, 8) of published cells in any places, gsyn (n, synapse) below 30 nS."""
    rng = np.random.default_rng(2)
    table = np.array([cell_gbar(c) for c in ("AB/PD 1", "AB/PD 2", "LP 2", "PY 1", "PY 5")])
    gbar = table[rng.integers(0, 5, (n, len(circuit.cells)))]
    return gbar, rng.uniform(0, 30, (n, len(circuit.synapse_names)))


def pyloric_grid(circuit_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """gbar (n, 3, 8), gsyn (n, 7) of circuits of the 2004 grid, by their C-order index."""
    table = np.array(list(PUBLISHED_CELLS.values()), float)
    digits = np.unravel_index(circuit_id, (5, 5, 6, 5, 5, 6, 6, 5, 6, 5))
    gbar = np.stack([table[digits[0]], table[5 + digits[1]], table[10 + digits[2]]], axis=1)
    five, six = np.array([0, 3, 10, 30, 100.0]), np.array([0, 1, 3, 10, 30, 100.0])
    levels = (five, five, six, six, five, six, five)
    gsyn = np.stack([g[d] for g, d in zip(levels, digits[3:], strict=True)], axis=1)
    return gbar, gsyn
