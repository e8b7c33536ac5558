"""Against another program's bursts and labels, on its own spikes.

`tests/data/mackelab_spikes.npz`: spikes (3 s to 13 s) of 40 circuits simulated with the
mackelab `pyloric` simulator, and that program's labels, period, burst durations, delays from AB/PD
to LP start and from LP to PY start. Its burst rule uses voltage plateaus, and its bursts need two
spikes.
"""

from pathlib import Path

import numpy as np
import pytest

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELLS


@pytest.fixture(scope="module")
def theirs():
    path = Path(__file__).parents[1] / "data" / "mackelab_spikes.npz"
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def ours(theirs):
    trains = SpikeTrains(theirs["spike_time_ms"], theirs["offsets"], 40, 3)
    return analyse(trains, CELLS, 3000.0, 13_000.0, Protocol())


def test_labels_agree(ours, theirs):
    # 12: LP fires one spike per burst, which they do not count as a burst.
    # 38: PY bursts from one AB/PD burst into the next, which they split.
    assert np.flatnonzero(ours["pyloric_like"] != theirs["pyloric_like"]).tolist() == [12]
    assert np.flatnonzero(ours["triphasic"] != theirs["triphasic"]).tolist() == [12, 38]


def test_periods_and_delays_agree(ours, theirs):
    both = ours["pyloric_like"] & theirs["pyloric_like"]
    assert both.sum() == 7
    np.testing.assert_allclose(ours["period_ms"][both], theirs["period_ms"][both], rtol=0.005)
    delays = theirs["delay_ms"][both]
    np.testing.assert_allclose(ours["delay_abpd_lp_ms"][both], delays[:, 0], rtol=0.1)
    np.testing.assert_allclose(ours["delay_abpd_py_ms"][both], delays.sum(axis=1), rtol=0.05)
