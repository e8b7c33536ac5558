"""One step of the engine against the plain equations, in float64."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from circuits import CIRCUITS, WARM, random_conductances, random_state

from pyloric_db.integrate.step import LARGEST_PADE, _through_junctions, make_stepper
from pyloric_db.model.cells import cell_gbar
from pyloric_db.model.channels import PRINZ_CHANNELS, Gate, Sigmoid, SigmoidTau
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL, Circuit, GapJunction
from pyloric_db.model.constants import Constants
from pyloric_db.model.equations import derivatives, steady_state, time_constant
from pyloric_db.pipeline.simulate import simulate
from pyloric_db.vocabulary import H_GATES, M_GATES

TWO_JOINED = Circuit(cells=("a", "b"), gap_junctions=(GapJunction("a", "b"),))


def one_step(circuit, state, gbar, gsyn, i_ext, *, dt, dtype="float64", **options):
    stepper = make_stepper(circuit, dt=dt, dtype=dtype, **options)
    with jax.enable_x64(dtype == "float64"):
        out = jax.jit(stepper.step)(stepper.pack(state), stepper.parameters(gbar, gsyn, i_ext))
        return stepper.unpack(out)


@pytest.mark.parametrize("g_nS", [100.0, 1e4, 1e6])
def test_strong_gap_junctions_are_stable_and_converge(g_nS):
    """A step that looks at the neighbour's old voltage has the cells swap theirs."""
    gbar = np.stack([cell_gbar("AB/PD 2"), cell_gbar("AB/PD 4")])[None]

    def run(dt_ms):
        found = simulate(
            gbar, [[g_nS]], circuit=TWO_JOINED, duration_ms=4000, dt_ms=dt_ms, dtype="float64"
        )
        return found.V.values[0], np.diff(found.spike_time_ms.values[0, 0])

    V, coarse = run(0.05)
    _, fine = run(0.0125)
    assert np.abs(V[0] - V[1]).max() < 1.3e5 / g_nS
    between = [gaps[gaps > 500] for gaps in (coarse, fine)]
    assert len(between[0]) == len(between[1]) >= 2
    np.testing.assert_allclose(*between, rtol=0.02)


@pytest.mark.parametrize("z", [0.01, 0.1, 0.5, 1.0, 3.0, 10.0, 1e3, 1e6])
def test_joined_cells_without_other_currents_come_together_exponentially(z):
    """Their difference decays by exp(-z) in a step, where z is 2 g dt / C: here to third order."""
    c, dt = Constants(), 0.05
    state = random_state(TWO_JOINED, np.random.default_rng(0), 1)
    state["V"] = np.array([[-70.0, -30.0]])
    g_nS = z * c.C * c.area_cm2 / (2 * dt) * 1e6
    none = np.zeros((1, 2, 8))
    V = one_step(TWO_JOINED, state, none, np.array([[g_nS]]), np.zeros((1, 2)), dt=dt)["V"][0]
    assert V.sum() == pytest.approx(-100)
    assert (V[1] - V[0]) / 40 == pytest.approx(np.exp(-z), abs=min(z**4 / 72, 0.1) + 1e-9)


@pytest.mark.parametrize("share", [0.3, 1.0])  # of the pairs of cells that are joined
def test_all_joined_cells_are_solved_for_together(share):
    """The new voltages are those at which the current out of every cell is the one it holds."""
    n, rng = 6, np.random.default_rng(8)
    V, free = rng.uniform(-80, 0, (2, n, 4))
    hold = rng.uniform(0.5, 2.0, (n, 4))
    pairs = [pair for pair in itertools.combinations(range(n), 2) if rng.random() < share]
    junctions = {pair: rng.uniform(0, 20, 4) for pair in pairs}
    with jax.enable_x64(True):
        added = np.asarray(_through_junctions(V, free, hold, junctions))
    out = hold * added
    for (a, b), g in junctions.items():
        z = g / hold[a] + g / hold[b]
        theta = (z + 3) / (z + 6)
        current = g * (theta * (free + added)[[a, b]] + (1 - theta) * V[[a, b]])
        out[a] += current[0] - current[1]
        out[b] += current[1] - current[0]
    np.testing.assert_allclose(out, 0, atol=1e-10)


def test_cells_joined_by_nothing_are_apart():
    circuit, rng = CIRCUITS["nine"], np.random.default_rng(3)
    alone = replace(circuit, gap_junctions=())
    state, (gbar, gsyn) = random_state(circuit, rng, 8), random_conductances(circuit, rng, 8)
    n = len(circuit.synapses)
    gsyn[:, n:] = 0
    i_ext = np.zeros(state["V"].shape)
    joined = one_step(circuit, state, gbar, gsyn, i_ext, dt=0.05, dtype="float32")
    apart = one_step(alone, state, gbar, gsyn[:, :n], i_ext, dt=0.05, dtype="float32")
    for name, values in apart.items():
        np.testing.assert_array_equal(joined[name], values)


NO_CALCIUM = Constants(
    channels=tuple(replace(c, E_rev=120.0 if c.E_rev is None else c.E_rev) for c in PRINZ_CHANNELS)
)


def test_calcium_relaxes_where_no_current_carries_it():
    circuit, rng = PRINZ2004, np.random.default_rng(3)
    state, (gbar, gsyn) = random_state(circuit, rng, 8), random_conductances(circuit, rng, 8)
    i_ext = np.zeros(state["V"].shape)
    out = one_step(circuit, state, gbar, gsyn, i_ext, dt=0.05, constants=NO_CALCIUM)
    left = np.exp(-0.05 / NO_CALCIUM.tau_Ca)
    rest = NO_CALCIUM.Ca_rest
    np.testing.assert_allclose(out["Ca"], rest + (state["Ca"] - rest) * left, rtol=1e-12)


@pytest.mark.parametrize("scheme", ["gates_first", "old_state"])
@pytest.mark.parametrize("name", CIRCUITS)
@pytest.mark.parametrize("T", [283.0, 293.0])
def test_a_small_step_follows_the_derivative(name, scheme, T):
    circuit, dt = CIRCUITS[name], 1e-6
    rng = np.random.default_rng(3)
    state, (gbar, gsyn) = random_state(circuit, rng, 8), random_conductances(circuit, rng, 8)
    state["V"] = rng.uniform(-90, 0, state["V"].shape)  # above, tau_s is not long against dt
    i_ext = rng.uniform(-5, 5, state["V"].shape)
    constants = WARM if T != 283.0 else Constants()
    after = one_step(
        circuit,
        state,
        gbar,
        gsyn,
        i_ext,
        dt=dt,
        scheme=scheme,
        constants=constants,
        temperature_K=T,
    )
    wanted = derivatives(
        state, gbar, gsyn, circuit=circuit, constants=constants, temperature_K=T, i_ext_nA=i_ext
    )
    for key in wanted:
        scale = np.abs(wanted[key]).max()
        np.testing.assert_allclose(
            (after[key] - state[key]) / dt, wanted[key], rtol=1e-3, atol=1e-5 * scale, err_msg=key
        )


def test_gates_relax_exponentially():
    """At the step of a build, where the approximant of 1 - exp(-dt/tau) shows."""
    dt, n = 0.05, 400
    state = random_state(PRINZ2004, np.random.default_rng(0), n)
    state["V"] = np.repeat(np.linspace(-100, 60, n)[:, None], 3, axis=1)
    gbar, gsyn = np.zeros((n, 3, 8)), np.zeros((n, 7))
    after = one_step(PRINZ2004, state, gbar, gsyn, np.zeros((n, 3)), dt=dt)
    for name, labels in (("m", M_GATES), ("h", H_GATES)):
        gates = {c.name: getattr(c, name) for c in PRINZ_CHANNELS}
        for i, label in enumerate(labels):
            x, V = state[name][..., i], state["V"]
            end = steady_state(gates[label], V, state["Ca"])
            share = dt / time_constant(gates[label], V)
            off = np.abs(after[name][..., i] - (end + (x - end) * np.exp(-share)))
            assert (off <= np.abs(x - end) * share**5 / 720 + 1e-14).all(), label
            assert off.max() < 1e-4, label


@pytest.mark.parametrize("tau_ms", [0.04, 1e-3, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gates_that_are_faster_than_a_step_follow_the_voltage(tau_ms, dtype):
    """The approximant for slow ones goes to 0 there, and the gate would stand still."""
    sodium = replace(
        PRINZ_CHANNELS[0], m=Gate(Sigmoid(-25.5, -5.29), SigmoidTau(tau_ms, 0.0, -120.0, -25.0))
    )
    constants = Constants(channels=(sodium, *PRINZ_CHANNELS[1:]))
    rng = np.random.default_rng(5)
    state, (gbar, gsyn) = random_state(PRINZ2004, rng, 4), random_conductances(PRINZ2004, rng, 4)
    i_ext = np.zeros(state["V"].shape)
    after = one_step(PRINZ2004, state, gbar, gsyn, i_ext, dt=0.05, dtype=dtype, constants=constants)
    m, m_inf = state["m"][..., 0], 1 / (1 + np.exp((state["V"] + 25.5) / -5.29))
    wanted = m_inf + (m - m_inf) * (np.exp(-0.05 / tau_ms) if tau_ms else 0)
    np.testing.assert_allclose(after["m"][..., 0], wanted, rtol=1e-5, atol=1e-6)


def test_instantaneous_sodium_fires_as_at_a_small_step():
    sodium = replace(
        PRINZ_CHANNELS[0], m=Gate(Sigmoid(-25.5, -5.29), SigmoidTau(1e-5, 0.0, -120.0, -25.0))
    )
    constants = Constants(channels=(sodium, *PRINZ_CHANNELS[1:]))
    found = [
        simulate(cell_gbar("PY 1")[None], circuit=SINGLE_CELL, duration_ms=300,
                 dt_ms=dt_ms, constants=constants)
        for dt_ms in (0.05, 0.0125)
    ]  # fmt: skip
    coarse, fine = (run["spike_time_ms"].values[0, 0] for run in found)
    assert len(coarse) == len(fine) >= 5


def test_the_published_gates_take_the_approximant():
    for group in make_stepper(PRINZ2004, dt=0.05).groups:
        assert 0.05 * group.highest_rate < LARGEST_PADE


def test_schemes_order_their_updates():
    """From all gates shut: with the old gates nothing flows, with the new ones it does."""
    state = random_state(PRINZ2004, np.random.default_rng(0))
    state["V"][:], state["m"][:], state["h"][:], state["s"][:] = -20.0, 0.0, 1.0, 0.0
    gbar, gsyn = np.full((1, 3, 8), 10.0), np.full((1, 7), 30.0)
    gbar[..., 7] = 0.0
    old, new = (
        one_step(PRINZ2004, state, gbar, gsyn, np.zeros((1, 3)), dt=0.05, scheme=scheme)
        for scheme in ("old_state", "gates_first")
    )
    np.testing.assert_allclose(old["V"], state["V"], atol=1e-8)
    assert (np.abs(new["V"] - state["V"]) > 1e-3).all()
    np.testing.assert_array_equal(old["m"], new["m"])
    np.testing.assert_array_equal(old["s"], new["s"])


def test_synapses_follow_a_depolarised_cell_at_once():
    """At +20 mV tau_s is 0.001 ms: an explicit step of 0.05 ms would be off by 50 times."""
    state = random_state(PRINZ2004, np.random.default_rng(0))
    state["V"][:], state["s"][:] = 20.0, 0.0
    after = one_step(
        PRINZ2004, state, np.zeros((1, 3, 8)), np.zeros((1, 7)), np.zeros((1, 3)), dt=0.05
    )
    np.testing.assert_allclose(after["s"], 1 / (1 + np.exp(-11.0)), rtol=1e-9)


def test_a_cell_without_conductances_stays():
    state = random_state(PRINZ2004, np.random.default_rng(0))
    for dtype in ("float32", "float64"):
        after = one_step(
            PRINZ2004,
            state,
            np.zeros((1, 3, 8)),
            np.zeros((1, 7)),
            np.zeros((1, 3)),
            dt=0.05,
            dtype=dtype,
        )
        np.testing.assert_allclose(after["V"], state["V"], rtol=1e-6)


def test_float32_step_is_close_to_float64():
    rng = np.random.default_rng(4)
    state, (gbar, gsyn) = random_state(PRINZ2004, rng, 64), random_conductances(PRINZ2004, rng, 64)
    i_ext = np.zeros((64, 3))
    single, double = (
        one_step(PRINZ2004, state, gbar, gsyn, i_ext, dt=0.05, dtype=dtype)
        for dtype in ("float32", "float64")
    )
    assert single["V"].dtype == np.float32
    for key in double:
        # a gate may come within a step from 1 to near 0, with the rounding of 1
        atol = 1e-4 if key == "V" else 3e-7
        np.testing.assert_allclose(single[key], double[key], rtol=1e-5, atol=atol)


def test_pack_and_unpack_are_inverse():
    state = random_state(PRINZ2004, np.random.default_rng(1), 5)
    stepper = make_stepper(PRINZ2004, dt=0.05, dtype="float64")
    back = stepper.unpack(stepper.pack(state))
    for key, values in state.items():
        np.testing.assert_array_equal(back[key], values)
