"""Traced functions as LLVM's assembly, for several circuits at once.

A variable is a vector with an element per circuit, so that one instruction works on all of them.
"""

import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyloric_db.integrate.traced import Lines

#: Circuits of a vector: 256 bits of float32, which LLVM splits where registers are shorter.
WIDTH = 8
FLOATS = f"<{WIDTH} x float>"
INTEGERS = f"<{WIDTH} x i32>"
BOOLEANS = f"<{WIDTH} x i1>"
_TYPES = {"float32": FLOATS, "int32": INTEGERS, "bool": BOOLEANS}
#: A product may be rounded together with the sum that it is for.
_OF_FLOATS = {
    "add": "fadd contract",
    "sub": "fsub contract",
    "mul": "fmul contract",
    "div": "fdiv",
    "neg": "fneg",
    "ge": "fcmp oge",
    "gt": "fcmp ogt",
    "lt": "fcmp olt",
    "eq": "fcmp oeq",
    "ne": "fcmp une",
}
_OF_OTHERS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "eq": "icmp eq",
    "and": "and",
    "shift_left": "shl",
    "shift_right_arithmetic": "ashr",
}


def integers(values: Sequence[int]) -> str:
    """A constant vector of integers, without its type."""
    return f"<{', '.join(f'i32 {value}' for value in values)}>"


def _constant(value: Any, kind: str) -> str:
    if kind == "float32":
        # LLVM writes a float by the bits of the float64 of the same value
        bits = struct.unpack("<Q", struct.pack("<d", np.float32(value)))[0]
        return f"<{', '.join([f'float 0x{bits:016X}'] * WIDTH)}>"
    scalar = "i1" if kind == "bool" else "i32"
    return f"<{', '.join([f'{scalar} {int(value)}'] * WIDTH)}>"


class VectorLines(Lines):
    """Lines of LLVM's assembly. Names of variables begin with %."""

    def new(self) -> str:
        return f"%{super().new()}"

    def line(self, expression: str) -> str:
        """Add a line that gives a new variable."""
        name = self.new()
        self.lines.append(f"{name} = {expression}")
        return name

    def floats(self, element: Any) -> str:
        """A variable, or a constant vector as it is written."""
        return element if isinstance(element, str) else _constant(element, "float32")

    def elementwise(self, name: str, *elements: Any) -> str:
        """Add an operation on floats; see `Lines`."""
        return self._written(name, list(elements), "float32", "float32")

    def _written(self, name: str, elements: list[Any], of: str, to: str) -> str:
        if name == "select_n":
            which = elements[0] if isinstance(elements[0], str) else _constant(elements[0], "bool")
            no, yes = (e if isinstance(e, str) else _constant(e, to) for e in elements[1:])
            return self.line(f"select {BOOLEANS} {which}, {_TYPES[to]} {yes}, {_TYPES[to]} {no}")
        words = [e if isinstance(e, str) else _constant(e, of) for e in elements]
        if name in ("max", "min"):  # of a number and what is none, the second
            first = self._written("gt" if name == "max" else "lt", words, of, "bool")
            return self._written("select_n", [first, words[1], words[0]], of, to)
        if name == "bitcast_convert_type":
            return self.line(f"bitcast {_TYPES[of]} {words[0]} to {_TYPES[to]}")
        if name == "convert_element_type":
            return self.line(f"sitofp {_TYPES[of]} {words[0]} to {_TYPES[to]}")
        operation = (_OF_FLOATS if of == "float32" else _OF_OTHERS)[name]
        return self.line(f"{operation} {_TYPES[of]} {', '.join(words)}")


def depth_first(lines: list[str]) -> list[str]:
    """The lines of a block, each result just before what needs it, and stores at the end.

    So that few values are waiting at any time: LLVM's own order spills a tenth more.
    """
    made = {line.split(" = ")[0]: line for line in lines if " = " in line}
    stores = [line for line in lines if " = " not in line]
    ordered: list[str] = []

    def make_what_needs(line: str) -> None:
        for name in re.findall(r"%\w+", line.split(" = ")[-1]):
            if name in made:
                needed = made.pop(name)
                make_what_needs(needed)
                ordered.append(needed)

    for store in stores:
        make_what_needs(store)
    return ordered + stores
