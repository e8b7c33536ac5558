"""pyloric-db: databases of pyloric circuit models, built and asked.

Names are loaded when first used: opening and asking a database loads no JAX.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "simulate": "pyloric_db.pipeline.simulate",
    "classify": "pyloric_db.pipeline.simulate",
    "build": "pyloric_db.pipeline.build",
    "merge": "pyloric_db.pipeline.merge",
    "circuit_of": "pyloric_db.pipeline.recipe",
    "constants_of": "pyloric_db.pipeline.constants_spec",
    "Circuit": "pyloric_db.model.circuit",
    "Source": "pyloric_db.model.circuit",
    "Synapse": "pyloric_db.model.circuit",
    "GapJunction": "pyloric_db.model.circuit",
    "PRINZ2004": "pyloric_db.model.circuit",
    "SINGLE_CELL": "pyloric_db.model.circuit",
    "Constants": "pyloric_db.model.constants",
    "cell_gbar": "pyloric_db.model.cells",
    "prinz2003_gbar": "pyloric_db.model.cells",
    "features_from_spikes": "pyloric_db.rhythm.recordings",
    "read_recording": "pyloric_db.rhythm.recording_files",
    "save_rows": "pyloric_db.query.save",
    "load_rows": "pyloric_db.query.save",
    "export": "pyloric_db.ml.export",
    "Protocol": "pyloric_db.protocol",
    "Database": "pyloric_db.query.database",
    "open": "pyloric_db.query.database",
    "PyloricDBError": "pyloric_db.errors",
}

__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'pyloric_db' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
