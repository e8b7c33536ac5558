from itertools import combinations, permutations
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import clutter_of

from pyloric_db.plot.clutter import best_order, stacked


def orders(shape):
    """Every way to lay dimensions along x and y with the shortest x side from a square on."""
    n = len(shape)
    sides = [
        (prod(shape[d] for d in x), x) for k in range(n + 1) for x in combinations(range(n), k)
    ]
    shortest = min(side for side, _ in sides if side * side >= prod(shape))
    for side, members in sides:
        if side == shortest:
            others = [d for d in range(n) if d not in members]
            for x in permutations(members):
                for y in permutations(others):
                    yield x, y


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 10**6))
def test_no_order_has_less_clutter(shape, seed):
    codes = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    x, y, clutter = best_order(codes)
    every = {order: clutter_of(stacked(codes, *order)) for order in orders(codes.shape)}
    assert every[x, y] == clutter == min(every.values())


def test_smooth_dimensions_go_inside():
    # alternates along the second dimension, constant along the others
    codes = np.zeros((4, 4, 4, 4), np.uint8)
    codes[:, 1::2] = 1
    x, y, _ = best_order(codes)
    along = x if 1 in x else y
    assert along[0] == 1


def test_the_same_order_every_time():
    codes = np.zeros((2, 3, 2, 3), np.uint8)
    assert best_order(codes) == ((0, 1), (2, 3), 0)


def test_clutter_by_hand():
    image = np.array([[0, 0, 1], [0, 1, 1]])
    assert clutter_of(image) == 3  # one and one beside, one below


def test_a_stack_by_hand():
    grid = np.arange(8).reshape(2, 2, 2)
    # z outside and x inside along the columns: value is 4 x + 2 y + z
    assert stacked(grid, (2, 0), (1,)).tolist() == [[0, 4, 1, 5], [2, 6, 3, 7]]


@pytest.mark.parametrize("shape", [(1,), (1, 1), (5,)])
def test_grids_with_little_to_stack(shape):
    x, y, clutter = best_order(np.zeros(shape, np.uint8))
    assert sorted(x + y) == list(range(len(shape))) and clutter == 0
