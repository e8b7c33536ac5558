"""Against other programs' runs: RK4 in float64, and labels of random circuits of the 2004 grid."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from circuits import pyloric_grid

from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline.run import run_circuits
from pyloric_db.pipeline.simulate import simulate
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.recordings import features_from_spikes

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def rk4():
    """20 circuits from a stored state: maxima of the first second, and of 2 s to 12 s."""
    with np.load(DATA / "rk4_float64.npz") as file:
        return dict(file)


def initial(rk4, n=None):
    dims = {
        "V": ("cell",),
        "Ca": ("cell",),
        "m": ("cell", "m_gate"),
        "h": ("cell", "h_gate"),
        "s": ("source",),
    }
    return xr.Dataset({k: (("circuit", *d), rk4[f"initial_{k}"][:n]) for k, d in dims.items()})


def ragged(times, mV, offsets):
    pairs = zip(offsets[:-1], offsets[1:], strict=True)
    return [times[a:b][mV[a:b] > 0] for a, b in pairs]


def rows(dataset):
    times = dataset["spike_time_ms"].values
    return [t[~np.isnan(t)] for t in times.reshape(-1, times.shape[-1])]


@pytest.mark.parametrize(
    ("dt_ms", "dtype", "limit_ms"),
    [
        (0.05, "float32", 2.0),
        (0.025, "float32", 0.5),
        (0.025, "float64", 0.5),
        (0.0125, "float32", 0.15),
    ],
)
def test_spikes_of_the_first_second(rk4, dt_ms, dtype, limit_ms):
    exact = ragged(rk4["first_second_time_ms"], rk4["first_second_mV"], rk4["first_second_offsets"])
    run = simulate(
        rk4["gbar"], rk4["gsyn"], duration_ms=1000, dt_ms=dt_ms, initial=initial(rk4),
        variables=(), dtype=dtype,
    )  # fmt: skip
    worst = [
        np.abs(a - b).max() if len(a) == len(b) else np.inf
        for a, b in zip(rows(run), exact, strict=True)
        if len(a) or len(b)
    ]
    assert len(worst) == 33
    assert np.median(worst) <= limit_ms
    assert np.isinf(worst).sum() <= 4


def test_periods_of_regular_bursters(rk4):
    exact = ragged(rk4["maximum_time_ms"], rk4["maximum_mV"], rk4["offsets"])
    run = simulate(rk4["gbar"], rk4["gsyn"], duration_ms=12_000, initial=initial(rk4), variables=())
    ours, theirs = (
        features_from_spikes([[t] for t in times], cells=("cell",), window_ms=(0, 10_000))
        for times in ([t - 2000 for t in rows(run)], exact)
    )
    regular = (
        (theirs["activity_cell"] == "bursting")
        & (theirs["spikes_per_burst_cell"] >= 2)
        & (theirs["period_cv"] <= 0.01)
    ).values
    assert regular.sum() == 18
    error = np.abs(ours["period_ms"] / theirs["period_ms"] - 1).values[regular]
    # 0.0017 in float64; rounding, which differs between versions of XLA, adds up to 0.0003
    assert np.median(error) <= 0.0025
    assert np.max(error) < 0.03


@pytest.mark.slow
def test_labels_of_the_grid():
    with np.load(DATA / "grid_labels.npz") as file:
        circuit_id, label, x = file["circuit_id"], file["label"], file["cell_state"]
    gbar, gsyn = pyloric_grid(circuit_id)
    digits = np.unravel_index(circuit_id, (5, 5, 6, 5, 5, 6, 6, 5, 6, 5))
    cells = np.stack([digits[0], 5 + digits[1], 10 + digits[2]], axis=1)
    start = {
        "V": x[cells][..., 0],
        "Ca": x[cells][..., 1],
        "m": x[cells][..., 2:9],
        "h": x[cells][..., 9:],
        "s": np.zeros((len(cells), 4)),
    }
    found, _ = run_circuits(gbar, gsyn, start, circuit=PRINZ2004, protocol=Protocol())
    like, pyloric = (label & 15) == 15, label == 31
    assert like.sum() > 30 and pyloric.sum() > 2
    same = (found["pyloric_like"] == like) & (found["pyloric"] == pyloric)
    assert same.mean() >= 0.96
