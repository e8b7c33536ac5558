"""Traced functions as LLVM's assembly, for several circuits at once.

A variable is a vector with an element per circuit, so that one instruction works on all of them.
"""

import heapq
import re
import struct
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyloric_db.integrate.traced import Lines

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


class VectorLines(Lines):
    """Lines of LLVM's assembly. Names of variables begin with %.

    Args:
        width: elements of a vector, which are circuits; LLVM splits vectors that are longer than
            the machine's registers.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.float_type = f"<{width} x float>"
        self.int_type = f"<{width} x i32>"
        self._bool_type = f"<{width} x i1>"
        self._types = {
            "float32": self.float_type,
            "int32": self.int_type,
            "bool": self._bool_type,
        }

    def new(self) -> str:
        return f"%{super().new()}"

    def line(self, expression: str) -> str:
        """Add a line that gives a new variable."""
        name = self.new()
        self.lines.append(f"{name} = {expression}")
        return name

    def floats(self, element: Any) -> str:
        """A variable, or a constant vector as it is written."""
        return self._word(element, "float32")

    def _word(self, element: Any, kind: str) -> str:
        if isinstance(element, str):
            return element
        if kind == "float32":
            # LLVM writes a float by the bits of the float64 of the same value
            bits = struct.unpack("<Q", struct.pack("<d", np.float32(element)))[0]
            scalar = f"float 0x{bits:016X}"
        else:
            scalar = f"{'i1' if kind == 'bool' else 'i32'} {int(element)}"
        return f"<{', '.join([scalar] * self.width)}>"

    def elementwise(self, name: str, *elements: Any) -> str:
        """Add an operation on floats; see `Lines`."""
        return self._written(name, list(elements), "float32", "float32")

    def _written(self, name: str, elements: list[Any], of: str, to: str) -> str:
        if name == "select_n":
            which = self._word(elements[0], "bool")
            no, yes = (f"{self._types[to]} {self._word(e, to)}" for e in elements[1:])
            return self.line(f"select {self._bool_type} {which}, {yes}, {no}")
        words = [self._word(e, of) for e in elements]
        if name in ("max", "min"):  # of a number and what is none, the second
            first = self._written("gt" if name == "max" else "lt", words, of, "bool")
            return self._written("select_n", [first, words[1], words[0]], of, to)
        if name == "bitcast_convert_type":
            return self.line(f"bitcast {self._types[of]} {words[0]} to {self._types[to]}")
        if name == "convert_element_type":
            return self.line(f"sitofp {self._types[of]} {words[0]} to {self._types[to]}")
        operation = (_OF_FLOATS if of == "float32" else _OF_OTHERS)[name]
        return self.line(f"{operation} {self._types[of]} {', '.join(words)}")


#: Places by which a line comes earlier for each line of the longest chain that waits for it.
#: Measured: with 0 a processor waits for one chain after the other, with 30 too many values wait.
_EAGERNESS = 12


def scheduled(lines: list[str]) -> list[str]:
    """The lines of a block in a better order, with the stores at the end.

    LLVM keeps to the order that it is given, more or less. In this one each result comes just
    before what needs it, so that few values are waiting in registers at any time; but long chains
    begin early, so that the processor has several to work on.
    """
    made = {line.split(" = ")[0]: line for line in lines if " = " in line}
    stores = [line for line in lines if " = " not in line]
    needs = {name: _made_names(line, made) for name, line in made.items()}
    place: dict[str, int] = {}  # in an order in which each comes just before what needs it

    def put(names: list[str]) -> None:
        for name in names:
            if name not in place:
                put(needs[name])
                place[name] = len(place)

    for store in stores:
        put(_made_names(store, made))
    users: dict[str, list[str]] = defaultdict(list)
    chain: dict[str, int] = {}  # lines of the longest chain that begins with it
    for name in reversed(place):
        chain[name] = 1 + max((chain[user] for user in users[name]), default=0)
        for needed in needs[name]:
            users[needed].append(name)
    waits_for = {name: len(needs[name]) for name in place}
    ready = [(place[n] - _EAGERNESS * chain[n], n) for n in place if not waits_for[n]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, name = heapq.heappop(ready)
        ordered.append(made[name])
        for user in users[name]:
            waits_for[user] -= 1
            if not waits_for[user]:
                heapq.heappush(ready, (place[user] - _EAGERNESS * chain[user], user))
    return ordered + stores


def _made_names(line: str, made: dict[str, str]) -> list[str]:
    """The variables that a line needs, of those that are made, each once."""
    return [n for n in dict.fromkeys(re.findall(r"%\w+", line.split(" = ")[-1])) if n in made]
