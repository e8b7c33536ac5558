"""An independent float64 model in NumPy, one circuit at a time, and its RK4 integrator.

Written from the published tables (Prinz, Billimoria & Marder 2003; Abbott & Marder 1998; Prinz,
Bucher & Marder 2004) without looking at the package: nothing here imports it. A circuit is given as
plain lists, so any topology can be written down:

    chemical = [(pre, post, transmitter, g_nS), ...]    gaps = [(cell, cell, g_nS), ...]

with cells as positions. The state has one s per *synapse*, not per source. Units: mV, ms, mS/cm2,
nS, uM, nA.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy import exp

AREA_CM2 = 0.628e-3
C_NF = 0.628  # the whole cell: 1 uF/cm2
F_UM_PER_NA = 14.96
TAU_CA = 200.0
E_NA, E_K, E_H, E_LEAK = 50.0, -80.0, -20.0, -50.0
E_SYN = {"glutamate": -70.0, "acetylcholine": -80.0}
K_MINUS_INVERSE = {"glutamate": 40.0, "acetylcholine": 100.0}


def m_inf(V: np.ndarray, Ca: np.ndarray) -> np.ndarray:
    """(cell, 7): Na CaT CaS A KCa Kd H."""
    return np.stack(
        [
            1 / (1 + exp((V + 25.5) / -5.29)),
            1 / (1 + exp((V + 27.1) / -7.2)),
            1 / (1 + exp((V + 33) / -8.1)),
            1 / (1 + exp((V + 27.2) / -8.7)),
            Ca / (Ca + 3) * 1 / (1 + exp((V + 28.3) / -12.6)),
            1 / (1 + exp((V + 12.3) / -11.8)),
            1 / (1 + exp((V + 75) / 5.5)),
        ],
        axis=-1,
    )


def h_inf(V: np.ndarray) -> np.ndarray:
    """(cell, 4): Na CaT CaS A."""
    return np.stack(
        [
            1 / (1 + exp((V + 48.9) / 5.18)),
            1 / (1 + exp((V + 32.1) / 5.5)),
            1 / (1 + exp((V + 60) / 6.2)),
            1 / (1 + exp((V + 56.9) / 4.9)),
        ],
        axis=-1,
    )


def tau_m(V: np.ndarray) -> np.ndarray:
    """(cell, 7), ms."""
    return np.stack(
        [
            2.64 - 2.52 / (1 + exp((V + 120) / -25)),
            43.4 - 42.6 / (1 + exp((V + 68.1) / -20.5)),
            2.8 + 14 / (exp((V + 27) / 10) + exp((V + 70) / -13)),
            23.2 - 20.8 / (1 + exp((V + 32.9) / -15.2)),
            180.6 - 150.2 / (1 + exp((V + 46) / -22.7)),
            14.4 - 12.8 / (1 + exp((V + 28.3) / -19.2)),
            2 / (exp((V + 169.7) / -11.6) + exp((V - 26.7) / 14.3)),
        ],
        axis=-1,
    )


def tau_h(V: np.ndarray) -> np.ndarray:
    """(cell, 4), ms."""
    return np.stack(
        [
            1.34 / (1 + exp((V + 62.9) / -10)) * (1.5 + 1 / (1 + exp((V + 34.9) / 3.6))),
            210 - 179.6 / (1 + exp((V + 55) / -16.9)),
            120 + 300 / (exp((V + 55) / 9) + exp((V + 65) / -16)),
            77.2 - 58.4 / (1 + exp((V + 38.9) / -26.5)),
        ],
        axis=-1,
    )


@dataclass(frozen=True)
class State:
    """V, Ca (cell,); m (cell, 7); h (cell, 4); s (synapse,)."""

    V: np.ndarray
    Ca: np.ndarray
    m: np.ndarray
    h: np.ndarray
    s: np.ndarray

    def plus(self, scale: float, rate: "State") -> "State":
        return State(
            self.V + scale * rate.V,
            self.Ca + scale * rate.Ca,
            self.m + scale * rate.m,
            self.h + scale * rate.h,
            self.s + scale * rate.s,
        )


@dataclass(frozen=True)
class Network:
    """Membrane conductances (cell, 8) mS/cm2, synapses and gap junctions by cell position.

    `temperature` factors multiply: gbar per channel (8,), gsyn per transmitter, and the rates
    of all m, all h, calcium and s per transmitter; `kelvin_ratio` is T / 283 K.
    """

    gbar: np.ndarray
    chemical: Sequence[tuple[int, int, str, float]] = ()
    gaps: Sequence[tuple[int, int, float]] = ()
    i_ext_nA: np.ndarray | float = 0.0
    RT_2F: float = 12.2
    kelvin_ratio: float = 1.0
    gbar_factor: np.ndarray | float = 1.0
    gsyn_factor: dict[str, float] = field(default_factory=dict)
    m_rate: float = 1.0
    h_rate: float = 1.0
    Ca_rate: float = 1.0
    s_rate: dict[str, float] = field(default_factory=dict)

    def derivative(self, x: State) -> State:
        """Per ms; currents in nA of the whole cell."""
        V, Ca, m, h = x.V, x.Ca, x.m, x.h
        E_Ca = self.RT_2F * self.kelvin_ratio * np.log(3000 / Ca)
        # mS/cm2 * cm2 = mS; mS * mV = uA = 1000 nA
        g = (self.gbar * self.gbar_factor * AREA_CM2 * 1e3).T
        I_Na = g[0] * m[:, 0] ** 3 * h[:, 0] * (V - E_NA)
        I_CaT = g[1] * m[:, 1] ** 3 * h[:, 1] * (V - E_Ca)
        I_CaS = g[2] * m[:, 2] ** 3 * h[:, 2] * (V - E_Ca)
        I_A = g[3] * m[:, 3] ** 3 * h[:, 3] * (V - E_K)
        I_KCa = g[4] * m[:, 4] ** 4 * (V - E_K)
        I_Kd = g[5] * m[:, 5] ** 4 * (V - E_K)
        I_H = g[6] * m[:, 6] * (V - E_H)
        I_leak = g[7] * (V - E_LEAK)
        total = I_Na + I_CaT + I_CaS + I_A + I_KCa + I_Kd + I_H + I_leak
        ds = np.zeros_like(x.s)
        for k, (pre, post, transmitter, g_nS) in enumerate(self.chemical):
            g_nS = g_nS * self.gsyn_factor.get(transmitter, 1.0)
            # nS * mV = pA = 0.001 nA
            total[post] += 1e-3 * g_nS * x.s[k] * (V[post] - E_SYN[transmitter])
            s_inf = 1 / (1 + exp((-35 - V[pre]) / 5))
            tau = (1 - s_inf) * K_MINUS_INVERSE[transmitter] / self.s_rate.get(transmitter, 1.0)
            ds[k] = (s_inf - x.s[k]) / tau
        for a, b, g_nS in self.gaps:
            total[a] += 1e-3 * g_nS * (V[a] - V[b])
            total[b] += 1e-3 * g_nS * (V[b] - V[a])
        return State(
            V=(self.i_ext_nA - total) / C_NF,  # nA / nF = mV/ms
            Ca=(-F_UM_PER_NA * (I_CaT + I_CaS) - Ca + 0.05) / TAU_CA * self.Ca_rate,
            m=(m_inf(V, Ca) - m) / tau_m(V) * self.m_rate,
            h=(h_inf(V) - h) / tau_h(V) * self.h_rate,
            s=ds,
        )


def rk4(network: Network, x: State, *, dt_ms: float, n_steps: int) -> tuple[State, np.ndarray]:
    """Classical Runge-Kutta of order 4.

    Not for synapses of spiking cells: tau_s falls to 1e-5 ms, which no explicit step follows.

    Returns:
        the state at the end and V (n_steps + 1, cell), the initial one first.
    """
    V = [x.V]
    for _ in range(n_steps):
        a = network.derivative(x)
        b = network.derivative(x.plus(dt_ms / 2, a))
        c = network.derivative(x.plus(dt_ms / 2, b))
        d = network.derivative(x.plus(dt_ms, c))
        x = x.plus(dt_ms / 6, a).plus(dt_ms / 3, b).plus(dt_ms / 3, c).plus(dt_ms / 6, d)
        V.append(x.V)
    return x, np.array(V)


def cold(n_cells: int, n_synapses: int) -> State:
    """V = -50 mV, [Ca] = 0.05 uM, m = 0, h = 1, s = 0."""
    return State(
        np.full(n_cells, -50.0),
        np.full(n_cells, 0.05),
        np.zeros((n_cells, 7)),
        np.ones((n_cells, 4)),
        np.zeros(n_synapses),
    )


PYLORIC_SYNAPSES = (
    (0, 1, "glutamate"),  # AB-LP
    (0, 1, "acetylcholine"),  # PD-LP
    (0, 2, "glutamate"),  # AB-PY
    (0, 2, "acetylcholine"),  # PD-PY
    (1, 0, "glutamate"),  # LP-AB/PD
    (1, 2, "glutamate"),  # LP-PY
    (2, 1, "glutamate"),  # PY-LP
)


def pyloric(gbar: np.ndarray, gsyn_nS: np.ndarray, **options: object) -> Network:
    """The three-cell circuit: gbar (3, 8), gsyn (7,) in the published order."""
    chemical = tuple((*s, float(g)) for s, g in zip(PYLORIC_SYNAPSES, gsyn_nS, strict=True))
    return replace(Network(gbar, chemical), **options)
