"""JSON schemas of recipe, cluster profile, manifest and feature table, exported from the code.

`python -m pyloric_db.pipeline.schemas DIR` writes them.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.profile import profile_schema
from pyloric_db.pipeline.recipe import Recipe
from pyloric_db.store.schema import feature_json_schema, json_schema


def schemas() -> dict[str, dict[str, Any]]:
    """Schemas by file name."""
    return {
        "recipe.schema.json": Recipe.model_json_schema(),
        "cluster.schema.json": profile_schema(),
        "database.schema.json": json_schema(),
        "features.schema.json": feature_json_schema(make_plan("prinz2004").manifest.columns),
    }


def text_of(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, schema in schemas().items():
        Path(sys.argv[1], name).write_text(text_of(schema))
