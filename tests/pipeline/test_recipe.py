import copy
import math
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.errors import ConfigError, PyloricDBWarning
from pyloric_db.model.cells import PRINZ2003_STEP, PUBLISHED_CELLS, prinz2003_gbar
from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.recipe import load_recipe, packaged_recipes, parameter_names
from pyloric_db.pipeline.simulate import classify
from pyloric_db.vocabulary import CHANNELS, SYNAPSES

PRIOR = {
    "abpd": "AB/PD 1",
    "lp": {"choice": ["LP 1", "LP 2"]},
    "py": "PY 1",
    "gsyn_ab_lp_nS": {"log_uniform": [0.1, 100]},
}


def message(recipe) -> str:
    """The error of a recipe: one sentence on one line."""
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe)
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text and len(text) < 400
    return text


def test_packaged_recipes_load():
    assert set(packaged_recipes()) == {"demo", "goncalves2020", "prinz2003", "prinz2004"}
    for name in packaged_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name and recipe.description
    assert make_plan("prinz2004").manifest.n_circuits == 20_250_000
    assert make_plan("demo").manifest.n_circuits == 4_000
    assert make_plan("prinz2003").manifest.n_circuits == 1_679_616


def test_demo_is_a_sample_of_the_grid():
    full, demo = load_recipe("prinz2004"), load_recipe("demo")
    assert demo.parameters == full.parameters
    assert demo.run_protocol() == full.run_protocol()


def test_ids_of_the_cells_of_2003_are_the_published_numbers_less_one():
    ids = np.sort(np.random.default_rng(1).integers(0, 1_679_616, 500))
    _, gbar, gsyn = parameters(load_recipe("prinz2003"), ids)
    np.testing.assert_allclose(gbar[:, 0], prinz2003_gbar(ids + 1), rtol=1e-12)
    assert gsyn.shape == (500, 0)


def test_cells_of_2003_do_what_an_independent_program_found():
    """19.8% of 12,288 cells are silent; every activity is there."""
    recipe = load_recipe("prinz2003")
    ids = np.sort(np.random.default_rng(2003).integers(0, 1_679_616, 600))
    _, gbar, gsyn = parameters(recipe, ids)
    found = classify(
        gbar, gsyn, circuit=recipe.circuit.circuit(), protocol=recipe.run_protocol(), initial="cold"
    )
    assert (found["status"] == "ok").mean() > 0.99
    activity = found["activity_cell"].values
    assert abs((activity == "silent").mean() - 0.198) < 0.05
    assert set(activity) >= {"silent", "tonic", "bursting"}
    assert found["t_simulated_ms"].max() <= 60_000 and found["t_simulated_ms"].mean() < 15_000


def test_the_prior_of_2020_spans_the_published_cells_and_a_level_of_2003_more():
    prior = load_recipe("goncalves2020").parameters.prior
    assert prior is not None
    expected: dict[str, dict[str, tuple[float, float]]] = {}
    for cell, kind in (("abpd", "AB/PD"), ("lp", "LP"), ("py", "PY")):
        gbar = np.array([g for name, g in PUBLISHED_CELLS.items() if name.startswith(kind)])
        low = np.maximum(gbar.min(axis=0) - PRINZ2003_STEP, 0)
        high = gbar.max(axis=0) + PRINZ2003_STEP
        for channel, *ends in zip(CHANNELS, low.round(9), high.round(9), strict=True):
            expected[f"gbar_{cell}_{channel}"] = {"uniform": tuple(ends)}
    for synapse in SYNAPSES:
        most = 10_000.0 if synapse == "ab_lp" else 1_000.0
        expected[f"gsyn_{synapse}_nS"] = {"log_uniform": (0.01, most)}
    given = {
        name: {kind: tuple(map(float, ends)) for kind, ends in law if ends is not None}
        for name, law in prior.parameters.items()
    }
    assert given == expected


def test_a_recipe_is_the_same_by_file_dict_and_name(tiny, tiny_toml):
    assert load_recipe(tiny_toml) == load_recipe(str(tiny_toml)) == load_recipe(tiny())
    loaded = load_recipe(tiny())
    assert load_recipe(loaded) is loaded


BAD = {
    "unknown key": ({"nmae": 1}, r"unknown key nmae; did you mean 'name'"),
    "unknown key in a table": (
        {"store.shard_circuit": 5},
        r"unknown key store\.shard_circuit; did you mean 'shard_circuits'",
    ),
    "unknown key of the protocol": (
        {"protocol.max_m": 5},
        r"unknown key protocol\.max_m; did you mean 'max_ms'",
    ),
    "a channel misspelt": (
        {"constants.Q10_gbar": {"Kdr": 1.5}},
        r"constants.Q10_gbar: 'Kdr' is no channel; did you mean 'Kd'",
    ),
    "a transmitter misspelt": (
        {"constants.Q10_tau_s": {"glutamat": 1.5}},
        r"constants\.Q10_tau_s: 'glutamat' is no transmitter; did you mean 'glutamate'",
    ),
    "a factor of 0": ({"constants.Q10_tau_m": 0}, r"constants\.Q10_tau_m is 0"),
    "an unknown constant": (
        {"constants.Q10_tau": 2},
        r"unknown key constants\.Q10_tau; did you mean 'Q10_tau_m'",
    ),
    "a temperature in Celsius": (
        {"protocol.temperature_K": 20},
        r"temperature_K must be between 200 and 400 K, not 20",
    ),
    "a cell misspelt": (
        {"parameters.grid": {"abpd": ["AB/PD 1"], "lp": ["LP 1"], "pyy": ["PY 1"]}},
        r"'pyy' is no parameter of this circuit; did you mean 'py'",
    ),
    "a cell called as a word of queries": (
        {"circuit": {"cells": [{"name": "is"}]}},
        r"circuit: a cell must not be called 'is', which is a word of queries",
    ),
    "a cell called as a column of statistics": (
        {"circuit": {"cells": [{"name": "lower"}]}},
        r"circuit: a cell must not be called 'lower'",
    ),
    "a cell called as a label": (
        {"circuit": {"cells": [{"name": "pyloric"}]}},
        r"circuit: a cell must not be called 'pyloric', which is a word of .* labels",
    ),
    "a cell called as conductances": (
        {"circuit": {"cells": [{"name": "gsyn_x"}]}},
        r"circuit: a cell must not be called 'gsyn_x'",
    ),
    "unknown key of the circuit": (
        {"circuit.presett": "prinz2004"},
        r"unknown key circuit\.presett; did you mean 'preset'",
    ),
    "missing name": ({"name": None}, "the key name is missing"),
    "missing parameters": ({"parameters": None}, "the key parameters is missing"),
    "negative conductance": ({"parameters.grid.gsyn_ab_lp_nS": [-1, 3]}, "gsyn_ab_lp_nS.*-1"),
    "NaN conductance": ({"parameters.grid.gsyn_ab_lp_nS": [0, math.nan]}, "gsyn_ab_lp_nS.*nan"),
    "infinite conductance": ({"parameters.grid.gsyn_ab_lp_nS": [math.inf]}, "gsyn_ab_lp_nS.*inf"),
    "negative gbar": (
        {"parameters.grid.py": [{"Na": -100.0}]},
        r"py\.0\.Na is -100\.0, but .*greater than or equal to 0",
    ),
    "text for a number": ({"parameters.grid.gsyn_ab_lp_nS": ["3"]}, "gsyn_ab_lp_nS.*numbers.*'3'"),
    "true for a number": ({"parameters.grid.gsyn_ab_lp_nS": [True]}, "gsyn_ab_lp_nS"),
    "empty axis": ({"parameters.grid.gsyn_ab_lp_nS": []}, "gsyn_ab_lp_nS is empty"),
    "empty cell axis": ({"parameters.grid.lp": []}, "grid.lp is empty"),
    "axis twice the same": ({"parameters.grid.gsyn_ab_lp_nS": [3, 3]}, "gsyn_ab_lp_nS.*ascending"),
    "axis not ascending": ({"parameters.grid.gsyn_ab_lp_nS": [10, 3]}, "gsyn_ab_lp_nS.*ascending"),
    "dt 0": ({"protocol.dt_ms": 0}, "dt_ms must be above 0 .* not 0"),
    "dt 0.3": ({"protocol.dt_ms": 0.3}, r"dt_ms must be .*at most 0\.2 ms, not 0\.3"),
    "dt NaN": ({"protocol.dt_ms": math.nan}, "dt_ms"),
    "dt text": ({"protocol.dt_ms": "0.05"}, "dt_ms must be a number"),
    "times": ({"protocol.max_ms": 250}, "min_ms <= max_ms, not 500 and 250"),
    "no whole epochs": ({"protocol.max_ms": 800}, "max_ms .* multiple of epoch_ms"),
    "unknown scheme": ({"protocol.scheme": "euler"}, "scheme must be one of .*'euler'"),
    "unknown cell": (
        {"parameters.grid.abpd": ["AB/PD 6"]},
        "'AB/PD 6'.*did you mean 'AB/PD",
    ),
    "number for a cell": ({"parameters.grid.abpd": [1.0]}, r"abpd must list names .* 1\.0"),
    "unknown channel": ({"parameters.grid.py": [{"Nap": 1.0}]}, "py .*'Nap'; did you mean 'Na"),
    "channel in capitals": ({"parameters.grid.py": [{"CAT": 1.0}]}, "py .*did you mean 'CaT'"),
    "unknown parameter": (
        {"parameters.grid.gsyn_ab_pl_nS": [1]},
        "'gsyn_ab_pl_nS' is no parameter.*did you mean 'gsyn_ab_",
    ),
    "cell without conductances": ({"parameters.grid.lp": None}, "lp has no conductances"),
    "grid and prior": ({"parameters.prior": {"count": 1, "parameters": PRIOR}}, "exactly one of"),
    "no parameters": ({"parameters.grid": None}, "exactly one of"),
    "path in the name": ({"name": "../x"}, "name is '../x'"),
    "slash in the name": ({"name": "a/b"}, "name is 'a/b'"),
    "empty name": ({"name": ""}, "name is ''"),
    "preset and cells": ({"circuit.cells": [{"name": "a"}]}, "circuit: give either preset"),
    "preset and gap junctions": (
        {"circuit.gap_junctions": [{"cells": ["lp", "py"]}]},
        "circuit: a preset comes with its synapses",
    ),
    "unknown preset": ({"circuit.preset": "prinz"}, r"circuit\.preset is 'prinz'"),
    "no shard": ({"store.shard_circuits": 0}, r"store\.shard_circuits is 0"),
    "broken shard": ({"store.shard_circuits": 2.5}, r"store\.shard_circuits is 2\.5"),
    "sample of nothing": ({"sample": {"count": 0}}, r"sample\.count is 0"),
    "negative seed": ({"sample": {"count": 1, "seed": -1}}, r"sample\.seed is -1"),
    "table for a value": ({"circuit": 3}, "circuit is 3"),
    "more than float32 holds": (
        {"parameters.grid.gsyn_ab_lp_nS": [0, 1e39]},
        r"gsyn_ab_lp_nS\.1 is 1e\+39, but .* less than or equal to 10{30}$",
    ),
    "no list": ({"parameters.grid.gsyn_ab_lp_nS": 3}, "gsyn_ab_lp_nS is 3, .* be a list"),
    "a cell twice": ({"parameters.grid.lp": ["LP 1", "LP 1"]}, "lp must list each cell once"),
    "dt that is no part of the epoch": (
        {"protocol.dt_ms": 0.07},
        r"epoch_ms \(250\) must be a multiple of dt_ms \(0\.07\)",
    ),
    "another first cell": (
        {"circuit": {"cells": [{"name": "lp"}, {"name": "abpd"}, {"name": "py"}]}},
        "abpd must be the first cell, .* not lp",
    ),
    "a part of a cycle": ({"protocol.settled_cycles": 2.5}, r"whole number from 2 on, not 2\.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_recipes(tiny, case):
    changes, expected = BAD[case]
    import re

    assert re.search(expected, message(tiny(changes))), message(tiny(changes))


def test_every_setting_of_the_protocol_can_be_given(tiny):
    from dataclasses import asdict

    settings = asdict(load_recipe(tiny()).run_protocol()) | {"settled_cycles": 3}
    loaded = load_recipe(tiny({"protocol": settings}))
    assert asdict(loaded.run_protocol()) == settings


BAD_PRIOR = {
    "wrong order": ({"gsyn_ab_lp_nS": {"uniform": [3, 1]}}, "low end must be below"),
    "no width": ({"gsyn_ab_lp_nS": {"uniform": [3, 3]}}, "low end must be below"),
    "log of zero": ({"gsyn_ab_lp_nS": {"log_uniform": [0, 3]}}, "log_uniform .* above 0"),
    "negative": ({"gsyn_ab_lp_nS": {"uniform": [-1, 3]}}, "gsyn_ab_lp_nS.*-1"),
    "two kinds": (
        {"gsyn_ab_lp_nS": {"uniform": [1, 2], "choice": [1]}},
        "gsyn_ab_lp_nS.*exactly one of",
    ),
    "no kind": ({"gsyn_ab_lp_nS": {}}, "gsyn_ab_lp_nS.*exactly one of"),
    "unknown kind": ({"gsyn_ab_lp_nS": {"normal": [1, 2]}}, "gsyn_ab_lp_nS.*normal"),
    "three ends": (
        {"gsyn_ab_lp_nS": {"uniform": [1, 2, 3]}},
        r"gsyn_ab_lp_nS\.uniform: give two numbers, \[low, high\], not \[1, 2, 3\]$",
    ),
    "one end": ({"gsyn_ab_lp_nS": {"log_uniform": [1]}}, r"give two numbers, .* not \[1\]$"),
    "a cell of ones own": (
        {"lp": {"choice": [{"Na": 3}]}},
        r"lp\.choice: list numbers, or names of published cells such as 'LP 1', not {'Na': 3}$",
    ),
    "a name for a number": (
        {"gsyn_ab_lp_nS": {"choice": ["a"]}},
        r"parameters\.prior\.parameters\.gsyn_ab_lp_nS.* must list numbers, not 'a'$",
    ),
    "an unknown cell": (
        {"lp": {"choice": ["LP 9"]}},
        r"parameters\.prior\.parameters\.lp: no published cell is named 'LP 9'",
    ),
    "cell by range": ({"abpd": {"uniform": [0, 1]}}, "abpd needs a choice of published cells"),
    "unknown cell": ({"abpd": "AB/PD 9"}, "'AB/PD 9'"),
    "unknown parameter": ({"gsyn_ab_lp": 1}, "'gsyn_ab_lp'.*did you mean 'gsyn_ab_lp_nS'"),
}


@pytest.mark.parametrize("case", BAD_PRIOR)
def test_bad_priors(tiny, case):
    import re

    changes, expected = BAD_PRIOR[case]
    prior = {"count": 5, "parameters": {**PRIOR, **changes}}
    text = message(tiny({"parameters": {"prior": prior}}))
    assert re.search(expected, text), text


def test_a_count_of_nothing(tiny):
    prior = {"count": 0, "parameters": PRIOR}
    assert "parameters.prior.count is 0" in message(tiny({"parameters": {"prior": prior}}))


def test_files_that_are_no_recipes(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text("name = [")
    assert "x.toml is not TOML" in message(file)
    file.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as text" in message(file)
    file.write_text("a = " + "[" * 100_000)
    assert "x.toml is not TOML" in message(file)
    assert "there is no recipe 'dmeo'" in message("dmeo") and "'demo'?" in message("dmeo")
    assert "there is no recipe" in message(tmp_path)


# tables


@pytest.fixture
def table_recipe(tiny, tmp_path):
    """Writes a table and a recipe file that names it; returns the recipe's path."""

    def write(text, **more):
        (tmp_path / "table.csv").write_text(text)
        more_text = "".join(f"{k} = '{v}'\n" for k, v in more.items())
        file = tmp_path / "table.toml"
        file.write_text(
            "name = 'table'\n[circuit]\npreset = 'prinz2004'\n"
            f"[parameters.table]\npath = 'table.csv'\n{more_text}"
        )
        return file

    return write


HEADER = "gbar_abpd_Na,gbar_lp_Na,gbar_py_Na,gsyn_ab_lp_nS\n"


def test_a_table_lies_beside_its_recipe(table_recipe):
    plan = make_plan(table_recipe(HEADER + "100,1,2,3\n200,4,5,6\n"))
    assert plan.manifest.n_circuits == 2 and plan.manifest.axes is None


BAD_TABLES = {
    "negative": (HEADER + "1,1,1,1\n1,1,-2,1\n", "column gbar_py_Na, row 2 is -2"),
    "NaN": (HEADER + "1,1,1,nan\n", "column gsyn_ab_lp_nS, row 1 is nan"),
    "more than float32 holds": (HEADER + "1,1,1,1e39\n", "row 1 is 1e.39; .* from 0 to 1e.30"),
    "missing": (HEADER + "1,1,1,1\n1,1,1,1\n1,,1,1\n", "column gbar_lp_Na, row 3 is nan"),
    "text": (HEADER + "1,1,1,1\n1,x,1,1\n", "column gbar_lp_Na is not numeric"),
    "dates": (HEADER + "1,2004-12-01,1,1\n", "column gbar_lp_Na is not numeric"),
    "flags": (HEADER + "1,true,1,1\n", "column gbar_lp_Na is not numeric"),
    "unknown column": (
        HEADER.replace("gsyn_ab_lp_nS", "gsyn_ab_lp") + "1,1,1,1\n",
        "'gsyn_ab_lp'.*did you mean 'gsyn_ab_lp_nS'",
    ),
    "semicolons": (
        HEADER.replace(",", ";") + "1,5;1;1;1\n",
        "has semicolons .*: these must be separated by commas, and decimals have a point$",
    ),
    "decimal commas": (HEADER.replace(",", ";") + "1,5;1,5;1,5;1,5\n", "has semicolons"),
    "tabs": (HEADER.replace(",", "\t") + "1\t1\t1\t1\n", "has tabs between its columns"),
    "an index of pandas": ("," + HEADER + "0,1,1,1,1\n", "column '', .*with index=False$"),
    "no rows": (HEADER, "has no rows"),
    "ragged": (HEADER + "1,2\n", "is not a CSV or Parquet table"),
    "empty": ("", "is not a CSV or Parquet table"),
    "a cell is missing": ("gbar_abpd_Na,gbar_lp_Na\n1,1\n", "no conductance of py"),
    "a column twice": (
        "gbar_abpd_Na,gbar_lp_Na,gbar_py_Na,gbar_py_Na\n1,1,1,1\n",
        "gbar_py_Na.*twice",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(table_recipe, case):
    text, expected = BAD_TABLES[case]
    with pytest.raises(ConfigError, match=expected) as caught:
        make_plan(table_recipe(text))
    assert "table.csv" in str(caught.value)


def test_a_table_that_is_missing_or_another(table_recipe, tmp_path):
    assert "has changed" in message(table_recipe(HEADER + "1,1,1,1\n", sha256="0" * 64))
    file = table_recipe(HEADER + "1,1,1,1\n")
    (tmp_path / "table.csv").unlink()
    assert "which cannot be read" in message(file)


def test_a_changed_table_is_another_recipe(table_recipe):
    first = make_plan(table_recipe(HEADER + "1,1,1,1\n")).manifest
    again = make_plan(table_recipe(HEADER + "1,1,1,1\n")).manifest
    other = make_plan(table_recipe(HEADER + "1,1,1,2\n")).manifest
    assert first.recipe_hash == again.recipe_hash != other.recipe_hash


# circuits of one's own


def pair(**changes):
    recipe = tomllib.loads("""
        name = "pair"
        [[circuit.cells]]
        name = "left"
        [[circuit.cells]]
        name = "right"
        [[circuit.synapses]]
        pre = "left"
        post = "right"
        transmitter = "glutamate"
        [[circuit.synapses]]
        pre = "left"
        post = "right"
        transmitter = "acetylcholine"
        [[circuit.synapses]]
        pre = "right"
        post = "left"
        transmitter = "glutamate"
        [[circuit.gap_junctions]]
        cells = ["left", "right"]
        [parameters.grid]
        left = ["AB/PD 1"]
        right = ["LP 1", { Na = 100, Kd = 50.0 }]
        gsyn_left_glutamate_right_nS = [0, 3]
        ggap_left_right_nS = [1]
    """)
    recipe["circuit"] |= changes
    return recipe


def test_a_cell_may_not_be_called_as_a_column():
    with pytest.raises(ConfigError, match="two columns 'status': call the cell otherwise"):
        make_plan(
            {
                "name": "one",
                "circuit": {"cells": [{"name": "status"}]},
                "parameters": {"grid": {"status": ["LP 1", "LP 2"]}},
            }
        )


def test_a_synapse_is_not_named_like_a_gap_junction():
    recipe = pair(
        cells=[{"name": "gap"}, {"name": "b"}],
        synapses=[{"pre": "gap", "post": "b", "transmitter": "glutamate"}],
        gap_junctions=[],
    )
    with pytest.raises(ConfigError, match="synapse 'gap_b' needs a source of another name"):
        load_recipe(recipe).circuit.circuit()


def test_a_circuit_of_ones_own():
    recipe = load_recipe(pair())
    circuit = recipe.circuit.circuit()
    assert circuit.cells == ("left", "right")
    # a cell with two transmitters releases each by a source of its own
    assert circuit.source_names == ("left_glutamate", "left_acetylcholine", "right")
    assert [s.cell for s in circuit.sources] == ["left", "left", "right"]
    assert [s.transmitter for s in circuit.sources] == ["glutamate", "acetylcholine", "glutamate"]
    assert circuit.synapse_names == (
        "left_glutamate_right",
        "left_acetylcholine_right",
        "right_left",
        "gap_left_right",
    )
    assert {"gsyn_right_left_nS", "ggap_left_right_nS"} <= set(parameter_names(circuit))
    plan = make_plan(recipe)
    assert plan.manifest.n_circuits == 4
    assert "pyloric" not in [c.name for c in plan.manifest.columns]


BAD_CIRCUITS = {
    "same cell twice": ({"cells": [{"name": "left"}] * 2}, "'left' is listed twice"),
    "capital name": ({"cells": [{"name": "Left"}]}, r"circuit\.cells\.0\.name is 'Left'"),
    "unknown target": (
        {"synapses": [{"pre": "left", "post": "rigth", "transmitter": "glutamate"}]},
        "'rigth'.*did you mean 'right'",
    ),
    "unknown transmitter": (
        {"synapses": [{"pre": "left", "post": "right", "transmitter": "gaba"}]},
        r"circuit\.synapses\.0\.transmitter is 'gaba'",
    ),
    "gap to itself": ({"gap_junctions": [{"cells": ["left", "left"]}]}, "joins a cell to itself"),
    "gap of three": (
        {"gap_junctions": [{"cells": ["left", "right", "left"]}]},
        r"circuit\.gap_junctions\.0\.cells",
    ),
    "a synapse twice": (
        {"synapses": [{"pre": "left", "post": "right", "transmitter": "glutamate"}] * 2},
        "'left_right' is listed twice",
    ),
    "unknown key": (
        {"gap_junctions": [{"cell": ["left", "right"]}]},
        r"circuit\.gap_junctions\.0",
    ),
}


@pytest.mark.parametrize("case", BAD_CIRCUITS)
def test_bad_circuits(case):
    import re

    changes, expected = BAD_CIRCUITS[case]
    text = message(pair(**changes))
    assert re.search(expected, text), text


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"prior": {"count": 10**13, "parameters": PRIOR}}},
        {"parameters.grid.gsyn_ab_lp_nS": list(range(70_000))},
        {"sample": {"count": 10**9}},
    ],
)
def test_sizes_that_cannot_be(tiny, changes):
    with pytest.raises(ConfigError):
        make_plan(tiny(changes))


# whatever comes


KEYS = st.sampled_from(
    ["name", "grid", "prior", "table", "preset", "cells", "abpd", "gsyn_ab_lp_nS", "dt_ms",
     "epoch_ms", "max_ms", "count", "seed", "uniform", "choice", "path", "x"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.dates(),
    st.sampled_from([10**400, -1, 0, 1e-300, 1e308, "AB/PD 1", "prinz2004", "cold"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3),
    max_leaves=5,
)


def places(table, prefix=()):
    """Every place in a nested dict and its lists."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from places(value, (*prefix, key))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_recipe_raises_anything_else(tiny, data):
    prior = {"count": 3, "parameters": copy.deepcopy(PRIOR)}
    recipe = data.draw(
        st.sampled_from([tiny(), pair(), tiny({"parameters": {"prior": prior}})]).map(copy.deepcopy)
    )
    for _ in range(data.draw(st.integers(1, 2))):
        *way, key = data.draw(st.sampled_from(list(places(recipe))))
        table = recipe
        for step in way:
            table = table[step]
        if isinstance(table, dict) and data.draw(st.booleans()):
            key = data.draw(KEYS)
        table[key] = data.draw(VALUES)
    try:
        plan = make_plan(recipe)
    except ConfigError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= plan.manifest.n_circuits


def test_a_temperature_without_factors_is_said_to_change_little(tiny):
    with pytest.warns(PyloricDBWarning, match="temperature_K 293 changes the calcium reversal"):
        make_plan(tiny({"protocol.temperature_K": 293}))
    make_plan(tiny({"protocol.temperature_K": 293, "constants": {"Q10_tau_h": 2}}))
