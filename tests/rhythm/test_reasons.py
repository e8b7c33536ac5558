"""Why a recording has no period or a cell no phase."""

import numpy as np
import pytest
import xarray as xr
from recordings import pyloric_spikes, write_csv

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.reasons import recorded_bursts, why_no_period, why_no_phase
from pyloric_db.rhythm.recording_files import read_recording
from pyloric_db.rhythm.recordings import features_from_spikes


def recording(**cells):
    """Spikes (cell, spike), padded with NaN."""
    times = np.full((len(cells), max(map(len, cells.values()))), np.nan)
    for row, spikes in zip(times, cells.values(), strict=True):
        row[: len(spikes)] = np.sort(spikes)
    return xr.DataArray(times, dims=("cell", "spike"), coords={"cell": list(cells)})


BURST = np.arange(0, 100, 20.0)
REGULAR = np.arange(30.0, 10_000.0, 100.0)
FEW = "has fewer than two whole cycles of bursts"


def bursts_at(*starts):
    return np.concatenate([BURST + s for s in starts])


@pytest.mark.parametrize(
    "times, reason",
    [
        ([5000.0], FEW),
        (bursts_at(5000), FEW),
        (bursts_at(1000, 5500), FEW),
        (REGULAR[REGULAR < 6000], FEW),
        (REGULAR, "fires regularly, without bursts"),
        (
            bursts_at(500, 1200, 2300, 2800, 4200, 4700, 6100, 6900, 8700, 9300),
            "bursts irregularly: its cycles vary by 40% (SD over mean), more than 25%",
        ),
        (
            bursts_at(*np.arange(200.0, 4000.0, 700.0)),
            "begins its last burst 6.3 s before the recording's last spike, twice its longest cycle"
            " of 0.7 s or more: to measure what is before, leave out all spikes after 4.40 s",
        ),
    ],
)
def test_whoever_has_no_period_has_a_reason(times, reason):
    spikes = recording(ab=times, other=[0.0, 9999.9])
    features = features_from_spikes(spikes, cells=("ab", "other"))
    assert np.isnan(features.period_ms[0])
    assert why_no_period(spikes, Protocol()) == reason


def cycles(begin, left_out=(), n=11):
    return bursts_at(*(1000.0 * i + begin for i in range(n) if i not in left_out))


def test_a_missed_burst_is_named_with_its_time():
    def why(**others):
        return why_no_phase(recording(ab=cycles(0), **others), Protocol())

    assert why(x=cycles(400), y=cycles(700)) == {}
    assert why(x=cycles(400, [4]), y=cycles(700, [2, 6])) == {
        "x": "does not burst once in 1 of 9 cycles: not at all in the one that begins at 4.00 s",
        "y": "does not burst once in 2 of 9 cycles: not at all in the one that begins at 2.00 s",
    }
    twice = np.sort([*cycles(200), *cycles(700)])
    assert why(x=twice)["x"].startswith("does not burst once in 9 of 9 cycles: 2 times")
    assert why(x=REGULAR, y=[]) == {
        "x": "fires regularly, without bursts",
        "y": "has no spikes",
    }


@pytest.mark.parametrize("early", [-90, -1, 1])
def test_nothing_is_odd_about_cells_in_synchrony(early):
    wobble = np.repeat(np.resize([-1.0, 1.0], 11), len(BURST))
    spikes = recording(ab=cycles(0), pd=cycles(early) + wobble)
    assert why_no_phase(spikes, Protocol()) == {}
    assert features_from_spikes(spikes, cells=("ab", "pd")).phase_start_pd[0] == pytest.approx(
        early / 1000, abs=1e-3
    )


def test_a_burst_that_the_begin_cuts_is_no_reason(tmp_path):
    """LP misses one burst, later; the recording begins within a burst of PY."""
    rows = [(n, t) for n, t in pyloric_spikes(20) if t > 1.6]
    rows = [(n, t) for n, t in rows if not (n == "LP" and 9 < t < 10.5)]
    spikes = read_recording(write_csv(tmp_path / "prep.csv", rows))
    assert not features_from_spikes(spikes).triphasic[0]
    assert list(why_no_phase(spikes, Protocol())) == ["lp"]


def test_bursts_are_those_of_the_measured_window():
    """A cell that fires at 2.5 Hz is tonic in a recording of three seconds, wherever it begins."""
    for begin in (0.0, 100_000.0):
        spikes = recording(ab=begin + np.arange(0.0, 3000.0, 400.0))
        bursts, stop = recorded_bursts(spikes, Protocol())
        assert bursts.tonic.all() and not bursts.start_ms.size
        assert stop == pytest.approx(begin + 2800)
