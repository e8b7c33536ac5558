"""What must hold for any spike times: invariances, and independence of circuits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm import spikes
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELLS, feature_columns

STOP = 10_000.0
COLUMNS = feature_columns()


def random_cell(rng):
    """A cell of any activity, with jitter, so that no interval lies on a threshold."""
    kind = rng.integers(5)
    if kind == 0:
        return np.zeros(0)
    if kind == 1:
        times = np.sort(rng.uniform(0, STOP, rng.integers(1, 80)))
    elif kind == 2:
        times = np.arange(rng.uniform(0, 200), STOP, rng.uniform(30, 700))
    else:
        period, phase = rng.uniform(500, 2500), rng.uniform()
        onsets = (np.arange(-1, STOP / period) + phase) * period
        n = rng.integers(1, 15)
        times = (onsets[:, None] + np.linspace(0, rng.uniform(0.1, 0.6) * period, n)).ravel()
    times = np.unique(times + rng.normal(0, 1.0, times.size))
    return times[(times >= 0) & (times < STOP)]


def random_circuits(seed, n):
    """Some pyloric, most not: cells of one circuit share a period half of the time."""
    rng = np.random.default_rng(seed)
    circuits = []
    for _ in range(n):
        if rng.uniform() < 0.5:
            circuits.append([random_cell(rng) for _ in CELLS])
            continue
        period = rng.uniform(800, 2200)
        onsets = (np.arange(-1, STOP / period) + rng.uniform()) * period
        cells = []
        for phase, duty in ((0, 0.4), (0.53, 0.26), (0.76, 0.35)):
            spikes = period * (phase + np.linspace(0, duty, 12)) * rng.normal(1, 0.02)
            times = np.unique((onsets[:, None] + spikes).ravel() + rng.normal(0, 0.5))
            cells.append(times[(times >= 0) & (times < STOP)])
        circuits.append(cells)
    return circuits


def run(circuits, start=0.0, stop=STOP, protocol=None):
    trains = SpikeTrains.from_lists(circuits, CELLS)
    return analyse(trains, CELLS, start, stop, protocol or Protocol())


def assert_same(got, expected):
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


seeds = st.integers(0, 2**32 - 1)
law = settings(max_examples=60, deadline=None, derandomize=True)


def test_the_sample_is_rich():
    got = run(random_circuits(0, 300))
    assert set(np.unique(got["activity_abpd"])) == {"silent", "tonic", "bursting", "irregular"}
    for flag in ("periodic", "triphasic", "pyloric_like", "pyloric"):
        assert 0.05 < got[flag].mean() < 0.95, flag


@law
@given(seeds, st.floats(-1e5, 1e5))
def test_time_shift_changes_nothing(seed, shift):
    circuits = random_circuits(seed, 4)
    base = run(circuits)
    moved = run([[t + shift for t in c] for c in circuits], shift, STOP + shift)
    for c in COLUMNS:
        if c.kind == "float32":
            np.testing.assert_allclose(
                moved[c.name], base[c.name], rtol=1e-5, atol=1e-5, err_msg=c.name
            )
        elif c.name not in ("n_criteria_met", "pyloric"):  # a value may sit on a limit
            np.testing.assert_array_equal(moved[c.name], base[c.name], err_msg=c.name)


@law
@given(seeds, st.floats(0.2, 5.0))
def test_time_scale_scales_times_and_leaves_ratios(seed, scale):
    circuits = random_circuits(seed, 4)
    base = run(circuits)
    scaled = replace(Protocol(), max_burst_gap_ms=500.0 * scale)
    got = run([[t * scale for t in c] for c in circuits], 0.0, STOP * scale, scaled)
    for c in COLUMNS:
        factor = {"ms": scale, "Hz": 1 / scale}.get(c.unit, 1.0)
        if c.kind == "float32":
            np.testing.assert_allclose(
                got[c.name], base[c.name] * factor, rtol=1e-5, atol=1e-5, err_msg=c.name
            )
        elif c.name not in ("n_criteria_met", "pyloric"):
            np.testing.assert_array_equal(got[c.name], base[c.name], err_msg=c.name)


@law
@given(seeds)
def test_a_batch_is_a_loop_of_singles_to_the_last_bit(seed):
    circuits = random_circuits(seed, 5)
    batch = run(circuits)
    singles = [run([c]) for c in circuits]
    assert_same(batch, {n: np.concatenate([s[n] for s in singles]) for n in batch})


@law
@given(seeds)
def test_permuted_circuits_give_permuted_results(seed):
    circuits = random_circuits(seed, 6)
    order = np.random.default_rng(seed).permutation(6)
    base = run(circuits)
    assert_same(run([circuits[i] for i in order]), {n: v[order] for n, v in base.items()})


@law
@given(seeds)
def test_silent_circuits_between_change_nothing(seed):
    circuits = random_circuits(seed, 4)
    silent = [np.zeros(0)] * 3
    mixed = [silent] + [c for circuit in circuits for c in (circuit, silent)]
    base = run(circuits)
    assert_same({n: v[1::2] for n, v in run(mixed).items()}, base)


@law
@given(seeds)
def test_spikes_outside_the_window_change_nothing(seed):
    circuits = random_circuits(seed, 4)
    inside = [[t[(t >= 2000) & (t < 9000)] for t in c] for c in circuits]
    assert_same(run(circuits, 2000.0, 9000.0), run(inside, 2000.0, 9000.0))


@law
@given(seeds)
def test_labels_imply_one_another(seed):
    got = run(random_circuits(seed, 8))
    assert (got["pyloric"] <= got["pyloric_like"]).all()
    assert (got["pyloric_like"] <= (got["periodic"] & got["triphasic"])).all()
    assert (np.isnan(got["phase_start_lp"]) == ~got["triphasic"]).all()
    assert (got["n_criteria_met"][got["pyloric"]] == 15).all()
    bursting = np.all([got[f"activity_{c}"] == "bursting" for c in CELLS], axis=0)
    assert (got["triphasic"] <= bursting).all()


def test_blocks_do_not_show(monkeypatch):
    circuits = random_circuits(7, 23)
    whole = run(circuits)
    monkeypatch.setattr(spikes, "BLOCK_CIRCUITS", 5)
    assert_same(run(circuits), whole)


@pytest.mark.parametrize("epochs", [2, 5])
def test_spikes_collected_epoch_by_epoch_are_the_same(epochs):
    circuits = random_circuits(11, 6)
    trains = SpikeTrains.from_lists(circuits, CELLS)
    edges = np.linspace(0, STOP, epochs + 1)
    collected = trains.window(0.0, 0.0)
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        collected = collected.append(trains.window(a, b))
    np.testing.assert_array_equal(collected.times, trains.times)
    np.testing.assert_array_equal(collected.offsets, trains.offsets)
