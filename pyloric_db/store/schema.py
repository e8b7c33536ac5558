"""JSON schemas (draft 2020-12) of the manifest and of a row of the feature table."""

from dataclasses import fields
from typing import Any

from pyloric_db.store.manifest import FORMAT, KINDS, SCHEMA_VERSION
from pyloric_db.vocabulary import CHANNELS, ChannelNames, Column

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_INTEGERS = {
    "int8": (-(2**7), 2**7 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "int64": (-(2**63), 2**63 - 1),
}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
        **more,
    }


def json_schema() -> dict[str, Any]:
    """The schema of `database.json`."""
    text, free = {"type": "string"}, {"type": "object"}
    size = {"type": "integer", "minimum": 1}
    names = {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}}
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 1}
    vector = {**numbers, "minItems": len(CHANNELS)}
    channel = {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9]*$"}}
    cell_axis = _object(
        {
            "name": text,
            "kind": {"const": "cell"},
            "labels": {"type": "array", "items": text, "minItems": 1},
            "gbar": {"type": "array", "items": vector, "description": "mS/cm2, channel order"},
        }
    )
    value_axis = _object({"name": text, "kind": {"const": "value"}, "values": numbers})
    column = _object(
        {
            "name": text,
            "kind": {"enum": list(KINDS)},
            "unit": text,
            "long_name": text,
            "nullable": {"type": "boolean"},
            "categories": {"type": "array", "items": text},
        }
    )
    axes = {"type": "array", "items": {"oneOf": [cell_axis, value_axis]}, "minItems": 1}
    schema = _object(
        {
            "format": {"const": FORMAT},
            "schema_version": {"const": SCHEMA_VERSION},
            "recipe_hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "name": text,
            "recipe": free,
            "selection": free,
            "settings": free,
            "versions": free,
            "n_circuits": size,
            "shard_circuits": size,
            "chunk_circuits": size,
            "cells": {**names, "minItems": 1},
            "synapses": names,
            "sources": names,
            "axes": {"oneOf": [{"type": "null"}, axes]},
            "columns": {"type": "array", "items": column, "minItems": 1},
        },
        **{"$schema": _DRAFT, "title": "pyloric-db database manifest"},
    )
    schema["properties"]["channels"] = _object(
        {field.name: channel for field in fields(ChannelNames)},
        description="channels of the cells and their gates, where they are not the published eight",
    )
    return schema


def feature_json_schema(columns: tuple[Column, ...]) -> dict[str, Any]:
    """The schema of one row of the feature table, as an object from column to value."""
    return _object(
        {c.name: _value_schema(c) for c in columns},
        **{"$schema": _DRAFT, "title": "pyloric-db feature row"},
    )


def _value_schema(column: Column) -> dict[str, Any]:
    schema: dict[str, Any]
    if column.kind == "bool":
        schema = {"type": "boolean"}
    elif column.kind == "string":
        schema = {"type": "string"}
    elif column.kind == "category":
        schema = {"enum": list(column.categories)}
    elif column.kind in _INTEGERS:
        low, high = _INTEGERS[column.kind]
        schema = {"type": "integer", "minimum": low, "maximum": high}
    else:
        schema = {"type": "number"}
    if column.nullable:
        if "enum" in schema:
            schema["enum"].append(None)
        else:
            schema["type"] = [schema["type"], "null"]
    return {**schema, "description": f"{column.long_name} ({column.unit})"}
