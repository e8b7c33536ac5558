"""Where the time of a step goes, in the CPU's kernel and in JAX's own program.

    python benchmarks/profile_step.py [--write-docs]

The CPU's kernel is a single loop, whose instructions are counted by kind, and whose cycles are
compared with LLVM's model of the processor (llvm-mca, left out where it is not installed). Of JAX's
program, loops and copies are counted in XLA's optimised form, exponentials and divisions in the
step's jaxpr, instructions in the machine code (objdump); shares of the time are samples of the
processor's clock (perf), without which they are left out. Writes docs/profile.md. For x86
processors with AVX2, on Linux.
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hlo import Body, Loop, loop_of, step_body
from page import DOCS, arguments, setting, table

PROFILE = DOCS / "profile.md"
EPOCHS = 8
#: Operations of a jaxpr that compute; the others move or name things.
ARITHMETIC = {
    "add", "sub", "mul", "div", "max", "min", "neg", "exp", "expm1", "log", "integer_pow",
    "shift_left", "shift_right_arithmetic", "and", "convert_element_type", "square",
}  # fmt: skip


def count(function: Any, batch: Any) -> Counter[str]:
    """Arithmetic operations of a function of state and parameters by name, per circuit."""
    import jax

    found: Counter[str] = Counter()

    def walk(jaxpr: Any) -> None:
        for equation in jaxpr.eqns:
            inner = [v for v in equation.params.values() if hasattr(v, "jaxpr")]
            for closed in inner:
                walk(closed.jaxpr)
            name = equation.primitive.name
            size = equation.outvars[0].aval.size
            if not inner and name in ARITHMETIC and size % len(batch) == 0:
                found[name] += size // len(batch)

    walk(jax.make_jaxpr(function)(batch.state, batch.parameters).jaxpr)
    return found


#: Where a sample can be that is in no loop.
COPYING = "copies"
STARTING = "XLA's runtime: starting loops"
ELSEWHERE = "everything else"


@dataclass(frozen=True)
class Timing:
    """Million circuit-steps per second of processor time, and samples by kernel."""

    Mcs_per_cpu_s: float
    samples: Counter[str] | None


def sample(engine: Any, batch: Any, loops: list[Loop]) -> Timing:
    """Run epochs under perf, where there is one, and count samples inside each loop."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        perf = None
        if shutil.which("perf"):
            perf = subprocess.Popen(
                ["perf", "record", "-q", "-e", "cpu-clock", "-F", "997",
                 "-p", str(os.getpid()), "-o", str(data)],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            time.sleep(1)
        began = time.process_time()
        for _ in range(EPOCHS):
            batch, _ = engine.epoch(batch)
        cpu_s = time.process_time() - began
        rate = EPOCHS * len(batch) * engine.n_steps / 1e6 / cpu_s
        if perf is None or perf.poll() is not None:
            return Timing(rate, None)
        perf.send_signal(signal.SIGINT)
        perf.wait()
        text = subprocess.run(
            ["perf", "script", "-F", "ip,sym,dso", "-i", str(data)], capture_output=True, text=True
        ).stdout
    return Timing(rate, _by_kernel(text.splitlines(), loops))


def _by_kernel(lines: list[str], loops: list[Loop]) -> Counter[str]:
    """Samples inside each kernel, found in memory by its code, and in what is around them."""
    ranges = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb") as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) \S*x\S* \S+ \S+ 0 *$", line)
            if match:
                first, last = (int(x, 16) for x in match.groups())
                memory.seek(first)
                block = memory.read(last - first)
                for loop in loops:
                    at = block.find(loop.code) if loop.code else -1
                    if at >= 0:
                        start = first + at - loop.offset
                        ranges.append((start, start + loop.size, loop.name))
    found: Counter[str] = Counter()
    for line in lines:
        fields = line.split(None, 1)
        if not fields:
            continue
        address = int(fields[0], 16)
        around = COPYING if "mem" in line and "libc" in line else ELSEWHERE
        if "jaxlib" in line:
            around = STARTING
        found[next((n for a, b, n in ranges if a <= address < b), around)] += 1
    return found


def _loops(dump: Path, names: list[str]) -> list[Loop]:
    """The machine code of these fusions."""
    loops = []
    for name in names:
        files = sorted(glob.glob(f"{dump}/*jit_run.obj-file.{name}_kernel_module.o"))
        if files:
            loops.append(loop_of(Path(files[0]), name))
    return loops


def _caches() -> str:
    levels = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / n).read_text().strip() for n in ("level", "type", "size"))
        if kind != "Instruction":
            levels.append(f"L{level} {int(size.rstrip('K')):,} KiB")
    return ", ".join(levels)


def _roles(body: Body, stepper: Any) -> dict[str, str]:
    """What each loop computes: the results of a step are the counter, then the state."""
    gates = ["gates " + " ".join(f"{c}.{w}" for w, c in g.keys) for g in stepper.groups]
    names = ["voltage", "calcium", "synapses", *gates]
    return dict(zip(body.results[1:], names, strict=False))


def report() -> str:
    dump = Path(tempfile.mkdtemp())
    os.environ["XLA_FLAGS"] = f"--xla_dump_to={dump} --xla_dump_hlo_as_text"
    try:
        return _report(dump)
    finally:
        shutil.rmtree(dump, ignore_errors=True)


def _report(dump: Path) -> str:
    import jax
    from kernel_code import by_kind, clock_GHz, modelled, step_of
    from problem import random_circuits

    from pyloric_db.integrate.engine import WIDTHS, Engine
    from pyloric_db.integrate.tables import HIGHEST_mV, LOWEST_mV
    from pyloric_db.model.circuit import PRINZ2004

    width = WIDTHS[-1]
    problem = random_circuits(width)
    for file in dump.glob("*"):  # of the single cells
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=1000.0)
    batch = engine.start(problem.states, problem.gbar, problem.gsyn)
    vectors = engine._vectors
    assert vectors is not None
    kernels_step, lanes, table_bytes = step_of(vectors.source), vectors.width, vectors._table.nbytes
    kernel, model = by_kind(kernels_step), modelled(kernels_step)
    batch, _ = engine.epoch(batch)
    of_kernel, clock = sample(engine, batch, []), clock_GHz()

    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=1000.0)
    engine.__dict__["_vectors"] = None  # so that JAX's own program runs
    batch, _ = engine.epoch(engine.start(problem.states, problem.gbar, problem.gsyn))
    program = next(dump.glob("*jit_run*cpu_after_optimizations.txt")).read_text()
    loop_over_steps = step_body(program)
    body, roles = loop_over_steps.instructions, _roles(loop_over_steps, engine.stepper)
    fusions = [i for i in loop_over_steps.of("fusion") if i.elements >= width]
    copies = [i for i in loop_over_steps.of("copy") if i.elements >= width]
    loops = _loops(dump, [f.name for f in fusions])
    others = sorted(
        {p.name.split("obj-file.")[1].removesuffix("_kernel_module.o")
         for p in dump.glob("*jit_run.obj-file.*_kernel_module.o")}
        - {f.name for f in fusions}
    )  # fmt: skip
    timing = sample(engine, batch, loops + _loops(dump, others))

    per_circuit = {loop.name: loop.per_step(body[loop.name].elements) / width for loop in loops}
    by_name = {loop.name: loop for loop in loops}
    moved = loop_over_steps.moved(width)
    with jax.enable_x64(True):
        double = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=1000.0, dtype="float64")
        double_batch = double.start(problem.states, problem.gbar, problem.gsyn)
        plain = count(double.stepper.step, double_batch)
        tabulated = count(lambda state, _: double.stepper.relax(state), double_batch)
    single = count(engine.stepper.step, batch)
    resident = sum(np.asarray(a).nbytes for a in (*batch.state, *batch.parameters))
    instructions = sum(per_circuit.values())
    divisions = sum(by_name[f.name].divisions * f.elements / 8 / width for f in fusions)
    spills = sum(by_name[f.name].spills * f.elements / 8 / width for f in fusions)
    samples = timing.samples
    total = sum(samples.values()) if samples else 0

    rows = []
    for f in sorted(fusions, key=lambda f: -per_circuit[f.name]):
        share = f"{100 * samples[f.name] / total:.1f}%" if samples else ""
        rows.append([roles.get(f.name, f.name), f"{per_circuit[f.name]:.1f}",
                     f"{by_name[f.name].divisions * f.elements / 8 / width:.2f}",
                     f"{moved[f.name] / width:.0f}", share])  # fmt: skip
    if samples:
        beside = sum(samples[name] for name in others)
        rows.append(["spikes and voltage statistics", "", "", "", f"{100 * beside / total:.1f}%"])
        for name in (COPYING, STARTING, ELSEWHERE):
            rows.append([name, "", "", "", f"{100 * samples[name] / total:.1f}%"])
    rows.append(["**all**", f"**{instructions:.1f}**", f"**{divisions:.2f}**",
                 f"**{sum(moved.values()) / width:.0f}**", ""])  # fmt: skip
    per_lane = instructions * 8
    facts = [
        ["loops (fusions) and copies per step", f"{len(fusions)} and {len(copies)}"],
        ["exponentials, logarithms per circuit-step",
         f"{plain['exp'] + plain['expm1']} and {plain['log']}"],
        ["divisions per circuit-step", f"{plain['div']}"],
        ["arithmetic operations per circuit-step, float32, as written",
         f"{sum(single.values()):,}"],
        ["instructions per circuit-step, vectors of 8 lanes",
         f"{instructions:.0f} ({per_lane:,.0f} per vector of circuits)"],
        ["of these, moves of constants and values between registers and stack",
         f"{100 * spills / instructions:.0f}%"],
        ["state and parameters of a circuit", f"{resident / width:.0f} bytes; a batch of {width}: "
         f"{resident / 2**10:.0f} KiB ({_caches()})"],
        ["bytes read and written per circuit-step", f"{sum(moved.values()) / width:.0f}"],
        ["rate", f"{timing.Mcs_per_cpu_s:.1f} million circuit-steps per second of processor time: "
         f"{timing.Mcs_per_cpu_s * instructions / 1000:.2f} billion instructions and "
         f"{timing.Mcs_per_cpu_s * sum(moved.values()) / width / 1000:.0f} GB per second"],
    ]  # fmt: skip
    columns = ["loop", "instructions per circuit-step", "vector divisions", "bytes"]
    total_kernel = sum(kernel.values())
    of_the_kernel = [
        *([f"instructions: {kind}", f"{n / lanes:.1f}"] for kind, n in kernel.most_common()),
        ["**all instructions**",
         f"**{total_kernel / lanes:.1f}** ({total_kernel:,} per vector of {lanes} circuits)"],
        ["exponentials and logarithms left",
         f"{_exponentials(plain) - _exponentials(tabulated)} of {_exponentials(plain)} and "
         f"{plain['log'] - tabulated['log']} of {plain['log']}"],
        ["divisions left", f"{kernel['division']} of {plain['div']}"],
        ["the tables", f"{table_bytes / 2**10:,.0f} KiB for {HIGHEST_mV - LOWEST_mV:.0f} mV"],
        ["rate", f"{of_kernel.Mcs_per_cpu_s:.1f} million circuit-steps per second of processor "
         f"time: {of_kernel.Mcs_per_cpu_s * total_kernel / lanes / 1000:.2f} billion instructions"],
        ["cycles per step of a vector, at a clock of "
         f"{clock:.2f} GHz", f"{lanes * clock * 1000 / of_kernel.Mcs_per_cpu_s:.0f}"],
    ]  # fmt: skip
    if model is not None:
        of_the_kernel += [
            [f"the same by LLVM's model of `{model.processor}`", f"{model.cycles:.0f}"],
            ["the same if no result were waited for", f"{model.unhindered:.0f}"],
        ]
    parts = [
        "# Where a step spends its time",
        setting("python benchmarks/profile_step.py", "jax", "jaxlib", "llvmlite", "numpy"),
        "## The CPU's kernel",
        table(["of one step of a three-cell circuit", ""], of_the_kernel),
        KERNELS_DISTANCE.format(
            compute=100 * (kernel["arithmetic"] + kernel["division"]) / total_kernel,
            lanes=lanes,
        ),
        *([] if model is None else [MODELLED]),
        "## JAX's own program",
        table(["of one step of a three-cell circuit", ""], facts),
        table([*columns, "share of the time"], rows),
        distance(spills / instructions),
    ]
    return "\n\n".join(parts) + "\n"


#: What limits the kernel.
KERNELS_DISTANCE = """\
Of the instructions {compute:.0f}% compute. The others load a row of the tables for each cell of
each circuit, and exchange the layout in which a row is loaded (all gates of one circuit) for that
of the rest of the step (one gate of {lanes} circuits)."""
#: The same, where there is a model of the processor.
MODELLED = """\
If no result were waited for, a step would take as long as the busiest part of the processor has
work. But a step is one long chain: the voltage, a row of the tables, gates, currents, calcium, its
reversal potential, the next voltage. The chains of the cells are written so that they overlap
(`llvm_source.scheduled`); what waits all the same is in the model. The model knows neither the
caches nor that a core may load and store vectors of 512 bits at half the rate, and other work
shares this machine. And LLVM may give a new processor the model of the one before, which is slower:
LLVM 19 has Zen 4's for Zen 5."""


def _exponentials(operations: Counter[str]) -> int:
    return operations["exp"] + operations["expm1"]


def distance(spilled: float) -> str:
    """What keeps JAX's program from the rate of the kernel."""
    return (
        "What keeps it from the kernel's rate: XLA makes one chain of dependent instructions per "
        "vector, so the processor waits. A loop has more constants than there are registers: "
        f"{100 * spilled:.0f}% of the instructions only move them. And XLA has no cheap look-up in "
        "a table on a CPU (`jnp.take` quarters the rate), so its exponentials stay. A wider batch "
        "would spread XLA's start of loops over more circuits, but state, parameters and what "
        "passes between the loops would no longer fit the second-level cache; a narrower one "
        "starts more loops."
    )


def main() -> None:
    args = arguments(__doc__, PROFILE).parse_args()
    text = report()
    print(text)
    if args.write_docs:
        PROFILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
