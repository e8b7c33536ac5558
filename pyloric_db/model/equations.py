"""The plain right-hand side, in NumPy: the truth that the engines are held to.

State and conductances are arrays with any leading dimensions, cells and gates last, in the
orders of the vocabulary. Written for clarity; nothing in a build calls it.
"""

import numpy as np

from pyloric_db.model.channels import Gate
from pyloric_db.model.circuit import Circuit
from pyloric_db.model.constants import REFERENCE_TEMPERATURE_K, Constants, q10


def steady_state(gate: Gate, V: np.ndarray, Ca: np.ndarray) -> np.ndarray:
    """x_inf of a gate at V (mV) and [Ca] (uM), dimensionless."""
    x_inf = 1 / gate.inf.denominator(lambda V_half, slope: np.exp((V - V_half) / slope))
    return x_inf if gate.half_Ca_uM is None else x_inf * Ca / (Ca + gate.half_Ca_uM)


def time_constant(gate: Gate, V: np.ndarray) -> np.ndarray:
    """tau of a gate at V (mV), ms."""
    rate = gate.tau.rate(lambda V_half, slope: np.exp((V - V_half) / slope))
    over, under = (a + b * rate.E for a, b in (rate.over, rate.under))
    return under / over


def synaptic_steady_state(V_pre: np.ndarray, V_half: float, slope: float) -> np.ndarray:
    """s_inf at the presynaptic V (mV), dimensionless."""
    return 1 / (1 + np.exp((V_pre - V_half) / slope))


def derivatives(
    state: dict[str, np.ndarray],
    gbar: np.ndarray,
    gsyn: np.ndarray,
    *,
    circuit: Circuit,
    constants: Constants = Constants(),
    temperature_K: float = REFERENCE_TEMPERATURE_K,
    i_ext_nA: np.ndarray | float = 0.0,
) -> dict[str, np.ndarray]:
    """Time derivatives of a circuit's state, per ms.

    Args:
        state: V (..., cell) mV, Ca (..., cell) uM, m (..., cell, m_gate), h (..., cell, h_gate),
            s (..., source).
        gbar: (..., cell, channel) mS/cm2.
        gsyn: (..., synapse) nS.
        circuit: the topology.
        constants: the model's numbers.
        temperature_K: scales conductances and time constants by the Q10 factors.
        i_ext_nA: injected current, broadcast to (..., cell).

    Returns:
        The same names and shapes as `state`, per ms.

    Source: Prinz, Billimoria & Marder 2003 (cells); Abbott & Marder 1998 and Prinz, Bucher &
    Marder 2004 (synapses).
    """
    c, T = constants, temperature_K
    V, Ca, m, h, s = (np.asarray(state[k]) for k in ("V", "Ca", "m", "h", "s"))
    E_Ca = c.RT_2F * (T / REFERENCE_TEMPERATURE_K) * np.log(c.Ca_out / Ca)
    total = np.zeros_like(V)
    calcium = np.zeros_like(V)
    dm, dh = np.zeros_like(m), np.zeros_like(h)
    names = c.channel_names
    for i, channel in enumerate(c.channels):
        g = gbar[..., i] * q10(c.Q10_of_channels[i], T)
        if channel.m is not None:
            k = names.m_gates.index(channel.name)
            g = g * m[..., k] ** channel.power
            dm[..., k] = (steady_state(channel.m, V, Ca) - m[..., k]) / time_constant(channel.m, V)
        if channel.h is not None:
            k = names.h_gates.index(channel.name)
            g = g * h[..., k]
            dh[..., k] = (steady_state(channel.h, V, Ca) - h[..., k]) / time_constant(channel.h, V)
        current = g * (V - (E_Ca if channel.E_rev is None else channel.E_rev))
        total += current
        if channel.E_rev is None:
            calcium += current
    whole_cell_nA = calcium * c.area_cm2 * 1e3  # uA/cm2 to nA
    dCa = (-c.f * whole_cell_nA - Ca + c.Ca_rest) / c.tau_Ca * q10(c.Q10_tau_Ca, T)

    transmitters = {t.name: t for t in c.transmitters}
    position = {cell: i for i, cell in enumerate(circuit.cells)}
    ds = np.zeros_like(s)
    for i, source in enumerate(circuit.sources):
        t = transmitters[source.transmitter]
        s_inf = synaptic_steady_state(V[..., position[source.cell]], t.inf.V_half, t.inf.slope)
        tau_s = (1 - s_inf) / t.k_minus / q10(c.Q10_tau_s.get(t.name, 1.0), T)
        ds[..., i] = (s_inf - s[..., i]) / tau_s
    density = 1e-6 / c.area_cm2  # nS to mS/cm2
    for i, synapse in enumerate(circuit.synapses):
        k = circuit.source_names.index(synapse.source)
        t = transmitters[circuit.sources[k].transmitter]
        post = position[synapse.post]
        g = gsyn[..., i] * density * q10(c.Q10_gsyn.get(t.name, 1.0), T)
        total[..., post] += g * s[..., k] * (V[..., post] - t.E_rev)
    for i, gap in enumerate(circuit.gap_junctions, start=len(circuit.synapses)):
        a, b = position[gap.cell_1], position[gap.cell_2]
        current = gsyn[..., i] * density * (V[..., a] - V[..., b])
        total[..., a] += current
        total[..., b] -= current
    injected = np.asarray(i_ext_nA) * 1e-3 / c.area_cm2  # nA to uA/cm2
    dm *= q10(c.Q10_tau_m, T)
    dh *= q10(c.Q10_tau_h, T)
    return {"V": (injected - total) / c.C, "Ca": dCa, "m": dm, "h": dh, "s": ds}
