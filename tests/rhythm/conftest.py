"""Spike patterns whose bursts, and so whose features, are known by construction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELLS


@dataclass(frozen=True)
class Pattern:
    """One burst of each cell per cycle; times in ms, bursts as (start in the cycle, duration)."""

    period: float = 1500.0
    abpd: tuple[float, float] = (0.0, 570.0)
    lp: tuple[float, float] = (800.0, 390.0)
    py: tuple[float, float] = (1130.0, 520.0)  # ends 150 ms after the next AB/PD start
    spikes: int = 14
    first: float = -1200.0  # AB/PD start of the first cycle
    stop: float = 10_000.0

    def cells(self, scale: float = 1.0, shift: float = 0.0) -> list[np.ndarray]:
        """Spike times of AB/PD, LP, PY in [0, stop), then scaled and shifted."""
        onsets = np.arange(self.first, self.stop, self.period)[:, None]
        rows = []
        for start, duration in (self.abpd, self.lp, self.py):
            times = (onsets + start + np.linspace(0.0, duration, self.spikes)).ravel()
            rows.append(times[(times >= 0) & (times < self.stop)] * scale + shift)
        return rows


Analysis = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def pattern() -> type[Pattern]:
    return Pattern


@pytest.fixture(scope="session")
def rhythm_of() -> Analysis:
    """Analyse circuits given as lists of cells; the window is 0 to 10 s."""

    def run(
        *circuits: Sequence[np.ndarray],
        start: float = 0.0,
        stop: float = 10_000.0,
        protocol: Protocol | None = None,
        cells: Sequence[str] = CELLS,
    ) -> dict[str, np.ndarray]:
        trains = SpikeTrains.from_lists(circuits, cells)
        return analyse(trains, cells, start, stop, protocol or Protocol())

    return run
