"""The plain right-hand side against the independent model."""

from dataclasses import replace

import numpy as np
import pytest
import reference
from circuits import CIRCUITS, TWO_CELLS, WARM, as_reference, random_conductances, random_state
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL
from pyloric_db.model.constants import Constants, q10
from pyloric_db.model.equations import derivatives


def assert_same(found, wanted: reference.State, circuit, case=0):
    for name in ("V", "Ca", "m", "h"):
        np.testing.assert_allclose(
            found[name][case], getattr(wanted, name), rtol=1e-9, atol=1e-9, err_msg=name
        )
    # the independent model has one s per synapse, the package one per source
    sources = [circuit.source_names.index(s.source) for s in circuit.synapses]
    np.testing.assert_allclose(found["s"][case][sources], wanted.s, rtol=1e-9)


@pytest.mark.parametrize("name", CIRCUITS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_derivatives_equal_the_independent_model(name, seed):
    circuit = CIRCUITS[name]
    rng = np.random.default_rng(seed)
    state, (gbar, gsyn) = random_state(circuit, rng, 2), random_conductances(circuit, rng, 2)
    i_ext = rng.uniform(-5, 5, (2, len(circuit.cells)))
    found = derivatives(state, gbar, gsyn, circuit=circuit, i_ext_nA=i_ext)
    for case in range(2):
        network, x = as_reference(
            circuit,
            {k: v[case] for k, v in state.items()},
            gbar[case],
            gsyn[case],
            i_ext_nA=i_ext[case],
        )
        assert_same(found, network.derivative(x), circuit, case)


@pytest.mark.parametrize("name", CIRCUITS)
def test_temperature(name):
    circuit, T = CIRCUITS[name], 288.0
    rng = np.random.default_rng(5)
    state, (gbar, gsyn) = random_state(circuit, rng), random_conductances(circuit, rng)
    found = derivatives(state, gbar, gsyn, circuit=circuit, constants=WARM, temperature_K=T)
    root = 0.5  # (288 - 283) / 10
    network, x = as_reference(
        circuit, {k: v[0] for k, v in state.items()}, gbar[0], gsyn[0],
        kelvin_ratio=288 / 283,
        gbar_factor=np.array([1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]) ** root,
        gsyn_factor={"glutamate": 1.9**root, "acetylcholine": 2.0**root},
        m_rate=2.1**root, h_rate=2.2**root, Ca_rate=2.3**root,
        s_rate={"glutamate": 2.4**root, "acetylcholine": 2.5**root},
    )  # fmt: skip
    assert_same(found, network.derivative(x), circuit)


def test_q10_doubles_over_ten_kelvin():
    assert q10(2.0, 293.0) == pytest.approx(2.0)
    assert q10(3.0, 283.0) == 1.0
    assert q10(2.0, 273.0) == pytest.approx(0.5)


def test_cell_by_hand():
    """gbar leak 0.5 mS/cm2, at -40 mV: I = 0.5 * 10 = 5 uA/cm2, dV/dt = -5 mV/ms."""
    state = {
        "V": np.array([[-40.0]]), "Ca": np.array([[2.05]]), "m": np.zeros((1, 1, 7)),
        "h": np.zeros((1, 1, 4)), "s": np.zeros((1, 0)),
    }  # fmt: skip
    gbar = np.zeros((1, 1, 8))
    gbar[..., 7] = 0.5
    d = derivatives(state, gbar, np.zeros((1, 0)), circuit=SINGLE_CELL, i_ext_nA=0.628)
    # 0.628 nA over 0.628e-3 cm2 are 1 uA/cm2; calcium decays by (2.05 - 0.05) / 200
    assert d["V"][0, 0] == pytest.approx(-4.0)
    assert d["Ca"][0, 0] == pytest.approx(-0.01)


def test_calcium_current_is_that_of_the_whole_cell():
    """1 mS/cm2 of open CaS at 100 mV below E_Ca is -62.8 nA: 14.96 * 62.8 / 200 uM/ms."""
    Ca = 0.05
    E_Ca = 12.2 * np.log(3000 / Ca)
    state = {
        "V": np.array([[E_Ca - 100]]), "Ca": np.array([[Ca]]), "m": np.ones((1, 1, 7)),
        "h": np.ones((1, 1, 4)), "s": np.zeros((1, 0)),
    }  # fmt: skip
    gbar = np.zeros((1, 1, 8))
    gbar[..., 2] = 1.0
    d = derivatives(state, gbar, np.zeros((1, 0)), circuit=SINGLE_CELL)
    assert d["Ca"][0, 0] == pytest.approx(14.96 * 62.8 / 200)
    assert d["V"][0, 0] == pytest.approx(100.0)


def test_synapse_by_hand():
    """30 nS of open LP-AB/PD at -40 mV: 30 * 30 pA = 0.9 nA, over 0.628 nF."""
    state = {
        "V": np.array([[-40.0, -60.0, -60.0]]), "Ca": np.full((1, 3), 0.05),
        "m": np.zeros((1, 3, 7)), "h": np.zeros((1, 3, 4)), "s": np.array([[0, 0, 1.0, 0]]),
    }  # fmt: skip
    gsyn = np.zeros((1, 7))
    gsyn[0, PRINZ2004.synapse_names.index("lp_abpd")] = 30.0
    d = derivatives(state, np.zeros((1, 3, 8)), gsyn, circuit=PRINZ2004)
    np.testing.assert_allclose(d["V"][0], [-0.9 / 0.628, 0, 0])


def test_gap_junctions_conserve_current():
    state = random_state(TWO_CELLS, np.random.default_rng(0))
    state["s"][:] = 0
    gsyn = np.array([[0.0, 0.0, 62.8]])
    d = derivatives(state, np.zeros((1, 2, 8)), gsyn, circuit=TWO_CELLS)["V"][0]
    # 62.8 nS over 0.628 nF is 0.1 per ms
    assert d[0] == pytest.approx(0.1 * (state["V"][0, 1] - state["V"][0, 0]))
    assert d[0] == pytest.approx(-d[1])


def test_constants_change_the_equations():
    rng = np.random.default_rng(1)
    state, (gbar, gsyn) = random_state(PRINZ2004, rng), random_conductances(PRINZ2004, rng)
    plain = derivatives(state, gbar, gsyn, circuit=PRINZ2004)
    heavy = derivatives(state, gbar, gsyn, circuit=PRINZ2004, constants=Constants(C=2.0))
    np.testing.assert_allclose(heavy["V"], plain["V"] / 2)
    slow = replace(Constants(), tau_Ca=400.0)
    found = derivatives(state, gbar, gsyn, circuit=PRINZ2004, constants=slow)
    np.testing.assert_allclose(found["Ca"], plain["Ca"] / 2)
