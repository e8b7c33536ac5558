import numpy as np
import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.model.cells import PUBLISHED_CELLS, are_published, cell_gbar, prinz2003_gbar


def test_sixteen_cells():
    names = [*(f"AB/PD {i}" for i in range(1, 6)), *(f"LP {i}" for i in range(1, 6)),
             *(f"PY {i}" for i in range(1, 7))]  # fmt: skip
    assert list(PUBLISHED_CELLS) == names


def test_columns_of_the_published_table():
    # column by column, as P04's table 2 can be read across
    table = np.array([cell_gbar(name) for name in PUBLISHED_CELLS])
    columns = {
        0: [400, 100, 200, 200, 300, 100, 100, 100, 100, 100, 100, 200, 200, 400, 500, 500],
        1: [2.5, 2.5, 2.5, 5, 2.5, 0, 0, 0, 0, 0, 2.5, 7.5, 10, 2.5, 2.5, 2.5],
        2: [6, 6, 4, 4, 2, 8, 6, 10, 4, 6, 2, 0, 0, 2, 2, 2],
        3: [50, 50, 50, 40, 10, 40, 30, 50, 20, 30, 50, 50, 50, 50, 40, 40],
        4: [10, 5, 5, 5, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0],
        5: [100, 100, 50, 125, 125, 75, 50, 100, 25, 50, 125, 75, 100, 75, 125, 125],
        6: [1, 1, 1, 1, 1, 5, 5, 0, 5, 3, 5, 5, 3, 5, 1, 0],  # hundredths
        7: [0, 0, 0, 0, 0, 2, 2, 3, 3, 2, 1, 0, 0, 0, 3, 2],
    }
    for i, values in columns.items():
        np.testing.assert_allclose(table[:, i], np.array(values) / (100 if i > 5 else 1))


def test_published_cells_lie_on_the_single_cell_grid():
    step = np.array([100, 2.5, 2, 10, 5, 25, 0.01, 0.01])
    for name in PUBLISHED_CELLS:
        levels = cell_gbar(name) / step
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-9)
        number = int("".join(str(round(v)) for v in levels), 6) + 1
        np.testing.assert_allclose(prinz2003_gbar(number), cell_gbar(name))


def test_circuits_of_published_cells_are_known_in_either_precision():
    gbar = np.stack([cell_gbar(name) for name in ("AB/PD 5", "PY 1", "LP 3")])[None]
    changed = gbar.copy()
    changed[0, 1, 3] /= 2
    both = np.concatenate([gbar, changed])
    for dtype in (float, np.float32):
        assert are_published(both.astype(dtype)).tolist() == [True, False]


def test_prinz2003_numbering():
    np.testing.assert_array_equal(prinz2003_gbar(1), np.zeros(8))
    np.testing.assert_allclose(prinz2003_gbar(2), [0, 0, 0, 0, 0, 0, 0, 0.01])
    np.testing.assert_allclose(prinz2003_gbar(7), [0, 0, 0, 0, 0, 0, 0.01, 0])
    np.testing.assert_allclose(prinz2003_gbar(6**7 + 1), [100, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(prinz2003_gbar(6**8), [500, 12.5, 10, 50, 25, 125, 0.05, 0.05])
    assert prinz2003_gbar(np.arange(1, 6)).shape == (5, 8)


@pytest.mark.parametrize("number", [0, 6**8 + 1, -3, [0, 5], [5, 6**8 + 1]])
def test_numbers_outside_the_grid(number):
    with pytest.raises(ConfigError, match="run from 1 to 1679616"):
        prinz2003_gbar(number)


@pytest.mark.parametrize("number", [1.5, True, "1", None, []])
def test_what_is_no_model_number(number):
    with pytest.raises(ConfigError, match="must be whole numbers"):
        prinz2003_gbar(number)


@pytest.mark.parametrize("name", [3, ["LP 1"], None])
def test_what_is_no_name_of_a_cell(name):
    with pytest.raises(ConfigError, match="no published cell is named"):
        cell_gbar(name)


def test_unknown_cell_names_the_nearest():
    with pytest.raises(ConfigError, match="AB/PD 1"):
        cell_gbar("ABPD 1")
