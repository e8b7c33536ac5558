"""Batches: order of convergence, independence to the bit, spikes, and what can go wrong."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest
import reference
from circuits import CIRCUITS, as_reference, published_cells, pyloric_grid

from pyloric_db.errors import ConfigError
from pyloric_db.integrate.engine import WIDTHS, Engine
from pyloric_db.integrate.finding import spikes_of_slots
from pyloric_db.integrate.step import Stepper
from pyloric_db.model.cells import cell_gbar, prinz2003_gbar
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL, Circuit, GapJunction
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.run import protocol_engine, run_circuits
from pyloric_db.pipeline.states import cold_states
from pyloric_db.protocol import Protocol

N_GRID = 20_250_000


def grid_sample(n, seed=0):
    return pyloric_grid(np.random.default_rng(seed).integers(0, N_GRID, n))


def spikes_of(epoch):
    return np.split(epoch.spike_ms, np.cumsum(epoch.n_spikes.ravel())[:-1])


# ---------------------------------------------------------------- accuracy


def test_agrees_with_rk4():
    """Two electrically coupled cells over 40 ms with spikes, at a small step in float64."""
    circuit = Circuit(cells=("a", "b"), gap_junctions=(GapJunction("a", "b"),))
    gbar = np.stack([cell_gbar("AB/PD 3"), cell_gbar("LP 2")])
    state = cold_states(1, circuit)
    state["V"][:] = -35.0
    network, x = as_reference(circuit, {k: v[0] for k, v in state.items()}, gbar, np.array([20.0]))
    _, V = reference.rk4(network, x, dt_ms=0.02, n_steps=2000)
    engine = Engine(circuit, dt_ms=0.001, epoch_ms=40, dtype="float64")
    batch = engine.start(state, gbar[None], np.array([[20.0]]))
    *_, recorded = engine.record(batch, ("V",), 100)
    # the staggered start is half a step: 0.0005 ms at up to 400 mV/ms, and as much for RK4
    np.testing.assert_allclose(recorded["V"][0].T, V[5::5], atol=0.5)
    assert V.max(axis=0).min() > 0  # both spike


def crossings(V, dt):
    """Times of the upward crossings of -20 mV, by cubic interpolation."""
    times = []
    for k in np.flatnonzero((V[1:-2] < -20) & (V[2:-1] >= -20)) + 1:
        roots = np.roots(np.polyfit(np.arange(-1, 3), V[k - 1 : k + 3] + 20, 3))
        (x,) = (r.real for r in roots if abs(r.imag) < 1e-12 and 0 <= r.real <= 1)
        times.append((k + x) * dt)
    return np.array(times)


@cache
def spans(dt, scheme):
    """From the first to the fifth spike of AB/PD 1-5, ms."""
    gbar = np.stack([cell_gbar(f"AB/PD {i}") for i in range(1, 6)])[:, None]
    engine = Engine(SINGLE_CELL, dt_ms=dt, epoch_ms=200, dtype="float64", scheme=scheme)
    batch = engine.start(cold_states(5, SINGLE_CELL), gbar, np.zeros((5, 0)))
    *_, recorded = engine.record(batch, ("V",), 1)
    times = [crossings(V[0], dt) for V in recorded["V"]]
    return np.array([t[4] - t[0] for t in times])


@pytest.mark.parametrize(
    ("scheme", "order"), [("gates_first", (1.7, 2.2)), ("old_state", (0.8, 1.5))]
)
def test_order_of_convergence(scheme, order):
    """Against a step of 0.00625 ms."""
    exact = spans(0.00625, "gates_first")
    coarse, fine = (np.abs(spans(dt, scheme) - exact) for dt in (0.05, 0.025))
    low, high = order
    assert low < np.median(np.log2(coarse / fine)) < high, (coarse, fine)


# ---------------------------------------------------------------- independence


@pytest.fixture(scope="module", params=["float32", "float64"])
def crowd(request):
    """An engine, 150 circuits, and what each does among the others."""
    gbar, gsyn = grid_sample(150)
    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=300, dtype=request.param)
    return engine, gbar, gsyn, run(engine, gbar, gsyn)


def run(engine, gbar, gsyn):
    """State after two epochs, their spikes per (circuit, cell), and voltage statistics."""
    batch = engine.start(cold_states(len(gbar), engine.circuit), gbar, gsyn)
    batch, first = engine.epoch(batch)
    batch, second = engine.epoch(batch)
    state = engine.stepper.unpack(batch.state)
    state |= {k: getattr(second, k) for k in ("V_min", "V_max", "V_mean")}
    cells = len(engine.circuit.cells)
    both = zip(spikes_of(first), spikes_of(second), strict=True)
    rows = [np.concatenate(pair) for pair in both]
    return state, [rows[i : i + cells] for i in range(0, len(rows), cells)]


def assert_identical(found, wanted, which):
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, wanted[0][name][which], err_msg=name)
    for i, k in enumerate(which):
        for a, b in zip(found[1][i], wanted[1][k], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "which",
    [
        [0], [149], [77],  # alone
        list(range(32)),  # full vectors, or a full narrow batch
        list(range(33)),  # one more, mostly padding
        list(range(149, 60, -1)),  # backwards
        [5] * 4,  # with itself
    ],
    ids=lambda which: f"{len(which)}-from-{which[0]}",
)  # fmt: skip
def test_a_circuit_does_not_depend_on_its_batch(crowd, which):
    engine, gbar, gsyn, wanted = crowd
    assert_identical(run(engine, gbar[which], gsyn[which]), wanted, which)


@pytest.mark.parametrize("name", ["two", "nine"])
def test_other_circuits_do_not_depend_on_their_batch(name):
    circuit = CIRCUITS[name]
    n = 40
    gbar, gsyn = published_cells(circuit, n)
    engine = Engine(circuit, dt_ms=0.05, epoch_ms=200)
    wanted = run(engine, gbar, gsyn)
    assert sum(len(cell) for circuit in wanted[1] for cell in circuit) > n
    for which in ([0], [39], [3, 1, 2]):
        assert_identical(run(engine, gbar[which], gsyn[which]), wanted, which)


def test_recording_changes_nothing(crowd):
    engine, gbar, gsyn, _ = crowd
    for n, variables, every in ((3, ("V",), 1), (40, ("V", "Ca", "m", "h", "s"), 10)):
        batch = engine.start(cold_states(n, PRINZ2004), gbar[:n], gsyn[:n])
        end, epoch = engine.epoch(batch)
        recorded_end, recorded_epoch, _ = engine.record(batch, variables, every)
        for a, b in zip(end.state, recorded_end.state, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(epoch.spike_ms, recorded_epoch.spike_ms)
        np.testing.assert_array_equal(epoch.V_mean, recorded_epoch.V_mean)


@pytest.mark.parametrize("name", ["prinz2004", "two"])
def test_advance_is_the_epoch(name):
    """Each circuit by its own number of steps, equal to the recorded state at that time."""
    circuit = CIRCUITS[name]
    engine = Engine(circuit, dt_ms=0.05, epoch_ms=300)
    batch = engine.start(cold_states(6, circuit), *published_cells(circuit, 6))
    end, _, recorded = engine.record(batch, ("V", "Ca", "m", "h", "s"), 1)
    steps = np.array([6000, 0, 1, 7, 1234, 5999])
    state = engine.stepper.unpack(engine.advance(batch, steps))
    start = engine.stepper.unpack(batch.state)
    for name, values in state.items():
        for i, n in enumerate(steps):
            wanted = recorded[name][i, ..., n - 1] if n else start[name][i]
            np.testing.assert_array_equal(values[i], wanted, err_msg=name)
    np.testing.assert_array_equal(state["V"][0], end.state[0][:, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_programs_are_compiled_once(monkeypatch, dtype):
    """However many batches there are, the step is traced a fixed number of times."""
    traces = 0
    conclude = Stepper.conclude

    def counting(*arguments):
        nonlocal traces
        traces += 1
        return conclude(*arguments)

    monkeypatch.setattr(Stepper, "conclude", counting)
    # no other test uses this threshold, so the engine is new
    protocol = Protocol(
        transient_ms=20, epoch_ms=20, min_ms=40, max_ms=200, spike_threshold_mV=0.125, dtype=dtype
    )

    def classify(n, seed):
        gbar, gsyn = grid_sample(n, seed)[0][:, :1], np.zeros((n, 0))
        cold = cold_states(n, SINGLE_CELL)
        run_circuits(gbar, gsyn, cold, circuit=SINGLE_CELL, protocol=protocol)
        return traces

    one_width = classify(WIDTHS[0] - 10, 0)
    assert one_width > 0
    assert classify(WIDTHS[0], 1) == one_width
    for n in (*WIDTHS[1:], WIDTHS[-1] + 100):
        # in JAX, a big batch goes on in narrower ones when most of its circuits are done
        assert classify(n, 2) <= (1 if dtype == "float32" else len(WIDTHS)) * one_width
    engine = protocol_engine(PRINZ2004, protocol)
    batch = engine.start(cold_states(5, PRINZ2004), *grid_sample(5))
    engine.advance(batch, np.arange(5))
    before = traces
    engine.advance(batch, np.arange(10, 15))
    assert traces == before


# ---------------------------------------------------------------- spikes


def test_spikes_are_the_maxima_of_the_trace(crowd):
    engine, gbar, gsyn, _ = crowd
    n = 40
    batch = engine.start(cold_states(n, PRINZ2004), gbar[:n], gsyn[:n])
    _, epoch, recorded = engine.record(batch, ("V",), 1)
    found = spikes_of(epoch)
    errors = []
    for V, times in zip(recorded["V"].reshape(n * 3, -1).astype(float), found, strict=True):
        left, middle, right = V[:-2], V[1:-1], V[2:]
        k = np.flatnonzero((middle >= left) & (middle > right))
        slope = (right[k] - left[k]) / 2
        curvature = left[k] - 2 * middle[k] + right[k]
        height = middle[k] - slope**2 / curvature / 2
        exact = ((k + 2) - slope / curvature) * 0.05
        # nearly as high as the threshold, or cut by the end: found or not
        certain = (np.abs(height) > 0.5) & (exact < 299)
        wanted = exact[certain & (height > 0)]
        distance = times[:, None] - wanted[None]
        if len(wanted):
            errors.extend(distance[np.abs(distance).argmin(axis=0), np.arange(len(wanted))])
        assert len(times) - len(wanted) <= (~certain & (height > -0.5)).sum()
    # samples are 0.1 ms apart; without interpolation the spread would be 0.03 ms
    assert len(errors) > 500
    assert np.max(np.abs(errors)) < 0.06 and np.std(errors) < 0.02


@pytest.mark.parametrize("n", [1, 7, 21_845, 21_846, 40_000])  # 65,535 trains, more, and many more
def test_spikes_of_slots_are_in_order_of_circuit_cell_and_time(n):
    rng = np.random.default_rng(n)
    slots = np.full((5, 3, n), np.nan, np.float32)
    for k, cell, circuit in rng.integers(0, slots.shape, (60, 3)):
        slots[k, cell, circuit] = k + rng.random()
    slots[3, 1, n // 2] = np.inf  # two spikes in one slot
    times, n_spikes, crowded = spikes_of_slots(slots)
    trains = [slots[:, cell, circuit] for circuit in range(n) for cell in range(3)]
    known = [t[~np.isnan(t)] for t in trains]
    assert n_spikes.ravel().tolist() == [len(t) for t in known] and n_spikes.shape == (n, 3)
    assert np.array_equal(times, np.concatenate(known))
    assert np.flatnonzero(crowded).tolist() == [n // 2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_on_a_plateau_is_no_spike(dtype):
    """A cell of the 2003 grid that spikes once and whose voltage then has its maxima above 0 mV."""
    gbar = prinz2003_gbar(1640742)[None, None]
    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=1000.0, dtype=dtype)
    batch = engine.start(cold_states(1, SINGLE_CELL), gbar, np.zeros((1, 0)))
    n_spikes = []
    for _ in range(3):
        batch, epoch = engine.epoch(batch)
        assert epoch.V_max[0, 0] > 0 and not epoch.crowded[0]
        n_spikes.append(int(epoch.n_spikes[0, 0]))
    assert n_spikes == [1, 0, 0]


def test_threshold(crowd):
    """Maxima from -20 mV up are the spikes that a threshold of 0 mV leaves, and more."""
    engine, gbar, gsyn, _ = crowd
    low = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=300, spike_threshold_mV=-20.0)
    batch = engine.start(cold_states(30, PRINZ2004), gbar[:30], gsyn[:30])
    (_, usual), (_, more) = engine.epoch(batch), low.epoch(batch)
    assert (more.n_spikes >= usual.n_spikes).all()
    assert more.n_spikes.sum() > usual.n_spikes.sum() > 50


def test_voltage_statistics(crowd):
    engine, gbar, gsyn, _ = crowd
    state = cold_states(6, PRINZ2004)
    state["V"][:2], state["V"][2:4] = -120, 90  # beyond all that follows, and not of the epoch
    batch = engine.start(state, gbar[:6], gsyn[:6])
    _, epoch, recorded = engine.record(batch, ("V",), engine.stride)
    V = recorded["V"].astype(float)
    np.testing.assert_array_equal(epoch.V_min, V.min(axis=-1))
    np.testing.assert_array_equal(epoch.V_max, V.max(axis=-1))
    np.testing.assert_allclose(epoch.V_mean, V.mean(axis=-1), atol=5e-4)
    assert ((epoch.V_min <= epoch.V_mean) & (epoch.V_mean <= epoch.V_max)).all()


def test_the_mean_of_a_cell_at_rest_is_its_voltage():
    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10_000)
    gbar = cell_gbar("PY 2")[None, None]
    batch = engine.start(cold_states(1, SINGLE_CELL), gbar, np.zeros((1, 0)))
    batch, _ = engine.epoch(batch)
    _, epoch = engine.epoch(batch)
    assert epoch.V_max - epoch.V_min < 1e-3
    assert epoch.V_min <= epoch.V_mean <= epoch.V_max


def test_float32_against_float64_over_the_first_second():
    gbar, gsyn = grid_sample(30, seed=7)
    found = []
    for dtype in ("float32", "float64"):
        engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=1000, dtype=dtype)
        _, epoch = engine.epoch(engine.start(cold_states(30, PRINZ2004), gbar, gsyn))
        found.append(spikes_of(epoch))
    worst = [
        np.abs(a - b).max() if len(a) == len(b) else np.inf
        for a, b in zip(*found, strict=True)
        if len(b)
    ]
    assert np.median(worst) < 0.04
    assert np.mean(np.array(worst) < 1) > 0.7  # the rest are sensitive circuits


# ---------------------------------------------------------------- what goes wrong


#: A cell of the grid of 2003, without A and Kd, whose spikes end in a plateau with two maxima.
TWO_MAXIMA = np.array([100, 0, 6, 0, 5, 0, 0.03, 0.01])


def test_two_spikes_within_a_slot_are_reported():
    gbar = np.stack([TWO_MAXIMA, cell_gbar("PY 2")])[:, None]
    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=4000)
    _, epoch = engine.epoch(engine.start(cold_states(2, SINGLE_CELL), gbar, np.zeros((2, 0))))
    assert epoch.crowded.tolist() == [True, False]
    assert not epoch.nonfinite.any()


def test_spikes_of_warm_cells_are_kept_however_close_they_are():
    """With every rate twenty times as fast a cell fires more than one spike in 2 ms."""
    fast = Constants(
        C=0.05, Q10_tau_m=20.0, Q10_tau_h=20.0, Q10_tau_Ca=20.0, RT_2F=12.2 * 283 / 293
    )
    gbar, i_ext = cell_gbar("LP 4")[None, None], np.array([[6.0]])
    trains = []
    for dt_ms, dtype in ((0.0025, "float32"), (0.00125, "float64")):
        engine = Engine(
            SINGLE_CELL, dt_ms=dt_ms, epoch_ms=100, constants=fast, temperature_K=293, dtype=dtype
        )
        start = engine.start(cold_states(1, SINGLE_CELL), gbar, np.zeros((1, 0)), i_ext)
        _, epoch = engine.epoch(start)
        assert not epoch.crowded.any()
        trains.append(epoch.spike_ms[epoch.spike_ms < 10])  # later ones depend on rounding
    assert len(trains[0]) == 5 and np.diff(trains[0]).max() < 1
    np.testing.assert_allclose(trains[0], trains[1], atol=0.005)


def failing(n_normal=4):
    """Normal circuits with insane ones between them; positions of the insane."""
    gbar, gsyn = grid_sample(n_normal + 3, seed=9)
    gbar[1, 0, 1] = 1e30  # a calcium conductance that blows calcium up
    gbar[3] = 1e38  # their sum overflows float32
    gbar[5, 2, 2] = 1e30
    return gbar, gsyn, [1, 3, 5]


SHORT = Protocol(transient_ms=200, epoch_ms=200, min_ms=400, max_ms=800)


def test_failed_circuits_have_a_status_and_leave_the_others_alone():
    gbar, gsyn, insane = failing()
    n = len(gbar)
    normal = [i for i in range(n) if i not in insane]
    columns, states = run_circuits(
        gbar, gsyn, cold_states(n, PRINZ2004), circuit=PRINZ2004, protocol=SHORT
    )
    assert set(columns["status"][insane]) <= {"nonfinite", "out_of_range"}
    assert "nonfinite" in columns["status"][insane]
    assert set(columns["status"][normal]) == {"ok"}
    for name, values in columns.items():
        failed = values[insane]
        if name == "t_simulated_ms":
            assert (failed < SHORT.max_ms).all()  # given up at once
        elif values.dtype == bool:
            assert not failed.any(), name
        elif name.startswith("activity"):
            assert set(failed) == {""}, name  # not silent
        elif name != "status":
            assert np.isnan(failed).all(), name
    alone, alone_states = run_circuits(
        gbar[normal],
        gsyn[normal],
        cold_states(len(normal), PRINZ2004),
        circuit=PRINZ2004,
        protocol=SHORT,
    )
    for name, values in alone.items():
        np.testing.assert_array_equal(columns[name][normal], values, err_msg=name)
    for name, values in alone_states.items():
        np.testing.assert_array_equal(states[name][normal], values, err_msg=name)


def test_out_of_range():
    """A current that holds a cell below -250 mV: finite, but not a cell."""
    gbar, gsyn = grid_sample(2)
    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=100)
    i_ext = np.zeros((2, 3))
    i_ext[1, 2] = -3.0
    batch = engine.start(cold_states(2, PRINZ2004), gbar, gsyn, i_ext)
    _, epoch = engine.epoch(batch)
    assert epoch.out_of_range.tolist() == [False, True]
    assert epoch.nonfinite.tolist() == [False, False]


def test_crowded_epochs_become_event_overflow(monkeypatch):
    epoch_of = Engine.epoch

    def crowded(self, batch):
        end, epoch = epoch_of(self, batch)
        marks = epoch.crowded.copy()
        marks[0] = True
        return end, replace(epoch, crowded=marks)

    gbar, gsyn = grid_sample(3)
    cold = cold_states(3, PRINZ2004)
    wanted, _ = run_circuits(gbar, gsyn, cold, circuit=PRINZ2004, protocol=SHORT)
    with monkeypatch.context() as patch:
        calls = 0

        def once(self, batch):
            nonlocal calls
            calls += 1
            return crowded(self, batch) if calls == 1 else epoch_of(self, batch)

        patch.setattr(Engine, "epoch", once)
        found, _ = run_circuits(gbar, gsyn, cold, circuit=PRINZ2004, protocol=SHORT)
    assert found["status"].tolist() == ["event_overflow", "ok", "ok"]
    assert found["activity_abpd"][0] == "" and np.isnan(found["spike_rate_abpd_Hz"][0])
    for name in wanted:
        np.testing.assert_array_equal(found[name][1:], wanted[name][1:], err_msg=name)


def test_epoch_must_hold_whole_steps():
    with pytest.raises(ConfigError, match=r"epoch_ms \(100\) must be a multiple of dt_ms \(0.03\)"):
        Engine(PRINZ2004, dt_ms=0.03, epoch_ms=100)


def test_double_precision_leaves_no_setting_behind():
    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10, dtype="float64")
    batch = engine.start(
        cold_states(1, SINGLE_CELL), cell_gbar("LP 1")[None, None], np.zeros((1, 0))
    )
    end, _ = engine.epoch(batch)
    assert end.state[0].dtype == np.float64
    assert not jax.config.jax_enable_x64
