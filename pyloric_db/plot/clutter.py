"""The order of stacked dimensions in which the fewest neighbouring pixels differ.

Dimensional stacking lays a grid of any number of dimensions out as an image: some dimensions are
stacked along x, the others along y, and the inner ones run through all their values at each
value of the outer ones. Which order is chosen decides whether the image shows a structure or
looks like noise. Taylor, Hickey, Prinz & Marder 2006 (J Neurophysiol 96:891) choose the one with
the least clutter, that is, with the fewest unlike neighbours.

Their search tries orders on the image. Ours is exact and looks at no image: two pixels that are
neighbours along x differ by one step of one dimension d, while all dimensions stacked inside it
roll over from their last value to their first. How many such pairs are unlike depends on d and on
which dimensions are inside, not on their order. So the least clutter of a set of dimensions is
found from those of its subsets, and the best split into x and y from the sets and their
complements. Ties go to the first in the order of the axes: the result is always the same.
"""

from collections.abc import Sequence
from itertools import combinations
from math import prod

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint8]


def best_order(codes: Codes) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The dimensions along x and along y, outermost first, with the least clutter.

    Sides are kept as equal as the sizes of the dimensions allow; x is the longer one.

    Args:
        codes: a grid of colour classes, one dimension per axis.

    Returns:
        The dimensions along x, those along y, and the number of unlike neighbours in the image.
    """
    n = codes.ndim
    splits = _even_splits(codes.shape)
    deepest = max(max(len(s), n - len(s)) for s in splits)
    costs = _unlike_pairs(codes, deepest)
    least: dict[frozenset[int], tuple[int, tuple[int, ...]]] = {frozenset(): (0, ())}
    for size in range(1, deepest + 1):
        for members in combinations(range(n), size):
            options = []
            for outer in members:
                inside = frozenset(members) - {outer}
                clutter, order = least[inside]
                options.append((clutter + costs[outer, inside], (outer, *order)))
            least[frozenset(members)] = min(options)
    found = []
    for split in splits:
        along_x, along_y = least[frozenset(split)], least[frozenset(range(n)) - set(split)]
        found.append((along_x[0] + along_y[0], along_x[1], along_y[1]))
    clutter, x, y = min(found)
    return x, y, clutter


def stacked(
    grid: npt.NDArray[np.generic], x: Sequence[int], y: Sequence[int]
) -> npt.NDArray[np.generic]:
    """The image of a grid, (rows, columns): dimensions `y` down and `x` across, outermost first."""
    shape = grid.shape
    return grid.transpose((*y, *x)).reshape(prod(shape[d] for d in y), prod(shape[d] for d in x))


def _even_splits(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Sets of dimensions along x for which the image is as near to a square as can be."""
    total = prod(shape)
    sides = {}
    for size in range(len(shape) + 1):
        for members in combinations(range(len(shape)), size):
            side = prod(shape[d] for d in members)
            if side * side >= total:
                sides[members] = side
    shortest = min(sides.values())
    return [members for members, side in sides.items() if side == shortest]


def _unlike_pairs(codes: Codes, deepest: int) -> dict[tuple[int, frozenset[int]], int]:
    """(dimension, dimensions inside it) -> pairs of neighbours that are unlike.

    Sets of dimensions are reached by adding one at a time, so that each step works on copies
    that are smaller by the size of a dimension.
    """
    costs: dict[tuple[int, frozenset[int]], int] = {}

    def visit(first: Codes, last: Codes, inside: tuple[int, ...], free: tuple[int, ...]) -> None:
        for place, d in enumerate(free):
            costs[d, frozenset(inside)] = _steps(last, first, place)
        if len(inside) + 1 >= deepest:
            return
        for place, d in enumerate(free):
            if not inside or d > inside[-1]:
                visit(
                    np.ascontiguousarray(first.take(0, axis=place)),
                    np.ascontiguousarray(last.take(-1, axis=place)),
                    (*inside, d),
                    free[:place] + free[place + 1 :],
                )

    whole = np.ascontiguousarray(codes)
    visit(whole, whole, (), tuple(range(codes.ndim)))
    return costs


def _steps(last: Codes, first: Codes, axis: int) -> int:
    """Unlike pairs of `last` at i and `first` at i + 1 along an axis.

    Compared as flat arrays, which is much faster than along an inner axis; the pairs that run
    over the end of the axis are taken off again.
    """
    n = last.shape[axis]
    inner = prod(last.shape[axis + 1 :])
    flat_last, flat_first = last.reshape(-1), first.reshape(-1)
    unlike = flat_last[:-inner] != flat_first[inner:]
    over = np.zeros(0, dtype=bool)
    if last.size > n * inner:
        a = last.reshape(-1, n, inner)[:-1, -1]
        b = first.reshape(-1, n, inner)[1:, 0]
        over = a != b
    return int(np.count_nonzero(unlike) - np.count_nonzero(over))
