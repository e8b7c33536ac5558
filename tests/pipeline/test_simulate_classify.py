"""`classify`: the same numbers in any company, and those of `simulate` and the rhythm analysis."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from circuits import CIRCUITS, NINE_CELLS, TWO_CELLS, pyloric_grid

from pyloric_db.errors import ConfigError, PyloricDBWarning
from pyloric_db.integrate.engine import Engine
from pyloric_db.model.cells import cell_gbar
from pyloric_db.model.circuit import SINGLE_CELL
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.run import status_of
from pyloric_db.pipeline.simulate import classify, simulate
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.recordings import features_from_spikes
from pyloric_db.vocabulary import feature_columns, run_columns

#: Shorter than the default, and decided at any of six times.
PROTOCOL = Protocol(transient_ms=1000.0, min_ms=4000.0, max_ms=9000.0)


@pytest.fixture(scope="module")
def crowd():
    """Circuits, and what they do together."""
    gbar, gsyn = pyloric_grid(np.random.default_rng(11).integers(0, 20_250_000, 48))
    return gbar, gsyn, classify(gbar, gsyn, protocol=PROTOCOL)


def assert_identical(found, wanted):
    for name in wanted:
        np.testing.assert_array_equal(found[name].values, wanted[name].values, err_msg=name)


def test_columns_are_those_of_the_vocabulary(crowd):
    *_, found = crowd
    columns = (*feature_columns(), *run_columns())
    assert list(found.data_vars) == [c.name for c in columns]
    for column in columns:
        assert found[column.name].attrs["units"] == column.unit
    assert set(found["status"].values) == {"ok"}
    assert 0 < found["pyloric_like"].sum() < len(found["status"])
    assert len(np.unique(found["t_simulated_ms"])) > 2  # they leave at different times


def test_it_starts_as_the_protocol_says():
    gbar, gsyn = pyloric_grid(np.array([7, 70]))
    short = Protocol(transient_ms=0.0, min_ms=1000.0, max_ms=1000.0, initial="cold")
    found = classify(gbar, gsyn, protocol=short)
    assert_identical(found, classify(gbar, gsyn, protocol=short, initial="cold"))
    thermal = classify(gbar, gsyn, protocol=short, initial="thermal")
    assert (found["v_mean_abpd_mV"] != thermal["v_mean_abpd_mV"]).any()


def test_alone_and_in_any_batch(crowd):
    gbar, gsyn, together = crowd
    like = int(np.flatnonzero(together["pyloric_like"].values)[0])
    longest = int(np.argmax(together["t_simulated_ms"].values))
    for which in ([like], [longest], [longest, 0, like], list(range(47, 9, -1))):
        found = classify(gbar[which], gsyn[which], protocol=PROTOCOL)
        assert_identical(found, together.isel(circuit=which))


def test_equals_the_analysis_of_the_simulated_spikes(crowd):
    gbar, gsyn, found = crowd
    which = np.arange(20)
    run = simulate(
        gbar[which], gsyn[which], duration_ms=PROTOCOL.max_ms, initial="thermal", variables=()
    )
    for i in which:
        window = (PROTOCOL.transient_ms, float(found["t_simulated_ms"][i]))
        wanted = features_from_spikes(run["spike_time_ms"][[i]], window_ms=window)
        for name in wanted:
            np.testing.assert_array_equal(
                found[name].values[i], wanted[name].values[0], err_msg=f"{name} of {i}"
            )


def test_simulate_runs_circuits_as_classify_does_under_the_same_protocol():
    # burst gaps and phases decide where cells are thermalised, and pairs of cells stay there
    cells = np.stack([cell_gbar("AB/PD 3")] * 2)
    gbar, gsyn = np.stack([cells] * 2), np.array([[10.0, 10.0, 0.0], [30.0, 3.0, 1.0]])
    constants = Constants(tau_Ca=400.0, Q10_tau_m=1.5)
    protocol = Protocol(
        dt_ms=0.1,
        scheme="old_state",
        dtype="float64",
        initial="thermal",
        temperature_K=285.0,
        thermal_phase=(0.5, 0.1),
        max_burst_gap_ms=900.0,
        spike_threshold_mV=-10.0,
        transient_ms=1000.0,
        min_ms=8000.0,
        max_ms=8000.0,
    )
    setting = {"circuit": TWO_CELLS, "protocol": protocol, "constants": constants}
    found = classify(gbar, gsyn, **setting)
    run = simulate(gbar, gsyn, duration_ms=8000.0, **setting)
    wanted = features_from_spikes(
        run["spike_time_ms"], window_ms=(1000.0, 8000.0), protocol=protocol, cells=TWO_CELLS.cells
    )
    assert_identical(found, wanted)
    assert run["time"].values[1] == 0.5
    other = simulate(gbar, gsyn, duration_ms=8000.0, thermal_phase=(0.5, 0.6), **setting)
    assert (other["V"].values != run["V"].values).any()


def test_a_pacemaker_that_creeps_up_to_its_burst_is_not_silent():
    """A draw of the prior of 2020 that moves by less than `rest_mV` in the second second."""
    recipe = load_recipe("goncalves2020")
    _, gbar, gsyn = parameters(recipe, np.array([559]))
    found = classify(gbar, gsyn)
    assert found["activity_abpd"].item() == "bursting" and bool(found["periodic"])


def test_published_cells_are_not_known_with_other_constants():
    """With slow calcium AB/PD 5 creeps up to its burst, within 8 mV in a second."""
    gbar = np.stack([cell_gbar(name) for name in ("AB/PD 5", "LP 2", "PY 5")])
    gsyn = np.array([0.0, 0.0, 10.0, 30.0, 100.0, 30.0, 100.0])
    found = classify(gbar, gsyn, constants=Constants(tau_Ca=1000.0))
    assert found["activity_abpd"].item() == "bursting"


def test_runs_that_failed_are_said(monkeypatch):
    """Their labels are False, as those of circuits that were measured may be."""
    run = Engine.epoch

    def crowded(self, batch):
        batch, found = run(self, batch)
        return batch, replace(found, crowded=np.array([True, False]))

    monkeypatch.setattr(Engine, "epoch", crowded)
    gbar, gsyn = pyloric_grid(np.array([7, 70]))
    protocol = Protocol(initial="cold", transient_ms=0.0, min_ms=1000.0, max_ms=1000.0)
    with pytest.warns(PyloricDBWarning, match="1 of 2 circuits have the status event_overflow"):
        found = classify(gbar, gsyn, protocol=protocol)
    assert found["status"].values.tolist() == ["event_overflow", "ok"]


def test_the_gravest_failure_of_all_epochs_is_the_status():
    """A state that is no number says more than one out of range, and that more than its spikes."""
    order = ("ok", "event_overflow", "out_of_range", "nonfinite")
    all_of_them = np.array(list(itertools.product([False, True], repeat=3))).T
    failed = dict(zip(("crowded", "out_of_range", "nonfinite"), all_of_them, strict=True))
    wanted = [order[max(i * f for i, f in enumerate(fs, 1))] for fs in all_of_them.T]
    assert status_of(SimpleNamespace(**failed)).tolist() == wanted
    fine = SimpleNamespace(**{name: np.zeros(8, bool) for name in failed})
    for epochs in ((SimpleNamespace(**failed), fine), (fine, SimpleNamespace(**failed))):
        assert status_of(*epochs).tolist() == wanted


def test_a_current_is_that_of_simulate(crowd):
    """A number, one for each cell, or for each circuit and cell; the batch does not matter."""
    gbar, gsyn, without = crowd
    gbar, gsyn = gbar[:6], gsyn[:6]
    nA = xr.DataArray([0.0, 0.5], coords={"cell": ["py", "lp"]}, dims="cell")
    nA = nA.reindex(cell=["py", "lp", "abpd"], fill_value=-0.2)
    fixed = replace(PROTOCOL, min_ms=PROTOCOL.max_ms)
    found = classify(gbar, gsyn, protocol=fixed, i_ext_nA=nA)
    run = simulate(gbar, gsyn, protocol=fixed, i_ext_nA=[-0.2, 0.5, 0.0], duration_ms=fixed.max_ms)
    wanted = features_from_spikes(
        run["spike_time_ms"], window_ms=(fixed.transient_ms, fixed.max_ms), protocol=fixed
    )
    assert_identical(found, wanted)
    each = np.broadcast_to([-0.2, 0.5, 0.0], (6, 3))[3:4]
    alone = classify(gbar[3:4], gsyn[3:4], protocol=fixed, i_ext_nA=each)
    assert_identical(alone, found.isel(circuit=[3]))
    assert (found.spike_rate_lp_Hz.values > without.spike_rate_lp_Hz.values[:6]).mean() > 0.5
    assert_identical(
        classify(gbar, gsyn, protocol=PROTOCOL, i_ext_nA=0), without.isel(circuit=slice(6))
    )


def test_a_cell_that_a_current_holds_still_is_not_known_to_be_silent():
    """Published cells alone may rest within 8 mV, and then fire: not those that are injected."""
    seen = []
    gbar = np.stack([cell_gbar(name) for name in ("AB/PD 5", "LP 2", "PY 5")])[None]

    def settled(trains, cells, published, *_):
        seen.append(published)
        return np.full(len(published), PROTOCOL.transient_ms)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyloric_db.pipeline.run.settled", settled)
        for nA in (0.0, 0.1):
            classify(gbar, np.zeros((1, 7)), protocol=PROTOCOL, i_ext_nA=nA)
    assert [known.all() for known in seen] == [True, False]


def test_voltage_statistics_are_of_the_trace(crowd):
    gbar, gsyn, found = crowd
    run = simulate(
        gbar[:4], gsyn[:4], duration_ms=PROTOCOL.max_ms, initial="thermal", record_every_ms=0.1
    )
    for i in range(4):
        at = (run["time"] > PROTOCOL.transient_ms) & (run["time"] <= found["t_simulated_ms"][i])
        V = run["V"][i, :, at.values].values.astype(float)
        for k, cell in enumerate(("abpd", "lp", "py")):
            assert found[f"v_min_{cell}_mV"][i] == pytest.approx(V[k].min(), abs=0.01)
            assert found[f"v_mean_{cell}_mV"][i] == pytest.approx(V[k].mean(), abs=0.02)
            # the last record is one before the end
            assert found[f"v_max_{cell}_mV"][i] == pytest.approx(V[k].max(), abs=0.01)


def test_fixed_protocol_runs_to_the_end():
    gbar, gsyn = pyloric_grid(np.arange(3) * 6_000_000)
    protocol = replace(PROTOCOL, min_ms=4000.0, max_ms=4000.0)
    found = classify(gbar, gsyn, protocol=protocol, initial="cold")
    assert (found["t_simulated_ms"] == 4000).all()


def test_a_cell_that_creeps_up_to_its_next_short_burst_is_not_silent():
    """It moves by less than 8 mV in a second."""
    gbar = np.array([[[0, 7.5, 0, 20, 20, 100, 0.03, 0.03]]])
    found = classify(gbar, circuit=SINGLE_CELL)
    (activity,) = (found[n].item() for n in found if n.startswith("activity_"))
    assert activity == "bursting" and found.period_ms.item() == pytest.approx(1369, rel=0.01)


def test_a_slow_rhythm_is_found_by_a_protocol_that_waits_for_it():
    """The one of docs/examples.md."""
    protocol = Protocol(
        max_ms=120_000, transient_ms=20_000, early_ms=20_000, min_ms=40_000,
        silent_ms=20_000, rest_ms=20_000, max_burst_gap_ms=2_000,
    )  # fmt: skip
    slow = Constants(tau_Ca=3000.0)
    gbar = cell_gbar("AB/PD 3")[None, None]
    found = classify(gbar, circuit=SINGLE_CELL, protocol=protocol, constants=slow)
    assert found.period_ms.item() == pytest.approx(8462, rel=0.01)


def test_cells_may_start_at_phases_of_their_own():
    gbar = np.stack([cell_gbar("AB/PD 1")] * 2)[None]
    start = {"circuit": TWO_CELLS, "initial": "thermal", "duration_ms": 2000, "variables": ()}
    gsyn = np.zeros((1, len(TWO_CELLS.synapse_names)))
    apart = simulate(gbar, gsyn, thermal_phase=[0.5, 0], **start).spike_time_ms.values[0]
    same = simulate(gbar, gsyn, **start).spike_time_ms.values[0]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(*(s[0][~np.isnan(s[0])] for s in (apart, same)))
    assert abs(np.nanmin(apart[1]) - np.nanmin(apart[0])) > 300


def test_initial_states_change_the_run(crowd):
    gbar, gsyn, _ = crowd
    _, end = simulate(gbar[:3], gsyn[:3], duration_ms=3000, variables=(), return_state=True)
    protocol = replace(PROTOCOL, transient_ms=1000.0, min_ms=3000.0, max_ms=3000.0)
    found = classify(gbar[:3], gsyn[:3], protocol=protocol, initial=end)
    # cold, 3 s and 1 s of transient: the same window as from the cold start directly
    longer = replace(PROTOCOL, transient_ms=4000.0, min_ms=6000.0, max_ms=6000.0)
    wanted = classify(gbar[:3], gsyn[:3], protocol=longer, initial="cold")
    for name in ("v_min_lp_mV", "v_max_abpd_mV", "v_mean_py_mV"):
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.parametrize("name", ["two", "nine"])
def test_other_circuits(name):
    circuit = CIRCUITS[name]
    rng = np.random.default_rng(1)
    gbar = np.tile(cell_gbar("AB/PD 2"), (4, len(circuit.cells), 1))
    gsyn = rng.uniform(0, 5, (4, len(circuit.synapse_names)))
    protocol = replace(PROTOCOL, transient_ms=1000.0, min_ms=2000.0, max_ms=3000.0)
    found = classify(gbar, gsyn, circuit=circuit, protocol=protocol)
    expected = (*feature_columns(circuit.cells), *run_columns(circuit.cells))
    assert list(found.data_vars) == [c.name for c in expected]
    assert "pyloric_like" not in found
    assert set(found["status"].values) == {"ok"}
    assert np.isfinite(found[f"spike_rate_{circuit.cells[0]}_Hz"]).all()
    assert_identical(
        classify(gbar[[2]], gsyn[[2]], circuit=circuit, protocol=protocol), found.isel(circuit=[2])
    )


def test_a_nine_cell_circuit_without_synapses_is_nine_cells():
    """Nothing but its own conductances drives a cell of an unconnected circuit."""
    names = ("AB/PD 1", "AB/PD 2", "AB/PD 3", "LP 1", "PY 1", "PY 2", "PY 4", "PY 5", "PY 6")
    gbar = np.stack([cell_gbar(n) for n in names])
    free = np.zeros(len(NINE_CELLS.synapse_names))
    nine = simulate(gbar, free, duration_ms=1000, circuit=NINE_CELLS, variables=())
    three = simulate(gbar[[0, 3, 4]], np.zeros(7), duration_ms=1000, variables=())
    for i, k in enumerate((0, 3, 4)):
        a, b = nine["spike_time_ms"].values[0, k], three["spike_time_ms"].values[0, i]
        np.testing.assert_array_equal(a[~np.isnan(a)], b[~np.isnan(b)])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gsyn": None}, "gsyn is missing"),
        ({"gbar": xr.Dataset(), "gsyn": None}, r"gbar is a Dataset: pass \.gbar and \.gsyn"),
        ({"protocol": {"max_ms": 4000}}, "protocol must be a pyloric_db.Protocol"),
        ({"gbar": np.full((1, 3, 8), -1.0)}, "conductances must be numbers from 0"),
        ({"initial": "hot"}, "initial must be"),
    ],
)
def test_errors(change, text):
    arguments = {"gbar": np.ones((1, 3, 8)), "gsyn": np.ones((1, 7))} | change
    with pytest.raises(ConfigError, match=text):
        classify(arguments.pop("gbar"), arguments.pop("gsyn"), **arguments)
