"""One fixed step of any circuit, as structure of arrays with the batch as the fastest axis.

The step is made from the model's tables of constants. Gates whose time constants have the same
shape are stacked into one array, so that a step is a handful of fused loops. A step is

    gates, calcium, synapses at the old voltage, each exponentially; then the voltage,
    exponentially (through gap junctions implicitly), with the new gates (`gates_first`,
    staggered: second order in dt), or everything at the old state (`old_state`, first order, for
    comparison with the literature).

1 - exp(-dt/tau) of a gate is the [2/2] Pade approximant, x / (1 + x/2 + x**2/12), whose error
(below x**5/720) is under 1e-4 for the fastest published gate at dt 0.05 ms; so the whole update of
a gate takes one division. From x = 1 on it grows, and beyond 3.5 the approximant falls again: gates
that are so fast take the real exponential, as do synapses and voltage, whose x is unbounded.
"""

import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property, reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from pyloric_db.integrate.arithmetic import Arithmetic
from pyloric_db.model.channels import Gate, Sigmoid
from pyloric_db.model.circuit import Circuit
from pyloric_db.model.constants import REFERENCE_TEMPERATURE_K, Constants, Transmitter, q10

#: Up to this dt/tau a gate's step is taken from the approximant, which is within 0.1% there.
LARGEST_PADE = 1.0
#: Voltages at which gates are looked at for it, mV.
USUAL_mV = np.arange(-100.0, 61.0)

#: V, Ca (cell, batch); s (source, batch); one (gate, cell, batch) per group of gates.
State = tuple[Any, ...]
#: (channel, cell, batch) mS/cm2, (synapse, batch) mS/cm2, (cell, batch) uA/cm2.
Parameters = tuple[Any, Any, Any]


@dataclass(frozen=True)
class GateGroup:
    """Gates with like-shaped time constants, stacked: (gate, 1, 1) constants."""

    keys: tuple[tuple[str, str], ...]  # ("m" | "h", channel)
    inf: Sigmoid
    tau: Any
    half_Ca_uM: float | None
    rate: np.ndarray  # temperature's factor on 1/tau

    @property
    def highest_rate(self) -> float:
        """The highest 1/tau of its gates at usual voltages, per ms."""
        rate = self.tau.rate(lambda V_half, slope: np.exp((USUAL_mV - V_half) / slope))
        (n_0, n_1), (t_0, t_1) = rate.over, rate.under
        with np.errstate(divide="ignore"):  # an infinite rate is one that is too fast
            return float(np.max(self.rate * (n_0 + n_1 * rate.E) / (t_0 + t_1 * rate.E)))


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


@dataclass(frozen=True, eq=False)
class Stepper:
    """The step of one circuit at one dt, ms, and the layout of its state and parameters.

    `step` advances a batch, in two parts: `relax` gives the new s and gates, each of which depends
    on itself and on the old voltage and calcium alone, and `conclude` the new state. `pack` and
    `unpack` convert between the stored arrays (batch first) and the step's own; `parameters`
    converts conductances. `make_stepper` says what the fields are.
    """

    circuit: Circuit
    dt: float
    scheme: str
    constants: Constants
    temperature_K: float
    arithmetic: Arithmetic

    def step(self, state: State, parameters: Parameters) -> State:
        """The state one dt later."""
        new, _ = self.conclude(state, self.reversal(state[1]), *self.relax(state), parameters)
        return new

    def relax(self, state: State) -> tuple[Any, tuple[Any, ...]]:
        """New s and gates."""
        V, Ca, s, *gates = state
        return self._sources(s, V), tuple(
            self._gates(x, group, V, Ca) for x, group in zip(gates, self.groups, strict=True)
        )

    def reversal(self, Ca: Any) -> Any:
        """Calcium's reversal potential, mV."""
        c, f = self.constants, self.arithmetic.constant
        RT_2F = f(c.RT_2F * self.temperature_K / REFERENCE_TEMPERATURE_K)
        return RT_2F * (f(np.log(c.Ca_out)) - self.arithmetic.log(Ca))

    def conclude(
        self,
        state: State,
        E_Ca: Any,
        new_s: Any,
        new_gates: tuple[Any, ...],
        parameters: Parameters,
    ) -> tuple[State, Any]:
        """The new state, from its s and gates, and its calcium's reversal potential."""
        V, Ca, s, *gates = state
        gbar, gsyn, i_ext = parameters
        if self.scheme == "old_state":
            new_Ca = self._calcium(Ca, self._open(gates, gbar), V, E_Ca)
            new_V = self._voltage(V, self._open(gates, gbar), E_Ca, s, gsyn, i_ext)
            new_E_Ca = self.reversal(new_Ca)
        else:
            # V stands midway between the old and the new gates: so must the calcium current
            half = self.arithmetic.constant(0.5)
            midway = [half * (x + y) for x, y in zip(gates, new_gates, strict=True)]
            # the barriers keep XLA from computing these a second time inside the voltage's loop
            new_Ca = lax.optimization_barrier(self._calcium(Ca, self._open(midway, gbar), V, E_Ca))
            new_E_Ca = lax.optimization_barrier(self.reversal(new_Ca))
            new_V = self._voltage(V, self._open(new_gates, gbar), new_E_Ca, new_s, gsyn, i_ext)
        return (new_V, new_Ca, new_s, *new_gates), new_E_Ca

    def pack(self, state: dict[str, np.ndarray]) -> State:
        """Stored state (batch, ...) to the step's own layout (..., batch)."""
        dtype = self.arithmetic.dtype
        names = self.constants.channel_names
        gates = {"m": (state["m"], names.m_gates), "h": (state["h"], names.h_gates)}
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
        names = self.constants.channel_names
        order = {"m": names.m_gates, "h": names.h_gates}
        gates = {which: np.zeros((*shape, len(of)), V.dtype) for which, of in order.items()}
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
        by_channel = np.array([q10(factor, T) for factor in c.Q10_of_channels])
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

    # the parts of a step

    @cached_property
    def groups(self) -> tuple[GateGroup, ...]:
        """The gates, in the order of their arrays in the state."""
        return gate_groups(self.constants, self.temperature_K)

    @cached_property
    def _place(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Where each gate ("m" | "h", channel) is: its group, and which of that group's."""
        return {
            key: (g, i) for g, group in enumerate(self.groups) for i, key in enumerate(group.keys)
        }

    @cached_property
    def _released(self) -> list[Transmitter]:
        """The transmitter of each source, at this temperature."""
        by_name = {t.name: t for t in self.constants.transmitters}
        released = [by_name[source.transmitter] for source in self.circuit.sources]
        factors = self.constants.Q10_tau_s
        return [
            replace(t, k_minus=t.k_minus * q10(factors.get(t.name, 1.0), self.temperature_K))
            for t in released
        ]

    def _gates(self, x: Any, group: GateGroup, V: Any, Ca: Any) -> Any:
        ops = self.arithmetic
        e = ops.boltzmann(V[None])
        rate = group.tau.rate(e)
        target: Any = ops.constant(1.0)
        denominator = group.inf.denominator(e)
        if group.half_Ca_uM is not None:
            target = Ca[None]
            denominator = denominator * (Ca[None] + ops.constant(group.half_Ca_uM))
        away = target - x * denominator
        # x = dt/tau = n/t, both linear in E. All constants are multiplied here: left to XLA,
        # programs would differ in rounding
        n_0, n_1 = (self.dt * group.rate * c for c in rate.over)
        t_0, t_1 = rate.under

        def polynomial(*coefficients: Any) -> Any:
            *lower, total = (jnp.asarray(c, ops.dtype) for c in coefficients)
            for c in reversed(lower):
                total = c + rate.E * total
            return total

        if self.dt * group.highest_rate > LARGEST_PADE:
            step = ops.one_minus_exp(polynomial(n_0, n_1) / polynomial(t_0, t_1))
            return x + away * step / denominator
        # t * n and the Pade denominator are quadratic
        step = polynomial(n_0 * t_0, n_0 * t_1 + n_1 * t_0, n_1 * t_1)
        pade = polynomial(
            t_0 * t_0 + 0.5 * n_0 * t_0 + n_0 * n_0 / 12,
            2 * t_0 * t_1 + 0.5 * n_0 * t_1 + 0.5 * n_1 * t_0 + n_0 * n_1 / 6,
            t_1 * t_1 + 0.5 * n_1 * t_1 + n_1 * n_1 / 12,
        )
        return x + away * step / (denominator * pade)

    def _sources(self, s: Any, V: Any) -> Any:
        circuit, ops = self.circuit, self.arithmetic
        if not circuit.sources:
            return s
        V_pre = jnp.stack([V[circuit.cells.index(source.cell)] for source in circuit.sources])
        tables = [(t.inf.V_half, t.inf.slope, t.k_minus) for t in self._released]
        V_half, slope, k_minus = np.array(tables).T[..., None]
        # with s_inf = e/(1 + e), tau_s = (1 - s_inf)/k_minus = 1/(k_minus (1 + e))
        e = ops.boltzmann(V_pre)(V_half, -slope)
        return s + (e / (1 + e) - s) * ops.one_minus_exp(ops.constant(self.dt * k_minus) * (1 + e))

    def _open(self, gates: Sequence[Any], gbar: Any) -> dict[str, Any]:
        """Open conductance of each channel, (cell, batch) mS/cm2."""
        g = {}
        for i, channel in enumerate(self.constants.channels):
            value = gbar[i]
            if channel.m is not None:
                a, b = self._place["m", channel.name]
                value = value * _power(gates[a][b], channel.power)
            if channel.h is not None:
                a, b = self._place["h", channel.name]
                value = value * gates[a][b]
            g[channel.name] = value
        return g

    def _calcium(self, Ca: Any, g: dict[str, Any], V: Any, E_Ca: Any) -> Any:
        c, f = self.constants, self.arithmetic.constant
        carriers = [g[channel.name] for channel in c.channels if channel.E_rev is None]
        g_Ca = reduce(operator.add, carriers or [jnp.zeros_like(V)])
        uM_per_density = f(c.f * c.area_cm2 * 1e3)
        k_Ca = f(-np.expm1(-self.dt / c.tau_Ca * q10(c.Q10_tau_Ca, self.temperature_K)))
        return Ca + (f(c.Ca_rest) - uM_per_density * (g_Ca * (V - E_Ca)) - Ca) * k_Ca

    def _voltage(self, V: Any, g: dict[str, Any], E_Ca: Any, s: Any, gsyn: Any, i_ext: Any) -> Any:
        circuit, c, f = self.circuit, self.constants, self.arithmetic.constant
        total = reduce(operator.add, g.values())
        drive = i_ext
        for channel in c.channels:
            E = E_Ca if channel.E_rev is None else f(channel.E_rev)
            drive = drive + g[channel.name] * E
        if circuit.synapse_names:
            rows = []
            for post, cell in enumerate(circuit.cells):
                g_in: Any = jnp.zeros_like(V[post])
                drive_in = g_in
                for i, synapse in enumerate(circuit.synapses):
                    if synapse.post == cell:
                        k = circuit.source_names.index(synapse.source)
                        open_ = gsyn[i] * s[k]
                        g_in = g_in + open_
                        drive_in = drive_in + open_ * f(self._released[k].E_rev)
                rows.append((g_in, drive_in))
            total = total + jnp.stack([r[0] for r in rows])
            drive = drive + jnp.stack([r[1] for r in rows])
        # a cell without any open conductance would divide 0 by 0
        total = total + f(1e-9)
        approach = self.arithmetic.one_minus_exp(total * f(self.dt / c.C))
        free = V + (drive / total - V) * approach
        if not circuit.gap_junctions:
            return free
        hold = total / approach
        junctions = {
            (circuit.cells.index(gap.cell_1), circuit.cells.index(gap.cell_2)): gsyn[i]
            for i, gap in enumerate(circuit.gap_junctions, start=len(circuit.synapses))
        }
        return free + _through_junctions(V, free, hold, junctions)


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
    return Stepper(circuit, dt, scheme, constants, temperature_K, arithmetic or Arithmetic(dtype))


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
