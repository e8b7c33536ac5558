"""Connectedness of a set of circuits on their grid."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pyloric_db.store.manifest import Axis

Integers = npt.NDArray[np.int64]


def components(axes: Sequence[Axis], ids: npt.ArrayLike) -> Integers:
    """Sizes of the connected components of circuits on a grid, the largest first.

    Two circuits are neighbours if they differ on one axis by one step: to the next higher or
    lower value of a conductance, or to any other cell of a kind, since the numbers of cells
    have no order. A component is what can be reached through neighbours within the set.

    Args:
        axes: of the grid.
        ids: circuit ids (n,), each once.
    """
    known = np.sort(np.asarray(ids, dtype=np.int64))
    n = len(known)
    if n == 0:
        return np.empty(0, np.int64)
    label, count = np.arange(n), n
    stride = 1
    # axis by axis, each joining what the ones before left apart: all pairs at once take far more
    for axis in reversed(axes):
        step = _any_other if axis.kind == "cell" else _next_value
        start, stop = step(known, stride, len(axis))
        edges = (np.ones(len(start), np.bool_), (label[start], label[stop]))
        count, joined = connected_components(coo_array(edges, shape=(count, count)), directed=False)
        label = joined[label]
        stride *= len(axis)
    return np.sort(np.bincount(label).astype(np.int64))[::-1]


def _next_value(known: Integers, stride: int, length: int) -> tuple[Integers, Integers]:
    """Pairs of places in `known` that are one value apart on an axis."""
    low = np.flatnonzero(known // stride % length < length - 1)
    wanted = known[low] + stride
    high = np.searchsorted(known, wanted)
    there = high < len(known)
    there[there] = known[high[there]] == wanted[there]
    return low[there], high[there]


def _any_other(known: Integers, stride: int, length: int) -> tuple[Integers, Integers]:
    """Enough pairs to join all circuits that differ on this axis alone: a chain of each."""
    rest = known // (stride * length) * stride + known % stride
    order = np.argsort(rest, kind="stable")
    same = rest[order[1:]] == rest[order[:-1]]
    return order[:-1][same], order[1:][same]
