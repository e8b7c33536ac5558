"""A recipe and a selection to what will be built: the manifest and its shards."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import pyloric_db
from pyloric_db.errors import ClusterError, ConfigError
from pyloric_db.model.constants import REFERENCE_TEMPERATURE_K, warn_without_q10
from pyloric_db.pipeline.draw import Selection, grid_axes, has_netcode, select
from pyloric_db.pipeline.ranges import Ranges, recorded_ranges
from pyloric_db.pipeline.recipe import Recipe, load_recipe
from pyloric_db.protocol import Protocol
from pyloric_db.store.manifest import MOST_CIRCUITS, Manifest
from pyloric_db.store.parameters import parameter_columns
from pyloric_db.vocabulary import Column, feature_columns, run_columns

#: Circuits are split so that even a small build keeps several workers busy, and a larger one all
#: cores of a desktop; but that one in no smaller shards, whose last circuits leave lanes empty.
LEAST_SHARDS = 4
DESKTOP_SHARDS = 16
SMALL_SHARD = 2048
#: Rows per inner chunk of the states at most: a random read decodes one.
CHUNK_CIRCUITS = 5_000

ID_COLUMN = Column("circuit_id", "int64", "1", "number of the circuit in its recipe")
NETCODE_COLUMN = Column("netcode", "string", "1", "name of the circuit as in Gunay & Prinz 2010")


@dataclass(frozen=True)
class Plan:
    """What a build will do."""

    recipe: Recipe
    protocol: Protocol
    selection: Selection
    manifest: Manifest

    def shard_ids(self, shard: int) -> np.ndarray:
        """Circuit ids of a shard."""
        start = shard * self.manifest.shard_circuits
        return self.selection.part(start, start + self.manifest.shard_size(shard))


def make_plan(
    recipe: Any,
    *,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    ids: Ranges | None = None,
) -> Plan:
    """Work out what a build of a recipe will do; touches nothing on disk.

    Args:
        recipe: a packaged name, a TOML file, a dict or a `Recipe`.
        limit: only the first so many circuits.
        sample: only so many at random, drawn with `seed`.
        seed: of the sample; None for 0.
        ids: of those, only the ones in these ranges of circuit ids.

    Raises:
        ConfigError: the recipe, a count or a range is not valid.
    """
    loaded = load_recipe(recipe)
    protocol = loaded.run_protocol()
    warn_without_q10(loaded.run_constants(), protocol.temperature_K)
    selection = select(loaded, limit=limit, sample=sample, seed=seed, ids=ids)
    if selection.count > MOST_CIRCUITS:
        raise ConfigError(
            f"{selection.count:.3g} circuits are too many for a database of at most "
            f"{MOST_CIRCUITS:.0e}: take some of them with sample, limit or ids"
        )
    circuit, channels = loaded.circuit.circuit(), loaded.run_constants().channel_names
    axes = grid_axes(loaded)
    shard, chunk = layout(selection.count, loaded.store.shard_circuits)
    columns = (
        ID_COLUMN,
        *((NETCODE_COLUMN,) if has_netcode(loaded) else ()),
        *parameter_columns(axes, circuit.cells, circuit.synapse_names, channels.all),
        *feature_columns(circuit.cells),
        *run_columns(circuit.cells),
    )
    names = [c.name for c in columns]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"recipe {loaded.name} gives its table two columns {twice!r}: call the cell otherwise"
        )
    try:
        manifest = Manifest(
            name=loaded.name,
            recipe=_recorded(loaded),
            selection={
                **({"sample": int(sample), "seed": int(seed or 0)} if sample is not None else {}),
                **({"limit": int(limit)} if limit is not None else {}),
                **(recorded_ranges(ids, selection.of) if ids is not None else {}),
            },
            n_circuits=selection.count,
            shard_circuits=shard,
            chunk_circuits=chunk,
            cells=circuit.cells,
            synapses=circuit.synapse_names,
            sources=circuit.source_names,
            axes=axes,
            columns=columns,
            settings=_settings(protocol),
            versions=versions(),
            channels=channels,
        )
    except ValueError as err:
        raise ConfigError(f"recipe {loaded.name} cannot be a database: {err}") from err
    return Plan(loaded, protocol, selection, manifest)


def layout(count: int, most: int) -> tuple[int, int]:
    """Circuits per shard, of which a recipe allows `most`, and per chunk of its states."""
    for_all = max(-(-count // DESKTOP_SHARDS), SMALL_SHARD)
    shard = min(most, for_all, -(-count // LEAST_SHARDS))
    chunks = -(-shard // CHUNK_CIRCUITS)
    chunk = min(-(-shard // chunks), most // chunks)  # a shard is whole chunks
    return chunks * chunk, chunk


def _settings(protocol: Protocol) -> dict[str, Any]:
    """The protocol as the database keeps it: the published temperature is not recorded, as in
    databases from before there was another."""
    settings = asdict(protocol)
    if protocol.temperature_K == REFERENCE_TEMPERATURE_K:
        del settings["temperature_K"]
    return settings


def _recorded(recipe: Recipe) -> dict[str, Any]:
    """The recipe as the database keeps it; a table by its contents, wherever the file lies."""
    content: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    table = content["parameters"].get("table")
    if table is not None:
        table["path"] = Path(table["path"]).name
    if not content.get("constants"):
        content.pop("constants", None)  # none were given
    return content


def versions() -> dict[str, str]:
    """Versions that can change a number or a byte of a database."""
    packages = ("jax", "jaxlib", "llvmlite", "numpy", "zarr", "pyarrow")
    return {
        "pyloric-db": pyloric_db.__version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def check_versions(worker: str, theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Whether a worker has the versions of this build, which its database records.

    Raises:
        ClusterError: it has others.
    """
    others = [
        f"{name} {theirs[name]} (here {own})" for name, own in ours.items() if theirs[name] != own
    ]
    if others:
        raise ClusterError(
            f"the worker at {worker} has {', '.join(others)}: a database is made by one version of "
            "each, so that all workers must have those that are here"
        )
