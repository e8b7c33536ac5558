"""How gates and synapses relax within a step, as tables over the voltage.

Within a step the voltage stands still, and a gate goes from x to x + (B(V) - k(V) x). Both are
the step's own functions (`Stepper.relax`), evaluated in float64 at voltages 0.1 mV apart; between
these they are taken to be linear.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pyloric_db.integrate.step import Stepper

#: Voltages of the first and the last row; a run that goes beyond is out of range.
LOWEST_mV, HIGHEST_mV = -250.0, 250.0
ROWS_PER_mV = 10
#: At this calcium, uM, gates that depend on it are saturated.
SATURATED_uM = 1e30


@dataclass(frozen=True)
class Tables:
    """Columns k and B over the voltage.

    The columns of a cell are its gates and the transmitters that it may release. A gate that
    depends on calcium has two, whose "gates" are its k and its B for saturating calcium: those
    with a k of 1 go to their B within a step.

    Attributes:
        rows: (voltage, k or B, column), float32, dimensionless.
        gates: the columns of each group's gates, (gate,) or (gate, 2).
        sources: the column of each synaptic source.
    """

    rows: np.ndarray
    gates: tuple[np.ndarray, ...]
    sources: tuple[int, ...]


def make_tables(stepper: Stepper) -> Tables:
    """The tables of a step.

    Args:
        stepper: in float64.
    """
    circuit = stepper.circuit
    V = np.linspace(LOWEST_mV, HIGHEST_mV, round((HIGHEST_mV - LOWEST_mV) * ROWS_PER_mV) + 1)
    V = np.broadcast_to(V, (len(circuit.cells), len(V)))

    @jax.jit
    def relaxed_from(x: float) -> Any:
        rest = [jnp.full((len(circuit.sources), V.shape[1]), x)]
        rest += [jnp.full((len(group.keys), *V.shape), x) for group in stepper.groups]
        return stepper.relax((V, jnp.full_like(V, SATURATED_uM), *rest))

    with jax.enable_x64(True):
        (s_0, gates_0), (s_1, gates_1) = (
            jax.tree.map(np.asarray, relaxed_from(x)) for x in (0.0, 1.0)
        )
    columns: list[tuple[np.ndarray, np.ndarray]] = []

    def column(B: np.ndarray, from_1: np.ndarray) -> int:
        columns.append((1 + B - from_1, B))
        return len(columns) - 1

    gates = []
    for group, at_0, at_1 in zip(stepper.groups, gates_0, gates_1, strict=True):
        of_group: list[Any] = []
        for B, from_1 in zip(at_0[:, 0], at_1[:, 0], strict=True):
            if group.half_Ca_uM is None:
                of_group.append(column(B, from_1))
            else:
                k = 1 + B - from_1
                of_group.append([column(k, k), column(B, B)])
        gates.append(np.array(of_group))
    transmitters: dict[str, int] = {}
    for source, B, from_1 in zip(circuit.sources, s_0, s_1, strict=True):
        if source.transmitter not in transmitters:
            transmitters[source.transmitter] = column(B, from_1)
    rows = np.array(columns).transpose(2, 1, 0)
    # a straight line between two points of a curve lies on one side of it, by this on average
    rows[1:-1] -= (rows[2:] - 2 * rows[1:-1] + rows[:-2]) / 12
    return Tables(
        rows=rows.astype(np.float32),
        gates=tuple(gates),
        sources=tuple(transmitters[source.transmitter] for source in circuit.sources),
    )
