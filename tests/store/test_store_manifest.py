import json

import numpy as np
import pytest
import synthetic

from pyloric_db.errors import DatabaseError
from pyloric_db.store.manifest import Axis, Manifest, first_difference
from pyloric_db.store.parameters import (
    decode_grid,
    grid_columns,
    index_column,
    parameter_columns,
    parameters_from_columns,
    synapse_column,
)
from pyloric_db.store.schema import feature_json_schema, json_schema


def test_text_round_trip():
    manifest = synthetic.make_manifest()
    text = manifest.to_json()
    assert Manifest.from_json(text, "x") == manifest
    assert Manifest.from_json(text, "x").to_json() == text
    free = synthetic.make_manifest(axes=None)
    assert Manifest.from_json(free.to_json(), "x") == free


def test_hash_covers_recipe_selection_settings_and_shard_size():
    base = synthetic.make_manifest().recipe_hash
    for change in (
        {"recipe": {"name": "other"}},
        {"selection": {"kind": "limit"}},
        {"settings": {"dt_ms": 0.025}},
        {"shard_circuits": 10},
    ):
        assert synthetic.make_manifest(**change).recipe_hash != base
    assert synthetic.make_manifest(versions={"pyloric_db": "9"}).recipe_hash == base


def changed(**changes) -> str:
    content = json.loads(synthetic.make_manifest().to_json()) | changes
    return json.dumps({k: v for k, v in content.items() if v is not ...})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": NaN}', "not JSON"),
        ("[]", "not the manifest"),
        ('{"format": "zarr"}', "not the manifest"),
        (changed(schema_version=7), r"newer pyloric-db \(schema 7; this one reads up to 1\)"),
        (changed(schema_version="1"), "schema_version is '1'"),
        (changed(cells=...), "key 'cells' is missing"),
        (changed(extra=1), "key 'extra' is unknown"),
        (changed(n_circuits=-1), "n_circuits must be"),
        (changed(n_circuits=10**30), "n_circuits must be"),
        (changed(n_circuits=True), "n_circuits must be"),
        (changed(n_circuits=49), "must not exceed the grid"),
        (changed(shard_circuits=0), "shard_circuits must be"),
        (changed(chunk_circuits=3), "multiple of chunk_circuits"),
        (changed(cells=["../x"]), "cells must be names"),
        (changed(columns=[{"name": "a"}]), "is damaged"),
        (changed(columns=3), "is damaged"),
        (changed(axes=[{"name": "lp"}]), "is damaged"),
        (changed(recipe={"name": "other"}), "recipe_hash"),
    ],
)
def test_bad_manifest_is_one_sentence(text, message):
    with pytest.raises(DatabaseError, match=message) as caught:
        Manifest.from_json(text, "some/database.json")
    assert "some/database.json" in str(caught.value) and "\n" not in str(caught.value)


def test_schemas_describe_what_is_written():
    manifest = synthetic.make_manifest()
    content = json.loads(manifest.to_json())
    schema = json_schema()
    assert set(schema["required"]) == set(content)
    rows = feature_json_schema(manifest.columns)["properties"]
    assert rows["period_ms"]["type"] == ["number", "null"]
    assert rows["activity_lp"]["enum"][-1] is None
    assert rows["abpd"]["maximum"] == 255
    validate = pytest.importorskip("jsonschema").validate
    validate(content, schema)
    validate(json.loads(synthetic.make_manifest(axes=None).to_json()), schema)


def test_parameter_columns_on_a_grid_have_an_index():
    columns = parameter_columns(synthetic.GRID, synthetic.CELLS, synthetic.SYNAPSES)
    assert [c.name for c in columns] == [
        "abpd", "lp", "gsyn_ab_lp_nS", "gsyn_ab_lp_index", "gsyn_lp_py_nS", "gsyn_lp_py_index",
    ]  # fmt: skip
    assert {c.name: c.unit for c in columns}["gsyn_ab_lp_nS"] == "nS"
    wide = Axis("gbar_abpd_Na", "value", tuple(map(float, range(300))))
    value, index = parameter_columns((wide,), synthetic.CELLS, ())
    assert (value.unit, index.name, index.kind) == ("mS/cm2", "gbar_abpd_Na_index", "uint16")
    assert index_column(wide) == "gbar_abpd_Na_index"
    assert synapse_column("gap_ab_pd") == "ggap_ab_pd_nS"


def test_unknown_axis_is_refused():
    with pytest.raises(ValueError, match="gsyn_nobody_nS"):
        parameter_columns((Axis("gsyn_nobody_nS", "value", (1.0,)),), ("lp",), ())


def test_ids_count_the_grid_in_c_order():
    index = decode_grid(synthetic.GRID, np.arange(48))
    assert np.array_equal(np.ravel_multi_index(index, (2, 3, 4, 2)), np.arange(48))
    assert [int(i[9]) for i in index] == [0, 1, 0, 1]


def test_parameters_come_from_columns_at_full_precision():
    manifest = synthetic.make_manifest()
    ids = np.array([47, 2])
    columns = {"circuit_id": ids, **grid_columns(manifest.axes, ids)}
    gbar, gsyn = parameters_from_columns(manifest, columns)
    assert gbar.shape == (2, 3, 8) and gsyn.shape == (2, 7)
    assert gbar[0, 0].tolist() == list(range(10, 18)) and gbar[0, 1, 0] == 20.0
    assert not gbar[:, 2].any()
    assert gsyn[1].tolist() == [0.1, 0, 0, 0, 0, 0, 0]

    free = synthetic.make_manifest(axes=None)
    names = [c.name for c in parameter_columns(None, free.cells, free.synapses)]
    columns = {name: np.array([i, -i]) for i, name in enumerate(names)}
    gbar, gsyn = parameters_from_columns(free, {"circuit_id": ids, **columns})
    assert np.concatenate([gbar[0].ravel(), gsyn[0]]).tolist() == list(range(31))


def test_the_first_difference_is_none_of_order_and_its_place_is_said():
    ours = {"description": "a", "grid": {"py": ["PY 1", {"A": 40.0, "Na": 450.0}], "x": [1, 2]}}
    theirs = {"description": "b", "grid": {"py": ["PY 1", {"Na": 450.0, "A": 40.0}], "x": [1, 3]}}
    assert first_difference(ours, theirs, "recipe") == ("recipe.grid.x[1]", "2", "3")
    theirs["grid"]["x"] = [1]
    assert first_difference(ours, theirs, "recipe") == ("recipe.grid.x", "[1, 2]", "[1]")
    theirs["grid"]["x"] = [1, 2]
    assert first_difference(ours, theirs, "recipe") == ("recipe.description", "'a'", "'b'")
    assert first_difference([1], [1.0], "x") == ("x[0]", "1", "1.0")
