"""The circuits in Brian2: one group of cells, clock-driven synapses, exponential Euler.

The equations are made from the model's tables with SymPy, which Brian2 is built on. Brian2's
exponential Euler takes every right-hand side at the old state, like our scheme `old_state`. It
needs equations that are linear in their own variable: so the calcium reversal potential is a
variable that is set at the start of every step.
"""

import resource
import shutil
import tempfile
import time
from typing import Any

import brian2
import numpy as np
import sympy
from problem import Problem, Run, Spikes

from pyloric_db.model.channels import Gate
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.model.constants import Constants
from pyloric_db.vocabulary import CHANNELS, H_GATES, M_GATES

CONSTANTS = Constants()
N_CELLS = len(PRINZ2004.cells)
V, Ca = sympy.symbols("V Ca")


def _gate(name: str, gate: Gate) -> str:
    """The differential equation of a gate."""

    def e(V_half: float, slope: float) -> Any:
        return sympy.exp((V - V_half) / slope)

    x_inf = 1 / gate.inf.denominator(e)
    if gate.half_Ca_uM is not None:
        x_inf = x_inf * Ca / (Ca + gate.half_Ca_uM)
    rate = gate.tau.rate(e)
    over, under = (a + b * rate.E for a, b in (rate.over, rate.under))
    return f"d{name}/dt = ({x_inf} - {name}) / ({under / over}) / ms : 1"


def cell_equations() -> str:
    """V in mV, Ca in uM, conductances in mS/cm2, currents in uA/cm2, all without units."""
    lines, currents, calcium = [], [], []
    for channel in CONSTANTS.channels:
        g = f"gbar_{channel.name}"
        lines.append(f"{g} : 1 (constant)")
        for x, gate, power in (("m", channel.m, channel.power), ("h", channel.h, 1)):
            if gate is not None:
                lines.append(_gate(f"{x}_{channel.name}", gate))
                g += f" * {x}_{channel.name}**{power}"
        E = "E_Ca" if channel.E_rev is None else str(channel.E_rev)
        currents.append(f"{g} * (V - ({E}))")
        if channel.E_rev is None:
            calcium.append(currents[-1])
    c = CONSTANTS
    uM = f"{c.f * c.area_cm2 * 1e3} * ({' + '.join(calcium)})"
    lines += [
        f"dV/dt = -({' + '.join(currents)} + g_syn * V - drive_syn) / {c.C} / ms : 1",
        f"dCa/dt = (-{uM} - Ca + {c.Ca_rest}) / {c.tau_Ca} / ms : 1",
        "E_Ca : 1",
        "g_syn : 1",
        "drive_syn : 1",
    ]
    return "\n".join(lines)


SYNAPSE = """
ds/dt = (s_inf - s) / tau_s / ms : 1 (clock-driven)
s_inf = 1 / (1 + exp((V_pre - V_half) / slope)) : 1
tau_s = (1 - s_inf) / k_minus : 1
V_half : 1 (constant)
slope : 1 (constant)
k_minus : 1 (constant)
E_rev : 1 (constant)
g : 1 (constant)
g_syn_post = g * s : 1 (summed)
drive_syn_post = g * s * E_rev : 1 (summed)
"""


def network(problem: Problem, dt_ms: float) -> tuple[Any, Any]:
    """All circuits in one group, and a monitor of their spikes."""
    n = len(problem)
    brian2.defaultclock.dt = dt_ms * brian2.ms
    cells = brian2.NeuronGroup(
        n * N_CELLS, cell_equations(), method="exponential_euler",
        threshold="V > 0", refractory="V > 0", name="cells",
        order=1,  # after the synapses, which take V at the old state, too
    )  # fmt: skip
    cells.run_regularly(f"E_Ca = {CONSTANTS.RT_2F} * log({CONSTANTS.Ca_out} / Ca)", when="start")
    cells.V, cells.Ca = problem.states["V"].ravel(), problem.states["Ca"].ravel()
    for i, name in enumerate(CHANNELS):
        setattr(cells, f"gbar_{name}", problem.gbar[:, :, i].ravel())
    for x, names in (("m", M_GATES), ("h", H_GATES)):
        for i, name in enumerate(names):
            setattr(cells, f"{x}_{name}", problem.states[x][:, :, i].ravel())
    sources = {s.name: s for s in PRINZ2004.sources}
    transmitters = {t.name: t for t in CONSTANTS.transmitters}
    pairs = [(sources[s.source].cell, s.post) for s in PRINZ2004.synapses]
    pre, post = np.array([[PRINZ2004.cells.index(c) for c in pair] for pair in pairs]).T
    first = np.arange(n)[:, None] * N_CELLS
    synapses = brian2.Synapses(cells, cells, SYNAPSE, method="exponential_euler", name="synapses")
    synapses.connect(i=(first + pre).ravel(), j=(first + post).ravel())
    released = [transmitters[sources[s.source].transmitter] for s in PRINZ2004.synapses]
    synapses.V_half = np.tile([t.inf.V_half for t in released], n)
    synapses.slope = np.tile([t.inf.slope for t in released], n)
    synapses.k_minus = np.tile([t.k_minus for t in released], n)
    synapses.E_rev = np.tile([t.E_rev for t in released], n)
    synapses.g = (problem.gsyn * 1e-6 / CONSTANTS.area_cm2).ravel()  # nS to mS/cm2
    synapses.s = 0
    monitor = brian2.SpikeMonitor(cells, name="monitor")
    return brian2.Network(cells, synapses, monitor), monitor


class Brian2:
    """Brian2 as a compiled program of its own, or in NumPy where there is no C++ compiler.

    Args:
        problem: circuits to time.
        dt_ms: step.
        epoch_ms: length of a timed run.
    """

    def __init__(self, problem: Problem, dt_ms: float, epoch_ms: float):
        self._compiled = shutil.which("g++") is not None or shutil.which("clang++") is not None
        how = "C++ program, one thread" if self._compiled else "NumPy: no C++ compiler here"
        self.version = f"{brian2.__version__}, exponential Euler at the old state, float64, {how}"
        self._problem, self._dt_ms, self._epoch_ms = problem, dt_ms, epoch_ms
        self._folder: Any = None
        self._network: Any = None

    def spikes(self, problem: Problem, duration_ms: float, dt_ms: float) -> Spikes:
        with tempfile.TemporaryDirectory() as folder:
            _, monitor = self._simulate(problem, duration_ms, dt_ms, folder)
            who, when = np.array(monitor.i), np.array(monitor.t / brian2.ms)
        self._network = None  # the device holds one program, and that was another
        return [
            [np.sort(when[who == i * N_CELLS + k]) for k in range(N_CELLS)]
            for i in range(len(problem))
        ]

    def _simulate(self, problem: Problem, duration_ms: float, dt_ms: float, folder: str) -> Any:
        brian2.start_scope()
        if self._compiled:
            brian2.device.reinit()
            brian2.set_device("cpp_standalone", build_on_run=False)
        else:
            brian2.prefs.codegen.target = "numpy"
        net, monitor = network(problem, dt_ms)
        net.run(duration_ms * brian2.ms, namespace={})
        if self._compiled:
            brian2.device.build(directory=folder, compile=True, run=True, debug=False)
        return net, monitor

    def run(self) -> Run:
        """Time the loop of an epoch alone: not starting the program, nor reading its files."""
        Mcs = len(self._problem) * round(self._epoch_ms / self._dt_ms) / 1e6
        if self._network is None:
            self._folder = tempfile.TemporaryDirectory()
            arguments = (self._problem, self._epoch_ms, self._dt_ms, self._folder.name)
            self._network, _ = self._simulate(*arguments)
        if self._compiled:
            cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
            brian2.device.run()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
            return Run(Mcs, brian2.device._last_run_time, cpu_s)
        wall, started = time.perf_counter(), time.process_time()
        self._network.run(self._epoch_ms * brian2.ms, namespace={})
        return Run(Mcs, time.perf_counter() - wall, time.process_time() - started)
