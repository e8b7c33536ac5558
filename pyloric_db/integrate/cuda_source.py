"""Traced functions as CUDA C."""

from typing import Any

import numpy as np

from pyloric_db.integrate.traced import Lines, Names

#: Elementary operations.
_OPERATIONS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "__fdividef({}, {})",
    "neg": "-{}",
    "max": "fmaxf({}, {})",
    "min": "fminf({}, {})",
    "exp2": "exp2f({})",
    "log": "logf({})",
    "ge": "{} >= {}",
    "gt": "{} > {}",
    "eq": "{} == {}",
    "ne": "{} != {}",
    "and": "{} & {}",
    "shift_left": "{} << {}",
    "select_n": "{0} ? {2} : {1}",
}
_CONVERSIONS = {"float32": "(float){}", "int32": "(int){}"}
_BITCASTS = {"float32": "__int_as_float({})", "int32": "__float_as_int({})"}
_TYPES = {"float32": "float", "int32": "int", "bool": "bool"}


def as_c(element: Any) -> str:
    """A variable or a constant as it is written in C."""
    if isinstance(element, str):
        return element
    if isinstance(element, np.floating):
        if np.isnan(element):
            return "__int_as_float(0x7fc00000)"
        if np.isinf(element):
            return f"__int_as_float(0x{0x7F800000 if element > 0 else 0xFF800000:x})"
        return f"{element}f"
    return str(int(element))


class CudaLines(Lines):
    """Lines of CUDA C."""

    def assign(self, variables: list[Names], values: list[Names]) -> None:
        """Give float variables new values, all at once."""
        names = [name for array in variables for name in array.ravel()]
        new = [as_c(value) for array in values for value in array.ravel()]
        # an old value that another variable takes is put aside first
        self.lines += [f"const float old_{v} = {v};" for v in new if v in names]
        for name, value in zip(names, new, strict=True):
            self.lines.append(f"{name} = {'old_' * (value in names)}{value};")

    def _written(self, name: str, elements: list[Any], of: str, to: str) -> str:
        if name == "convert_element_type":
            text = _CONVERSIONS[to]
        elif name == "bitcast_convert_type":
            text = _BITCASTS[to]
        else:
            text = _OPERATIONS[name]
        variable = self.new()
        expression = text.format(*map(as_c, elements))
        self.lines.append(f"const {_TYPES[to]} {variable} = {expression};")
        return variable
