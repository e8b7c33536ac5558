"""Machine code of a GPU (sm_80 to sm_90): a kernel's loop over steps, and the cycles it takes.

No GPU is needed. The compiler writes into every instruction how many cycles the next one of its
warp has to wait, and which results of variable latency it waits for (six barriers); so a
scheduler can be played through, given what each pipe takes. The fields' places in the code are
those of Jia et al., "Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking"
(arXiv:1804.06826), the pipes' rates those of the CUDA C++ Programming Guide, "Arithmetic
Instructions", compute capability 9.0.
"""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SCHEDULERS = 4  # of a multiprocessor
WARP = 32  # circuits
#: Cycles for which a warp's instruction keeps a scheduler's pipe: 32 lanes over the pipe's width.
PIPE_CYCLES = {"special": 8, "multiply-add": 1, "integer": 2, "memory": 4, "branch": 1}
_PIPES = {
    "special": "MUFU I2F F2I F2F POPC FLO",
    "multiply-add": "FFMA FMUL FADD",
    "memory": "LDG LDS LDL LDC STG STS STL ULDC S2R",
    "branch": "BRA EXIT BSSY BSYNC NOP",
}
_PIPE_OF = {opcode: pipe for pipe, opcodes in _PIPES.items() for opcode in opcodes.split()}
MEMORY_LATENCY = 30  # of the first cache; the loop over steps hardly uses it
_LINE = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;\s*/\* 0x[0-9a-f]{16} \*/")
_CONTROL = re.compile(r"\s*/\* (0x[0-9a-f]{16}) \*/")
_LABEL = re.compile(r"\s*(\.L_\w+):")
_NO_BARRIER = 7


@dataclass(frozen=True)
class Instruction:
    """One instruction: `stall` cycles until the warp's next, the barrier that its result
    frees (7 for none), and the set of those that it waits for, as bits."""

    text: str
    stall: int
    frees: int
    waits: int

    @property
    def opcode(self) -> str:
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @property
    def pipe(self) -> str:
        return _PIPE_OF.get(self.opcode.split(".")[0], "integer")


def instruction(text: str, control: int) -> Instruction:
    """An instruction by its text and the upper half of its code."""
    fields = control >> 41
    return Instruction(text, fields & 15, fields >> 5 & 7, fields >> 11 & 63)


def disassembled(nvdisasm: Path, cubin: Path, kernel: str) -> str:
    """A kernel's listing, with the code."""
    text = subprocess.run(
        [nvdisasm, "-hex", "-c", cubin], capture_output=True, text=True, check=True
    ).stdout
    return text.split(f".text.{kernel}:")[1].split("\n//----")[0]


def step_loop(listing: str) -> list[Instruction]:
    """The longest innermost loop of a kernel."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    text = ""
    for line in listing.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(code)
        elif written := _LINE.match(line):
            text = written[1]
        elif control := _CONTROL.match(line):
            code.append(instruction(text, int(control[1], 16)))
    loops = []
    for i, ins in enumerate(code):
        target = re.search(r"BRA\S* .*?(\.L_\w+)", ins.text)
        if target and labels[target[1]] < i:
            body = code[labels[target[1]] : i + 1]
            if not any(x.pipe == "branch" for x in body[:-1]):
                loops.append(body)
    return max(loops, key=len)


def least_cycles(loop: list[Instruction]) -> int:
    """Cycles that a scheduler needs for one pass of one warp, if nothing has to be waited for."""
    pipes = Counter(i.pipe for i in loop)
    return max(len(loop), *(n * PIPE_CYCLES[pipe] for pipe, n in pipes.items()))


def cycles(loop: list[Instruction], warps: int, special_latency: int, passes: int = 20) -> float:
    """Cycles that a scheduler with so many warps takes for one pass of one warp.

    It issues one instruction per cycle: of the warp that it issued last, if that one can go on,
    else of the one that is behind the others.
    """
    at = [0] * warps  # instructions that each warp has issued
    ready = [0] * warps  # when it may issue its next one
    barriers = [[0] * 6 for _ in range(warps)]  # when each of its barriers is free
    pipe_free = dict.fromkeys(PIPE_CYCLES, 0)
    end, last, now = passes * len(loop), 0, 0

    def can_issue(w: int) -> bool:
        if at[w] == end or ready[w] > now:
            return False
        ins = loop[at[w] % len(loop)]
        waits = any(ins.waits >> b & 1 and free > now for b, free in enumerate(barriers[w]))
        return not waits and pipe_free[ins.pipe] <= now

    while min(at) < end:
        for w in (last, *sorted(range(warps), key=at.__getitem__)):
            if can_issue(w):
                ins = loop[at[w] % len(loop)]
                pipe_free[ins.pipe] = now + PIPE_CYCLES[ins.pipe]
                ready[w] = now + max(1, ins.stall)
                if ins.frees != _NO_BARRIER:
                    latency = special_latency if ins.pipe == "special" else MEMORY_LATENCY
                    barriers[w][ins.frees] = max(barriers[w][ins.frees], now + latency)
                at[w] += 1
                last = w
                break
        now += 1
    return now / passes / warps
