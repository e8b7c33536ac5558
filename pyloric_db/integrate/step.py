"""One fixed step of any circuit, as structure of arrays with the batch as the fastest axis.

The step is made from the model's tables of constants. Gates whose time constants have the same
shape are stacked into one array, so that a step is a handful of fused loops. A step is

    gates, calcium, synapses at the old voltage, each exponentially; then the voltage,
    exponentially (through gap junctions implicitly), with the new gates (`gates_first`,
    staggered: second order in dt), or everything at the old state (`old_state`, first order, for
    comparison with the literature).

1 - exp(-dt/tau) of a gate is the [2/2] Pade approximant, x / (1 + x/2 + x**2/12), whose error
(x**5/720) is under 5e-5 for the fastest gate at dt 0.05 ms; so the whole update of a
gate takes one division. Synapses and voltage, whose x is unbounded, take the real exponential.
"""

import operator
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from pyloric_db.integrate.arithmetic import Arithmetic
from pyloric_db.model.channels import Gate, Sigmoid
from pyloric_db.model.circuit import Circuit
from pyloric_db.model.constants import REFERENCE_TEMPERATURE_K, Constants, q10
from pyloric_db.vocabulary import H_GATES, M_GATES

#: V, Ca (cell, batch); s (source, batch); one (gate, cell, batch) per group of gates.
State = tuple[Any, ...]


@dataclass(frozen=True)
class GateGroup:
    """Gates with like-shaped time constants, stacked: (gate, 1, 1) constants."""

    keys: tuple[tuple[str, str], ...]  # ("m" | "h", channel)
    inf: Sigmoid
    tau: Any
    half_Ca_uM: float | None
    rate: np.ndarray  # temperature's factor on 1/tau


def gate_groups(constants: Constants, temperature_K: float) -> tuple[GateGroup, ...]:
    """All gates of the model's channels, grouped by the shape of their equations.

    Those of calcium channels are apart, because a step keeps their old values for longer.
    """
    groups: dict[tuple[type, float | None, bool], list[tuple[str, str, Gate]]] = {}
    for channel in constants.channels:
        for which, gate in (("m", channel.m), ("h", channel.h)):
            if gate is not None:
                key = (type(gate.tau), gate.half_Ca_uM, channel.E_rev is None)
                groups.setdefault(key, []).append((which, channel.name, gate))

    def stack(tables: list[Any]) -> Any:
        columns = np.array([astuple(t) for t in tables]).T[..., None, None]
        return type(tables[0])(*columns)

    factor = {
        "m": q10(constants.Q10_tau_m, temperature_K),
        "h": q10(constants.Q10_tau_h, temperature_K),
    }
    return tuple(
        GateGroup(
            keys=tuple((which, name) for which, name, _ in members),
            inf=stack([gate.inf for _, _, gate in members]),
            tau=stack([gate.tau for _, _, gate in members]),
            half_Ca_uM=half_Ca,
            rate=np.array([factor[which] for which, _, _ in members])[:, None, None],
        )
        for (_, half_Ca, _), members in groups.items()
    )


def on_host(array: Any) -> np.ndarray:
    """The array as NumPy's; CuPy's are only copied from the GPU when asked by name."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


@dataclass(frozen=True)
class Stepper:
    """The step of one circuit at one dt, and the layout of its state and parameters.

    `step(state, parameters)` advances a batch by dt, in two parts: `relax(state)` gives the new s
    and gates, each of which depends on itself and on the old voltage and calcium alone, and
    `conclude(state, E_Ca, s, gates, parameters)` the new state and its calcium reversal potential,
    which `reversal(Ca)` gives too, mV. `pack` and `unpack` convert between the stored arrays (batch
    first) and the step's own; `parameters` converts conductances.
    """

    circuit: Circuit
    constants: Constants
    temperature_K: float
    arithmetic: Arithmetic
    groups: tuple[GateGroup, ...]
    relax: Callable[[State], tuple[Any, tuple[Any, ...]]]
    reversal: Callable[[Any], Any]
    conclude: Callable[[State, Any, Any, tuple[Any, ...], tuple[Any, Any, Any]], tuple[State, Any]]

    def step(self, state: State, parameters: tuple[Any, Any, Any]) -> State:
        """The state one dt later."""
        new, _ = self.conclude(state, self.reversal(state[1]), *self.relax(state), parameters)
        return new

    def pack(self, state: dict[str, np.ndarray]) -> State:
        """Stored state (batch, ...) to the step's own layout (..., batch)."""
        dtype = self.arithmetic.dtype
        gates = {"m": (state["m"], M_GATES), "h": (state["h"], H_GATES)}
        packed = [state["V"].T, state["Ca"].T, state["s"].T]
        for group in self.groups:
            packed.append(
                np.stack([gates[w][0][:, :, gates[w][1].index(name)].T for w, name in group.keys])
            )
        return tuple(np.ascontiguousarray(a, dtype) for a in packed)

    def unpack(self, packed: State) -> dict[str, np.ndarray]:
        """The step's own layout to the stored one."""
        V, Ca, s, *groups = (on_host(a) for a in packed)
        shape = (V.shape[1], V.shape[0])
        gates = {
            "m": np.zeros((*shape, len(M_GATES)), V.dtype),
            "h": np.zeros((*shape, len(H_GATES)), V.dtype),
        }
        order = {"m": M_GATES, "h": H_GATES}
        for group, values in zip(self.groups, groups, strict=True):
            for (which, name), x in zip(group.keys, values, strict=True):
                gates[which][:, :, order[which].index(name)] = x.T
        return {"V": V.T.copy(), "Ca": Ca.T.copy(), **gates, "s": s.T.copy()}

    def parameters(
        self, gbar: np.ndarray, gsyn: np.ndarray, i_ext_nA: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Conductances as densities at this temperature, batch last.

        Args:
            gbar: (batch, cell, channel) mS/cm2.
            gsyn: (batch, synapse) nS.
            i_ext_nA: (batch, cell).

        Returns:
            (channel, cell, batch) mS/cm2, (synapse, batch) mS/cm2, (cell, batch) uA/cm2.
        """
        c, T, dtype = self.constants, self.temperature_K, self.arithmetic.dtype
        by_channel = np.array([q10(factor, T) for factor in c.Q10_gbar])
        names = {s.name: s.transmitter for s in self.circuit.sources}
        by_synapse = np.array(
            [q10(c.Q10_gsyn.get(names[s.source], 1.0), T) for s in self.circuit.synapses]
            + [1.0] * len(self.circuit.gap_junctions)
        )
        return (
            np.ascontiguousarray((gbar * by_channel).transpose(2, 1, 0), dtype),
            np.ascontiguousarray((gsyn * by_synapse * 1e-6 / c.area_cm2).T, dtype),
            np.ascontiguousarray(i_ext_nA.T * 1e-3 / c.area_cm2, dtype),
        )


def make_stepper(
    circuit: Circuit,
    *,
    dt: float,
    scheme: str = "gates_first",
    dtype: str = "float32",
    constants: Constants = Constants(),
    temperature_K: float = REFERENCE_TEMPERATURE_K,
    arithmetic: Arithmetic | None = None,
) -> Stepper:
    """Build the step of a circuit.

    Args:
        circuit: the topology.
        dt: ms.
        scheme: `gates_first` or `old_state`.
        dtype: `float32` or `float64`.
        constants: the model's numbers.
        temperature_K: baked into time constants and the calcium reversal potential.
        arithmetic: None for that of `dtype`.
    """
    c, T = constants, temperature_K
    ops = arithmetic or Arithmetic(dtype)
    f = ops.constant
    groups = gate_groups(c, T)
    where = {key: (g, i) for g, group in enumerate(groups) for i, key in enumerate(group.keys)}
    position = {cell: i for i, cell in enumerate(circuit.cells)}
    transmitters = {t.name: t for t in c.transmitters}
    releases = [transmitters[s.transmitter] for s in circuit.sources]
    source_cells = [position[s.cell] for s in circuit.sources]
    k_minus = np.array([t.k_minus * q10(c.Q10_tau_s.get(t.name, 1.0), T) for t in releases])[
        :, None
    ]
    s_table = Sigmoid(
        np.array([t.inf.V_half for t in releases])[:, None],
        np.array([t.inf.slope for t in releases])[:, None],
    )
    inward: list[list[tuple[int, int, float]]] = [[] for _ in circuit.cells]
    for i, synapse in enumerate(circuit.synapses):
        k = circuit.source_names.index(synapse.source)
        inward[position[synapse.post]].append((i, k, releases[k].E_rev))
    joined = {
        (position[gap.cell_1], position[gap.cell_2]): i
        for i, gap in enumerate(circuit.gap_junctions, start=len(circuit.synapses))
    }
    k_Ca = f(-np.expm1(-dt / c.tau_Ca * q10(c.Q10_tau_Ca, T)))
    uM_per_density = f(c.f * c.area_cm2 * 1e3)
    RT_2F = f(c.RT_2F * T / REFERENCE_TEMPERATURE_K)
    log_Ca_out = f(np.log(c.Ca_out))

    def advance_gates(x: Any, group: GateGroup, V: Any, Ca: Any) -> Any:
        e = ops.boltzmann(V[None])
        rate = group.tau.rate(e)
        # x = dt/tau = n/t, both linear in E: t * n and the Pade denominator are quadratic. All
        # constants are multiplied here: left to XLA, programs would differ in rounding
        n_0, n_1 = (dt * group.rate * c for c in rate.over)
        t_0, t_1 = rate.under

        def quadratic(c_0: Any, c_1: Any, c_2: Any) -> Any:
            c = [jnp.asarray(value, ops.dtype) for value in (c_0, c_1, c_2)]
            return c[0] + rate.E * (c[1] + rate.E * c[2])

        step = quadratic(n_0 * t_0, n_0 * t_1 + n_1 * t_0, n_1 * t_1)
        pade = quadratic(
            t_0 * t_0 + 0.5 * n_0 * t_0 + n_0 * n_0 / 12,
            2 * t_0 * t_1 + 0.5 * n_0 * t_1 + 0.5 * n_1 * t_0 + n_0 * n_1 / 6,
            t_1 * t_1 + 0.5 * n_1 * t_1 + n_1 * n_1 / 12,
        )
        target: Any = f(1.0)
        denominator = group.inf.denominator(e)
        if group.half_Ca_uM is not None:
            target = Ca[None]
            denominator = denominator * (Ca[None] + f(group.half_Ca_uM))
        return x + (target - x * denominator) * step / (denominator * pade)

    def advance_sources(s: Any, V: Any) -> Any:
        if not circuit.sources:
            return s
        V_pre = jnp.stack([V[i] for i in source_cells])
        # with s_inf = e/(1 + e), tau_s = (1 - s_inf)/k_minus = 1/(k_minus (1 + e))
        e = ops.boltzmann(V_pre)(s_table.V_half, -s_table.slope)
        return s + (e / (1 + e) - s) * ops.one_minus_exp(f(dt * k_minus) * (1 + e))

    def conductances(gates: tuple[Any, ...], gbar: Any) -> dict[str, Any]:
        """Open conductance of each channel, (cell, batch) mS/cm2."""
        g = {}
        for i, channel in enumerate(c.channels):
            value = gbar[i]
            if channel.m is not None:
                a, b = where["m", channel.name]
                value = value * _power(gates[a][b], channel.power)
            if channel.h is not None:
                a, b = where["h", channel.name]
                value = value * gates[a][b]
            g[channel.name] = value
        return g

    def advance_calcium(Ca: Any, gates: tuple[Any, ...], gbar: Any, V: Any, E_Ca: Any) -> Any:
        g = conductances(gates, gbar)
        carriers = [g[ch.name] for ch in c.channels if ch.E_rev is None]
        g_Ca = reduce(operator.add, carriers or [jnp.zeros_like(V)])
        return Ca + (f(c.Ca_rest) - uM_per_density * (g_Ca * (V - E_Ca)) - Ca) * k_Ca

    def advance_voltage(V: Any, g: dict[str, Any], E_Ca: Any, s: Any, gsyn: Any, i_ext: Any) -> Any:
        total = reduce(operator.add, g.values())
        drive = i_ext
        for channel in c.channels:
            E = E_Ca if channel.E_rev is None else f(channel.E_rev)
            drive = drive + g[channel.name] * E
        if circuit.synapse_names:
            rows = []
            for post in range(len(circuit.cells)):
                g_in: Any = jnp.zeros_like(V[post])
                drive_in = g_in
                for i, k, E_rev in inward[post]:
                    open_ = gsyn[i] * s[k]
                    g_in = g_in + open_
                    drive_in = drive_in + open_ * f(E_rev)
                rows.append((g_in, drive_in))
            total = total + jnp.stack([r[0] for r in rows])
            drive = drive + jnp.stack([r[1] for r in rows])
        # a cell without any open conductance would divide 0 by 0
        total = total + f(1e-9)
        approach = ops.one_minus_exp(total * f(dt / c.C))
        free = V + (drive / total - V) * approach
        if not joined:
            return free
        return free + _through_junctions(
            V, free, total / approach, {pair: gsyn[i] for pair, i in joined.items()}
        )

    def relax(state: State) -> tuple[Any, tuple[Any, ...]]:
        V, Ca, s, *gates = state
        return advance_sources(s, V), tuple(
            advance_gates(x, group, V, Ca) for x, group in zip(gates, groups, strict=True)
        )

    def reversal(Ca: Any) -> Any:
        return RT_2F * (log_Ca_out - ops.log(Ca))

    def conclude(
        state: State,
        E_Ca: Any,
        new_s: Any,
        new_gates: tuple[Any, ...],
        parameters: tuple[Any, Any, Any],
    ) -> tuple[State, Any]:
        V, Ca, s, *gates = state
        gbar, gsyn, i_ext = parameters
        if scheme == "old_state":
            new_Ca = advance_calcium(Ca, tuple(gates), gbar, V, E_Ca)
            new_V = advance_voltage(V, conductances(tuple(gates), gbar), E_Ca, s, gsyn, i_ext)
            new_E_Ca = reversal(new_Ca)
        else:
            # V stands midway between the old and the new gates: so must the calcium current
            midway = tuple(f(0.5) * (x + y) for x, y in zip(gates, new_gates, strict=True))
            # the barriers keep XLA from computing these a second time inside the voltage's loop
            new_Ca = lax.optimization_barrier(advance_calcium(Ca, midway, gbar, V, E_Ca))
            new_E_Ca = lax.optimization_barrier(reversal(new_Ca))
            g = conductances(new_gates, gbar)
            new_V = advance_voltage(V, g, new_E_Ca, new_s, gsyn, i_ext)
        return (new_V, new_Ca, new_s, *new_gates), new_E_Ca

    return Stepper(circuit, c, T, ops, groups, relax, reversal, conclude)


def _through_junctions(V: Any, free: Any, hold: Any, junctions: dict[tuple[int, int], Any]) -> Any:
    """What gap junctions add to a step of the voltage, (cell, batch) mV.

    The current through a junction is its conductance g times a mean of the old and the new
    difference of the two voltages, and all cells are solved for together. The weight of the
    new difference, theta, goes from 1/2, which is second order in dt, to 1 where the junction
    equalises the voltages within a step: (z + 3) / (z + 6), where z is the exponent of that decay,
    follows exponential fitting, coth(z/2)/2 + 1/2 - 1/z. A junction that looks at the old voltages
    alone has two cells swap theirs at every step.

    The linear system is a network of conductors, and is solved as such, cell by cell, by replacing
    a star with the mesh between its ends.

    Args:
        V: old voltages.
        free: new voltages without junctions.
        hold: current per difference from `free`, mS/cm2.
        junctions: conductance (batch,) in mS/cm2 by pair of cells.
    """
    n = len(V)
    pull: list[Any] = [jnp.zeros_like(V[0])] * n
    mesh: dict[tuple[int, int], Any] = {}
    for (a, b), g in junctions.items():
        z = g / hold[a] + g / hold[b]
        new = g * (z + 3) / (z + 6)
        current = new * (free[b] - free[a]) + (g - new) * (V[b] - V[a])
        pull[a], pull[b] = pull[a] + current, pull[b] - current
        mesh[a, b] = mesh[b, a] = new
    holds = list(hold)
    stars: list[tuple[Any, dict[int, Any]]] = []
    for i in range(n):
        ends = {j: mesh[i, j] for j in range(i + 1, n) if (i, j) in mesh}
        whole = reduce(operator.add, ends.values(), holds[i])
        stars.append((whole, ends))
        for j, g in ends.items():
            share = g / whole
            holds[j] = holds[j] + share * holds[i]
            pull[j] = pull[j] + share * pull[i]
            for k, other in ends.items():
                if k != j:
                    mesh[j, k] = mesh.get((j, k), 0.0) + share * other
    found: list[Any] = [None] * n
    for i in reversed(range(n)):
        whole, ends = stars[i]
        found[i] = reduce(operator.add, (g * found[j] for j, g in ends.items()), pull[i]) / whole
    return jnp.stack(found)


def _power(x: Any, exponent: int) -> Any:
    """x**exponent by multiplication."""
    if exponent == 4:
        square = x * x
        return square * square
    result = x
    for _ in range(exponent - 1):
        result = result * x
    return result
