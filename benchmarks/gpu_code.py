"""What compilers make of the epoch for an H100, in five ways; writes docs/gpu_code.md.

    python benchmarks/gpu_code.py [--write-docs]

Needs no GPU, but the extra `bench-gpu` (`make bench-gpu` installs it into an environment of its
own). The kernel is compiled as CUDA C (by NVRTC, which CuPy uses), by Numba, and by Pallas with
Mosaic GPU and with Triton; instructions, registers and spills are counted in the machine code of
the loop over steps, and a multiprocessor's scheduler is played through it (`sass.py`). Of JAX's
own program the kernels and bytes per step are counted in XLA's optimised form.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from gpu_kernels import LANES, MULTIPROCESSORS, VEHICLES, cuda_source
from hlo import step_body
from page import DOCS, arguments, setting, table
from sass import SCHEDULERS, WARP, cycles, disassembled, least_cycles, step_loop

from pyloric_db.integrate.engine import GPU_WIDTHS
from pyloric_db.integrate.kernel import BLOCKS_PER_MULTIPROCESSOR, OPTIONS, THREADS

PAGE = DOCS / "gpu_code.md"
CLOCK_GHZ, REGISTERS, GB_PER_S = 1.7, 65536, 3350  # of an H100; registers per multiprocessor
#: Measured on earlier generations; not published for this one.
SPECIAL_LATENCIES = (18, 40)
#: Ampere (two), Ada, Hopper, Blackwell (two).
GENERATIONS = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
NAMES = {
    "cuda": "CUDA C", "numba": "Numba", "mosaic": "Pallas, Mosaic GPU", "triton": "Pallas, Triton",
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """Machine code of a kernel: of its loop over steps per circuit-step, but for registers and
    spilled bytes; `billions` are circuit-steps per second at the two latencies, with one warp per
    scheduler, with two, and so on."""

    compile_s: float
    instructions: int
    special: int
    registers: int
    spilled: int
    limit: float
    billions: tuple[tuple[float, ...], ...]


def tool(name: str) -> Path:
    import nvidia

    return next(p for root in nvidia.__path__ for p in Path(root).glob(f"cu*/bin/{name}"))


def nvrtc(source: str, generation: str, cubin: Path) -> str:
    """Compile CUDA C for a generation of GPUs; what the compiler says of it."""
    from cuda.core import Program, ProgramOptions

    assert OPTIONS == ("--use_fast_math",)
    told = io.StringIO()
    options = ProgramOptions(arch=generation, use_fast_math=True, ptxas_options=["-v"])
    cubin.write_bytes(Program(source, "c++", options).compile("cubin", logs=told).code)
    return told.getvalue()


def registers_and_spills(told: str, kernel: str) -> tuple[int, int]:
    of_kernel = told.split(f"'{kernel}'")[-1]
    found = (r"Used (\d+) registers", r"(\d+) bytes spill stores")
    registers, spilled = (int(re.findall(text, of_kernel)[0]) for text in found)
    return registers, spilled


def compiled(vehicle: str, folder: Path) -> Code:
    """Compile a kernel to machine code for an H100, and look at its loop over steps."""
    cubin, began = folder / "kernel.cubin", time.perf_counter()
    name = "epoch"
    if vehicle == "cuda":
        told = nvrtc(cuda_source(), "sm_90", cubin)
    else:
        run([sys.executable, Path(__file__).with_name("gpu_kernels.py"), vehicle, folder])
        source = folder / "kernel.ptx"
        name = re.findall(r"\.entry (\w+)", source.read_text())[0]
        command = [tool("ptxas"), "-arch=sm_90a", "-v", "-o", cubin, source]
        if vehicle == "numba":  # it has an option for this; the others have none
            command.append(f"-maxrregcount={REGISTERS // (BLOCKS_PER_MULTIPROCESSOR * THREADS)}")
        told = run(command)
    compile_s = time.perf_counter() - began
    registers, spilled = registers_and_spills(told, name)
    blocks = REGISTERS // (-(-registers // 8) * 8 * THREADS)
    warps = blocks * THREADS // WARP // SCHEDULERS
    loop = step_loop(disassembled(tool("nvdisasm"), cubin, name))

    def billions(n: float) -> float:
        return MULTIPROCESSORS * SCHEDULERS * WARP * CLOCK_GHZ / n

    return Code(
        compile_s,
        len(loop),
        sum(i.pipe == "special" for i in loop),
        registers,
        spilled,
        billions(least_cycles(loop)),
        tuple(
            tuple(sorted(billions(cycles(loop, n, latency)) for latency in SPECIAL_LATENCIES))
            for n in range(1, warps + 1)
        ),
    )


def span(rates: tuple[float, ...]) -> str:
    return " to ".join(f"{rate:.1f}" for rate in rates)


def run(command: list[object]) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def main() -> None:
    args = arguments(__doc__, PAGE).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = {vehicle: Path(name) / vehicle for vehicle in ("cuda", *VEHICLES)}
        for folder in folders.values():
            folder.mkdir()
        codes = {vehicle: compiled(vehicle, folders[vehicle]) for vehicle in NAMES}
        source = cuda_source()
        told = {g: nvrtc(source, g, folders["cuda"] / f"{g}.cubin") for g in GENERATIONS}
        run([sys.executable, Path(__file__).with_name("gpu_kernels.py"), "jax", folders["jax"]])
        body = step_body((folders["jax"] / "program.txt").read_text())
    kernels, copies = len(body.of("fusion")), len(body.of("copy"))
    moved = sum(body.moved(GPU_WIDTHS[-1]).values()) / GPU_WIDTHS[-1]
    most = len(codes["cuda"].billions)
    head = [
        "", "instructions", "of these special functions", "registers, bytes spilled",
        "warps per scheduler", "rate if nothing waits", "rate, played through",
        "seconds from Python to machine code",
    ]  # fmt: skip
    rows = [
        [
            NAMES[vehicle], f"{c.instructions:,}", str(c.special), f"{c.registers}, {c.spilled}",
            str(len(c.billions)), f"{c.limit:.1f}", span(c.billions[-1]), f"{c.compile_s:.1f}",
        ]
        for vehicle, c in codes.items()
    ]  # fmt: skip
    text = "\n\n".join(
        [
            "# The kernel's machine code",
            setting("python benchmarks/gpu_code.py", "jax", "numba", "numba_cuda", "numpy"),
            "Nothing here has run on a GPU: the kernel of [gpu.md](gpu.md) was compiled for an "
            "H100 in several ways. Instructions are per circuit-step, rates billions of "
            f"circuit-steps per second of {MULTIPROCESSORS} multiprocessors at {CLOCK_GHZ} GHz: "
            "if nothing waits for anything, and with a scheduler played through the loop over "
            "steps, its warps waiting for one another and for what the compiler says that they "
            f"wait for, a special function taking {SPECIAL_LATENCIES[0]} to "
            f"{SPECIAL_LATENCIES[1]} cycles. What it does at spikes and at the ends of an epoch "
            "is not in it.",
            table(head, rows),
            "Where a batch does not fill the GPU, a scheduler has fewer warps. The CUDA C:",
            table(
                ["circuits", *(f"{LANES * n // most:,}" for n in range(1, most + 1))],
                [["rate, played through", *map(span, codes["cuda"].billions)]],
            ),
            "The CUDA C, compiled for six generations:",
            table(
                ["", *GENERATIONS],
                [
                    ["registers, bytes spilled"]
                    + [", ".join(map(str, registers_and_spills(t, "epoch"))) for t in told.values()]
                ],
            ),
            f"JAX's own program, compiled by XLA for the same GPU, does a step in {kernels} "
            f"kernels and {copies} copies, which read and write {moved:,.0f} bytes per circuit: "
            f"at {GB_PER_S:,} GB/s at most {GB_PER_S / moved:.1f} billion circuit-steps per "
            f"second, and for {LANES:,} circuits as few as "
            f"{1e6 * LANES * moved / GB_PER_S / 1e9:.0f} microseconds per step, in which "
            f"{kernels + copies} kernels have to be started.",
        ]
    )
    print(text)
    if args.write_docs:
        PAGE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
