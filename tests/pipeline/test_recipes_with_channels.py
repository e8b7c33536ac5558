"""Recipes with channels beside the published eight, from TOML to questions."""

import json
import re
import tomllib
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from test_recipe import message

import pyloric_db as pyl
from pyloric_db.errors import ConfigError, DatabaseError
from pyloric_db.ml.priors import prior_of
from pyloric_db.ml.split import place_of
from pyloric_db.model.cells import PUBLISHED_CELLS
from pyloric_db.model.channels import (
    PRINZ_CHANNELS,
    BellTau,
    Channel,
    Gate,
    ProductTau,
    Sigmoid,
    SigmoidTau,
)
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.build import grid_cells
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.schema import json_schema
from pyloric_db.vocabulary import CHANNELS

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
"""
MI = {"name": "MI", "E_rev": -10.0, "m": {"V_half": -21.0, "slope": -8.0, "tau": 6.0}}


@pytest.fixture(scope="module")
def recipe(tiny):
    return tomllib.loads(MODULATED) | {"protocol": tiny()["protocol"]}


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
    assert columns["gbar_py_MI"]["prior"] == {"fixed": 0}
    assert "is not the published one at 283 K, but with" in (tmp_path / "out/README.md").read_text()
    unknown = inside("query", path, "gbar_lp_mi > 0")
    assert unknown.returncode == 2 and "did you mean 'gbar_lp_MI'?" in unknown.stderr


def test_the_manifest_says_so_and_fits_its_schema(built):
    text = built.manifest.to_json()
    content = json.loads(text)
    assert content["channels"]["m_gates"][-1] == "MI" and "MI" not in content["channels"]["h_gates"]
    jsonschema.validate(content, json_schema())
    assert Manifest.from_json(text, "it") == built.manifest
    assert "channels" not in json.loads(make_plan("demo").manifest.to_json())
    with pytest.raises(DatabaseError, match="channels must be an object"):
        Manifest.from_json(json.dumps(content | {"channels": None}), "it")
    for change in (
        {"all": content["channels"]["all"][::-1]},
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
    assert prior_of("gbar_lp_MI", manifest) == {"fixed": 0}
    assert prior_of("gbar_lp_Na", manifest) == {"fixed": "LP 1"}
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


def test_what_replaces_one_of_the_eight_has_all_its_gates(recipe):
    """A channel that is given without its gates would be a leak."""
    only = {"name": "Kd", "E_rev": -85}
    assert "Kd has no gate m" in message(recipe | {"constants": {"channels": [MI, only]}})
    leak = {"name": "leak", "E_rev": -60}
    changed = load_recipe(recipe | {"constants": {"channels": [MI, leak]}}).run_constants()
    assert changed.channels[7] == Channel("leak", -60)


def test_a_conductance_is_given_once(recipe):
    grid = {**recipe["parameters"]["grid"], "lp": ["LP 1", {"Na": 100, "MI": 0.1}]}
    text = message(recipe | {"parameters": {"grid": grid}})
    assert "lp has a cell with MI = ..., and gbar_lp_MI is an axis" in text


def test_constants_may_be_changed_again():
    more = (*PRINZ_CHANNELS, Channel("X", -10.0), Channel("Y", -20.0))
    one = Constants(channels=more[:9], Q10_gbar=(1.1,) * 8)
    assert one.Q10_of_channels == (*(1.1,) * 8, 1.0)
    assert replace(one, channels=more).Q10_of_channels[8:] == (1, 1)
    assert replace(one, channels=PRINZ_CHANNELS) == Constants(Q10_gbar=(1.1,) * 8)
    with pytest.raises(ConfigError, match="must have 10 factors, one per channel in their order"):
        Constants(channels=more, Q10_gbar=(1.0,) * 9)


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (Channel("MI", "Ca"), "E_rev of channel MI must be a number of mV, or None for calcium's"),
        (Channel("MI", float("nan")), "E_rev of channel MI must be a number"),
        (Channel("MI", -10.0, "x"), "the power of channel MI must be a whole number"),
        (Channel("MI", -10.0, m=Sigmoid(-20, -5)), "m of channel MI must be a Gate, not Sigmoid"),
        (Channel("MI", -10.0, h=Gate(Sigmoid(-20, -5), 6.0)), "h of channel MI must be a Gate of"),
        (
            Channel("MI", -10.0, m=Gate(Sigmoid("a", -5), SigmoidTau(6, 0, 0, 1))),
            "m of channel MI must have finite numbers, not 'a'",
        ),
        (
            Channel("MI", -10.0, m=Gate(Sigmoid(-20, -5), ProductTau(0, 1, 10, 1, 1, 10))),
            "no slope, and in a product of sigmoids no scale, of 0",
        ),
    ],
)
def test_channels_that_cannot_be_in_python(channel, expected):
    with pytest.raises(ConfigError, match=expected):
        Constants(channels=(*PRINZ_CHANNELS, channel))


def test_states_of_other_channels_are_refused(built):
    every = built.parameters([0])
    eight = every.gbar.isel(channel=slice(8))
    for options in ({}, {"constants": pyl.constants_of(built)}):
        gbar = eight if options else every.gbar
        with pytest.raises(ConfigError, match=r"constants=, such as pyloric_db.constants_of\(db\)"):
            pyl.simulate(gbar, every.gsyn, duration_ms=100, **options)
    with pytest.raises(ConfigError, match="m_gate labels .* constants="):
        pyl.simulate(eight, every.gsyn, duration_ms=100, initial=built.states([0]))


def test_a_circuit_without_them_is_in_the_part_that_it_is_in_elsewhere(built):
    """And those with them are in another, whatever else a database has."""
    arrays = built.to_arrays(targets="spike_rate_lp_Hz", missing="mask")
    every = built.parameters(arrays.circuit_id)
    eight = place_of(every.gbar.values[..., :8], every.gsyn.values)
    none = every.gbar.values[..., 8].max(axis=1) == 0
    assert 0 < none.sum() < len(none)
    np.testing.assert_array_equal(arrays.place[none], eight[none])
    assert not (arrays.place[~none] == eight[~none]).any()
    names = (*CHANNELS, "A2", "MI")
    more = np.insert(every.gbar.values, 8, 0, axis=2)
    np.testing.assert_array_equal(arrays.place, place_of(more, every.gsyn.values, names))


def test_the_hash_of_other_channels_is_the_documented_one():
    gbar = np.zeros((1, 2, 10))
    gbar[0, :, 8:] = [[0.0, 3.0], [0.0, 4.0]]
    channels = (*CHANNELS, "A2", "B")
    words = [0] * 16 + [ord("B"), *np.array([3, 4], np.float32).view(np.uint32).tolist()]
    mask, h = 2**64 - 1, 0
    for word in words:
        x = (h + word + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        h = x ^ (x >> 31)
    assert place_of(gbar, np.zeros((1, 0)), channels)[0] == (h >> 11) / 2**53


def test_a_gate_may_follow_the_voltage_at_once(recipe):
    channels = [MI | {"m": MI["m"] | {"tau": tau}} for tau in (0, 0.001)]
    gbar = np.array([[*PUBLISHED_CELLS["LP 2"], 0.1]])
    at_once, nearly = (
        pyl.simulate(
            gbar, circuit=pyl.Circuit(cells=("lp",)), duration_ms=200,
            constants=load_recipe(recipe | {"constants": {"channels": [c]}}).run_constants(),
        ).V.values
        for c in channels
    )  # fmt: skip
    assert np.isfinite(at_once).all() and at_once.max() > 0
    np.testing.assert_allclose(at_once, nearly, atol=0.5)


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
        r"m of channel MI has a time constant of -\S+ ms at \S+ mV; it must be from 0",
    ),
    "a negative time constant": (gate(tau=-1), "a time constant of -1 ms at -150 mV; it must"),
    "no slope": (gate(slope=0), "m of channel MI must have no slope, and in a"),
    "too steep a slope": (gate(slope=0.5), "is too steep: between -150 and 100 mV no exponent"),
    "calcium that is none": (gate(half_Ca_uM=0), "half_Ca_uM above 0 and below 1e30, not 0"),
    "no number": (gate(V_half=float("nan")), "m of channel MI must have finite numbers, not nan"),
    "an underscore": ([MI | {"name": "I_MI"}], "letter and then letters and digits, not 'I_MI'"),
    "a unit": ([MI | {"name": "mV"}], "must not be called 'mV', with which other"),
    "a name twice": ([MI, MI], "the channel MI is listed twice"),
    "names that differ by case": ([MI | {"name": "na"}], "Na and na are two channels of one name"),
    "no reversal potential": (
        [{"name": "MI"}], r"the key constants\.channels\.0\.E_rev is missing",
    ),
    "another ion": ([MI | {"E_rev": "K"}], "give a number from -200 to 100 mV, or 'Ca', not 'K'"),
    "a power": ([MI | {"power": 10}], "channel MI must be a whole number from 1 to 9, not 10"),
    "a gate that the model has not": (
        [MI | {"name": "H", "h": MI["m"]}], "H can have no gate h, which of the eight only Na, CaT",
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
