"""The Zarr v3 group of states: arrays, chunks, attributes and coordinates, without data."""

import json
import warnings
from typing import Any

import numpy as np

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import STATES_DIR, Files
from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import CIRCUIT, STATE_VARIABLES, attributes, state_labels, state_shapes

CIRCUIT_ID = "circuit_id"


def coordinates(manifest: Manifest) -> dict[str, tuple[str, ...]]:
    """Labels along every dimension of a state but `circuit`."""
    return state_labels(manifest.cells, manifest.sources, manifest.channels)


def state_shape(manifest: Manifest, variable: str) -> tuple[int, ...]:
    """Shape of a state variable of one circuit."""
    return state_shapes(manifest.cells, manifest.sources, manifest.channels)[variable]


def shard_key(manifest: Manifest, variable: str, shard: int) -> str:
    """Path, below the group, of the one file that holds a shard of an array."""
    dims = 0 if variable == CIRCUIT_ID else len(STATE_VARIABLES[variable][0])
    return "/".join([variable, "c", str(shard)] + ["0"] * dims)


def template_files(manifest: Manifest) -> dict[str, bytes]:
    """The metadata and coordinates of the states of a database: its files by name.

    Arrays are padded to whole shards: rows behind `n_circuits` hold NaN and circuit_id -1.
    """
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import MemoryStore

    rows = manifest.n_shards * manifest.shard_circuits
    contents: dict[str, Any] = {}
    store = MemoryStore(contents)
    group = zarr.open_group(store, mode="a", zarr_format=3)
    group.update_attributes(
        {"recipe_hash": manifest.recipe_hash, "n_circuits": manifest.n_circuits}
    )
    # the codec's own checksum: a flipped bit must not come back as a state
    compressor = ZstdCodec(level=1, checksum=True)

    def create(name: str, shape: tuple[int, ...], dims: tuple[str, ...], dtype: str,
               fill: float, described: dict[str, Any]) -> None:  # fmt: skip
        group.create_array(
            name,
            shape=(rows, *shape),
            # at least 1: a circuit without synapses has no sources
            shards=(manifest.shard_circuits, *(max(1, k) for k in shape)),
            chunks=(manifest.chunk_circuits, *(max(1, k) for k in shape)),
            dtype=dtype,
            fill_value=fill,
            dimension_names=(CIRCUIT, *dims),
            attributes=described,
            compressors=compressor,
        )

    create(CIRCUIT_ID, (), (), "int64", -1, attributes("1", "circuit id"))
    for name, (dims, unit, long_name) in STATE_VARIABLES.items():
        described = {**attributes(unit, long_name), "coordinates": CIRCUIT_ID}
        create(name, state_shape(manifest, name), dims, "float32", float("nan"), described)
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
        zarr.consolidate_metadata(store)
    return {f"{STATES_DIR}/{key}": value.to_bytes() for key, value in contents.items()}


#: What may stand between a shard's states and their bytes: nothing that runs what it reads.
_CODECS = {"bytes", "zstd", "crc32c"}


def read_metadata(files: Files, manifest: Manifest) -> dict[str, bytes]:
    """Zarr metadata of each variable of the states, and of `circuit_id`, as stored.

    Raises:
        DatabaseError: it cannot be read, or is not that of states of this manifest's shape.
    """
    name = f"{STATES_DIR}/zarr.json"
    try:
        group = json.loads(files.read(name))
        arrays = group["consolidated_metadata"]["metadata"]
        if group["zarr_format"] != 3 or group["node_type"] != "group":
            raise ValueError("it is no group of Zarr 3")
        names = {CIRCUIT_ID, *STATE_VARIABLES, *coordinates(manifest)}
        if set(arrays) != names:
            raise ValueError(f"it has the arrays {', '.join(map(str, arrays))}")
        for variable in (CIRCUIT_ID, *STATE_VARIABLES):
            _check_array(arrays[variable], variable, manifest)
    except OSError as err:
        raise DatabaseError(f"{files.named(name)} cannot be read ({err.strerror})") from err
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise DatabaseError(
            f"{files.named(name)} is damaged: {_reason(err)}; build the database again to mend it"
        ) from err
    return {v: json.dumps(arrays[v]).encode() for v in (CIRCUIT_ID, *STATE_VARIABLES)}


def _reason(err: Exception) -> str:
    return str(err) if type(err) is ValueError else "it is not the metadata of states"


def _check_array(array: Any, variable: str, manifest: Manifest) -> None:
    """ValueError unless an array has the shape, chunks and codecs that `template_files` gives."""
    shape = () if variable == CIRCUIT_ID else state_shape(manifest, variable)
    widths = [max(1, k) for k in shape]
    dims = () if variable == CIRCUIT_ID else STATE_VARIABLES[variable][0]
    expected = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [manifest.n_shards * manifest.shard_circuits, *shape],
        "data_type": "int64" if variable == CIRCUIT_ID else "float32",
        "dimension_names": [CIRCUIT, *dims],
        "storage_transformers": [],
    }
    for key, value in expected.items():
        if array.get(key) != value:
            raise ValueError(f"{variable} has the {key} {array.get(key)!r:.60} instead of {value}")
    if array["chunk_key_encoding"] != {"name": "default", "configuration": {"separator": "/"}}:
        raise ValueError(f"{variable} has unknown chunk keys")
    if len(array["codecs"]) != 1:
        raise ValueError(f"{variable} has unknown codecs")
    sharding = array["codecs"][0]
    grids = (
        (array["chunk_grid"]["configuration"]["chunk_shape"], manifest.shard_circuits),
        (sharding["configuration"]["chunk_shape"], manifest.chunk_circuits),
    )
    if array["chunk_grid"]["name"] != "regular" or any(g != [n, *widths] for g, n in grids):
        raise ValueError(f"{variable} has chunks that are not those of the manifest")
    inner = sharding["configuration"]
    names = {c["name"] for c in (*inner["codecs"], *inner["index_codecs"])}
    if sharding["name"] != "sharding_indexed" or not names <= _CODECS:
        raise ValueError(f"{variable} has unknown codecs")
