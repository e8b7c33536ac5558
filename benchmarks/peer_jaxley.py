"""The circuits in Jaxley: one channel class for all tables of the model, Jaxley's own synapse.

Jaxley's own solver (implicit Euler for the voltage), its own order of a step, its own
recordings, from which spikes are found inside the compiled program; vmapped over circuits.
"""

import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jaxley
import numpy as np
from jaxley.channels import Channel
from jaxley.connect import connect
from jaxley.solver_gate import exponential_euler
from jaxley.synapses import IonotropicSynapse
from problem import Problem, Run, Spikes

from pyloric_db.model.channels import Channel as Table
from pyloric_db.model.channels import Gate
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.model.constants import Constants
from pyloric_db.vocabulary import CHANNELS, H_GATES, M_GATES

CONSTANTS = Constants()


class TableChannel(Channel):
    """A channel of the model from its table."""

    def __init__(self, table: Table):
        self.current_is_in_mA_per_cm2 = True
        super().__init__(table.name)
        self.table = table
        self.channel_params = {f"{table.name}_gbar": 0.0}  # S/cm2
        self.channel_states = {
            f"{table.name}_{x}": 0.0 for x in ("m", "h") if getattr(table, x) is not None
        }
        if table.E_rev is None:
            self.channel_states["E_Ca"] = 100.0
        if any(g is not None and g.half_Ca_uM is not None for g in (table.m, table.h)):
            self.channel_states["Ca"] = CONSTANTS.Ca_rest
        self.current_name = "i_Ca" if table.E_rev is None else f"i_{table.name}"

    def _next(self, gate: Gate, x: Any, states: Any, dt: Any, v: Any) -> Any:
        def e(V_half: float, slope: float) -> Any:
            return jnp.exp((v - V_half) / slope)

        x_inf = 1 / gate.inf.denominator(e)
        if gate.half_Ca_uM is not None:
            x_inf = x_inf * states["Ca"] / (states["Ca"] + gate.half_Ca_uM)
        rate = gate.tau.rate(e)
        over, under = (a + b * rate.E for a, b in (rate.over, rate.under))
        return exponential_euler(x, dt, x_inf, under / over)

    def update_states(self, states: Any, dt: Any, v: Any, params: Any) -> Any:
        return {
            f"{self.table.name}_{x}": self._next(
                getattr(self.table, x), states[f"{self.table.name}_{x}"], states, dt, v
            )
            for x in ("m", "h")
            if getattr(self.table, x) is not None
        }

    def compute_current(self, states: Any, v: Any, params: Any) -> Any:
        g = params[f"{self.table.name}_gbar"]
        if self.table.m is not None:
            g = g * states[f"{self.table.name}_m"] ** self.table.power
        if self.table.h is not None:
            g = g * states[f"{self.table.name}_h"]
        return g * (v - (states["E_Ca"] if self.table.E_rev is None else self.table.E_rev))

    def init_state(self, states: Any, v: Any, params: Any, delta_t: Any) -> Any:
        return {}


class Calcium(Channel):
    """Calcium concentration and its reversal potential, driven by the calcium currents."""

    def __init__(self) -> None:
        self.current_is_in_mA_per_cm2 = True
        super().__init__("Calcium")
        self.channel_params: dict[str, float] = {}
        self.channel_states = {"Ca": CONSTANTS.Ca_rest, "E_Ca": 100.0}
        self.current_name = "i_Calcium"

    def update_states(self, states: Any, dt: Any, v: Any, params: Any) -> Any:
        c = CONSTANTS
        whole_cell_nA = states["i_Ca"] * c.area_cm2 * 1e6
        Ca = exponential_euler(states["Ca"], dt, c.Ca_rest - c.f * whole_cell_nA, c.tau_Ca)
        return {"Ca": Ca, "E_Ca": c.RT_2F * jnp.log(c.Ca_out / Ca)}

    def compute_current(self, states: Any, v: Any, params: Any) -> Any:
        return 0.0 * v

    def init_state(self, states: Any, v: Any, params: Any, delta_t: Any) -> Any:
        return {}


def network() -> Any:
    """The three cells, each one cylinder of the model's area, and the seven synapses."""
    cells = [jaxley.Cell(jaxley.Branch(jaxley.Compartment(), 1), parents=[-1]) for _ in range(3)]
    net = jaxley.Network(cells)
    net.set("radius", 50.0)  # um
    net.set("length", CONSTANTS.area_cm2 * 1e8 / (2 * np.pi * 50.0))
    net.set("capacitance", CONSTANTS.C)
    for table in CONSTANTS.channels:
        net.insert(TableChannel(table))
    net.insert(Calcium())
    transmitters = {t.name: t for t in CONSTANTS.transmitters}
    sources = {s.name: s for s in PRINZ2004.sources}
    for i, synapse in enumerate(PRINZ2004.synapses):
        source = sources[synapse.source]
        pre, post = (PRINZ2004.cells.index(c) for c in (source.cell, synapse.post))
        connect(net.cell(pre).branch(0).loc(0.5), net.cell(post).branch(0).loc(0.5),
                IonotropicSynapse())  # fmt: skip
        transmitter = transmitters[source.transmitter]
        edge = net.select(edges=[i])
        edge.set("IonotropicSynapse_e_syn", transmitter.E_rev)
        edge.set("IonotropicSynapse_k_minus", transmitter.k_minus)
        edge.set("IonotropicSynapse_v_th", transmitter.inf.V_half)
        edge.set("IonotropicSynapse_delta", -transmitter.inf.slope)
        edge.set("IonotropicSynapse_s", 0.0)
    net.record("v", verbose=False)
    return net


class Jaxley:
    """Jaxley, vmapped over circuits and compiled.

    Args:
        problem: circuits to time.
        dt_ms: step.
        epoch_ms: length of a timed run.
        dtype: float32 (JAX's default) or float64.
    """

    def __init__(self, problem: Problem, dt_ms: float, epoch_ms: float, dtype: str = "float32"):
        jax.config.update("jax_enable_x64", dtype == "float64")
        self.version = f"{jaxley.__version__}, implicit Euler, {dtype}, vmap of {len(problem)}"
        self._problem, self._dt_ms, self._epoch_ms = problem, dt_ms, epoch_ms
        self._net = network()
        # made outside the compiled program: inside, indices of synapses could not be concrete
        self._where: list[dict[str, Any]] = []
        for name in self._arrays(problem):
            self._where = self._net.data_set(name, 0.0, self._where)
        self._where = [{**w, "indices": np.asarray(w["indices"])} for w in self._where]
        count = partial(self._count, dt_ms=dt_ms, steps=round(epoch_ms / dt_ms))
        self._program = jax.jit(jax.vmap(count))
        self._inputs = jax.tree.map(jnp.asarray, self._arrays(problem))
        jax.block_until_ready(self._program(self._inputs))

    def _arrays(self, problem: Problem) -> dict[str, np.ndarray]:
        """What is set in the network, each (circuit, cell or synapse)."""
        states = problem.states
        found = {"v": states["V"], "Ca": states["Ca"]}
        for i, name in enumerate(CHANNELS):
            found[f"{name}_gbar"] = problem.gbar[:, :, i] * 1e-3  # mS/cm2 to S/cm2
        for x, names in (("m", M_GATES), ("h", H_GATES)):
            for i, name in enumerate(names):
                found[f"{name}_{x}"] = states[x][:, :, i]
        found["E_Ca"] = CONSTANTS.RT_2F * np.log(CONSTANTS.Ca_out / states["Ca"])
        found["IonotropicSynapse_gS"] = problem.gsyn * 1e-3  # nS to uS
        return found

    def _voltages(self, inputs: Any, dt_ms: float, steps: int) -> Any:
        """V (cell, step) of one circuit."""
        settings = [{**where, "val": inputs[where["key"]]} for where in self._where]
        # half a step short: Jaxley makes one more step than t_max holds
        t_max = (steps - 0.5) * dt_ms
        return jaxley.integrate(self._net, param_state=settings, delta_t=dt_ms, t_max=t_max)

    def _count(self, inputs: Any, dt_ms: float, steps: int) -> Any:
        V = self._voltages(inputs, dt_ms, steps)
        return jnp.sum((V[:, :-1] < 0) & (V[:, 1:] >= 0), axis=1)

    def spikes(self, problem: Problem, duration_ms: float, dt_ms: float) -> Spikes:
        steps = round(duration_ms / dt_ms)
        program = jax.jit(jax.vmap(partial(self._voltages, dt_ms=dt_ms, steps=steps)))
        V = np.asarray(program(jax.tree.map(jnp.asarray, self._arrays(problem))))
        return [
            [(np.flatnonzero((row[:-1] < 0) & (row[1:] >= 0)) + 1) * dt_ms for row in circuit]
            for circuit in V
        ]

    def run(self) -> Run:
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(self._program(self._inputs))
        return Run(
            len(self._problem) * round(self._epoch_ms / self._dt_ms) / 1e6,
            time.perf_counter() - wall,
            time.process_time() - cpu,
        )
