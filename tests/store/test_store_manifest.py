import json
from dataclasses import replace

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
from pyloric_db.vocabulary import Column


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


CELL, VALUE = synthetic.GRID[0], synthetic.GRID[2]


def axis(base, **changes):
    """The changes of a manifest whose grid has one axis."""
    return {"axes": (replace(base, **changes),), "n_circuits": 1}


def column(**changes):
    """The changes of a manifest with one column more."""
    return {"columns": (synthetic.ID, replace(Column("a", "float32", "ms", "a time"), **changes))}


def levels(n):
    return axis(VALUE, values=tuple(map(float, range(n))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": []}, "recipe must be an object"),
        ({"settings": {}}, "settings must hold dt_ms, a number"),
        ({"settings": {"dt_ms": True}}, "settings must hold dt_ms, a number"),
        ({"n_circuits": 0}, "n_circuits must be a whole number from 1"),
        ({"axes": None, "n_circuits": 10**12 + 1}, "n_circuits must be a whole number from 1"),
        ({"shard_circuits": 1_000_001, "chunk_circuits": 1}, "shard_circuits must be"),
        ({"cells": ()}, "cells must not be empty"),
        ({"cells": ("lp", "lp")}, "cells must differ"),
        ({"synapses": ("a b",)}, "synapses must be names"),
        ({"synapses": (3,)}, "synapses must be names"),
        ({"sources": ("ab", "ab")}, "sources must differ"),
        ({"axes": ()}, "axes must be there"),
        ({"axes": (CELL, CELL)}, "differ from each other"),
        (axis(VALUE, name="a b"), "axis name 'a b' must be letters"),
        (axis(VALUE, kind="other"), "of kind cell or value, not 'other'"),
        (levels(0), "from 1 to 65536 values, not 0"),
        (levels(65_537), "from 1 to 65536 values, not 65537"),
        (axis(VALUE, values=(0.0, float("inf"))), "must hold finite numbers"),
        (axis(VALUE, values=(0.0, True)), "must hold finite numbers"),
        (axis(CELL, name="ic"), "must be named after a cell"),
        (axis(CELL, labels=("PD 1", "\x1b[2J")), "labels that are printable text"),
        (axis(CELL, labels=("PD 1",)), "must have 8 finite gbar for each label"),
        (axis(CELL, gbar=((1.0,) * 8, (1.0,) * 7)), "must have 8 finite gbar for each label"),
        (axis(CELL, gbar=((1.0,) * 8, (float("nan"),) * 8)), "must have 8 finite gbar"),
        (
            {"axes": tuple(replace(VALUE, name=n, values=(0.0,) * 2**16) for n in "abcd")},
            r"grid of 2\*\*63 circuits or more",
        ),
        ({"columns": ()}, "must begin with circuit_id"),
        ({"columns": (synthetic.NETCODE, synthetic.ID)}, "must begin with circuit_id"),
        ({"columns": (replace(synthetic.ID, kind="int8"),)}, "must begin with circuit_id"),
        ({"columns": (synthetic.ID, synthetic.ID)}, "columns must differ"),
        (column(name="a b"), "column name 'a b' must be letters"),
        (column(kind="complex64"), "unknown kind 'complex64'"),
        (column(unit="\x07"), "a unit and a long_name of printable text"),
        (column(long_name="\x07"), "a unit and a long_name of printable text"),
        (column(nullable=1), "must be nullable or not"),
        (column(categories=("a",)), "categories exactly if it is a category"),
        (column(kind="category"), "categories exactly if it is a category"),
        (column(kind="category", categories=("a", "")), "categories exactly if"),
        (column(kind="category", categories=("a", "\n")), "categories exactly if"),
    ],
)
def test_a_manifest_of_values_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(synthetic.make_manifest(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": None, "n_circuits": 10**12},
        {"shard_circuits": 1_000_000, "chunk_circuits": 1},
        {"shard_circuits": 5, "chunk_circuits": 5},
        levels(1),
        levels(65_536),
        column(kind="category", categories=("a",)),
        {"columns": (synthetic.ID,)},
    ],
)
def test_a_manifest_may_reach_its_limits(changes):
    manifest = replace(synthetic.make_manifest(), **changes)
    assert Manifest.from_json(manifest.to_json(), "x") == manifest


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
