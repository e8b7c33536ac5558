import json
import tomllib
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest

from pyloric_db.pipeline.profile import packaged_profiles
from pyloric_db.pipeline.recipe import packaged_recipes
from pyloric_db.pipeline.schemas import schemas, text_of

FOLDER = Path(__file__).parents[1] / "schemas"


def validator(name):
    schema = json.loads((FOLDER / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_files_are_those_of_the_code():
    exported = {name: text_of(schema) for name, schema in schemas().items()}
    assert {p.name: p.read_text() for p in FOLDER.iterdir()} == exported, "run `make schemas`"


def test_recipes_are_valid(tiny):
    check = validator("recipe.schema.json")
    for text in packaged_recipes().values():
        check.validate(tomllib.loads(text))
    check.validate(tiny())


def test_profiles_are_valid():
    check = validator("cluster.schema.json")
    for text in packaged_profiles().values():
        check.validate(tomllib.loads(text))
    assert not check.is_valid({"kind": "local", "worker": 2})
    assert not check.is_valid({"kind": "locl"})


@pytest.mark.parametrize(
    "changes",
    [
        {"nmae": 1},
        {"name": "../x"},
        {"name": None},
        {"parameters.grid.gsyn_ab_lp_nS": [-1]},
        {"parameters.grid.gsyn_ab_lp_nS": []},
        {"store.shard_circuits": 0},
    ],
)
def test_bad_recipes_are_not(tiny, changes):
    assert not validator("recipe.schema.json").is_valid(tiny(changes))


def test_a_database_is_valid(named_db):
    content = json.loads((named_db / "database.json").read_text())
    check = validator("database.schema.json")
    check.validate(content)
    assert not check.is_valid({**content, "schema_version": 2})
    assert not check.is_valid({**content, "n_circuits": 0})


def test_feature_rows_are_valid(named_db):
    check = validator("features.schema.json")
    rows = [r for p in (named_db / "features").iterdir() for r in pq.read_table(p).to_pylist()]
    assert len(rows) == 24
    for row in rows:
        check.validate(row)
    assert any(value is None for row in rows for value in row.values())
    assert not check.is_valid({**rows[0], "status": "fine"})
    assert not check.is_valid({**rows[0], "circuit_id": None})
    assert not check.is_valid({k: v for k, v in rows[0].items() if k != "netcode"})
