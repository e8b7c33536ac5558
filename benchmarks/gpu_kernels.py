"""The epoch's kernel as other vehicles than CUDA C would have it: Numba and Pallas.

    python benchmarks/gpu_kernels.py numba|mosaic|triton|jax FOLDER

compiles one for an H100, without a GPU, and leaves it in the folder: `kernel.ptx`, or for `jax`
(the engine's own program) `program.txt`, XLA's optimised form. The lines of the step are those of
the CUDA kernel, read as Python.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyloric_db.integrate.arithmetic import GpuArithmetic
from pyloric_db.integrate.engine import GPU_WIDTHS, SAMPLE_MS, SAMPLES_PER_SLOT, epoch_program
from pyloric_db.integrate.kernel import (
    BLOCKS_PER_MULTIPROCESSOR,
    THREADS,
    EpochLines,
    epoch_lines,
    epoch_source,
)
from pyloric_db.integrate.step import Stepper, make_stepper
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline.states import cold_states

DT_MS, EPOCH_MS = 0.05, 1000.0
STRIDE = round(SAMPLE_MS / DT_MS)
SLOTS = round(EPOCH_MS / (SAMPLE_MS * SAMPLES_PER_SLOT))
FINDING: dict[str, Any] = {"sample_ms": SAMPLE_MS, "threshold_mV": 0.0, "samples": SAMPLES_PER_SLOT}
MULTIPROCESSORS = 132  # of an H100
LANES = MULTIPROCESSORS * BLOCKS_PER_MULTIPROCESSOR * THREADS

#: XLA asks for this where it cannot ask a GPU.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 registers_per_core_limit: 65536
  registers_per_block_limit: 65536 cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

_C_WORDS = {
    "fmaxf": "fmax", "fminf": "fmin", "exp2f": "exp2", "logf": "log", "__fdividef": "divide",
    "__int_as_float": "as_float", "__float_as_int": "as_int", "(float)": "f32 ", "(int)": "i32 ",
}  # fmt: skip


def python_of(expression: str) -> str:
    """An expression of the printed C as Python."""
    if choice := re.fullmatch(r"(.*) \? (.*) : (.*)", expression):
        return f"where({', '.join(map(python_of, choice.groups()))})"
    for word, python in _C_WORDS.items():
        expression = expression.replace(word, python)
    expression = re.sub(r"\b([fi]32) (\w+)", r"\1(\2)", expression)
    return re.sub(r"(?<![\w.])(\d[\d.]*(?:e[-+]?\d+)?)f\b", r"f32(\1)", expression)


def statements(lines: list[str]) -> list[str]:
    """Lines of the printed C as Python."""
    parts = [re.fullmatch(r"(?:const )?(?:\w+ )?(\w+) = (.*);", line) for line in lines]
    return [f"{part[1]} = {python_of(part[2])}" for part in parts if part]


def gpu_stepper() -> Stepper:
    return make_stepper(PRINZ2004, dt=DT_MS, arithmetic=GpuArithmetic())


def cuda_source() -> str:
    """The epoch's CUDA C."""
    return epoch_source(gpu_stepper(), stride=STRIDE, slots=SLOTS, **FINDING)


def make_epoch() -> EpochLines:
    """The epoch, its lines as Python."""
    c = epoch_lines(gpu_stepper(), **FINDING)
    return replace(c, **{part: statements(getattr(c, part)) for part in ("start", "step", "look")})


# ---------------------------------------------------------------- Numba


def numba_kernel(epoch: EpochLines) -> str:
    """The epoch as a function for Numba."""
    lines = ["def epoch(n, state, parameters, spike_ms):", " lane = cuda.grid(1)"]
    lines += [" if lane >= n: return"]
    lines += [f" {name} = state[{i}, lane]" for i, name in enumerate(epoch.begin)]
    lines += [f" {name} = parameters[{i}, lane]" for i, name in enumerate(epoch.parameters)]
    lines += [f" {line}" for line in epoch.start]
    lines += [f" for j in range({SLOTS}):", f"  for k in range({SAMPLES_PER_SLOT}):"]
    lines += [f"   for i in range({STRIDE}):", *(f"    {line}" for line in epoch.step)]
    lines += [f"   {line}" for line in epoch.look]
    n = len(epoch.spike)
    lines += [f"  spike_ms[j * {n} + {i}, lane] = {x}" for i, x in enumerate(epoch.spike)]
    lines += [f" state[{i}, lane] = {name}" for i, name in enumerate(epoch.end)]
    text = "\n".join(lines)
    text = re.sub(r"where\((.*), (.*), (.*)\)", r"\2 if \1 else \3", text)
    return re.sub(r"divide\((.*?), (.*?)\)", r"(\1 / \2)", text)


def compile_numba(folder: Path) -> None:
    import math

    import numpy as np
    from numba import cuda, float32, int32
    from numba.cuda import libdevice

    words: dict[str, Any] = {
        "cuda": cuda, "f32": np.float32, "i32": np.int32, "fmax": max, "fmin": min,
        "exp2": math.exp2, "log": math.log, "as_float": libdevice.int_as_float,
        "as_int": libdevice.float_as_int,
    }  # fmt: skip
    exec(numba_kernel(make_epoch()), words)
    rows = float32[:, ::1]
    ptx, _ = cuda.compile_ptx(
        words["epoch"], (int32, rows, rows, rows), fastmath=True, cc=(9, 0), device=False
    )
    (folder / "kernel.ptx").write_text(ptx)


# ---------------------------------------------------------------- JAX and Pallas


def h100() -> Any:
    """A sharding on an H100 that is not there."""
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    import jax
    from jax._src import xla_bridge
    from jax.experimental import topologies

    # JAX looks for a GPU to find out what "gpu" means (its issue 23971)
    known = xla_bridge.canonicalize_platform
    vars(xla_bridge)["canonicalize_platform"] = lambda name: (
        "cuda" if name == "gpu" else known(name)
    )
    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    mesh = topologies.make_mesh(topology, (1,), ("device",))
    return jax.NamedSharding(mesh, jax.sharding.PartitionSpec())


def pallas_body(
    epoch: EpochLines,
    *,
    load: Callable[[Any, int], Any],
    store: Callable[[Any, Any, Any], None],
    spread: Callable[[Any], Any],
) -> Any:
    """The epoch as a Pallas kernel: every variable is a vector of a block's circuits, which
    `load` and `store` take from and put into a row; `spread` makes one of a constant."""
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    words: dict[str, Any] = {
        "f32": lambda x: x.astype(np.float32) if hasattr(x, "astype") else np.float32(x),
        "i32": lambda x: x.astype(np.int32), "fmax": jnp.maximum, "fmin": jnp.minimum,
        "exp2": jnp.exp2, "log": jnp.log, "divide": jnp.divide, "where": jnp.where,
        "as_float": lambda x: (
            lax.bitcast_convert_type(x, np.float32)
            if hasattr(x, "dtype")
            else np.int32(x).view(np.float32)
        ),
        "as_int": lambda x: lax.bitcast_convert_type(x, np.int32),
    }  # fmt: skip

    def run(lines: list[str], names: list[str], values: dict[str, Any]) -> tuple[Any, ...]:
        exec("\n".join(lines), words, values)
        found = [values[name] for name in names]
        return tuple(v if getattr(v, "ndim", 0) else spread(v) for v in found)

    def kernel(state_in: Any, parameters_in: Any, state_out: Any, spike_ms: Any) -> None:
        values = {name: load(state_in, i) for i, name in enumerate(epoch.begin)}
        p = {name: load(parameters_in, i) for i, name in enumerate(epoch.parameters)}
        state = tuple(values[name] for name in epoch.state)
        found = run(epoch.start, epoch.found, values)

        def step(_: Any, state: Any) -> Any:
            now = dict(zip(epoch.state, state, strict=True))
            return run(epoch.step, epoch.state, now | p)

        def slot(j: Any, c: Any) -> Any:
            def sample(k: Any, c: Any) -> Any:
                state, found = c
                state = lax.fori_loop(0, STRIDE, step, state)
                now = dict(zip([*epoch.state, *epoch.found], [*state, *found], strict=True))
                return state, run(epoch.look, epoch.found, now | {"j": j, "k": k})

            state, found = lax.fori_loop(0, SAMPLES_PER_SLOT, sample, c)
            n = len(epoch.spike)
            for i in range(n):
                store(spike_ms, j * n + i, found[len(found) - n + i])
            return state, found

        state, found = lax.fori_loop(0, SLOTS, slot, (state, found))
        for i, last in enumerate([*state, *found[: len(epoch.V_before)]]):
            store(state_out, i, last)

    return kernel


def shapes_of(epoch: EpochLines, sharding: Any) -> tuple[list[Any], list[Any]]:
    import jax
    import numpy as np

    rows = len(epoch.begin)
    shapes = [(rows, LANES), (len(epoch.parameters), LANES)]
    results = [(rows, LANES), (SLOTS * len(epoch.spike), LANES)]
    made = [jax.ShapeDtypeStruct(s, np.float32, sharding=sharding) for s in shapes]
    return made, [jax.ShapeDtypeStruct(s, np.float32) for s in results]


def compile_triton(folder: Path) -> None:
    dump = folder / "dump"
    os.environ["XLA_FLAGS"] = f"--xla_dump_to={dump}"
    sharding = h100()
    import jax
    import jax.numpy as jnp
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    epoch = make_epoch()

    def store(ref: Any, row: Any, values: Any) -> None:
        ref[row, :] = values

    given, results = shapes_of(epoch, sharding)

    def block(array: Any) -> Any:
        return pl.BlockSpec((array.shape[0], THREADS), lambda i: (0, i))

    call = pl.pallas_call(
        pallas_body(
            epoch,
            load=lambda ref, row: ref[row, :],
            store=store,
            spread=lambda value: jnp.full((THREADS,), value, jnp.float32),
        ),
        grid=(LANES // THREADS,),
        in_specs=[block(a) for a in given],
        out_specs=[block(a) for a in results],
        out_shape=results,
        compiler_params=triton.CompilerParams(num_warps=THREADS // 32, num_stages=1),
    )
    jax.jit(call).lower(*given).compile()
    ptx = max(dump.glob("*.ptx"), key=lambda file: file.stat().st_size)
    (folder / "kernel.ptx").write_text(ptx.read_text())


def compile_mosaic(folder: Path) -> None:
    os.environ["MOSAIC_GPU_DUMP_PTX"] = "1"
    sharding = h100()
    import jax
    import jax.numpy as jnp
    from jax import lax
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import mosaic_gpu

    epoch = make_epoch()
    layout = mosaic_gpu.Layout.WG_STRIDED((THREADS,), vec_size=1)

    def lanes() -> Any:
        return pl.ds(lax.axis_index("block") * THREADS, THREADS)

    def store(ref: Any, row: Any, values: Any) -> None:
        ref[row, lanes()] = values

    given, results = shapes_of(epoch, sharding)
    call = mosaic_gpu.kernel(
        pallas_body(
            epoch,
            load=lambda ref, row: ref[row, lanes()],
            store=store,
            spread=lambda value: mosaic_gpu.layout_cast(
                jnp.full((THREADS,), value, jnp.float32), layout
            ),
        ),
        out_type=results,
        grid=(LANES // THREADS,),
        grid_names=("block",),
    )
    # Mosaic prints what it was asked to dump
    printed = folder / "printed.txt"
    with _standard_output_into(printed):
        jax.jit(call).lower(*given).compile()
    ptx = printed.read_text()
    ptx = ptx[ptx.index(".version") :]
    # without the lines of the source, whose names are printed elsewhere
    lines = [line for line in ptx.splitlines() if not line.lstrip().startswith((".loc", ".file"))]
    end = next(i for i, line in enumerate(lines) if line == "}")
    (folder / "kernel.ptx").write_text("\n".join(lines[: end + 1]) + "\n")


@contextlib.contextmanager
def _standard_output_into(file: Path) -> Iterator[None]:
    kept = os.dup(1)
    with file.open("wb") as f:
        os.dup2(f.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def compile_jax(folder: Path) -> None:
    sharding = h100()
    import jax
    import numpy as np

    stepper = make_stepper(PRINZ2004, dt=DT_MS)
    cells, synapses = len(PRINZ2004.cells), len(PRINZ2004.synapse_names)
    state = stepper.pack(cold_states(1, PRINZ2004))
    parameters = stepper.parameters(
        np.zeros((1, cells, len(stepper.constants.channels))),
        np.zeros((1, synapses)),
        np.zeros((1, cells)),
    )
    carry, parameters = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(
            (*a.shape[:-1], GPU_WIDTHS[-1]), np.float32, sharding=sharding
        ),
        ((state, state[0]), parameters),
    )
    program = jax.jit(epoch_program(stepper, slots=SLOTS, **FINDING), static_argnums=2)
    compiled = program.lower(carry, parameters, STRIDE).compile()
    (folder / "program.txt").write_text(str(compiled.as_text()))


VEHICLES = {
    "numba": compile_numba,
    "mosaic": compile_mosaic,
    "triton": compile_triton,
    "jax": compile_jax,
}

if __name__ == "__main__":
    VEHICLES[sys.argv[1]](Path(sys.argv[2]))
