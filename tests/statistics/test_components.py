import itertools

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.statistics.connected import components
from pyloric_db.store.manifest import Axis

AXES = (
    synthetic.cell_axis("lp", 3),
    Axis("a", "value", (0.0, 1.0, 3.0, 10.0)),
    Axis("b", "value", (0.0, 5.0, 6.0)),
)
SHAPE = (3, 4, 3)


def by_flooding(ids) -> list[int]:
    """Sizes of the components, by walking from circuit to circuit."""
    left = {tuple(map(int, np.unravel_index(i, SHAPE))) for i in ids}
    sizes = []
    while left:
        waiting, size = [left.pop()], 1
        while waiting:
            lp, a, b = waiting.pop()
            near = [(other, a, b) for other in range(3)]
            near += [(lp, a + s, b) for s in (-1, 1)] + [(lp, a, b + s) for s in (-1, 1)]
            for circuit in near:
                if circuit in left:
                    left.remove(circuit)
                    waiting.append(circuit)
                    size += 1
        sizes.append(size)
    return sorted(sizes, reverse=True)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, 35)))
def test_components_are_those_of_a_flood(ids):
    assert components(AXES, list(ids)).tolist() == by_flooding(ids)


def test_a_step_on_a_conductance_is_one_value_and_on_a_cell_any():
    at = {p: int(np.ravel_multi_index(p, SHAPE)) for p in itertools.product(*map(range, SHAPE))}
    assert components(AXES, [at[0, 0, 0], at[2, 0, 0]]).tolist() == [2]
    assert components(AXES, [at[0, 0, 0], at[0, 2, 0]]).tolist() == [1, 1]
    assert components(AXES, [at[0, 0, 2], at[0, 1, 0]]).tolist() == [1, 1]  # next ids, no step
    assert components(AXES, [at[0, 0, 0], at[1, 1, 0]]).tolist() == [1, 1]  # two steps at once


def test_the_whole_grid_is_one_component():
    assert components(AXES, np.arange(36)[::-1]).tolist() == [36]


@pytest.mark.parametrize("ids", [[], np.empty(0, np.int64)])
def test_no_circuits(ids):
    assert components(AXES, ids).tolist() == []
