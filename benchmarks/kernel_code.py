"""The machine code of a step in the CPU's kernel, and how many cycles it should take.

The model of a processor is LLVM's (llvm-mca), where that is installed.
"""

import ctypes
import re
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from pyloric_db.integrate.machine_code import compiled, machine, optimised

#: Instructions by kind.
KINDS = {
    "division": r"vdiv",
    "arithmetic": r"v(add|sub|mul|max|min|round|rndscale|cvt|fn?m(add|sub)|padd|pand|psl|psr)",
    "exchange between lanes and layouts": r"v(p?shuf|p?unpck|perm|insert|p?extr|p?broadcast|movd$"
    r"|movshdup)",
    "load, store or move": r"v?mov",
}
MODELS = (*(f"llvm-mca-{version}" for version in range(30, 15, -1)), "llvm-mca")
ITERATIONS = 100
#: Operations of one cycle each, every one of which waits for the one before.
CHAIN = 20
TURNS = 50_000_000


@dataclass(frozen=True)
class Modelled:
    """Cycles of a step of a vector of circuits: as results wait for each other, and if none did.

    `processor` is LLVM's name of it.
    """

    processor: str
    cycles: float
    unhindered: float


def step_of(source: str) -> str:
    """The instructions of the longest stretch without a label or a jump: a step of a vector."""
    target = machine()
    assembly = target.emit_assembly(optimised(source, target))
    stretches = re.split(r"^\S+:.*$|^\tj\w+.*$", assembly, flags=re.MULTILINE)
    lines = max((re.findall(r"^\t[a-z].*$", s, re.MULTILINE) for s in stretches), key=len)
    return "\n".join(lines) + "\n"


def by_kind(step: str) -> Counter[str]:
    """How many instructions a step has of each kind."""
    return Counter(
        next((kind for kind, names in KINDS.items() if re.match(names, name)), "of the loop")
        for name in re.findall(r"^\t(\w+)", step, re.MULTILINE)
    )


def modelled(step: str) -> Modelled | None:
    """What LLVM's model of this processor says; None where it has none, or is not installed."""
    program = next(filter(None, map(shutil.which, MODELS)), None)
    if program is None:
        return None
    processor = llvm.get_host_cpu_name()
    found = subprocess.run(
        [program, f"-mcpu={processor}", f"-iterations={ITERATIONS}"],
        input=step, capture_output=True, text=True,
    )  # fmt: skip
    if found.returncode:
        return None

    def number(name: str) -> float:
        match = re.search(rf"^{name}: +([\d.]+)", found.stdout, re.MULTILINE)
        assert match is not None
        return float(match[1])

    rows = re.search(r"^Resource pressure per iteration:\n.*\n(.*)", found.stdout, re.MULTILINE)
    assert rows is not None
    busiest = max(float(n) for n in rows[1].split() if n != "-")
    cycles = number("Total Cycles") / ITERATIONS
    return Modelled(processor, cycles, max(busiest, number("Block RThroughput")))


def clock_GHz() -> float:
    """How many cycles the processor does in a second of this process's time, in billions."""
    chain = [
        f"%x{i + 1} = {operation} i64 %x{i}, %k"
        for i, operation in enumerate(["add", "xor"] * (CHAIN // 2))
    ]
    lines = [
        "define i64 @count(i64 %k) {", "br label %turn", "turn:",
        f"%x0 = phi i64 [0, %0], [%x{CHAIN}, %turn]", "%n = phi i64 [0, %0], [%next, %turn]",
        *chain, "%next = add i64 %n, 1", f"%more = icmp slt i64 %next, {TURNS}",
        "br i1 %more, label %turn, label %end", "end:", f"ret i64 %x{CHAIN}", "}",
    ]  # fmt: skip
    code: Any = compiled("\n".join(lines))
    count = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.get_function_address("count"))
    rates = []
    for _ in range(5):
        began = time.process_time()
        count(3)
        rates.append(CHAIN * TURNS / 1e9 / (time.process_time() - began))
    return sorted(rates)[2]
