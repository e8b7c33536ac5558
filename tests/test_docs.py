"""The examples of the documentation are valid."""

import ast
import dataclasses
import json
import re
import textwrap
import tomllib
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
import synthetic
import yaml

import pyloric_db
from pyloric_db.errors import ConfigError
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline import thermalise
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.states import cold_states
from pyloric_db.rhythm import activity, bursts, settle
from pyloric_db.vocabulary import ACTIVITIES, CHANNELS, CRITERIA, SYNAPSES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RECIPES = (DOCS / "recipes.md").read_text()
QUERIES = (DOCS / "queries.md").read_text()
DEFINITIONS = (DOCS / "definitions.md").read_text()
BENCHMARKS = (DOCS / "benchmarks.md").read_text()
EXAMPLES = (DOCS / "examples.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", RECIPES + EXAMPLES, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_recipes_of_the_documentation_can_be_planned(block, tmp_path):
    table = tmp_path / "my_circuits.csv"
    table.write_text("gbar_abpd_Na,gbar_lp_Na,gbar_py_Na\n100,100,200\n")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(block)
    plan = make_plan(recipe)
    assert plan.manifest.n_circuits >= 1
    assert plan.manifest.name == tomllib.loads(block)["name"]


def test_all_keys_of_a_recipe_are_in_their_table():
    table = RECIPES[RECIPES.index("## All keys") : RECIPES.index("## The protocol")]
    schema = json.loads((DOCS.parent / "schemas" / "recipe.schema.json").read_text())
    for model in (schema, *schema["$defs"].values()):
        for key in model["properties"]:
            assert re.search(rf"[`.\[]{key}[`.\] ]", table), key
    for name in (*CHANNELS, *SYNAPSES):
        assert f"`{name}`" in table


def test_all_fields_of_the_protocol_are_in_their_table():
    table = RECIPES[RECIPES.index("## The protocol") :]
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \| (\w*) ?\| .+ \|$", table, re.MULTILINE)
    fields = dataclasses.fields(pyloric_db.Protocol)
    assert [name for name, _, _ in rows] == [field.name for field in fields]
    engine = (DOCS / "engine.md").read_text()
    rules = engine[engine.index("## When a circuit is done") :]
    for (name, default, unit), field in zip(rows, fields, strict=True):
        assert json.loads(default) == field.default, name
        assert unit == (name.rpartition("_")[2] if name.endswith(("_ms", "_mV", "_K")) else "")
        if name.endswith(("_ms", "_mV")) or name.startswith("settled"):
            how = name in ("dt_ms", "spike_threshold_mV", "max_burst_gap_ms")  # not when
            assert f"`{name}`" in rules or how, name


def test_circuits_of_a_database_run_again_are_those_of_the_database(client, tiny, tmp_path):
    (recipe,) = [tomllib.loads(b) for b in BLOCKS if "circuit.gap_junctions" in b]
    protocol = tiny()["protocol"]
    db = pyloric_db.build(recipe | {"protocol": protocol}, tmp_path / "db", cluster=client)
    (block,) = re.findall(r"```python\n(circuit = pyl.circuit_of.*?)```", RECIPES, re.DOTALL)
    names = {"db": db, "pyl": pyloric_db}
    exec(block, names)
    stored = db.query("circuit_id in [0, 5, 11]")
    for name, values in names["features"].data_vars.items():
        np.testing.assert_array_equal(values.values, stored[name].values, err_msg=name)
    parameters = names["parameters"]
    with pytest.raises(ConfigError, match=r"circuit=, such as pyloric_db\.circuit_of\(db\)"):
        pyloric_db.classify(parameters.gbar, parameters.gsyn)


def test_a_recipe_in_python(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(recipe = .*?)```", RECIPES, re.DOTALL)
    names = {"pyl": pyloric_db, "client": client}
    exec(block.replace('"ab-lp")', '"ab-lp", limit=2, cluster=client)'), names)
    assert len(pyloric_db.open(tmp_path / "ab-lp")) == 2


def test_a_circuit_in_python_is_that_of_the_recipe():
    (recipe,) = [tomllib.loads(b) for b in BLOCKS if "circuit.gap_junctions" in b]
    (block,) = re.findall(r"```python\n(circuit = pyl.Circuit.*?)```", RECIPES, re.DOTALL)
    names = {"pyl": pyloric_db, "np": np}
    exec(block, names)
    plan = make_plan(recipe)
    assert names["circuit"] == plan.recipe.circuit.circuit()
    usual = names["features"].period_ms.item()
    assert usual > 0
    (block,) = re.findall(r"```python\n(from pyloric_db.model.channels .*?)```", RECIPES, re.DOTALL)
    exec(block, names | {"dataclasses": dataclasses}, early := {})
    changed = early["features"].period_ms.item()
    assert changed > 0 and changed != usual


def test_channels_in_python_are_those_of_the_recipe():
    (recipe,) = [tomllib.loads(b) for b in BLOCKS if 'name = "modulated"' in b]
    (block,) = re.findall(r"```python\n(from pyloric_db.model.channels.*?)```", EXAMPLES, re.DOTALL)
    names = {"pyl": pyloric_db, "np": np}
    exec(block, names)
    assert names["constants"].channels == make_plan(recipe).recipe.run_constants().channels
    assert names["features"].activity_lp.item()
    (others,) = re.findall(r"\n\n(    \[\[constants.channels\]\]\n.*?)\n\n\S", EXAMPLES, re.DOTALL)
    more = tomllib.loads(textwrap.dedent(others))["constants"]["channels"]
    recipe["constants"]["channels"] += more
    channels = make_plan(recipe).recipe.run_constants().channels
    assert [c.name for c in channels[8:]] == ["MI", "shunt", "CaL"]
    assert channels[9].m is channels[9].h is channels[10].E_rev is None


def test_the_shares_of_a_cube_are_those_of_the_circuits_in_it(tmp_path):
    manifest = synthetic.build(tmp_path / "db", shards=[0])
    table = synthetic.shard_data(manifest, 0)[1]
    (block,) = re.findall(r"```python\n(cube = .*?)```", QUERIES, re.DOTALL)
    names = {"db": pyloric_db.open(tmp_path / "db")}
    exec(block, names)
    share = names["share"].sel(lp="LP 2", gsyn_lp_py_nS=10)
    chosen = (table["lp"] == 1) & (table["gsyn_lp_py_nS"] == 10)
    assert float(share) == table["pyloric"][chosen].mean()


def test_circuits_of_a_database_run_with_a_change(tiny_db, capsys):
    (block,) = re.findall(r"```python\n(ids = .*?)```", QUERIES, re.DOTALL)
    db = pyloric_db.open(tiny_db)
    names = {"db": db, "pyl": pyloric_db}
    exec(block.replace('db.query("pyloric")', "db.query('circuit_id >= 0')"), names)
    assert len(names["before"].circuit) == db.manifest.n_circuits
    assert (names["no_py_lp"].period_ms != names["before"].period_ms).any()
    assert (names["less_A"].spike_rate_lp_Hz != names["before"].spike_rate_lp_Hz).any()
    assert capsys.readouterr().out.count("pyloric-like") == 3


def test_what_no_column_says_is_that_of_a_run_on(tiny_db):
    (block,) = re.findall(r"```python\n(on = .*?)```", QUERIES, re.DOTALL)
    db = pyloric_db.open(tiny_db)
    names = {"db": db, "pyl": pyloric_db, "ids": [0, 5]}
    exec(block, names)
    assert names["calcium"].dims == ("circuit", "cell") and (names["calcium"] > 0.05).all()
    of_all = pyloric_db.features_from_spikes(
        names["on"].spike_time_ms, window_ms=(0, 10_000), protocol=db.protocol
    )
    assert (names["lp"].spike_rate_lp_Hz == of_all.spike_rate_lp_Hz).all()


def test_the_criteria_of_the_documentation_are_those_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", DEFINITIONS, re.MULTILINE)
    table = {name: cells.replace("−", "-").split(" | ") for name, cells in rows}
    criteria = {name: cells for name, cells in table.items() if len(cells) == 5}
    assert list(criteria) == [c.column for c in CRITERIA]
    for c in CRITERIA:
        *numbers, meaning = criteria[c.column]
        assert [float(n) for n in numbers] == pytest.approx([c.mean, c.sd, c.low, c.high])
        assert meaning == c.long_name
    activities = [name for name, cells in table.items() if len(cells) == 1]
    assert activities == list(ACTIVITIES)


def test_the_numbers_of_the_definitions_are_those_of_the_code():
    text = " ".join(DEFINITIONS.split())
    protocol = pyloric_db.Protocol()
    for said in (
        f"above {protocol.spike_threshold_mV:g} mV (`spike_threshold_mV`)",
        f"at most {protocol.max_burst_gap_ms:g} ms (`max_burst_gap_ms`)",
        f"over the last {bursts.TONIC_SPIKES * protocol.max_burst_gap_ms / 1000:g} s (ten times",
        f"less than {bursts.REGULAR_SPREAD:.0%} of the mean",
        f"vary by at most {activity.BURSTING_CV:.0%} (SD over mean)",
        f"vary by at most {protocol.period_cv:.0%} (SD over mean: `period_cv`",
        f"for {thermalise.FIRST_LOOK_MS / 1000:g} s at least",
        f"within {settle.STEADY_SPREAD:.0%} of their mean",
        f"silent for {thermalise.SILENT_MS / 1000:g} s",
        f"less than {thermalise.REST_mV} mV",
        f"irregular one for {thermalise.IRREGULAR_MS / 1000:g} s",
    ):
        assert said in text, said
    assert bursts.TONIC_SPIKES == 10 and bursts.STOPPED_INTERVALS == 2
    assert settle.STEADY_INTERVALS == activity.LONGEST_PATTERN == 3
    assert protocol.thermal_phase == 0.5
    cold = cold_states(1, PRINZ2004)
    assert {name: set(values.ravel()) for name, values in cold.items()} == {
        "V": {-50}, "Ca": {0.05}, "m": {0}, "h": {1}, "s": {0}
    }  # fmt: skip


def test_the_script_of_inference_is_python_and_calls_what_there_is():
    """It is not run here, since it needs torch and sbi."""
    (block,) = re.findall(r"```python\n(import json.*?)```", EXAMPLES, re.DOTALL)
    assert len(block.splitlines()) <= 50
    nodes = [n for n in ast.walk(ast.parse(block)) if isinstance(n, ast.Attribute)]
    called = {n.attr for n in nodes if isinstance(n.value, ast.Name) and n.value.id == "pyl"}
    assert called == {"Protocol", "classify", "features_from_spikes", "read_recording"}
    assert called <= set(dir(pyloric_db))


def _slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_recording_is_made_and_matched_as_it_is_said(client, inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    db = pyloric_db.build("prinz2004", tmp_path / "db", ids=[range(613537, 613538)], cluster=client)
    (block,) = re.findall(r"```python\n(run = .*?)```", QUERIES, re.DOTALL)
    exec(block, {"db": db, "np": np})
    made, kept = (
        pyloric_db.read_recording(p) for p in (tmp_path / "recording.csv", DOCS / "recording.csv")
    )
    # rounding differs between processors
    np.testing.assert_allclose(made.count("spike"), kept.count("spike"), atol=3)
    features = [pyloric_db.features_from_spikes(spikes) for spikes in (made, kept)]
    np.testing.assert_allclose(*(f.period_ms for f in features), rtol=0.01)
    found = json.loads(inside("match", tmp_path / "db", DOCS / "recording.csv", "--json").stdout)
    assert found["recording"]["pyloric"] and len(found["compared"]) == len(CRITERIA)
    (nearest,) = found["nearest"]
    assert nearest["circuit_id"] == 613537 and nearest["distance_sd"] < 0.1


def test_other_programs_read_the_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    synthetic.build(tmp_path / "demo-db")
    db = pyloric_db.open("demo-db")
    (block,) = re.findall(r"```python\n(rows = .*?)```", QUERIES, re.DOTALL)
    names = {"pd": pd, "duckdb": duckdb}
    exec(block, names)
    wanted = db.query("pyloric")
    np.testing.assert_array_equal(sorted(names["rows"].circuit_id), wanted.circuit_id)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["version"] == pyloric_db.__version__
    assert (
        citation["license"]
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    )
    readme = (ROOT / "README.md").read_text()
    for paper in citation["references"][:2]:
        assert f"{paper['volume']}:{paper['start']}" in readme


def test_the_rates_of_the_readme_are_those_of_the_benchmarks():
    readme = " ".join((ROOT / "README.md").read_text().split())
    faster = {}  # how many times as fast the kernel is
    for row in re.findall(
        r"^\| (.*\d) \|$", BENCHMARKS[BENCHMARKS.index("## Peers") :], re.MULTILINE
    ):
        name, *cells = row.split(" | ")
        if len(cells) == 5:
            faster[name] = float(cells[3])
    ours = faster["pyloric-db, the literature's scheme"]
    for said in (
        f"{faster['Jaxley']:.0f} times as fast as Jaxley, both in float32",
        f"{faster['Jaxley, float64'] / ours:.1f} times as fast as Jaxley",
        f"{faster['Brian2'] / ours:.1f} times as fast as Brian2",
        f"{faster['Brian2']:.0f} times as fast as Brian2 in float64",
    ):
        assert said in readme, said


def test_the_least_of_each_row_of_the_questions_is_in_bold():
    table = BENCHMARKS[BENCHMARKS.index("| question |") :].split("\n\n")[0]
    rows = [row.strip("| ").split(" | ")[2:] for row in table.splitlines()[2:]]
    assert len(rows) > 5 and "e+" not in table
    for row in rows:
        times = []
        for cell in row:
            number, unit = cell.strip("*").split()[:2]
            times.append(float(number) * {"ms": 1, "s": 1000, "GB": 1}[unit.strip("*")])
        assert [cell.startswith("**") for cell in row] == [t == min(times) for t in times]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda p: p.name
)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target, _, anchor in re.findall(r"\]\((?!\w+:)([^)#]*)(#([^)]+))?\)", text):
        file = page.parent / target if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert anchor in [_slug(h) for h in headings], f"{target}#{anchor}"
