"""Traced functions as straight-line code: every element of their arrays is a variable.

No equation is written a second time for a kernel: the step that JAX runs is traced by it for one
circuit, and each elementary operation becomes a line of another language. What only moves
elements about (stacking, slicing, broadcasting) happens here and leaves no code, and operations on
constants are carried out here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

#: An array whose elements are names of variables (str) or constants (NumPy scalars).
Names = np.ndarray

#: Elementary operations on constants.
_FOLDED: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
    "exp2": np.exp2,
    "log": np.log,
    "ge": np.greater_equal,
    "gt": np.greater,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.bitwise_and,
    "shift_left": np.left_shift,
    "shift_right_arithmetic": np.right_shift,
    "select_n": lambda which, no, yes: yes if which else no,
}


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


def _constants(value: Any) -> Names:
    array = np.asarray(value)
    names = np.empty(array.shape, object)
    for place in np.ndindex(array.shape):
        names[place] = array[place]
    return names


class Lines(ABC):
    """Lines that compute traced functions, in the order in which they are asked for.

    A language says how an operation is written (`_written`).
    """

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

    def new(self) -> str:
        """A name for another variable."""
        self._names += 1
        return f"x{self._names - 1}"

    @abstractmethod
    def _written(self, name: str, elements: list[Any], of: str, to: str) -> str:
        """Add the lines of an operation on elements of type `of` that gives one of type `to`.

        Returns:
            the variable that holds the result.
        """

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
                of, to = equation.invars[-1].aval.dtype, equation.outvars[0].aval.dtype
                results = [self._elementwise(name, operands, of, to)]
            values |= zip(equation.outvars, results, strict=True)
        return [read(v) for v in jaxpr.outvars]

    def _elementwise(self, name: str, operands: list[Names], of: Any, to: Any) -> Names:
        fold: Callable[..., Any]
        if name == "convert_element_type":
            fold = to.type
        elif name == "bitcast_convert_type":
            fold = methodcaller("view", to)
        else:
            fold = _FOLDED[name]
        broadcast = np.broadcast_arrays(*operands)
        result = np.empty(broadcast[0].shape, object)
        for place in np.ndindex(result.shape):
            elements = [a[place] for a in broadcast]
            if not any(isinstance(e, str) for e in elements):
                result[place] = fold(*elements)
            else:
                result[place] = _without_zeros(name, elements)
                if result[place] is None:
                    result[place] = self._written(name, elements, of.name, to.name)
        return result


def _without_zeros(name: str, elements: list[Any]) -> Any:
    """What a sum or product with 0 is; None for others.

    Tables of stacked gates have zeros where a gate lacks a term.
    """
    zero = [not isinstance(e, str) and e == 0 for e in elements]
    if name == "add" and any(zero):
        return elements[1 - zero.index(True)]
    if name == "mul" and any(zero):
        return elements[zero.index(True)]
    return None


def numbered(letter: str, shapes: list[tuple[int, ...]]) -> list[Names]:
    """Arrays of variables, numbered through."""
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    names = np.array([f"{letter}{i}" for i in range(ends[-1])], object)
    return [a.reshape(shape) for a, shape in zip(np.split(names, ends[:-1]), shapes, strict=True)]
