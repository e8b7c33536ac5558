import numpy as np
import pytest
import xarray as xr

from pyloric_db.plot.traces import traces_figure
from pyloric_db.protocol import Protocol

pytest.importorskip("matplotlib")


@pytest.fixture
def simulation():
    """Two cells for 3 s: one bursts, the other is silent."""
    time = np.arange(0, 3000, 0.5)
    V = np.full((1, 2, len(time)), -55.0)
    spikes = np.concatenate([start + np.arange(0, 200, 20.0) for start in (300, 1300, 2300)])
    V[0, 0, np.searchsorted(time, spikes)] = 30
    padded = np.full((1, 2, 40), np.nan)
    padded[0, 0, : len(spikes)] = spikes
    return xr.Dataset(
        {
            "V": (("circuit", "cell", "time"), V),
            "spike_time_ms": (("circuit", "cell", "spike"), padded),
        },
        {"cell": ["left", "right"], "time": time},
    )


def test_bursts_are_marked(simulation):
    figure = traces_figure(simulation)
    left, right = figure.axes
    bars = [np.round(line.get_xdata(), 3).tolist() for line in left.lines if line.get_lw() == 4]
    assert bars == [[0.3, 0.48], [1.3, 1.48], [2.3, 2.48]]
    assert not [line for line in right.lines if line.get_lw() == 4]
    assert [ax.get_ylabel() for ax in figure.axes] == ["LEFT", "RIGHT"]
    assert right.get_xlabel() == "time (s)"


def test_what_is_shown_has_the_bursts_of_the_whole(simulation):
    left = traces_figure(simulation, shown_ms=400).axes[0]
    first = next(line for line in left.lines if line.get_lw() == 4)
    assert np.round(first.get_xdata(), 3).tolist() == [0.3, 0.48]  # on beyond what is shown
    assert left.get_xlim() == (0, 0.4)


def test_bursts_are_those_of_the_protocol(simulation):
    """Gaps of 20 ms between the spikes: each is a burst where 15 ms are a pause."""
    left = traces_figure(simulation, protocol=Protocol(max_burst_gap_ms=15)).axes[0]
    assert len([line for line in left.lines if line.get_lw() == 4]) == 30
