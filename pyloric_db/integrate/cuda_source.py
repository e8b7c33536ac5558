"""Traced functions as straight-line CUDA C: every element of their arrays is a variable.

The kernel's equations are not written a second time: the step that runs on the CPU is traced by
JAX for one circuit, and each elementary operation becomes a line of C. What only moves elements
about (stacking, slicing, broadcasting) happens here and leaves no code, and operations on
constants are carried out here.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

#: An array whose elements are names of C variables (str) or constants (NumPy scalars).
Names = np.ndarray

#: Elementary operations: in C, and on constants.
_OPERATIONS: dict[str, tuple[str, Callable[..., Any]]] = {
    "add": ("{} + {}", np.add),
    "sub": ("{} - {}", np.subtract),
    "mul": ("{} * {}", np.multiply),
    "div": ("__fdividef({}, {})", np.divide),
    "neg": ("-{}", np.negative),
    "max": ("fmaxf({}, {})", np.maximum),
    "min": ("fminf({}, {})", np.minimum),
    "exp2": ("exp2f({})", np.exp2),
    "log": ("logf({})", np.log),
    "ge": ("{} >= {}", np.greater_equal),
    "gt": ("{} > {}", np.greater),
    "eq": ("{} == {}", np.equal),
    "ne": ("{} != {}", np.not_equal),
    "and": ("{} & {}", np.bitwise_and),
    "shift_left": ("{} << {}", np.left_shift),
    "select_n": ("{0} ? {2} : {1}", lambda which, no, yes: yes if which else no),
}
_CONVERSIONS = {"float32": "(float){}", "int32": "(int){}"}
_BITCASTS = {"float32": "__int_as_float({})", "int32": "__float_as_int({})"}
_TYPES = {"float32": "float", "int32": "int", "bool": "bool"}


def _moved(name: str, p: dict[str, Any], operands: list[Names]) -> list[Names] | None:
    """The results of an operation that only moves elements; None for another one."""
    a = operands[0]
    if name == "optimization_barrier":
        return operands
    if name == "broadcast_in_dim":
        shape = np.ones(len(p["shape"]), int)
        shape[list(p["broadcast_dimensions"])] = a.shape
        return [np.broadcast_to(a.reshape(shape), p["shape"])]
    if name == "squeeze":
        return [a.squeeze(p["dimensions"])]
    if name == "slice":
        steps = p["strides"] or [1] * a.ndim
        ranges = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
        return [a[tuple(slice(*r) for r in ranges)]]
    if name == "stack":
        return [np.stack(operands, axis=p["axis"])]
    if name == "unstack":
        return list(np.moveaxis(a, p["axis"], 0))
    if name == "concatenate":
        return [np.concatenate(operands, axis=p["dimension"])]
    if name == "reshape":
        return [a.reshape(p["new_sizes"])]
    return None


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


def _constants(value: Any) -> Names:
    array = np.asarray(value)
    names = np.empty(array.shape, object)
    for place in np.ndindex(array.shape):
        names[place] = array[place]
    return names


class Lines:
    """Lines of C that compute traced functions, in the order in which they are asked for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._names = 0

    def apply(self, function: Callable[..., Any], *inputs: Any) -> list[Names]:
        """Add the lines of a function.

        Args:
            function: of JAX arrays.
            inputs: pytrees of its arguments as `Names`, int32 where 0-dimensional, float32
                otherwise.

        Returns:
            the leaves of its result.
        """
        examples = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, np.float32 if a.ndim else np.int32), inputs
        )
        return self._closed(jax.make_jaxpr(function)(*examples), jax.tree.leaves(inputs))

    def assign(self, variables: list[Names], values: list[Names]) -> None:
        """Give float variables new values, all at once."""
        names = [name for array in variables for name in array.ravel()]
        new = [as_c(value) for array in values for value in array.ravel()]
        # an old value that another variable takes is put aside first
        self.lines += [f"const float old_{v} = {v};" for v in new if v in names]
        for name, value in zip(names, new, strict=True):
            self.lines.append(f"{name} = {'old_' * (value in names)}{value};")

    def _closed(self, closed: ClosedJaxpr, inputs: list[Names]) -> list[Names]:
        jaxpr = closed.jaxpr
        values = dict(zip(jaxpr.invars, inputs, strict=True))
        values |= zip(jaxpr.constvars, map(_constants, closed.consts), strict=True)

        def read(v: Any) -> Names:
            return _constants(v.val) if isinstance(v, Literal) else values[v]

        for equation in jaxpr.eqns:
            name, p = equation.primitive.name, equation.params
            operands = [read(v) for v in equation.invars]
            if name == "jit":
                results = self._closed(p["jaxpr"], operands)
            elif (moved := _moved(name, p, operands)) is not None:
                results = moved
            else:
                results = [self._elementwise(name, p, operands, equation.outvars[0].aval.dtype)]
            values |= zip(equation.outvars, results, strict=True)
        return [read(v) for v in jaxpr.outvars]

    def _elementwise(
        self, name: str, p: dict[str, Any], operands: list[Names], dtype: Any
    ) -> Names:
        if name == "convert_element_type":
            text, fold = _CONVERSIONS[dtype.name], dtype.type
        elif name == "bitcast_convert_type":
            text, fold = _BITCASTS[dtype.name], lambda x: x.view(dtype)
        else:
            text, fold = _OPERATIONS[name]
        broadcast = np.broadcast_arrays(*operands)
        result = np.empty(broadcast[0].shape, object)
        for place in np.ndindex(result.shape):
            elements = [a[place] for a in broadcast]
            if any(isinstance(e, str) for e in elements):
                result[place] = self._line(name, text, elements, dtype)
            else:
                result[place] = fold(*elements)
        return result

    def _line(self, name: str, text: str, elements: list[Any], dtype: Any) -> Any:
        # tables of stacked gates have zeros where a gate lacks a term
        zero = [not isinstance(e, str) and e == 0 for e in elements]
        if name == "add" and any(zero):
            return elements[1 - zero.index(True)]
        if name == "mul" and any(zero):
            return elements[zero.index(True)]
        variable = f"x{self._names}"
        self._names += 1
        expression = text.format(*map(as_c, elements))
        self.lines.append(f"const {_TYPES[dtype.name]} {variable} = {expression};")
        return variable
