"""Cells with channels beside the published eight."""

import sys
from dataclasses import replace

import host_cuda
import jax
import numpy as np
import pytest
from circuits import TWO_CELLS, pyloric_grid

from pyloric_db.integrate import engine as engine_module
from pyloric_db.integrate.engine import Engine
from pyloric_db.integrate.step import make_stepper
from pyloric_db.model.channels import (
    PRINZ_CHANNELS,
    BellTau,
    Channel,
    Gate,
    ProductTau,
    Sigmoid,
    SigmoidTau,
)
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.model.constants import Constants
from pyloric_db.model.equations import derivatives
from pyloric_db.pipeline.simulate import classify, simulate
from pyloric_db.pipeline.states import cold_states

MODULATED = Channel("MI", -10.0, m=Gate(Sigmoid(-21.0, -8.0), SigmoidTau(6.0, 0.0, 0.0, 100.0)))
SLOW_K = Channel(
    "KS", -80.0, 2,
    m=Gate(Sigmoid(-25.0, -9.0), BellTau(5.0, 60.0, -40.0, 12.0, -20.0, -15.0)),
    h=Gate(Sigmoid(-55.0, 6.0), ProductTau(40.0, -60.0, -12.0, 1.5, -30.0, 5.0)),
)  # fmt: skip
CALCIUM = Channel("CaL", None, 2, m=Gate(Sigmoid(-20.0, -6.0), SigmoidTau(9.0, 6.0, -30.0, -9.0),
                                         half_Ca_uM=8.0))  # fmt: skip
SHUNT = Channel("shunt", -65.0)
OTHERS = Constants(channels=(*PRINZ_CHANNELS, MODULATED, SLOW_K, CALCIUM, SHUNT))
GBAR = np.array([0.05, 0.1, 0.1, 0.01])  # of these, mS/cm2


def circuits(n, seed=1):
    """Circuits of the grid, with all of these channels: gbar and gsyn."""
    gbar, gsyn = pyloric_grid(np.random.default_rng(seed).integers(0, 20_250_000, n))
    return np.concatenate([gbar, np.broadcast_to(GBAR, (n, 3, 4))], axis=2), gsyn


def test_the_equations_have_the_currents_of_these_channels():
    """Written out: what a channel adds to the currents, to calcium, and how its gates relax."""
    rng = np.random.default_rng(0)
    gbar, gsyn = circuits(5)
    state = {
        "V": rng.uniform(-80, 20, (5, 3)), "Ca": rng.uniform(0.1, 50, (5, 3)),
        "m": rng.uniform(0, 1, (5, 3, 10)), "h": rng.uniform(0, 1, (5, 3, 5)),
        "s": rng.uniform(0, 1, (5, 4)),
    }  # fmt: skip
    found = derivatives(state, gbar, gsyn, circuit=PRINZ2004, constants=OTHERS)
    eight = {**state, "m": state["m"][..., :7], "h": state["h"][..., :4]}
    without = derivatives(eight, gbar[..., :8], gsyn, circuit=PRINZ2004)
    V, Ca = state["V"], state["Ca"]
    m_MI, m_KS, m_CaL = np.moveaxis(state["m"][..., 7:], -1, 0)
    h_KS = state["h"][..., 4]
    calcium = GBAR[2] * m_CaL**2 * (V - 12.2 * np.log(3000 / Ca))
    current = GBAR[0] * m_MI * (V + 10) + GBAR[1] * m_KS**2 * h_KS * (V + 80)
    current += calcium + GBAR[3] * (V + 65)
    np.testing.assert_allclose(found["V"], without["V"] - current)
    np.testing.assert_allclose(found["Ca"], without["Ca"] - 14.96 * calcium * 0.628 / 200)
    np.testing.assert_array_equal(found["m"][..., :7], without["m"])
    np.testing.assert_array_equal(found["h"][..., :4], without["h"])
    np.testing.assert_allclose(found["m"][..., 7], (1 / (1 + np.exp((V + 21) / -8)) - m_MI) / 6)
    tau = 5 + 60 / (np.exp((V + 40) / 12) + np.exp((V + 20) / -15))
    np.testing.assert_allclose(found["m"][..., 8], (1 / (1 + np.exp((V + 25) / -9)) - m_KS) / tau)
    tau = 9 - 6 / (1 + np.exp((V + 30) / -9))
    at = Ca / (Ca + 8) / (1 + np.exp((V + 20) / -6))
    np.testing.assert_allclose(found["m"][..., 9], (at - m_CaL) / tau)
    tau = 40 / (1 + np.exp((V + 60) / -12)) * (1.5 + 1 / (1 + np.exp((V + 30) / 5)))
    np.testing.assert_allclose(found["h"][..., 4], (1 / (1 + np.exp((V + 55) / 6)) - h_KS) / tau)


@pytest.mark.parametrize("scheme", ["gates_first", "old_state"])
def test_a_small_step_follows_the_equations(scheme):
    rng, dt = np.random.default_rng(3), 1e-6
    gbar, gsyn = circuits(8)
    state = cold_states(8, PRINZ2004, OTHERS.channel_names)
    state = {name: values + rng.uniform(0, 0.5, values.shape) for name, values in state.items()}
    state["h"] *= 0.5
    stepper = make_stepper(PRINZ2004, dt=dt, dtype="float64", scheme=scheme, constants=OTHERS)
    with jax.enable_x64(True):
        parameters = stepper.parameters(gbar, gsyn, np.zeros((8, 3)))
        after = stepper.unpack(jax.jit(stepper.step)(stepper.pack(state), parameters))
    slopes = derivatives(state, gbar, gsyn, circuit=PRINZ2004, constants=OTHERS)
    for name, slope in slopes.items():
        np.testing.assert_allclose((after[name] - state[name]) / dt, slope, rtol=1e-3, atol=1e-6)


def spikes_of(engine, gbar, gsyn):
    cold = cold_states(len(gbar), engine.circuit, OTHERS.channel_names)
    _, epoch = engine.epoch(engine.start(cold, gbar, gsyn))
    return epoch


def test_the_cpus_kernel_has_them():
    gbar, gsyn = circuits(24)
    found, exact = (
        spikes_of(Engine(PRINZ2004, dt_ms=0.05, epoch_ms=200, dtype=t, constants=OTHERS),
                  gbar, gsyn)
        for t in ("float32", "float64")
    )  # fmt: skip
    np.testing.assert_array_equal(found.n_spikes, exact.n_spikes)
    assert len(found.spike_ms) > 100
    assert np.abs(found.spike_ms - exact.spike_ms).max() < 0.05


@pytest.mark.skipif(host_cuda.COMPILER is None, reason="no C++ compiler")
def test_the_kernel_for_gpus_has_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", host_cuda.cupy())
    gbar, gsyn = circuits(24)
    found = []
    for gpu in (True, False):
        monkeypatch.setattr(engine_module, "gpu_is_used", lambda gpu=gpu: gpu)
        engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=200, constants=OTHERS)
        found.append(spikes_of(engine, gbar, gsyn))
    np.testing.assert_array_equal(found[0].n_spikes, found[1].n_spikes)
    assert np.abs(found[0].spike_ms - found[1].spike_ms).max() < 0.05


def test_a_channel_without_conductance_changes_no_bit():
    gbar, gsyn = circuits(40)
    gbar[..., 8:] = 0
    others = classify(gbar, gsyn, constants=OTHERS)
    eight = classify(gbar[..., :8], gsyn)
    # but for `rest_mV`, which is 1 mV unless the constants are the published ones
    same = others.t_simulated_ms.values == eight.t_simulated_ms.values
    assert same.mean() > 0.5
    for name in eight:
        np.testing.assert_array_equal(others[name].values[same], eight[name].values[same])


def test_a_leak_by_another_name_is_a_leak():
    gbar, gsyn = circuits(3)
    leak = Constants(channels=(*PRINZ_CHANNELS, replace(PRINZ_CHANNELS[-1], name="more")))
    gbar = gbar[..., :9]
    gbar[..., 7], gbar[..., 8] = 0.01, 0.02
    together = gbar[..., :8].copy()
    together[..., 7] = 0.03
    found = simulate(gbar, gsyn, constants=leak, duration_ms=100)
    wanted = simulate(together, gsyn, duration_ms=100)
    np.testing.assert_allclose(found.V.values, wanted.V.values, atol=0.1)


def test_a_simulation_goes_on_from_the_state_of_every_gate():
    gbar, gsyn = circuits(2)
    options = {"constants": OTHERS, "variables": ("V", "m", "h")}
    _, state = simulate(gbar, gsyn, duration_ms=300, return_state=True, **options)
    then = simulate(gbar, gsyn, duration_ms=200, initial=state, **options)
    whole = simulate(gbar, gsyn, duration_ms=500, **options)
    assert list(state.m_gate.values[7:]) == ["MI", "KS", "CaL"]
    assert list(state.h_gate.values[4:]) == ["KS"]
    for name in ("V", "m", "h"):
        late = whole[name].sel(time=slice(300, None)).values
        np.testing.assert_allclose(then[name].values, late, atol=1e-3)


def test_any_circuit_may_have_them():
    gbar = np.concatenate([[100, 0, 8, 40, 5, 75, 0.05, 0.02], GBAR])
    gbar = np.broadcast_to(gbar, (2, len(TWO_CELLS.cells), 12))
    gsyn = np.full((2, len(TWO_CELLS.synapse_names)), 10.0)
    found, exact = (
        simulate(gbar, gsyn, circuit=TWO_CELLS, constants=OTHERS, duration_ms=100, dtype=t)
        for t in ("float32", "float64")
    )
    np.testing.assert_allclose(found.V.values, exact.V.values, atol=1.5)
