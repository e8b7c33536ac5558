"""The Zarr v3 group of states: arrays, chunks, attributes and coordinates, without data."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import (
    CELL,
    CIRCUIT,
    H_GATE,
    H_GATES,
    M_GATE,
    M_GATES,
    SOURCE,
    STATE_VARIABLES,
)

CIRCUIT_ID = "circuit_id"


def coordinates(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Labels along every dimension of a state but `circuit`."""
    return {
        CELL: manifest.cells,
        M_GATE: M_GATES,
        H_GATE: H_GATES,
        SOURCE: manifest.sources,
    }


def state_shape(manifest: Manifest, variable: str) -> tuple[int, ...]:
    """Shape of a state variable of one circuit."""
    lengths = {dim: len(labels) for dim, labels in coordinates(manifest).items()}
    return tuple(lengths[dim] for dim in STATE_VARIABLES[variable][0])


def shard_key(manifest: Manifest, variable: str, shard: int) -> str:
    """Path, below the group, of the one file that holds a shard of an array."""
    dims = 0 if variable == CIRCUIT_ID else len(STATE_VARIABLES[variable][0])
    return "/".join([variable, "c", str(shard)] + ["0"] * dims)


def write_template(directory: Path, manifest: Manifest) -> None:
    """Writes the metadata and coordinates of the states of a database into `directory`.

    Arrays are padded to whole shards: rows behind `n_circuits` hold NaN and circuit_id -1.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    rows = manifest.n_shards * manifest.shard_circuits
    group = zarr.open_group(directory, mode="w", zarr_format=3)
    group.update_attributes(
        {"recipe_hash": manifest.recipe_hash, "n_circuits": manifest.n_circuits}
    )
    # the codec's own checksum: a flipped bit must not come back as a state
    compressor = ZstdCodec(level=1, checksum=True)

    def create(name: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str,
               fill: float, attributes: dict[str, Any]) -> None:  # fmt: skip
        group.create_array(
            name,
            shape=(rows, *shape),
            # at least 1: a circuit without synapses has no sources
            shards=(manifest.shard_circuits, *(max(1, k) for k in shape)),
            chunks=(manifest.chunk_circuits, *(max(1, k) for k in shape)),
            dtype=dtype,
            fill_value=fill,
            dimension_names=(CIRCUIT, *dims),
            attributes=attributes,
            compressors=compressor,
        )

    create(CIRCUIT_ID, (), (), "int64", -1, {"units": "1", "long_name": "circuit id"})
    for name, (dims, unit, long_name) in STATE_VARIABLES.items():
        attributes = {"units": unit, "long_name": long_name, "coordinates": CIRCUIT_ID}
        create(name, state_shape(manifest, name), dims, "float32", float("nan"), attributes)
    for dim, labels in coordinates(manifest).items():
        array = group.create_array(
            dim,
            shape=(len(labels),),
            chunks=(max(1, len(labels)),),
            dtype="str",
            dimension_names=(dim,),
            attributes={"long_name": dim.replace("_", " ")},
        )
        array[:] = np.array(labels, dtype=object)
    with warnings.catch_warnings():
        # consolidated metadata is an extension of Zarr v3 that xarray asks for
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(directory)
