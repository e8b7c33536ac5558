"""The examples of the documentation are valid."""

import re
import tomllib
from pathlib import Path

import pytest
import synthetic

import pyloric_db
from pyloric_db.pipeline.plan import make_plan

DOCS = Path(__file__).parent.parent / "docs"
PRESET = 'name = "example"\n[circuit]\npreset = "prinz2004"\n'
BLOCKS = re.findall(r"```toml\n(.*?)```", (DOCS / "recipes.md").read_text(), re.DOTALL)


def completed(block: str) -> str:
    """An excerpt with the keys that stand elsewhere on the page."""
    if "[circuit]" in block:
        return block
    if "circuit.cells" in block:
        return 'name = "example"\n' + block
    return PRESET + block


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_recipes_of_the_documentation_can_be_planned(block, tmp_path):
    table = tmp_path / "my_circuits.csv"
    table.write_text("gbar_abpd_Na,gbar_lp_Na,gbar_py_Na\n100,100,200\n")
    recipe = tmp_path / "recipe.toml"
    text = completed(block)
    recipe.write_text(text)
    plan = make_plan(recipe)
    assert plan.manifest.n_circuits >= 1
    assert plan.manifest.name == tomllib.loads(text)["name"]


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


def test_links_of_the_readme_lead_to_files():
    readme = (DOCS.parent / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    for link in links:
        assert (DOCS.parent / link).exists(), link
