import numpy as np
import pytest
import xarray as xr
from recordings import BURSTS, pyloric_spikes, write_csv

from pyloric_db.plot.match import match_figure
from pyloric_db.protocol import Protocol
from pyloric_db.query.nearest import Scale
from pyloric_db.rhythm.recording_files import read_recording
from pyloric_db.rhythm.recordings import features_from_spikes
from pyloric_db.vocabulary import CRITERIA

pytest.importorskip("matplotlib")


SCALE = {c.column: Scale(c.mean, c.sd) for c in CRITERIA}


@pytest.fixture
def match(tmp_path):
    """A recording, and a "model" that plays the same 100 ms later."""
    recording = read_recording(write_csv(tmp_path / "prep.csv", pyloric_spikes(6)))
    features = features_from_spikes(recording)
    time = np.arange(0, 9500, 0.5)
    V = np.full((1, 3, len(time)), -55.0)
    simulation = xr.Dataset(
        {
            "V": (("circuit", "cell", "time"), V),
            "spike_time_ms": (("circuit", "cell", "spike"), recording.values[None] + 100),
        },
        {"cell": ["abpd", "lp", "py"], "time": time},
    )
    circuit = features.assign(distance=("circuit", [0.25])).assign_coords(
        circuit_id=("circuit", [77])
    )
    circuit.attrs["compared"] = ["period_ms", "duty_cycle_lp"]
    return recording, features, circuit, simulation, SCALE


def test_both_begin_with_an_abpd_burst_on_one_scale(match):
    *pairs, features = match_figure(*match).axes
    assert len(pairs) == 6 and len({ax.get_xlim() for ax in pairs}) == 1
    assert pairs[0].get_xlim() == pytest.approx((0, 4.5))
    assert [ax.get_ylabel() for ax in pairs] == ["AB/PD", "LP", "PY"] * 2
    for ax in (pairs[0], pairs[3]):
        bars = [line.get_xdata() for line in ax.lines if line.get_lw() == 4]
        assert min(abs(b[0]) for b in bars) == pytest.approx(0, abs=1e-9)
    assert pairs[3].get_title() == "circuit 77, 0.25 SD away\n(2 of 15 features)"
    assert pairs[2].get_xlabel() == pairs[5].get_xlabel() == "time (s)"
    recorded, modelled = (c.get_offsets() for c in features.collections)
    expected = [(float(match[1][c.column].item()) - c.mean) / c.sd for c in CRITERIA]
    np.testing.assert_allclose(recorded[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(modelled, recorded)
    assert features.get_xlabel() == "SD from the published mean"


def test_bursts_of_both_are_those_of_the_protocol(match):
    def bars(ax):
        return sum(line.get_lw() == 4 for line in ax.lines)

    single = Protocol(max_burst_gap_ms=15)  # no two spikes are as near as that
    both = match_figure(*match, protocol=single).axes[:6]
    recorded = match_figure(*match, recording_protocol=single).axes[:6]
    modelled = match_figure(*match, protocol=single, recording_protocol=Protocol()).axes[:6]
    of_spikes = [len(ax.collections[0].get_segments()) for ax in both[:3]]
    of_model = [6 * BURSTS[name][2] for name in ("PD", "LP", "PY")]
    assert [bars(ax) for ax in both] == of_spikes + of_model
    assert [bars(ax) for ax in recorded] == of_spikes + [6, 6, 6]
    assert [bars(ax) for ax in modelled] == [4, 3, 4] + of_model


def test_of_the_recording_only_what_is_shown_is_drawn(match, tmp_path):
    rows = [(n, 60 + t) for n, t in pyloric_spikes(100)]
    long = read_recording(write_csv(tmp_path / "long.csv", rows))
    pairs = match_figure(long, *match[1:]).axes[:3]
    assert pairs[0].get_title() == "recording from 61.75 s on"
    for ax, n in zip(pairs, (3 * 12 + 1, 3 * 9, 3 * 11), strict=True):
        spikes = ax.collections[0].get_segments()
        assert len(spikes) == n and len(ax.lines) <= 4
        assert all(0 <= spike[0][0] <= 4.5 for spike in spikes)
