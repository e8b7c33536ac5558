"""Recipes with channels beside the published eight, from TOML to questions."""

import json
import re
import tomllib

import jsonschema
import numpy as np
import pytest
from test_recipe import message

import pyloric_db as pyl
from pyloric_db.errors import DatabaseError
from pyloric_db.ml.priors import prior_of
from pyloric_db.model.cells import PUBLISHED_CELLS
from pyloric_db.model.channels import PRINZ_CHANNELS, BellTau
from pyloric_db.pipeline.build import grid_cells
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.schema import json_schema

MODULATED = """
name = "modulated"
[circuit]
preset = "prinz2004"
[[constants.channels]]
name = "MI"
E_rev = -10
m = { V_half = -21, slope = -8, tau = 6 }
[constants]
Q10_gbar = { MI = 1.5, Na = 1.2 }
[parameters.grid]
abpd = ["AB/PD 1", "AB/PD 2"]
lp = ["LP 1", "LP 2"]
py = ["PY 1"]
gbar_lp_MI = [0, 0.05, 0.5]
gbar_lp_H = [0.0, 0.05]
gsyn_ab_lp_nS = [0, 30]
[protocol]
dt_ms = 0.1
transient_ms = 250
epoch_ms = 250
min_ms = 500
max_ms = 750
thermal_max_ms = 2000
"""
MI = {"name": "MI", "E_rev": -10.0, "m": {"V_half": -21.0, "slope": -8.0, "tau": 6.0}}


@pytest.fixture(scope="module")
def recipe():
    return tomllib.loads(MODULATED)


@pytest.fixture(scope="module")
def built(tmp_path_factory, recipe):
    path = tmp_path_factory.mktemp("modulated") / "db"
    return pyl.build(recipe, path, workers=1)


def test_a_database_has_them(built):
    db = built
    assert db.manifest.channels.all[8:] == ("MI",)
    everything = db.parameters(db.circuits.circuit_id.values)
    assert list(everything.channel.values[7:]) == ["leak", "MI"]
    grid = db.cube()
    assert grid.sizes["gbar_lp_MI"] == 3 and grid.sizes["gbar_lp_H"] == 2
    # named cells, with their own H and MI replaced in LP alone
    gbar = everything.gbar.values
    np.testing.assert_array_equal(gbar[:, 0, 8], 0)
    assert set(gbar[:, 1, 8]) == {0, 0.05, 0.5} and set(gbar[:, 1, 6]) == {0, 0.05}
    row = db.query("lp == 'LP 2' and gbar_lp_MI > 0.4 and gbar_lp_H == 0", limit=1)
    lp = db.parameters(row.circuit_id.values).gbar.values[0, 1]
    np.testing.assert_array_equal(np.delete(lp, [6, 8]), np.delete(PUBLISHED_CELLS["LP 2"], 6))
    assert list(db.states(row.circuit_id.values).m_gate.values[7:]) == ["MI"]


def test_it_matters_and_is_what_classify_says(built):
    db = built
    every = db.parameters(db.circuits.circuit_id.values)
    found = pyl.classify(
        every.gbar, every.gsyn, protocol=db.protocol, constants=pyl.constants_of(db)
    )
    stored = db.query("circuit_id >= 0")
    for name in found:
        np.testing.assert_array_equal(found[name].values, stored[name].values)
    rate = db.cube().spike_rate_lp_Hz.mean(["abpd", "lp", "py", "gbar_lp_H", "gsyn_ab_lp_nS"])
    assert rate.values[2] > 1.5 * rate.values[0]


def test_a_simulation_goes_on_from_its_states(built):
    ids = [0, 5]
    every = built.parameters(ids)
    again = pyl.simulate(
        every.gbar, every.gsyn, initial=built.states(ids), constants=pyl.constants_of(built),
        protocol=built.protocol, duration_ms=500,
    )  # fmt: skip
    np.testing.assert_array_equal(built.simulate(ids, duration_ms=500).V.values, again.V.values)


def test_cells_are_thermalised_with_them(built, recipe):
    cells = built.cells()
    assert "m_MI" in cells and set(cells.gbar_MI.values) == {0, 0.05, 0.5}
    # 2 AB/PD, 1 PY, and 2 LP with 3 x 2 levels of MI and H, of which none are the same
    assert cells.sizes["thermalised"] == len(grid_cells(make_plan(recipe))) == 2 + 1 + 12


def test_the_command_line_shows_them(built, inside, tmp_path):
    def run(*words):
        done = inside(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    path = str(built.files)
    assert " MI\n" in run("show", path, "3")
    assert json.loads(run("query", path, "gbar_lp_MI > 0.1", "--format", "json"))
    assert "channel MI" in run("show", path)
    run("verify", path)
    run("export", path, "--where", "circuit_id >= 0", "--format", "npz",
        "-o", str(tmp_path / "out"), "--targets", "spike_rate_lp_Hz")  # fmt: skip
    columns = json.loads((tmp_path / "out" / "standardisation.json").read_text())
    assert columns["gbar_lp_MI"]["prior"] == {"grid": [0, 0.05, 0.5]}
    assert columns["gbar_lp_H"]["prior"] == {"grid": [0, 0.05]}
    assert columns["gbar_lp_Na"]["prior"] == {"grid": ["LP 1", "LP 2"]}


def test_the_manifest_says_so_and_fits_its_schema(built):
    text = built.manifest.to_json()
    content = json.loads(text)
    assert content["channels"]["m_gates"][-1] == "MI" and "MI" not in content["channels"]["h_gates"]
    jsonschema.validate(content, json_schema())
    assert Manifest.from_json(text, "it") == built.manifest
    assert "channels" not in json.loads(make_plan("demo").manifest.to_json())
    for change in (
        {"all": ["Na"]},
        {"m_gates": ["nobody"]},
        {"all": [*"abcdefgh", "ms"]},
        {"x": 1},
    ):
        broken = content | {"channels": content["channels"] | change}
        with pytest.raises(DatabaseError, match="it is damaged"):
            Manifest.from_json(json.dumps(broken), "it")


def test_a_prior_and_a_table_may_name_them(recipe, tmp_path):
    laws = {
        "abpd": {"choice": ["AB/PD 1", "AB/PD 2"]},
        "gbar_abpd_MI": {"log_uniform": [0.01, 1]},
        "gbar_abpd_Kd": 80,
        "lp": "LP 1", "py": "PY 1",
    }  # fmt: skip
    drawn = recipe | {"parameters": {"prior": {"count": 50, "seed": 1, "parameters": laws}}}
    columns, gbar, _ = parameters(load_recipe(drawn), np.arange(50))
    assert gbar.shape == (50, 3, 9) and list(columns)[8] == "gbar_abpd_MI"
    assert 0.01 <= gbar[:, 0, 8].min() < 0.1 < gbar[:, 0, 8].max() <= 1
    np.testing.assert_array_equal(gbar[:, 0, 5], 80)
    manifest = make_plan(drawn).manifest
    assert prior_of("gbar_abpd_MI", manifest) == {"log_uniform": [0.01, 1]}
    assert prior_of("gbar_abpd_Kd", manifest) == {"fixed": 80}
    (tmp_path / "t.csv").write_text(
        "gbar_abpd_Na,gbar_lp_MI,gbar_py_Na\n100,0.5,100\n200,0.25,100\n"
    )
    table = recipe | {"parameters": {"table": {"path": str(tmp_path / "t.csv")}}}
    _, gbar, _ = parameters(load_recipe(table), np.arange(2))
    np.testing.assert_array_equal(gbar[:, 1, 8], [0.5, 0.25])


def test_kinetics_of_one_of_the_eight_may_be_replaced(recipe):
    bell = {"base": 2.8, "scale": 14, "V_1": -27, "slope_1": 10, "V_2": -70, "slope_2": -13}
    other = {"name": "H", "E_rev": "Ca", "power": 2,
             "m": {"V_half": -70, "slope": 6, "tau": bell, "half_Ca_uM": 3}}  # fmt: skip
    changed = load_recipe(recipe | {"constants": {"channels": [MI, other]}}).run_constants()
    assert [c.name for c in changed.channels] == [*(c.name for c in PRINZ_CHANNELS), "MI"]
    H = changed.channels[6]
    assert H.E_rev is None and H.power == 2 and H.h is None and H.m.half_Ca_uM == 3
    assert H.m.tau == BellTau(2.8, 14, -27, 10, -70, -13)
    assert changed.channels[:6] == PRINZ_CHANNELS[:6]


def test_a_constant_time_constant_is_one():
    m = load_recipe(
        {"name": "x", "circuit": {"preset": "prinz2004"}, "constants": {"channels": [MI]},
         "parameters": {"grid": {"abpd": ["AB/PD 1"], "lp": ["LP 1"], "py": ["PY 1"]}}}
    ).run_constants().channels[8].m  # fmt: skip
    from pyloric_db.model.equations import time_constant

    np.testing.assert_allclose(time_constant(m, np.linspace(-100, 60, 50)), 6, rtol=1e-12)


def gate(**changes):
    return [MI | {"m": MI["m"] | changes}]


BAD = {
    "an unknown shape": (gate(tau={"base": 1}), "tau: give a number of ms, or the constants base,"),
    "a time constant below 0": (
        gate(tau={"base": 5, "drop": 6, "V_half": -40, "slope": -5}),
        r"m of channel MI has a time constant of -\S+ ms at \S+ mV; it must be above 0",
    ),
    "a time constant of 0": (gate(tau=0), "m of channel MI has a time constant of 0 ms at -150 mV"),
    "no slope": (gate(slope=0), "m of channel MI is too steep"),
    "too steep a slope": (gate(slope=0.5), "too steep: exponentials leave float32 between -150"),
    "calcium that is none": (gate(half_Ca_uM=0), "must have a half_Ca_uM above 0, not 0"),
    "no number": (gate(V_half=float("nan")), "m of channel MI must have finite numbers"),
    "an underscore": ([MI | {"name": "I_MI"}], "'I_MI' must be letters and digits, and no unit"),
    "a unit": ([MI | {"name": "mV"}], "'mV' must be letters and digits, and no unit"),
    "a name twice": ([MI, MI], "the channel MI is listed twice"),
    "names that differ by case": ([MI | {"name": "na"}], "Na and na are two channels of one name"),
    "no reversal potential": (
        [{"name": "MI"}], r"the key constants\.channels\.0\.E_rev is missing",
    ),
    "another ion": ([MI | {"E_rev": "K"}], "E_rev is 'K'"),
    "a power": ([MI | {"power": 10}], "channel MI must be a whole number from 1 to 9, not 10"),
    "a gate that the model has not": (
        [MI | {"name": "H", "h": MI["m"]}], "H can have no gate h, which only Na, CaT",
    ),
    "an unknown key": ([MI | {"reversal": 1}], "unknown key .*reversal"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_channels_that_cannot_be(recipe, case):
    channels, expected = BAD[case]
    text = message(recipe | {"constants": {"channels": channels}})
    assert re.search(expected, text), text


def test_what_names_a_channel_that_is_not_there(recipe):
    without = recipe | {"constants": {}}
    assert "'gbar_lp_MI' is no parameter" in message(without)
    named = recipe | {"constants": {"channels": [MI], "Q10_gbar": {"MJ": 2.0}}}
    assert "'MJ' is no channel; did you mean 'MI'" in message(named)
