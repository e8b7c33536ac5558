"""`simulate`: continuing, recording, what it refuses, other circuits."""

import numpy as np
import pytest
import xarray as xr
from circuits import TWO_CELLS, pyloric_grid, random_conductances

from pyloric_db.errors import ConfigError, PyloricDBWarning
from pyloric_db.model.cells import cell_gbar
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.simulate import classify, simulate
from pyloric_db.protocol import Protocol

GBAR, GSYN = pyloric_grid(np.random.default_rng(3).integers(0, 20_250_000, 4))


def spikes(dataset, circuit, cell):
    times = dataset["spike_time_ms"].values[circuit, cell]
    return times[~np.isnan(times)]


@pytest.fixture(scope="module")
def whole():
    return simulate(GBAR, GSYN, duration_ms=2500, return_state=True)


@pytest.mark.parametrize("first_ms", [1000.0, 2000.0, 730.0, 1230.5])
def test_going_on_is_one_long_run(whole, first_ms):
    wanted, end = whole
    a, middle = simulate(GBAR, GSYN, duration_ms=first_ms, return_state=True)
    b, later = simulate(GBAR, GSYN, duration_ms=2500 - first_ms, initial=middle, return_state=True)
    for name in end:
        np.testing.assert_array_equal(later[name], end[name], err_msg=name)
    V = np.concatenate([a["V"].values, b["V"].values], axis=-1)
    # a first part of 1230.5 ms ends between two records of the whole
    V = V[..., : a.sizes["time"]] if first_ms % 0.5 else V
    np.testing.assert_array_equal(V, wanted["V"].values[..., : V.shape[-1]])
    for circuit in range(len(GBAR)):
        for cell in range(3):
            found = np.concatenate([spikes(a, circuit, cell), first_ms + spikes(b, circuit, cell)])
            exact = spikes(wanted, circuit, cell)
            # a spike whose samples the seam parts may be missed; others are where they were, up
            # to the grid of samples, which begins anew at the seam
            exact = exact[np.abs(exact - first_ms) > 1]
            found = found[np.abs(found - first_ms) > 1]
            assert len(exact) == len(found)
            on_grid = first_ms % 0.1 < 1e-6
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-3 if on_grid else 0.05)


def test_records(whole):
    wanted, _ = whole
    assert wanted["V"].dims == ("circuit", "cell", "time")
    assert wanted["V"].attrs["units"] == "mV" and wanted["V"].dtype == np.float32
    assert list(wanted["cell"].values) == ["abpd", "lp", "py"]
    np.testing.assert_allclose(wanted["time"], np.arange(5000) * 0.5)
    np.testing.assert_array_equal(wanted["V"][..., 0], -50.0)  # the cold start
    coarse = simulate(GBAR, GSYN, duration_ms=1200, record_every_ms=5)
    np.testing.assert_array_equal(coarse["V"], wanted["V"][..., :2400:10])
    fine = simulate(GBAR, GSYN, duration_ms=40, record_every_ms=0.05)
    np.testing.assert_array_equal(fine["V"][..., ::10], wanted["V"][..., :80])
    odd = simulate(GBAR, GSYN, duration_ms=40, record_every_ms=0.35)
    np.testing.assert_array_equal(odd["V"], fine["V"][..., ::7])


@pytest.mark.parametrize(("dt_ms", "every_ms"), [(0.2, 0.4), (0.08, 0.48), (0.04, 0.48)])
def test_traces_of_any_step_are_recorded(dt_ms, every_ms):
    """Half a millisecond is no multiple of it."""
    run = simulate(GBAR[:1], GSYN[:1], duration_ms=4.8, protocol=Protocol(dt_ms=dt_ms))
    assert run["time"].values[1] == pytest.approx(every_ms)


def test_variables():
    names = ("V", "Ca", "m", "h", "s")
    everything, end = simulate(
        GBAR, GSYN, duration_ms=60, record_every_ms=20, variables=names, return_state=True
    )
    assert everything["m"].dims == ("circuit", "cell", "m_gate", "time")
    assert everything["h"].dims == ("circuit", "cell", "h_gate", "time")
    assert everything["s"].dims == ("circuit", "source", "time")
    state = end
    for name in names:
        assert state[name].dims == everything[name].dims[:-1]
    _, at_20 = simulate(GBAR, GSYN, duration_ms=20, variables=(), return_state=True)
    for name in names:
        np.testing.assert_array_equal(everything[name][..., 1], at_20[name], err_msg=name)
    none = simulate(GBAR, GSYN, duration_ms=60, variables=())
    assert set(none.data_vars) == {"spike_time_ms", "status"} and "time" not in none.dims
    np.testing.assert_array_equal(none["spike_time_ms"], everything["spike_time_ms"])


def test_inputs_by_name_in_any_order(whole):
    wanted, _ = whole
    channels = ["Na", "CaT", "CaS", "A", "KCa", "Kd", "H", "leak"]
    gbar = xr.DataArray(
        GBAR, dims=("circuit", "cell", "channel"),
        coords={"cell": ["abpd", "lp", "py"], "channel": channels},
    ).transpose("channel", "circuit", "cell")  # fmt: skip
    found = simulate(gbar, GSYN, duration_ms=100)
    np.testing.assert_array_equal(found["V"], wanted["V"][..., :200])
    one = simulate(GBAR[2], GSYN[2], duration_ms=100)
    np.testing.assert_array_equal(one["V"][0], wanted["V"][2, :, :200])


def test_labels_are_taken_by_name(whole):
    """Labelled conductances in another order than the circuit's are put in order."""
    wanted, _ = whole
    gsyn = xr.DataArray(
        GSYN, dims=("circuit", "synapse"), coords={"synapse": list(PRINZ2004.synapse_names)}
    ).isel(synapse=slice(None, None, -1))
    gbar = xr.DataArray(
        GBAR, dims=("circuit", "cell", "channel"), coords={"cell": ["abpd", "lp", "py"]}
    ).isel(cell=[2, 0, 1])
    found = simulate(gbar, gsyn, duration_ms=100)
    np.testing.assert_array_equal(found["V"], wanted["V"][..., :200])
    with pytest.raises(ConfigError, match="gbar has the cell labels pd, lp, py, but"):
        simulate(gbar.assign_coords(cell=["pd", "lp", "py"]), gsyn, duration_ms=100)


def test_injected_current_and_temperature():
    gbar = cell_gbar("LP 1")[None, None]
    still, pushed = (
        simulate(gbar, duration_ms=500, circuit=SINGLE_CELL, i_ext_nA=i, variables=())
        for i in (-3.0, 3.0)
    )
    assert still.sizes["spike"] == 0 and pushed.sizes["spike"] > 10
    # all rates twice as fast at 293 K, and the capacitance half: the same run in half the time
    fast = Constants(C=0.5, Q10_tau_m=2.0, Q10_tau_h=2.0, Q10_tau_Ca=2.0, RT_2F=12.2 * 283 / 293)
    slow_run = simulate(gbar, duration_ms=500, circuit=SINGLE_CELL, variables=())
    fast_run = simulate(
        gbar, duration_ms=250, circuit=SINGLE_CELL, dt_ms=0.025,
        variables=(),
        constants=fast, temperature_K=293.0,
    )  # fmt: skip
    a, b = (r["spike_time_ms"].values.ravel() for r in (slow_run, fast_run))
    assert len(a) == len(b) > 1
    np.testing.assert_allclose(a, 2 * b, atol=0.2)


def test_a_labelled_current_goes_to_its_cell():
    by_cell = {"abpd": 0.0, "lp": 0.0, "py": 5.0}
    names = ["py", "lp", "abpd"]
    labelled = xr.DataArray([by_cell[c] for c in names], dims="cell", coords={"cell": names})
    for current in (labelled, labelled.expand_dims(circuit=4).transpose("cell", "circuit")):
        found = simulate(GBAR, GSYN, duration_ms=50, i_ext_nA=current)
        wanted = simulate(GBAR, GSYN, duration_ms=50, i_ext_nA=list(by_cell.values()))
        np.testing.assert_array_equal(found["V"], wanted["V"])


def test_circuits_of_other_labels_are_no_pairs():
    gbar = xr.DataArray(GBAR[:2], dims=("circuit", "cell", "channel"), coords={"circuit": [5, 9]})
    gsyn = xr.DataArray(GSYN[:2], dims=("circuit", "synapse"), coords={"circuit": [9, 5]})
    with pytest.raises(ConfigError, match="different circuit labels"):
        simulate(gbar, gsyn, duration_ms=10)
    gsyn = gsyn.assign_coords(circuit=[5, 9])
    found, states = simulate(gbar, gsyn, duration_ms=10, return_state=True)
    short = Protocol(min_ms=1000, max_ms=4000)
    assert found.circuit.values.tolist() == states.circuit.values.tolist() == [5, 9]
    assert classify(gbar, gsyn, initial="cold", protocol=short).circuit.values.tolist() == [5, 9]
    turned = states.isel(circuit=[1, 0])
    with pytest.raises(ConfigError, match="gbar and initial have different circuit labels"):
        simulate(gbar, gsyn, initial=turned, duration_ms=10)
    by_id = [a.drop_vars("circuit").assign_coords(circuit_id=("circuit", a.circuit.values))
             for a in (gbar, turned)]  # fmt: skip
    with pytest.raises(ConfigError, match="gbar and initial have different circuit_id as circuit"):
        simulate(by_id[0], GSYN[:2], initial=by_id[1], duration_ms=10)
    current = xr.DataArray([0.0, 1.0], dims="circuit", coords={"circuit": [9, 5]})
    with pytest.raises(ConfigError, match="gbar and i_ext_nA have different circuit labels"):
        simulate(gbar, gsyn, i_ext_nA=current, duration_ms=10)


def test_records_that_do_not_fit_into_seconds():
    every, odd = (simulate(GBAR[:1], GSYN[:1], duration_ms=3000, record_every_ms=ms)
                  for ms in (0.05, 999.95))  # fmt: skip
    assert odd.time.values.tolist() == pytest.approx([0, 999.95, 1999.9, 2999.85])
    np.testing.assert_array_equal(odd["V"], every["V"][..., ::19999])


def test_variables_of_a_cell_without_synapses():
    found = simulate(
        cell_gbar("LP 1")[None, None], circuit=SINGLE_CELL, duration_ms=20, variables=("V", "s")
    )
    assert found["s"].shape == (1, 0, 40) and found["V"].shape == (1, 1, 40)


def test_what_became_of_each_circuit_is_said():
    current = np.zeros((4, 3))
    current[2, 1] = 1e6
    found = simulate(GBAR, GSYN, duration_ms=50, i_ext_nA=current, variables="Ca")
    assert list(found["status"].values[[0, 1, 3]]) == ["ok"] * 3
    assert found["status"].values[2] in ("out_of_range", "nonfinite")


def test_cells_are_thermalised_as_they_are_run():
    constants = Constants(Q10_tau_m=2.0)
    cold, warm = (
        simulate(
            GBAR, GSYN, duration_ms=1, initial="thermal", temperature_K=t, constants=constants
        )["V"].values[..., 0]
        for t in (283.0, 285.0)
    )
    assert (cold != warm).any()


def test_a_temperature_without_factors_is_said_to_change_little():
    with pytest.warns(PyloricDBWarning, match="all Q10 factors are 1: give yours"):
        simulate(GBAR, GSYN, duration_ms=1, temperature_K=293.0)


def test_other_circuits():
    gbar, gsyn = random_conductances(TWO_CELLS, np.random.default_rng(0), 3)
    gbar[:] = cell_gbar("AB/PD 2")
    found, end = simulate(gbar, gsyn, duration_ms=300, circuit=TWO_CELLS, return_state=True)
    assert found["V"].shape == (3, 2, 600)
    assert list(found["cell"].values) == ["a", "b"]
    assert list(end["source"].values) == ["a_glu", "b_ach"]
    assert np.isfinite(found["V"]).all() and found.sizes["spike"] > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"gbar": GBAR[:, :2]}, r"gbar has the shape \(4, 2, 8\)"),
        ({"gsyn": GSYN[:, :6]}, r"gsyn has the shape \(4, 6\)"),
        ({"gsyn": GSYN[:2]}, "gbar has 4 circuits but gsyn 2"),
        ({"gbar": np.where(GBAR == 400, -1.0, GBAR) * 0 - 1}, r"gbar\[0, 0, 0\] is -1"),
        ({"gsyn": GSYN * np.nan}, r"gsyn\[0, 0\] is nan"),
        ({"gbar": GBAR + np.inf}, "is inf; conductances must be numbers from 0 to 1e.30"),
        ({"gbar": GBAR + 2e30}, "conductances must be numbers from 0 to 1e.30"),
        ({"gbar": "lots"}, "gbar must be an array of numbers"),
        ({"dt_ms": 0.0}, "dt_ms must be above 0 and at most 0.2 ms, not 0"),
        ({"dt_ms": 0.3}, "dt_ms must be above 0 and at most 0.2 ms, not 0.3"),
        ({"duration_ms": 0.0}, "duration_ms must be above 0"),
        ({"duration_ms": np.nan}, "duration_ms must be a finite number, not nan"),
        ({"duration_ms": "100"}, "duration_ms must be a finite number, not '100'"),
        ({"record_every_ms": np.inf}, "record_every_ms must be a finite number"),
        ({"temperature_K": "10"}, "temperature_K must be a number, not '10'"),
        ({"protocol": {"dt_ms": 0.1}}, "protocol must be a pyloric_db.Protocol"),
        ({"gbar": GBAR[:0], "gsyn": GSYN[:0]}, "there are no circuits"),
        ({"gsyn": None}, "gsyn is missing: this circuit has the synapses ab_lp, "),
        (
            {"gbar": xr.Dataset({"gbar": ("circuit", [1.0])}), "gsyn": None},
            r"gbar is a Dataset: pass \.gbar and \.gsyn of it",
        ),
        ({"gsyn": xr.Dataset()}, r"gsyn is a Dataset: pass \.gbar and \.gsyn of it"),
        ({"gbar": GBAR * 1j}, "gbar must be an array of numbers"),
        ({"gbar": xr.DataArray(GBAR, dims=("a", "cell", "channel"))}, "gbar has the dims"),
        ({"circuit": "prinz2004"}, "circuit must be a pyloric_db.Circuit"),
        ({"constants": {"C": 1.0}}, "constants must be a pyloric_db.Constants"),
        ({"initial": (1, 2)}, "initial must be 'cold', 'thermal' or a Dataset of states"),
        ({"i_ext_nA": {"lp": 1}}, "i_ext_nA must be an array of numbers"),
        ({"duration_ms": 10.02}, r"duration_ms \(10.02\) must be a multiple of dt_ms"),
        ({"record_every_ms": 0.07}, r"record_every_ms \(0.07\) must be a multiple of dt_ms"),
        ({"initial": "warm"}, "initial must be 'cold', 'thermal' or a Dataset of states"),
        ({"variables": ("V", "Cl")}, r"variables must be of V, Ca, m, h, s, not \('V', 'Cl'\)"),
        ({"variables": 5}, "variables must be of V, Ca, m, h, s, not 5"),
        ({"variables": [["V"]]}, "variables must be of V, Ca, m, h, s"),
        ({"gbar": None}, "gbar must be an array of numbers|gbar has the shape"),
        ({"gsyn": xr.DataArray(GSYN[:, 0], dims="circuit")}, "gsyn .* but needs synapse"),
        ({"initial": {"V": [[1, 2]], "Ca": 3}}, "initial must be a Dataset of states"),
        ({"scheme": "euler"}, "scheme must be one of gates_first, old_state"),
        ({"dtype": "float16"}, "dtype must be one of float32, float64"),
        ({"temperature_K": 10.0}, "temperature_K must be between 200 and 400 K"),
        ({"i_ext_nA": np.zeros((4, 2))}, r"i_ext_nA must broadcast to .* \(4, 3\)"),
        ({"i_ext_nA": np.inf}, "i_ext_nA must be finite"),
    ],
)
def test_errors(change, text):
    arguments = {"gbar": GBAR, "gsyn": GSYN, "duration_ms": 10.0} | change
    with pytest.raises(ConfigError, match=text):
        simulate(arguments.pop("gbar"), arguments.pop("gsyn"), **arguments)


def test_initial_states_are_checked(whole):
    _, end = whole
    for bad, text in (
        (end.drop_vars("Ca"), "lack the variable 'Ca'"),
        (end.isel(circuit=[0, 1]), "has 2 along circuit, but 4 are needed"),
        (end.assign(V=end["V"] * np.nan), "initial V has values that are not finite"),
        (end.assign_coords(cell=["a", "b", "c"]), "cell labels a, b, c"),
        (end.assign(s=end["V"]), "initial s has the dims"),
        (end.assign(m=end["m"] + 2.0), r"initial m\[0, 0, 0\] is .* from -0.001 to 1.001"),
        (end.assign(Ca=end["Ca"] * 0), r"initial Ca\[0, 0\] is 0, .* from 1e-06 to inf"),
        (end.assign(V=end["V"].astype(str).str[:0] + "x"), "initial V must be an array of numbers"),
    ):
        with pytest.raises(ConfigError, match=text):
            simulate(GBAR, GSYN, duration_ms=10, initial=bad)
    shuffled = end.isel(cell=[2, 0, 1], m_gate=slice(None, None, -1)).transpose()
    a, b = (simulate(GBAR, GSYN, duration_ms=10, initial=x) for x in (end, shuffled))
    np.testing.assert_array_equal(a["V"], b["V"])


def test_spikes_are_those_above_the_threshold():
    arguments = {"duration_ms": 1000, "variables": ()}
    low = simulate(GBAR[:1], GSYN[:1], **arguments).spike_time_ms.values
    high = simulate(GBAR[:1], GSYN[:1], spike_threshold_mV=48, **arguments).spike_time_ms.values
    kept = high[~np.isnan(high)]
    assert 0 < kept.size < np.isfinite(low).sum() and np.isin(kept, low).all()
    with pytest.raises(ConfigError, match="spike_threshold_mV"):
        simulate(GBAR, GSYN, spike_threshold_mV=np.nan, **arguments)
