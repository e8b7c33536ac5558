"""Cells alone: periods, the phase of the state, slow bursters, silent cells."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import pyloric_db as pyl
from pyloric_db.errors import ConfigError
from pyloric_db.integrate.engine import Engine
from pyloric_db.model.cells import PUBLISHED_CELLS, cell_gbar, prinz2003_gbar
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL
from pyloric_db.pipeline import thermalise as module
from pyloric_db.pipeline.simulate import simulate
from pyloric_db.pipeline.states import states_dataset
from pyloric_db.pipeline.thermalise import (
    ThermalCells,
    distinct_cells,
    initial_states,
    thermal_cells,
    thermal_start,
    thermalise,
)
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.activity import IRREGULAR
from pyloric_db.vocabulary import CHANNELS

NAMES = list(PUBLISHED_CELLS)
TABLE = np.array([cell_gbar(n) for n in NAMES])

#: Prinz 2003 model numbers of bursters with periods of 4 to 17 s.
SLOW = np.array([863_749, 876_925, 1_434_853, 1_492_489])


def go_on(cells, duration_ms):
    """Spikes of each cell alone from its thermalised state."""
    states = {k: v[:, None] for k, v in cells.states.items()}
    states["s"] = np.zeros((len(cells.gbar), 0))
    run = simulate(
        cells.gbar[:, None], circuit=SINGLE_CELL, initial=states_dataset(states, SINGLE_CELL),
        duration_ms=duration_ms, variables=(),
    )  # fmt: skip
    return [t[~np.isnan(t)] for t in run["spike_time_ms"].values[:, 0]]


def onsets(times, period, *, in_burst=False):
    """Spikes after a pause of more than a quarter of the period; the first unless `in_burst`."""
    pause = np.diff(times, prepend=-np.inf) > period / 4
    return times[pause][1 if in_burst else 0 :]


@given(
    arrays(
        float,
        st.tuples(st.integers(0, 9), st.just(3), st.just(8)),
        elements=st.sampled_from([0.0, -0.0, 0.1, 100.0]),  # the zeros are one
        fill=st.just(0.5),
    )
)
def test_distinct_cells_ascend_and_make_up_all_circuits(gbar):
    distinct, which = distinct_cells(gbar)
    rows = gbar.reshape(-1, 8).tolist()
    assert distinct.tolist() == sorted(map(list, set(map(tuple, rows))))
    assert distinct[which].tolist() == rows


@pytest.fixture(scope="module")
def published():
    return thermalise(TABLE, Protocol())


def test_periods_of_the_pacemakers(published):
    """Converged RK4 values; the published range at a coarser scheme is 1.46 to 1.64 s."""
    assert (published.activity[:5] == "bursting").all()
    np.testing.assert_allclose(published.period_ms[:5], [1503, 1496, 1566, 1625, 1676], rtol=0.005)


def test_all_published_cells_get_steady(published):
    assert published.steady.all()
    silent = published.activity == "silent"
    assert [n for n, s in zip(NAMES, silent, strict=True) if s] == ["PY 2", "PY 3"]
    assert np.isnan(published.period_ms[silent]).all()
    assert not np.isnan(published.period_ms[~silent]).any()
    for name, values in published.states.items():
        assert np.isfinite(values).all(), name


def test_silent_cells_are_at_rest(published):
    silent = np.flatnonzero(published.activity == "silent")
    gbar = published.gbar[silent][:, None]
    states = {k: v[silent][:, None] for k, v in published.states.items()}
    states["s"] = np.zeros((len(silent), 0))
    run = simulate(
        gbar, circuit=SINGLE_CELL, initial=states_dataset(states, SINGLE_CELL), duration_ms=2000
    )
    assert run.sizes["spike"] == 0
    np.testing.assert_allclose(run["V"].values - run["V"].values[..., :1], 0, atol=0.1)


@pytest.mark.parametrize("phase", [0.0, 0.2, 0.5, 0.9])
def test_the_state_is_at_the_phase(phase):
    """The next burst of a pacemaker starts after the rest of the cycle."""
    cells = thermalise(TABLE[:5], replace(Protocol(), thermal_phase=phase))
    for times, period in zip(go_on(cells, 4000), cells.period_ms, strict=True):
        start = onsets(times, period, in_burst=phase < 0.3)[0]
        assert start == pytest.approx((1 - phase) * period, abs=0.01 * period)


@pytest.mark.parametrize("phase", [0.2, 0.8])
def test_cells_that_do_not_repeat_by_the_limit_are_at_the_phase_of_their_last_cycle(phase):
    protocol = replace(Protocol(), thermal_phase=phase, thermal_max_ms=9000.0)
    cells = thermalise(TABLE[:5], protocol)
    assert (cells.activity == "bursting").all() and not cells.steady.any()
    for times, period in zip(go_on(cells, 4000), cells.period_ms, strict=True):
        start = onsets(times, period, in_burst=phase < 0.3)[0]
        assert start == pytest.approx((1 - phase) * period, abs=0.02 * period)


def test_tonic_cells_are_at_the_phase_of_their_interval():
    names = [n for n in NAMES if n in ("LP 1", "LP 3", "PY 1", "PY 5", "PY 6")]
    gbar = np.array([cell_gbar(n) for n in names])
    cells = thermalise(gbar, replace(Protocol(), thermal_phase=0.25))
    assert (cells.activity == "tonic").all()
    for times, period in zip(go_on(cells, 1000), cells.period_ms, strict=True):
        assert times[0] == pytest.approx(0.75 * period, abs=0.01 * period)


def test_slow_bursters_get_there_unless_they_do_not_repeat():
    """In float64, too, the slowest bursters' cycles spread by about 1%, the limit of `steady`."""
    cells = thermalise(prinz2003_gbar(SLOW), Protocol())
    assert (cells.activity == "bursting").all() and cells.steady.sum() >= 2
    assert (np.diff(cells.period_ms) > 0).all()
    assert 4000 < cells.period_ms[0] and cells.period_ms[-1] > 15_000
    for times, period, is_steady in zip(
        go_on(cells, 70_000), cells.period_ms, cells.steady, strict=True
    ):
        starts = onsets(times, period)
        cycles = np.diff(starts)
        assert np.median(cycles) == pytest.approx(period, rel=0.01 if is_steady else 0.03)
        if is_steady:
            assert starts[0] == pytest.approx(0.5 * period, abs=0.01 * period)
        else:
            assert np.ptp(cycles) > 0.01 * period


def test_a_cell_does_not_depend_on_the_others(published):
    for which in ([0], [11], [15, 3, 8]):
        alone = thermalise(TABLE[which], Protocol())
        np.testing.assert_array_equal(alone.activity, published.activity[which])
        np.testing.assert_array_equal(alone.period_ms, published.period_ms[which])
        for name, values in alone.states.items():
            np.testing.assert_array_equal(values, published.states[name][which], err_msg=name)


def test_the_limit_is_kept():
    """A slow burster that may not run long enough is taken as it is, and said not to be steady."""
    cells = thermalise(prinz2003_gbar(SLOW[-1:]), replace(Protocol(), thermal_max_ms=12_000.0))
    assert cells.steady.tolist() == [False]
    assert np.isfinite(cells.states["V"]).all()


def test_cells_run_until_it_is_known_what_they_do(monkeypatch):
    """For 10 s at least, 20 s to be silent, 60 s to be irregular, and not beyond the limit."""
    epoch, epochs, found = Engine.epoch, [], module.steady

    def counted(self, batch):
        epochs.append(batch)
        return epoch(self, batch)

    def run(name, **protocol):
        epochs.clear()
        cells = thermalise(cell_gbar(name)[None], Protocol(**protocol))
        assert cells.steady.item() == (cells.activity.item() != "irregular")
        return cells, len(epochs) * Protocol().epoch_ms, cells.activity.item()

    def never_regular(*arguments):
        regular = found(*arguments)
        none = np.zeros_like(regular.repeats)
        return replace(regular, activity=np.full_like(regular.activity, IRREGULAR), repeats=none)

    monkeypatch.setattr(Engine, "epoch", counted)
    assert run("LP 3")[1:] == (10_000, "tonic")
    assert run("PY 2")[1:] == (20_000, "silent")
    monkeypatch.setattr(module, "steady", never_regular)
    assert run("LP 3")[1:] == (60_000, "irregular")
    cells, *what = run("LP 3", thermal_max_ms=15_000.0)
    assert what == [15_000, "irregular"]
    gbar = cell_gbar("LP 3")[None]
    _, end = simulate(
        gbar, circuit=SINGLE_CELL, duration_ms=15_000, variables=(), return_state=True
    )
    for name, values in cells.states.items():  # without a cycle it is the state at the end
        np.testing.assert_array_equal(values, end[name].values[:, 0], err_msg=name)


def test_a_cell_that_fails_is_not_silent():
    gbar = TABLE[[0, 0]].copy()
    gbar[1, CHANNELS.index("CaT")] = 1e30
    cells = thermalise(gbar, Protocol())
    assert cells.activity.tolist() == ["bursting", ""] and cells.steady.tolist() == [True, False]
    assert np.isnan(cells.period_ms).tolist() == [False, True]


def test_initial_states_pick_each_cell(published):
    gbar = TABLE[[[4, 5, 10], [0, 9, 15]]]
    states = initial_states(gbar, published, PRINZ2004)
    for i, row in enumerate([[4, 5, 10], [0, 9, 15]]):
        for k, cell in enumerate(row):
            for name in ("V", "Ca", "m", "h"):
                np.testing.assert_array_equal(states[name][i, k], published.states[name][cell])
    assert states["s"].shape == (2, 4) and not states["s"].any()
    # a conductance of -0.0 is one of 0.0, wherever it stands
    minus, of_minus = (np.where(g == 0, -0.0, g) for g in (gbar, published.gbar))
    for same in (
        initial_states(minus, published, PRINZ2004),
        initial_states(gbar, replace(published, gbar=of_minus), PRINZ2004),
    ):
        np.testing.assert_array_equal(same["V"], states["V"])


def test_cells_are_computed_once(monkeypatch):
    protocol = replace(Protocol(), thermal_phase=0.123)
    seen = []

    def counting(gbar, *settings):
        seen.extend(g.tobytes() for g in gbar)
        return thermalise(gbar, *settings)

    monkeypatch.setattr(module, "thermalise", counting)
    first = thermal_cells(TABLE[[[0, 5, 10], [0, 5, 11]]], protocol)
    again = thermal_cells(TABLE[[[0, 5, 12]]], protocol)
    assert len(seen) == len(set(seen)) == 5
    assert len(first.gbar) == 4 and len(again.gbar) == 3


def test_no_more_cells_are_remembered_than_a_process_may_keep(monkeypatch):
    computed = []

    def stub(gbar, *_):
        computed.append(len(gbar))
        n = len(gbar)
        activity = np.full(n, "tonic", dtype=object)
        return ThermalCells(gbar, activity, gbar[:, 0], np.ones(n, bool), {"V": gbar[:, 0]})

    monkeypatch.setattr(module, "thermalise", stub)
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    protocol = replace(Protocol(), thermal_phase=0.321)
    for which, n in (([0, 1, 2], [3]), ([2, 1], []), ([0, 3], [1]), ([3], [1]), ([0, 1, 2], [])):
        computed.clear()
        cells = thermal_cells(TABLE[[which]], protocol)
        assert computed == n and len(cells.gbar) == len(which)
        np.testing.assert_array_equal(cells.period_ms, cells.gbar[:, 0])


def test_each_cell_may_start_in_its_own_phase():
    """As if thermalised alone in that phase; the same everywhere is one phase for all."""
    gbar = TABLE[[[0, 5, 10], [0, 5, 11]]]
    apart = Protocol(thermal_phase=(0.5, 0.25, 0.0))
    states = thermal_start(gbar, PRINZ2004, apart, thermal_cells)
    for i, phase in enumerate(apart.thermal_phase):
        alone = thermal_cells(gbar[:, [i]], Protocol(thermal_phase=phase))
        expected = initial_states(gbar[:, [i]], alone, SINGLE_CELL)
        for name in ("V", "Ca", "m", "h"):
            np.testing.assert_array_equal(states[name][:, [i]], expected[name])
    one = thermal_start(gbar, PRINZ2004, Protocol(thermal_phase=0.25), thermal_cells)
    three = thermal_start(gbar, PRINZ2004, Protocol(thermal_phase=[0.25] * 3), thermal_cells)
    for name, values in one.items():
        np.testing.assert_array_equal(values, three[name])
    with pytest.raises(ConfigError, match="one for each of the 3 cells, not 2"):
        thermal_start(gbar, PRINZ2004, Protocol(thermal_phase=(0.5, 0.25)), thermal_cells)


@pytest.mark.parametrize("phase", [1, -0.1, True, "0.5", [0.5, 1.0], [None], np.nan])
def test_phases_that_are_none(phase):
    with pytest.raises(ConfigError, match="thermal_phase must be from 0 up to .not with. 1, not"):
        Protocol(thermal_phase=phase)


HALF_CENTRE = {
    "name": "half-centre",
    "circuit": {
        "cells": [{"name": "left"}, {"name": "right"}],
        "synapses": [
            {"pre": pre, "post": post, "transmitter": "glutamate"}
            for pre, post in (("left", "right"), ("right", "left"))
        ],
    },
    "parameters": {
        "grid": {
            "left": ["AB/PD 1"],
            "right": ["AB/PD 1"],
            "gsyn_left_right_nS": [10, 30],
            "gsyn_right_left_nS": [10, 30],
        }
    },
}


def test_equal_cells_alternate_only_where_they_begin_apart(client, tmp_path):
    together = pyl.build(HALF_CENTRE, tmp_path / "together", cluster=client)
    apart = {**HALF_CENTRE, "protocol": {"thermal_phase": [0.5, 0]}}
    db = pyl.build(apart, tmp_path / "apart", cluster=client)
    equal = "gsyn_left_right_nS == gsyn_right_left_nS"
    assert (together.query(equal).phase_start_right == 0).all()
    np.testing.assert_allclose(db.query(equal).phase_start_right, 0.5, atol=0.02)
    assert db.protocol.thermal_phase == (0.5, 0.0)
    found = db.parameters(db.circuits.circuit_id)
    again = pyl.classify(found.gbar, found.gsyn, circuit=pyl.circuit_of(db), protocol=db.protocol)
    for name in ("period_ms", "phase_start_right", "t_simulated_ms"):
        np.testing.assert_array_equal(again[name], db.circuits[name])
    assert pyl.build(apart, tmp_path / "apart", cluster=client).complete  # it is the same recipe
    wrong = {**HALF_CENTRE, "protocol": {"thermal_phase": [0.5, 0, 0]}}
    with pytest.raises(ConfigError, match="one for each of the 2 cells, not 3"):
        pyl.build(wrong, tmp_path / "x", cluster=client)
