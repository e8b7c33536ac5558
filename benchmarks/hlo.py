"""What XLA made of an epoch: its optimised program, and the machine code of its loops."""

import re
import subprocess
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

_BYTES = {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "pred": 1}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*?) ([\w-]+)\((.*?)\)(?:,|$)")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclass(frozen=True)
class Instruction:
    """One instruction of HLO: `arrays` are the types and shapes of its results, most often one."""

    name: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    opcode: str
    operands: tuple[str, ...]

    @property
    def elements(self) -> int:
        return sum(prod(shape) for _, shape in self.arrays)

    @property
    def bytes(self) -> int:
        return sum(prod(shape) * _BYTES[dtype] for dtype, shape in self.arrays)


@dataclass(frozen=True)
class Body:
    """The loop over steps: its instructions by name, and the results that it hands on, in order."""

    instructions: dict[str, Instruction]
    results: tuple[str, ...]

    def of(self, opcode: str) -> list[Instruction]:
        return [i for i in self.instructions.values() if i.opcode == opcode]

    def moved(self, width: int) -> dict[str, int]:
        """Bytes of the batch, of this width, that each loop and copy reads and writes."""

        def size(name: str) -> int:
            i = self.instructions.get(name)
            return i.bytes if i and i.elements >= width else 0

        working = (*self.of("fusion"), *self.of("copy"))
        return {i.name: sum(map(size, {i.name, *i.operands})) for i in working}


def step_body(text: str) -> Body:
    """The loop over steps: the computation that makes most fusions."""
    bodies = []
    for part in re.split(r"\n(?=%|ENTRY)", text):
        found: dict[str, Instruction] = {}
        results: tuple[str, ...] = ()
        for line in part.splitlines():
            match = _INSTRUCTION.match(line)
            if match:
                name, types, opcode, operands = match.groups()
                arrays = tuple(
                    (dtype, tuple(int(n) for n in shape.split(",") if n))
                    for dtype, shape in _ARRAY.findall(types)
                )
                names = tuple(re.findall(r"%([\w.-]+)", operands))
                found[name] = Instruction(name, arrays, opcode, names)
            if line.lstrip().startswith("ROOT") and " tuple(" in line:
                results = tuple(re.findall(r"%([\w.-]+)", line.rsplit(" tuple(", 1)[1]))
        bodies.append(Body(found, results))
    return max(bodies, key=lambda b: len(b.of("fusion")))


@dataclass(frozen=True)
class Loop:
    """A fusion's machine code: `instructions` for one vector of its result, of which `divisions`,
    `spills` (constants and values that are read from the stack, or moved between registers)."""

    name: str
    instructions: float
    divisions: float
    spills: float
    code: bytes  # the longest piece of the function without an address that the linker fills in
    offset: int  # of that piece from the function's begin
    size: int  # of the function

    def per_step(self, elements: int, lanes: int = 8) -> float:
        """Instructions for all elements of the result."""
        return self.instructions * elements / lanes


def loop_of(object_file: Path, name: str) -> Loop:
    """The inner vector loops of a kernel, found by their jumps back."""
    text = subprocess.run(
        ["objdump", "-d", str(object_file)], capture_output=True, text=True, check=True
    ).stdout
    lines: list[Any] = []
    for line in text.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*\t?(.*)", line)
        if match:
            code = bytes.fromhex(match[2])
            if not match[3] and lines:  # the rest of a long instruction
                lines[-1] = (lines[-1][0], lines[-1][1] + code, lines[-1][2])
            else:
                lines.append((int(match[1], 16), code, match[3]))
    at = {address: i for i, (address, _, _) in enumerate(lines)}
    backs = []
    for i, (address, _, what) in enumerate(lines):
        jump = re.match(r"j\w+\s+([0-9a-f]+)", what)
        if jump and int(jump[1], 16) <= address and int(jump[1], 16) in at:
            backs.append((at[int(jump[1], 16)], i + 1))
    inner = [x for x in backs if not any(x[0] <= y[0] and y[1] <= x[1] and x != y for y in backs)]
    stored = executed = divided = spilled = 0
    for a, b in inner:
        body = [what for _, _, what in lines[a:b]]
        stores = sum(map(_is_store, body))
        if not stores:
            continue
        stored += stores
        executed += len(body)
        divided += sum("vdivps" in what for what in body)
        spilled += sum(map(_is_spill, body))
    offset, code = _fixed_code(lines)
    size = lines[-1][0] + len(lines[-1][1])
    stored = stored or 1
    return Loop(name, executed / stored, divided / stored, spilled / stored, code, offset, size)


def _fixed_code(lines: list[tuple[int, bytes, str]]) -> tuple[int, bytes]:
    """The longest piece of a function without an address that the linker fills in."""
    pieces = [(0, b"")]
    for address, code, what in lines:
        if "movabs" in what or "call" in what:
            pieces.append((address + len(code), b""))
        else:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + code)
    return max(pieces, key=lambda piece: len(piece[1]))


def _is_store(what: str) -> bool:
    """A vector goes to memory that is not the stack."""
    return bool(re.match(r"v\w+\s+%ymm\d+,[^%]*\((?!%rsp|%rbp)", what))


def _is_spill(what: str) -> bool:
    """A vector is read from or put on the stack, or moved to another register."""
    moved = re.match(r"vmov\w+\s+%ymm\d+,%ymm\d+$", what.strip())
    return bool(moved) or ("%ymm" in what and "(%rsp)" in what)
