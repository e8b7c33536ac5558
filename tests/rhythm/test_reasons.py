"""Why a recording has no period or a cell no phase."""

import re

import numpy as np
import pytest
import xarray as xr
from recordings import fast_spikes, pyloric_spikes, write_csv

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
            "bursts irregularly: its cycles vary by 40% (SD over mean), more than 25%; the longest "
            "of 1.9 s begins at 2.30 s",
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


def read(path, rows):
    return read_recording(write_csv(path / "prep.csv", rows))


def as_suggested(sentence):
    return Protocol(max_burst_gap_ms=float(re.findall("max_burst_gap_ms ([0-9]+)", sentence)[0]))


def test_a_pause_that_joins_the_bursts_of_a_cell(tmp_path):
    """One burst of LP is missing, all others are there."""
    spikes = read(tmp_path, fast_spikes([("LP", 60)]))
    assert features_from_spikes(spikes).period_ms[0] == pytest.approx(600)
    (why,) = why_no_phase(spikes, Protocol()).values()
    assert why == (
        "does not burst once in 97 of 98 cycles, as bursts less than 500 ms apart are joined: its "
        "pause of 1.04 s after 35.88 s sets this limit; max_burst_gap_ms 220 would tell them apart"
    )
    assert why_no_phase(spikes, as_suggested(why)) == {
        "lp": "does not burst once in 1 of 98 cycles: not at all in the one that begins at 36.00 s"
    }


def test_a_pause_that_joins_the_bursts_of_the_first_cell(tmp_path):
    spikes = read(tmp_path, fast_spikes([("PD", 21)]))
    assert features_from_spikes(spikes).period_ms.isnull()[0]
    why = why_no_period(spikes, Protocol())
    assert why == (
        "has fewer than two whole cycles of bursts, as bursts less than 484 ms apart are joined: "
        "its pause of 0.968 s after 12.23 s sets this limit; max_burst_gap_ms 190 would tell them "
        "apart"
    )
    found = features_from_spikes(spikes, protocol=as_suggested(why))
    assert found.period_ms[0] == pytest.approx(1000 * 0.6 * 98 / 97)


def test_a_pause_of_all_cells(tmp_path):
    """It joins the bursts, and, once these are told apart, is the longest cycle."""
    rows = fast_spikes(pause_after=60)
    why = why_no_period(read(tmp_path, rows), Protocol())
    assert "as bursts less than 500 ms apart are joined: its pause of 6.37 s after 36.23 s" in why
    protocol = as_suggested(why)
    why = why_no_period(read(tmp_path, rows), protocol)
    assert why.endswith(
        "the longest of 6.6 s begins at 36.00 s: leave out the spikes before or after it"
    )
    for part in ([r for r in rows if r[1] < 36], [r for r in rows if r[1] > 42]):
        assert features_from_spikes(read(tmp_path, part), protocol=protocol).pyloric_like[0]


def test_a_few_pauses_that_leave_cycles(tmp_path):
    rows = fast_spikes([("PD", 20), ("PD", 33), ("PD", 75)])
    why = why_no_period(read(tmp_path, rows), Protocol())
    assert why.startswith(
        "bursts irregularly: its cycles vary by 53% (SD over mean), more than 25%, as"
    )
    found = features_from_spikes(read(tmp_path, rows), protocol=as_suggested(why))
    assert found.period_ms[0] > 0


def test_a_limit_that_joins_nothing_is_no_reason(tmp_path):
    """A slow rhythm, and cells that fire at random, whose pauses no limit makes regular."""
    rows = [(n, t) for n, t in pyloric_spikes(20) if not (n == "LP" and 9 < t < 13)]
    (why,) = why_no_phase(read(tmp_path, rows), Protocol()).values()
    assert why.endswith("cycles: not at all in the one that begins at 9.25 s")
    times = np.cumsum(np.random.default_rng(1).exponential(100, 1000))
    assert "joined" not in why_no_period(recording(ab=times), Protocol())
    at_random = {"ab": cycles(0, n=101), "x": times}
    assert "joined" not in why_no_phase(recording(**at_random), Protocol())["x"]


def test_a_drop_out_is_named_with_its_time():
    spikes = recording(ab=cycles(0, [4, 5, 6], n=14), other=[13_500.0])
    why = why_no_period(spikes, Protocol())
    assert why == (
        "bursts irregularly: its cycles vary by 71% (SD over mean), more than 25%; the longest of "
        "4 s begins at 3.00 s: leave out the spikes before or after it"
    )
