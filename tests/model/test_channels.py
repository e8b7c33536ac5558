"""Hand-worked values of the published tables."""

import numpy as np
import pytest
import reference

from pyloric_db.model.channels import PRINZ_CHANNELS
from pyloric_db.model.equations import steady_state, synaptic_steady_state, time_constant
from pyloric_db.vocabulary import CHANNELS, H_GATES, M_GATES

BY_NAME = {c.name: c for c in PRINZ_CHANNELS}


@pytest.mark.parametrize(
    ("channel", "which", "V", "value"),
    [
        # at V_half every steady state is 1/2 (KCa: a half of the half that 3 uM calcium leaves)
        ("Na", "m", -25.5, 0.5),
        ("CaT", "m", -27.1, 0.5),
        ("CaS", "m", -33.0, 0.5),
        ("A", "m", -27.2, 0.5),
        ("KCa", "m", -28.3, 0.25),
        ("Kd", "m", -12.3, 0.5),
        ("H", "m", -75.0, 0.5),
        ("Na", "h", -48.9, 0.5),
        ("CaT", "h", -32.1, 0.5),
        ("CaS", "h", -60.0, 0.5),
        ("A", "h", -56.9, 0.5),
        # one slope above: 1/(1 + 1/e) = 0.7310586 for an activation, 0.2689414 for the others
        ("Na", "m", -25.5 + 5.29, 0.7310586),
        ("H", "m", -75.0 + 5.5, 0.2689414),
        ("CaS", "h", -60.0 + 6.2, 0.2689414),
    ],
)
def test_steady_states(channel, which, V, value):
    gate = getattr(BY_NAME[channel], which)
    assert steady_state(gate, np.array(V), np.array(3.0)) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("channel", "which", "V", "value"),
    [
        ("Kd", "m", -50.0, 11.27523),  # 14.4 - 12.8 / (1 + exp(-21.7/-19.2) = 4.09631)
        ("Na", "m", -120.0, 1.38),  # 2.64 - 2.52/2
        ("CaT", "m", -68.1, 22.1),  # 43.4 - 42.6/2
        ("A", "m", -32.9, 12.8),  # 23.2 - 20.8/2
        ("KCa", "m", -46.0, 105.5),  # 180.6 - 150.2/2
        ("CaS", "m", -27.0, 16.30570),  # 2.8 + 14 / (1 + exp(43/-13) = 1.036600)
        ("H", "m", 26.7, 2.0),  # 2 / (exp(196.4/-11.6) + 1), the first term 4e-8
        ("Na", "h", -62.9, 1.674719),  # 0.67 * (1.5 + 1 / (1 + exp(-28/3.6)))
        ("CaT", "h", -55.0, 120.2),  # 210 - 179.6/2
        ("CaS", "h", -55.0, 315.4064),  # 120 + 300 / (1 + exp(10/-16) = 1.535261)
        ("A", "h", -38.9, 48.0),  # 77.2 - 58.4/2
    ],
)
def test_time_constants(channel, which, V, value):
    gate = getattr(BY_NAME[channel], which)
    assert time_constant(gate, np.array(V)) == pytest.approx(value, rel=1e-6)


def test_all_gates_over_all_voltages():
    V, Ca = np.linspace(-120, 70, 381), np.linspace(0.05, 40, 381)
    for gates, which, inf, tau in (
        (M_GATES, "m", reference.m_inf(V, Ca), reference.tau_m(V)),
        (H_GATES, "h", reference.h_inf(V), reference.tau_h(V)),
    ):
        for i, name in enumerate(gates):
            gate = getattr(BY_NAME[name], which)
            np.testing.assert_allclose(steady_state(gate, V, Ca), inf[:, i], rtol=1e-12)
            np.testing.assert_allclose(time_constant(gate, V), tau[:, i], rtol=1e-12)


def test_channel_table():
    assert tuple(c.name for c in PRINZ_CHANNELS) == CHANNELS
    assert tuple(c.name for c in PRINZ_CHANNELS if c.m) == M_GATES
    assert tuple(c.name for c in PRINZ_CHANNELS if c.h) == H_GATES
    assert [c.power for c in PRINZ_CHANNELS] == [3, 3, 3, 3, 4, 4, 1, 1]
    assert [c.E_rev for c in PRINZ_CHANNELS] == [50, None, None, -80, -80, -80, -20, -50]


def test_synapse_opens_with_the_presynaptic_voltage():
    s = synaptic_steady_state(np.array([-35.0, -30.0, -60.0]), -35.0, -5.0)
    np.testing.assert_allclose(s, [0.5, 0.7310586, 0.0066929], rtol=1e-4)
