"""The examples of the documentation are valid."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import synthetic

import pyloric_db
from pyloric_db.errors import ConfigError
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.vocabulary import CHANNELS, SYNAPSES

DOCS = Path(__file__).parent.parent / "docs"
RECIPES = (DOCS / "recipes.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", RECIPES, re.DOTALL)


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
    table = RECIPES[RECIPES.index("## All keys") : RECIPES.index("## A grid")]
    schema = json.loads((DOCS.parent / "schemas" / "recipe.schema.json").read_text())
    for model in (schema, *schema["$defs"].values()):
        for key in model["properties"]:
            assert re.search(rf"[`.\[]{key}[`.\] ]", table), key
    for name in (*CHANNELS, *SYNAPSES):
        assert f"`{name}`" in table


def test_circuits_of_a_database_run_again_are_those_of_the_database(client, tiny, tmp_path):
    (recipe,) = [tomllib.loads(b) for b in BLOCKS if "circuit.gap_junctions" in b]
    protocol = tiny()["protocol"]
    db = pyloric_db.build(recipe | {"protocol": protocol}, tmp_path / "db", cluster=client)
    (block,) = re.findall(r"```python\n(circuit = .*?)```", RECIPES, re.DOTALL)
    names = {"db": db, "pyl": pyloric_db}
    exec(block, names)
    stored = db.query("circuit_id in [0, 5, 11]")
    for name, values in names["features"].data_vars.items():
        np.testing.assert_array_equal(values.values, stored[name].values, err_msg=name)
    parameters = names["parameters"]
    with pytest.raises(ConfigError, match=r"circuit=, such as pyloric_db\.circuit_of\(db\)"):
        pyloric_db.classify(parameters.gbar, parameters.gsyn)


def test_the_shares_of_a_cube_are_those_of_the_circuits_in_it(tmp_path):
    manifest = synthetic.build(tmp_path / "db", shards=[0])
    table = synthetic.shard_data(manifest, 0)[1]
    (block,) = re.findall(
        r"```python\n(cube = .*?)```", (DOCS / "queries.md").read_text(), re.DOTALL
    )
    names = {"db": pyloric_db.open(tmp_path / "db")}
    exec(block, names)
    share = names["share"].sel(lp="LP 2", gsyn_lp_py_nS=10)
    chosen = (table["lp"] == 1) & (table["gsyn_lp_py_nS"] == 10)
    assert float(share) == table["pyloric"][chosen].mean()


def test_circuits_of_a_database_run_with_a_change(tiny_db, capsys):
    (block,) = re.findall(
        r"```python\n(ids = .*?)```", (DOCS / "queries.md").read_text(), re.DOTALL
    )
    db = pyloric_db.open(tiny_db)
    names = {"db": db, "pyl": pyloric_db}
    exec(block.replace('db.query("pyloric")', "db.query('circuit_id >= 0')"), names)
    assert len(names["before"].circuit) == db.manifest.n_circuits
    assert (names["no_py_lp"].period_ms != names["before"].period_ms).any()
    assert (names["less_A"].spike_rate_lp_Hz != names["before"].spike_rate_lp_Hz).any()
    assert capsys.readouterr().out.count("pyloric-like") == 3


def test_links_of_the_readme_lead_to_files():
    readme = (DOCS.parent / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    for link in links:
        assert (DOCS.parent / link).exists(), link
