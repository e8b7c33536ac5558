"""The published cells and the numbering of the published grids."""

import numpy as np

from pyloric_db.errors import ConfigError, nearest
from pyloric_db.vocabulary import CHANNELS

#: gbar in mS/cm2, channels in the order of `vocabulary.CHANNELS`.
#: Source: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345, table 2; CaT of AB/PD 5 is 2.5, as
#: in three independent implementations (one prints 5.0).
PUBLISHED_CELLS: dict[str, tuple[float, ...]] = {
    "AB/PD 1": (400, 2.5, 6, 50, 10, 100, 0.01, 0),
    "AB/PD 2": (100, 2.5, 6, 50, 5, 100, 0.01, 0),
    "AB/PD 3": (200, 2.5, 4, 50, 5, 50, 0.01, 0),
    "AB/PD 4": (200, 5, 4, 40, 5, 125, 0.01, 0),
    "AB/PD 5": (300, 2.5, 2, 10, 5, 125, 0.01, 0),
    "LP 1": (100, 0, 8, 40, 5, 75, 0.05, 0.02),
    "LP 2": (100, 0, 6, 30, 5, 50, 0.05, 0.02),
    "LP 3": (100, 0, 10, 50, 5, 100, 0, 0.03),
    "LP 4": (100, 0, 4, 20, 0, 25, 0.05, 0.03),
    "LP 5": (100, 0, 6, 30, 0, 50, 0.03, 0.02),
    "PY 1": (100, 2.5, 2, 50, 0, 125, 0.05, 0.01),
    "PY 2": (200, 7.5, 0, 50, 0, 75, 0.05, 0),
    "PY 3": (200, 10, 0, 50, 0, 100, 0.03, 0),
    "PY 4": (400, 2.5, 2, 50, 0, 75, 0.05, 0),
    "PY 5": (500, 2.5, 2, 40, 0, 125, 0.01, 0.03),
    "PY 6": (500, 2.5, 2, 40, 0, 125, 0, 0.02),
}

#: One level of the single-cell grid, mS/cm2. Source: Prinz, Billimoria & Marder 2003.
PRINZ2003_STEP = (100.0, 2.5, 2.0, 10.0, 5.0, 25.0, 0.01, 0.01)


def cell_gbar(name: str) -> np.ndarray:
    """gbar (channel,) in mS/cm2 of a published cell, by its name (`AB/PD 1` ... `PY 6`).

    Raises:
        ConfigError: no published cell has this name.
    """
    if not isinstance(name, str) or name not in PUBLISHED_CELLS:
        raise ConfigError(
            f"no published cell is named {name!r}; there are AB/PD 1-5, LP 1-5 and PY 1-6"
            f"{nearest(str(name), list(PUBLISHED_CELLS))}"
        )
    return np.array(PUBLISHED_CELLS[name], float)


def are_published(gbar: np.ndarray) -> np.ndarray:
    """Whether all cells of each circuit are published ones (circuit,).

    Args:
        gbar: (circuit, cell, channel) mS/cm2; compared as float32, in which databases keep it.
    """
    given = np.asarray(gbar, np.float32)
    found = np.zeros(given.shape[:2], bool)
    for cell in np.array(list(PUBLISHED_CELLS.values()), np.float32):
        found |= (given == cell).all(axis=2)
    return np.asarray(found.all(axis=1))


def prinz2003_gbar(model_number: int | np.ndarray) -> np.ndarray:
    """gbar (..., channel) in mS/cm2 of model number 1 ... 1,679,616 of the single-cell grid.

    The number less one, in base 6 with the most significant digit first, gives the level of
    each channel. Source: Prinz, Billimoria & Marder 2003.

    Raises:
        ConfigError: a number outside 1 ... 6**8.
    """
    number = np.asarray(model_number)
    n = len(CHANNELS)
    if number.dtype.kind not in "iu":
        raise ConfigError(f"model numbers must be whole numbers, not {model_number!r}")
    if (number < 1).any() or (number > 6**n).any():
        raise ConfigError(f"model numbers of the Prinz 2003 grid run from 1 to {6**n}")
    levels = np.stack(np.unravel_index(number - 1, (6,) * n), axis=-1)
    return levels * np.array(PRINZ2003_STEP)
