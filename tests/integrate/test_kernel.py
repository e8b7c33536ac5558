"""The CUDA kernel: as C on the processor, compiled for a GPU, and on one where there is one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import host_cuda
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from circuits import CIRCUITS, published_cells, pyloric_grid

import pyloric_db
from pyloric_db.errors import PyloricDBWarning
from pyloric_db.integrate import engine as engine_module
from pyloric_db.integrate import kernel
from pyloric_db.integrate.arithmetic import GpuArithmetic
from pyloric_db.integrate.cuda_source import CudaLines
from pyloric_db.integrate.engine import Engine
from pyloric_db.integrate.step import make_stepper
from pyloric_db.model.cells import cell_gbar
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL
from pyloric_db.pipeline import run as run_module
from pyloric_db.pipeline import thermalise as thermalise_module
from pyloric_db.pipeline.run import run_circuits
from pyloric_db.pipeline.states import cold_states
from pyloric_db.pipeline.thermalise import thermalise
from pyloric_db.protocol import Protocol

N_GRID = 20_250_000
NVCC = shutil.which("nvcc")

needs_compiler = pytest.mark.skipif(host_cuda.COMPILER is None, reason="no C++ compiler")


def grid_sample(n, seed=0):
    return pyloric_grid(np.random.default_rng(seed).integers(0, N_GRID, n))


def engines(monkeypatch, circuit, **options):
    """The engine that uses the GPU, and the CPU's."""
    found = []
    for gpu in (True, False):
        monkeypatch.setattr(engine_module, "gpu_is_used", lambda gpu=gpu: gpu)
        found.append(Engine(circuit, **options))
    return found


@pytest.fixture
def on_host(monkeypatch):
    """The kernel runs on the processor, by a stand-in for CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", host_cuda.cupy())


def a_batch(engine, n):
    return engine.start(cold_states(n, engine.circuit), *published_cells(engine.circuit, n))


# ---------------------------------------------------------------- printing


def test_printed_lines_compute_the_function():
    """By running them as Python, whose operators these are."""

    def function(j, a):
        both = jnp.stack([a[0] * 2.5, a[1] + j.astype(a.dtype)])
        return jnp.where(both > 0, both, both * np.array([[0.0], [1.0]], np.float32))

    lines = CudaLines()
    a = np.array(["a0", "a1", "a2", "a3"], object).reshape(2, 2)
    (result,) = lines.apply(function, np.array("j", object), a)
    values = {"a0": 1.5, "a1": -2.0, "a2": -4.0, "a3": 3.0, "j": 2}
    for line in lines.lines:
        name, expression = re.fullmatch(r"const \w+ (\w+) = (.*);", line).groups()
        expression = re.sub(r"(.*) \? (.*) : (.*)", r"\2 if \1 else \3", expression)
        expression = re.sub(r"\(float\)|(?<=\d)f\b", "", expression)
        values[name] = eval(expression, {}, values)
    found = [[values.get(x, x) for x in row] for row in result]
    np.testing.assert_array_equal(
        found, function(jnp.array(2), jnp.array([[1.5, -2], [-4, 3]], jnp.float32))
    )
    # nothing is printed for what only moves, and a product with 0 is 0:
    # two products, a conversion, two sums, four comparisons, two products, four choices
    assert len(lines.lines) == 15


@pytest.mark.parametrize(
    "function",
    [
        lambda a: list(a),
        lambda a: [a[1:, ::2], a[2], a[:, None, 1]],
        lambda a: [jnp.stack([a[0], a[2]], axis=1)],
        lambda a: [jnp.concatenate([a, a[:1]]), a.reshape(2, 6), a.ravel()],
        lambda a: [jnp.broadcast_to(a[:, None], (3, 2, 4))],
    ],
)
def test_what_only_moves_elements_leaves_no_code(function):
    numbers = np.arange(12).reshape(3, 4)
    names = np.array([f"a{i}" for i in range(12)], object)
    lines = CudaLines()
    found = lines.apply(function, names.reshape(3, 4))
    wanted = function(jnp.asarray(numbers))
    assert lines.lines == [] and len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, names[np.asarray(b)])


def test_variables_change_all_at_once():
    lines = CudaLines()
    a = np.array(["a", "b"], object)
    lines.assign([a], [a[::-1]])
    assert lines.lines == [
        "const float old_b = b;",
        "const float old_a = a;",
        "a = old_b;",
        "b = old_a;",
    ]


# ---------------------------------------------------------------- the kernel on the processor


@needs_compiler
@pytest.mark.parametrize(
    ("name", "scheme"),
    [*((name, "gates_first") for name in CIRCUITS), ("prinz2004", "old_state")],
)
def test_the_kernel_agrees_with_the_cpu_over_100_ms(monkeypatch, on_host, name, scheme):
    gpu, cpu = engines(monkeypatch, CIRCUITS[name], dt_ms=0.05, epoch_ms=50, scheme=scheme)
    n = 40
    batches = [a_batch(engine, n) for engine in (gpu, cpu)]
    errors = []
    for _ in range(2):
        (batches[0], found), (batches[1], wanted) = (
            engine.epoch(batch) for engine, batch in zip((gpu, cpu), batches, strict=True)
        )
        np.testing.assert_array_equal(found.n_spikes, wanted.n_spikes)
        # two microseconds, but for circuits that are sensitive to rounding; the many cells of
        # `nine` drive each other and add to it
        atol = 2e-2 if name == "nine" else 1e-2
        errors.extend(np.abs(found.spike_ms - wanted.spike_ms))
        np.testing.assert_allclose(found.spike_ms, wanted.spike_ms, atol=atol)
        for field in ("V_min", "V_max", "V_mean"):
            a, b = getattr(found, field), getattr(wanted, field)
            np.testing.assert_allclose(a, b, atol=100 * atol, err_msg=field)
        assert found.spike_ms.dtype == wanted.spike_ms.dtype
        assert not (found.crowded | found.nonfinite | found.out_of_range).any()
    assert len(errors) > n and np.median(errors) < 2e-3
    states = [
        engine.stepper.unpack(batch.state)
        for engine, batch in zip((gpu, cpu), batches, strict=True)
    ]
    for key, values in states[1].items():
        error = np.abs(states[0][key] - values)
        scale = 100 if key in ("V", "Ca") else 1
        # in a spike, at 400 mV/ms, a microsecond is 0.4 mV
        assert error.max() < 10 * atol * scale and np.median(error) < 2e-5 * scale, key


@needs_compiler
def test_what_goes_wrong_is_reported(monkeypatch, on_host):
    # a cell whose spikes end in a plateau with two maxima
    gbar = np.stack([[100, 0, 6, 0, 5, 0, 0.03, 0.01], cell_gbar("PY 2")])[:, None]
    for engine in engines(monkeypatch, SINGLE_CELL, dt_ms=0.05, epoch_ms=4000):
        batch = engine.start(cold_states(2, SINGLE_CELL), gbar, np.zeros((2, 0)))
        _, epoch = engine.epoch(batch)
        assert epoch.crowded.tolist() == [True, False]
        assert not (epoch.nonfinite | epoch.out_of_range).any()
    gbar, gsyn = grid_sample(3)
    gbar[2] = 1e38
    i_ext = np.zeros((3, 3))
    i_ext[1, 2] = -3.0
    for engine in engines(monkeypatch, PRINZ2004, dt_ms=0.05, epoch_ms=100):
        _, epoch = engine.epoch(engine.start(cold_states(3, PRINZ2004), gbar, gsyn, i_ext))
        assert epoch.nonfinite.tolist() == [False, False, True]
        assert epoch.out_of_range.tolist() == [False, True, False]


@needs_compiler
def test_recording_and_advancing_take_batches_from_the_gpu(monkeypatch, on_host):
    gpu, cpu = engines(monkeypatch, CIRCUITS["two"], dt_ms=0.05, epoch_ms=20)
    batch, reference = (a_batch(engine, 5) for engine in (gpu, cpu))
    steps = np.array([0, 400, 7, 400, 1])
    for a, b in zip(gpu.advance(batch, steps), cpu.advance(reference, steps), strict=True):
        np.testing.assert_array_equal(a, b)
    end, epoch, recorded = gpu.record(batch, ("V", "h"), 10)
    wanted_end, wanted, wanted_recorded = cpu.record(reference, ("V", "h"), 10)
    np.testing.assert_array_equal(epoch.spike_ms, wanted.spike_ms)
    for name, values in wanted_recorded.items():
        np.testing.assert_array_equal(recorded[name], values)
    # and an epoch goes on from there
    (_, after), (_, wanted) = gpu.epoch(end), cpu.epoch(wanted_end)
    np.testing.assert_allclose(after.V_mean, wanted.V_mean, atol=1e-3)


SHORT = Protocol(transient_ms=200, epoch_ms=100, min_ms=400, max_ms=800, thermal_max_ms=1000)


@needs_compiler
def test_circuits_run_on_lanes_of_the_gpu(monkeypatch, on_host):
    """More circuits than lanes, so that some leave and others take their places."""
    gbar, gsyn = grid_sample(40, seed=4)
    gbar[3] = 1e38
    found = []
    cold = cold_states(40, PRINZ2004)
    for engine in engines(monkeypatch, PRINZ2004, dt_ms=0.05, epoch_ms=100):
        engine.lanes = 16
        monkeypatch.setattr(run_module, "protocol_engine", lambda *_, e=engine: e)
        found.append(run_circuits(gbar, gsyn, cold, circuit=PRINZ2004, protocol=SHORT))
    (columns, states), (wanted, wanted_states) = found
    assert columns["status"].tolist() == wanted["status"].tolist()
    assert set(columns["status"]) == {"ok", "nonfinite"}
    same = columns["activity_abpd"] == wanted["activity_abpd"]
    assert same.mean() >= 0.95
    for name in ("v_mean_lp_mV", "spike_rate_abpd_Hz"):
        np.testing.assert_allclose(np.nanmedian(np.abs(columns[name] - wanted[name])), 0, atol=1e-3)
    for name, values in wanted_states.items():
        assert states[name].shape == values.shape and states[name].dtype == values.dtype


@needs_compiler
def test_cells_are_thermalised_on_the_gpu(monkeypatch, on_host):
    protocol = Protocol(thermal_max_ms=3000)
    gbar = np.stack([cell_gbar("AB/PD 1"), cell_gbar("LP 2")])
    found = []
    for engine in engines(monkeypatch, SINGLE_CELL, dt_ms=0.05, epoch_ms=protocol.epoch_ms):
        monkeypatch.setattr(thermalise_module, "protocol_engine", lambda *_, e=engine: e)
        found.append(thermalise(gbar, protocol))
    assert found[0].activity.tolist() == found[1].activity.tolist()
    np.testing.assert_allclose(found[0].states["V"], found[1].states["V"], atol=0.5)


def class_shares_are_the_cpus(monkeypatch, n):
    """Circuits that are sensitive to rounding change sides, as many this way as that."""
    engine_of = engines(monkeypatch, PRINZ2004, dt_ms=0.05, epoch_ms=Protocol().epoch_ms)
    gbar, gsyn = grid_sample(n)
    cold = cold_states(n, PRINZ2004)
    found = []
    for engine in engine_of:
        monkeypatch.setattr(run_module, "protocol_engine", lambda *_, e=engine: e)
        columns, _ = run_circuits(gbar, gsyn, cold, circuit=PRINZ2004, protocol=Protocol())
        found.append(columns)
    for name in ("activity_abpd", "activity_lp", "activity_py", "periodic", "pyloric"):
        here, there = found[0][name], found[1][name]
        # float32 and float64 agree for as many
        assert (here == there).mean() > 0.92, name
        for value in np.unique(there):
            gained = ((here == value) & (there != value)).sum()
            lost = ((here != value) & (there == value)).sum()
            assert abs(gained - lost) <= 1 + 4 * np.sqrt(gained + lost), (name, value)


@pytest.mark.slow
@needs_compiler
def test_class_shares_are_the_cpus(monkeypatch, on_host):
    class_shares_are_the_cpus(monkeypatch, 200)


@needs_compiler
def test_a_build_runs_the_kernel_in_its_workers(tmp_path):
    """Through the installed command line, CuPy's stand-in for all of its processes."""
    here = Path(__file__).parent
    (tmp_path / "cupy.py").write_text(
        "import host_cuda, pathlib\n"
        "globals().update(vars(host_cuda.cupy()))\n"
        "def RawModule(**given):\n"
        "    pathlib.Path(__file__).with_name('used').touch()\n"
        "    return host_cuda.RawModule(**given)\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{here}"}
    environment.pop("JAX_PLATFORMS", None)
    command = [Path(sys.executable).with_name("pyloric-db"), "build", "demo"]
    done = subprocess.run(
        [*command, "--sample", "4", "--out", tmp_path / "db", "--workers", "1"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "used").exists()
    assert pyloric_db.open(tmp_path / "db").query("status == 'ok'").sizes["circuit"] == 4


# ---------------------------------------------------------------- choosing


def test_without_a_gpu_the_cpu_runs(monkeypatch):
    kernel.gpu_is_used.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)  # cannot be imported
    assert not kernel.gpu_is_used()
    kernel.gpu_is_used.cache_clear()


class Driverless:
    """CuPy's `cuda`, where there is no driver or one that is too old."""

    @staticmethod
    def is_available():
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")


def test_a_driver_that_is_too_old_leaves_the_cpu_and_says_so(monkeypatch):
    kernel.gpu_is_used.cache_clear()
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=Driverless))
    with pytest.warns(PyloricDBWarning, match=r"finds no GPU \(cudaErrorInsufficientDriver: CUDA"):
        assert not kernel.gpu_is_used()
    kernel.gpu_is_used.cache_clear()


@pytest.mark.parametrize(
    ("platforms", "used"), [(None, True), ("", True), ("cpu", False), ("cuda,cpu", True)]
)
def test_jax_platforms_overrides(monkeypatch, on_host, platforms, used):
    kernel.gpu_is_used.cache_clear()
    if platforms is None:
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    else:
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert kernel.gpu_is_used() == used
    kernel.gpu_is_used.cache_clear()


def test_double_precision_stays_on_the_cpu(monkeypatch, on_host):
    monkeypatch.setattr(engine_module, "gpu_is_used", lambda: True)
    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10, dtype="float64")
    batch, _ = engine.epoch(a_batch(engine, 2))
    assert isinstance(batch.V_before, np.ndarray) and engine.lanes == engine_module.WIDTHS[-1]
    assert engine.gpu is None
    single = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10)
    assert single.gpu == "the processor" and single.lanes == 512


# ---------------------------------------------------------------- for a real GPU


@pytest.mark.skipif(NVCC is None, reason="no CUDA compiler")
def test_the_kernel_compiles_for_an_h100_and_stays_in_registers(tmp_path):
    stepper = make_stepper(PRINZ2004, dt=0.05, arithmetic=GpuArithmetic())
    source = kernel.epoch_source(
        stepper, stride=2, sample_ms=0.1, threshold_mV=0.0, samples=20, slots=500
    )
    (tmp_path / "kernel.cu").write_text(source)
    done = subprocess.run(
        [NVCC, "-cubin", "-arch=sm_90", *kernel.OPTIONS, "-Xptxas=-v", "kernel.cu"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    epoch = done.stderr.split("'epoch'")[1]
    assert "0 bytes spill stores, 0 bytes spill loads" in epoch
    limit = 65536 // (kernel.THREADS * kernel.BLOCKS_PER_MULTIPROCESSOR)
    assert int(re.search(r"Used (\d+) registers", epoch)[1]) <= limit


def test_jax_lowers_its_own_program_for_a_gpu(monkeypatch):
    monkeypatch.setattr(Engine, "_vectors", None)
    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=10)
    batch = a_batch(engine, 512)
    traced = engine._program().trace((batch.state, batch.V_before), batch.parameters, engine.stride)
    assert "stablehlo.while" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_jax_on_a_gpu_need_not_ask_how_often_a_loop_runs(monkeypatch):
    monkeypatch.setattr(Engine, "_vectors", None)
    cpu = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10)
    assert engine.widths == engine_module.GPU_WIDTHS
    batch = a_batch(engine, 3).padded(512)
    for e, known in ((cpu, False), (engine, True)):
        lowered = e._program().lower((batch.state, batch.V_before), batch.parameters, e.stride)
        text = lowered.compile().as_text()
        assert (text.count(" while(") == text.count("known_trip_count")) == known
    (_, found), (_, wanted) = (e.epoch(a_batch(e, 3)) for e in (engine, cpu))
    np.testing.assert_allclose(found.V_mean, wanted.V_mean, atol=1e-3)
    _, _, recorded = engine.record(a_batch(engine, 3), ("V",), 1)
    assert recorded["V"].shape == (3, 1, 200)


@pytest.fixture(scope="module")
def gpu_engine():
    kernel.gpu_is_used.cache_clear()
    if not kernel.gpu_is_used():
        pytest.skip("no GPU, or no CuPy")
    jax.config.update("jax_platforms", "cpu")  # what it is compared with
    return Engine(PRINZ2004, dt_ms=0.05, epoch_ms=1000)


@pytest.mark.gpu
def test_on_a_gpu_the_first_100_ms_are_the_cpus(gpu_engine, monkeypatch):
    gpu, cpu = engines(monkeypatch, PRINZ2004, dt_ms=0.05, epoch_ms=100)
    gbar, gsyn = grid_sample(500)
    cold = cold_states(500, PRINZ2004)
    (end, found), (wanted_end, wanted) = (e.epoch(e.start(cold, gbar, gsyn)) for e in (gpu, cpu))
    np.testing.assert_array_equal(found.n_spikes, wanted.n_spikes)
    np.testing.assert_allclose(found.spike_ms, wanted.spike_ms, atol=5e-3)
    V, wanted_V = gpu.stepper.unpack(end.state)["V"], wanted_end.state[0].T
    assert np.median(np.abs(V - wanted_V)) < 1e-3


@pytest.mark.gpu
def test_on_a_gpu_a_circuit_does_not_depend_on_its_batch(gpu_engine):
    gbar, gsyn = grid_sample(3000)
    cold = cold_states(3000, PRINZ2004)

    def run(which):
        states = {k: v[which] for k, v in cold.items()}
        end, epoch = gpu_engine.epoch(gpu_engine.start(states, gbar[which], gsyn[which]))
        spikes = np.split(epoch.spike_ms, np.cumsum(epoch.n_spikes.ravel())[:-1])
        return gpu_engine.stepper.unpack(end.state), [
            np.concatenate(spikes[i : i + 3]) for i in range(0, len(spikes), 3)
        ]

    state, spikes = run(np.arange(3000))
    for which in ([0], [2999, 5], np.arange(2000, 100, -7)):
        alone, alone_spikes = run(np.asarray(which))
        for name, values in alone.items():
            np.testing.assert_array_equal(values, state[name][which], err_msg=name)
        for a, i in zip(alone_spikes, which, strict=True):
            np.testing.assert_array_equal(a, spikes[i])


@pytest.mark.gpu
def test_on_a_gpu_class_shares_are_the_cpus(gpu_engine, monkeypatch):
    class_shares_are_the_cpus(monkeypatch, 2000)
