"""The CPU's kernel: its tables, its printed functions, and JAX's own program."""

import ctypes

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuits import CIRCUITS, published_cells, pyloric_grid

from pyloric_db.integrate import machine_code
from pyloric_db.integrate.arithmetic import Arithmetic
from pyloric_db.integrate.engine import Engine
from pyloric_db.integrate.llvm_source import VectorLines, scheduled
from pyloric_db.integrate.step import make_stepper
from pyloric_db.integrate.tables import HIGHEST_mV, LOWEST_mV, make_tables
from pyloric_db.integrate.vector_kernel import VectorKernel
from pyloric_db.model.cells import prinz2003_gbar
from pyloric_db.model.channels import PRINZ_CHANNELS
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL
from pyloric_db.model.constants import Constants
from pyloric_db.model.equations import steady_state, synaptic_steady_state, time_constant
from pyloric_db.pipeline.states import cold_states

DT = 0.05
WIDTHS = (8, 16)  # of vectors; LLVM splits them where registers are shorter


def tables_of(circuit, **options):
    return make_tables(make_stepper(circuit, dt=DT, dtype="float64", **options))


def between_rows(rows, V):
    """(V, k or B, column) by linear interpolation."""
    voltages = np.linspace(LOWEST_mV, HIGHEST_mV, len(rows))
    flat = rows.reshape(len(rows), -1).T
    return np.array([np.interp(V, voltages, column) for column in flat]).T.reshape(
        len(V), *rows.shape[1:]
    )


# ---------------------------------------------------------------- tables


def test_tables_hold_the_models_equations():
    """Steady state and time constant of every gate, between the rows too."""
    stepper = make_stepper(PRINZ2004, dt=DT, dtype="float64")
    tables = tables_of(PRINZ2004)
    V = np.random.default_rng(1).uniform(-95, 70, 2000)
    found = between_rows(tables.rows.astype(float), V)
    channels = {channel.name: channel for channel in PRINZ_CHANNELS}
    for group, places in zip(stepper.groups, tables.gates, strict=True):
        for (which, name), place in zip(group.keys, places, strict=True):
            gate = getattr(channels[name], which)
            if group.half_Ca_uM is None:
                k, B = found[:, :, place].T
            else:
                np.testing.assert_array_equal(found[:, 0, place], 1)
                k, B = found[:, 1, place].T
            exact = -np.expm1(-DT / time_constant(gate, V))
            np.testing.assert_allclose(k, exact, rtol=2e-4, err_msg=f"{which} of {name}")
            at = steady_state(gate, V, np.full_like(V, 1e30))
            np.testing.assert_allclose(B / k, at, atol=2e-5, err_msg=f"{which} of {name}")
    for source, place in zip(PRINZ2004.sources, tables.sources, strict=True):
        transmitter = next(t for t in Constants().transmitters if t.name == source.transmitter)
        at = synaptic_steady_state(V, transmitter.inf.V_half, transmitter.inf.slope)
        tau = (1 - at) / transmitter.k_minus
        np.testing.assert_allclose(found[:, 0, place], -np.expm1(-DT / tau), atol=2e-5)
        np.testing.assert_allclose(found[:, 1, place] / found[:, 0, place], at, atol=2e-5)


def test_tables_follow_the_temperature():
    warm = Constants(Q10_tau_m=2.0, Q10_tau_h=2.0)
    cold, hot = (
        tables_of(SINGLE_CELL, constants=warm, temperature_K=T).rows for T in (283.0, 293.0)
    )
    cold, hot = (rows[1500:3200, 0] for rows in (cold, hot))  # from -100 to 70 mV
    slow = cold < 0.01  # where 1 - exp(-x) is x
    np.testing.assert_allclose(hot[slow], 2 * cold[slow], rtol=0.01)
    assert slow.sum() > 5_000


def test_the_ends_of_the_tables_are_finite():
    for circuit in CIRCUITS.values():
        rows = tables_of(circuit).rows
        assert np.isfinite(rows).all() and (rows >= -1e-6).all() and (rows <= 1.0001).all()


# ---------------------------------------------------------------- printing


def compiled(function, *inputs):
    """What printed and compiled lines make of float vectors."""
    code = VectorLines(len(inputs[0]))
    kind = code.float_type
    names = [np.array([code.line(f"load {kind}, ptr %a{i}, align 4")], object)
             for i in range(len(inputs))]  # fmt: skip
    (result,) = code.apply(function, *names)
    code.lines.append(f"store {kind} {code.floats(result[0])}, ptr %out, align 4")
    arguments = ", ".join(f"ptr %a{i}" for i in range(len(inputs)))
    lines = "\n".join(scheduled(code.lines))
    kept = machine_code.compiled(
        f"define void @epoch({arguments}, ptr %out) {{\n{lines}\nret void\n}}\n"
    )
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(inputs) + 1))
    out = np.empty_like(inputs[0])
    call(kept.get_function_address("epoch"))(*(a.ctypes.data for a in (*inputs, out)))
    return out


ARITHMETIC = Arithmetic("float32")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: (a + 2.5) * b - a / b,
        lambda a, b: jnp.where((a > b) & (a != 1.0), -a, b * np.float32(0.1)),
        lambda a, b: jnp.maximum(a, 0.0) + jnp.minimum(b, 1.0),
        lambda a, b: jnp.where(a >= b, 1.0, jnp.where(jnp.isnan(a), 2.0, b)),
        lambda a, b: ARITHMETIC.log(b * b + 1e-3),
        lambda a, b: ARITHMETIC.one_minus_exp(b * b),
    ],
)
def test_printed_vectors_compute_the_function(function, width):
    rng = np.random.default_rng(3)
    a, b = (rng.normal(0, 3, width).astype(np.float32) for _ in "ab")
    wanted = np.asarray(jax.jit(function)(a, b))
    # a product and its sum may be rounded once
    np.testing.assert_allclose(compiled(function, a, b), wanted, rtol=1e-5, atol=1e-6)


def test_few_results_wait_for_what_needs_them():
    made = [f"%a{i} = load x, ptr %m{i}" for i in range(100)]
    used = [f"%b{i} = neg %a{i}" for i in range(100)]
    stores = [f"store %b{i}, ptr %m{i}" for i in range(100)]
    order = scheduled([*made, *used, *stores])
    assert sorted(order) == sorted([*made, *used, *stores]) and order[-100:] == stores
    waiting = np.cumsum([1 if line in made else -1 for line in order[:-100]])
    assert waiting.min() == 0 and waiting.max() < 10


def test_a_long_chain_is_begun_before_short_ones_are_done():
    short = [f"%s{i} = neg %in" for i in range(40)]
    chain = ["%c0 = neg %in", *(f"%c{i + 1} = neg %c{i}" for i in range(9))]
    stores = [*(f"store %s{i}, ptr %m{i}" for i in range(40)), "store %c9, ptr %n"]
    order = scheduled([*short, *chain, *stores])
    assert sorted(order) == sorted([*short, *chain, *stores]) and order[-41:] == stores
    places = [order.index(line) for line in chain]
    assert places == sorted(places) and places[0] == 0
    assert all(b - a > 1 for a, b in zip(places[5:], places[6:], strict=False))  # not at once


# ---------------------------------------------------------------- the kernel


def engines(monkeypatch, circuit, **options):
    """The engine with the kernel, and one with JAX's program."""
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_vectors", None)
        plain = Engine(circuit, dt_ms=DT, **options)
        plain._program()
    plain.__dict__["_vectors"] = None
    return Engine(circuit, dt_ms=DT, **options), plain


def a_batch(engine, n):
    return engine.start(cold_states(n, engine.circuit), *published_cells(engine.circuit, n))


@pytest.mark.parametrize(
    ("name", "scheme"),
    [*((name, "gates_first") for name in CIRCUITS), ("prinz2004", "old_state")],
)
def test_the_kernel_agrees_with_jax_over_100_ms(monkeypatch, name, scheme):
    pair = engines(monkeypatch, CIRCUITS[name], epoch_ms=50, scheme=scheme)
    batches = [a_batch(engine, 20) for engine in pair]
    errors = []
    for _ in range(2):
        (batches[0], found), (batches[1], wanted) = (
            engine.epoch(batch) for engine, batch in zip(pair, batches, strict=True)
        )
        np.testing.assert_array_equal(found.n_spikes, wanted.n_spikes)
        errors.extend(np.abs(found.spike_ms - wanted.spike_ms))
        for field in ("V_min", "V_max", "V_mean"):
            np.testing.assert_allclose(getattr(found, field), getattr(wanted, field), atol=1)
    assert len(errors) > 20 and np.median(errors) < 2e-3 and np.max(errors) < 0.05


def test_the_kernel_is_as_near_to_float64_as_jax_in_float32(monkeypatch):
    n = 64
    gbar, gsyn = pyloric_grid(np.random.default_rng(4).integers(0, 20_250_000, n))
    exact = Engine(PRINZ2004, dt_ms=DT, epoch_ms=200, dtype="float64")
    kernel, plain = engines(monkeypatch, PRINZ2004, epoch_ms=200)
    found = []
    for engine in (exact, kernel, plain):
        _, epoch = engine.epoch(engine.start(cold_states(n, PRINZ2004), gbar, gsyn))
        found.append(epoch)
    np.testing.assert_array_equal(found[0].n_spikes, found[1].n_spikes)
    np.testing.assert_array_equal(found[0].n_spikes, found[2].n_spikes)
    ours, jaxs = (np.abs(f.spike_ms - found[0].spike_ms) for f in found[1:])
    assert len(ours) > 200
    assert np.median(ours) < 3 * np.median(jaxs) and np.median(ours) < 0.002


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_width_of_vectors_changes_no_bit(monkeypatch, name):
    found = []
    for width in WIDTHS:
        monkeypatch.setattr(machine_code, "vector_width", lambda width=width: width)
        engine = Engine(CIRCUITS[name], dt_ms=DT, epoch_ms=100)
        batch, epoch = engine.epoch(a_batch(engine, 20))
        assert engine._vectors.width == width and epoch.spike_ms.size
        state = (batch.state, batch.V_before)
        found.append([np.asarray(a).view(np.int32) for a in jax.tree.leaves(state)])
        found[-1].append(epoch.spike_ms)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_cells_that_run_in_pairs_do_what_they_do_alone():
    n = 100
    gbar = prinz2003_gbar(np.random.default_rng(5).integers(1, 6**8, n))[:, None]
    found = []
    for copies in (1, 2):
        engine = Engine(SINGLE_CELL, dt_ms=DT, epoch_ms=100)
        if copies == 1:
            tables = tables_of(SINGLE_CELL)
            engine.__dict__["_vectors"] = VectorKernel(engine.stepper, tables, **engine._shape)
        assert engine._vectors.width == copies * machine_code.vector_width()
        batch = engine.start(cold_states(n, SINGLE_CELL), gbar, np.zeros((n, 0)))
        batch, epoch = engine.epoch(batch)
        batch, later, recorded = engine.record(batch, ("V", "m", "h"), every=4)
        state = engine.advance(batch, np.random.default_rng(6).integers(0, 1000, n))
        found.append(jax.tree.leaves((vars(epoch), vars(later), recorded, state)))
    assert len(found[0]) > 20 and found[0][0].size  # spikes, too
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_vectors_fit_the_machines_registers(monkeypatch):
    for features, width in (({"avx2": True}, 8), ({"avx2": True, "avx512f": True}, 16)):
        monkeypatch.setattr(machine_code.llvm, "get_host_cpu_features", lambda f=features: f)
        assert machine_code.vector_width() == width
