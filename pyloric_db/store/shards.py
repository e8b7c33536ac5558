"""Writing one shard: its states, its features, its receipt. Runs in a worker process."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyloric_db.store.events import encode_events, events_name, has_events
from pyloric_db.store.files import STATES_DIR, Files, FileSum, Location, files_at
from pyloric_db.store.ledger import Receipt
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.table import encode_part, part_name
from pyloric_db.store.template import CIRCUIT_ID, read_metadata, shard_key, state_shape
from pyloric_db.vocabulary import LABELS, STATE_VARIABLES

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[Any]


def load_libraries() -> None:
    """Loads what writes shards, which takes half a second, before there is one to write."""
    for library in ("pyarrow.dataset", "zarr"):
        import_module(library)


def write_shard(
    path: Location,
    manifest: Manifest,
    shard: int,
    circuit_ids: npt.ArrayLike,
    columns: Mapping[str, Array],
    states: Mapping[str, Array],
    events: "pa.Table | None" = None,
) -> Receipt:
    """Writes all files of one shard durably; a repeated call writes the same bytes.

    Args:
        path: a database made by `create`.
        manifest: its manifest, as `create` returned it.
        shard: its number; the first has circuits 0 to `shard_circuits` of the selection.
        circuit_ids: (n,) ascending; n is `manifest.shard_size(shard)`.
        columns: the columns of the table, each (n,). Null is NaN in numbers (int8 columns are
            then float) and "" in text. `circuit_id` may be left out.
        states: the state variables, each (n, ...) in the dims of `vocabulary.STATE_VARIABLES`.
        events: a row per circuit, as `events.events_table` makes it, if the recipe asks for them.

    Raises:
        ValueError: the arrays do not fit the manifest; nothing is written then.
        OSError: the files could not be written.
    """
    files = files_at(path)
    ids = np.asarray(circuit_ids)
    table = {**columns, CIRCUIT_ID: ids}
    _check(manifest, shard, ids, table, states)
    contents = {part_name(shard): encode_part(manifest, table)}
    contents |= _encode_states(files, manifest, shard, {CIRCUIT_ID: ids, **states})
    if (events is not None) != has_events(manifest) or (events and len(events) != len(ids)):
        raise ValueError(f"shard {shard} must have events for each circuit if its recipe says so")
    if events is not None:
        contents[events_name(shard)] = encode_events(events)
    files.write(contents)
    return Receipt(
        shard=shard,
        n_circuits=len(ids),
        first_id=int(ids[0]),
        last_id=int(ids[-1]),
        files=tuple(FileSum.of(name, data) for name, data in contents.items()),
        counts=_counts(table),
    )


def _check(
    manifest: Manifest, shard: int, ids: Array, table: Mapping[str, Array],
    states: Mapping[str, Array],
) -> None:  # fmt: skip
    if not 0 <= shard < manifest.n_shards:
        raise ValueError(f"shard {shard} is none of the {manifest.n_shards} shards")
    n = manifest.shard_size(shard)
    if ids.shape != (n,) or ids.dtype.kind not in "iu":
        raise ValueError(f"shard {shard} must have {n} whole circuit ids, not {ids.shape}")
    if ids[0] < 0 or (np.diff(ids.astype(np.int64)) <= 0).any():
        raise ValueError(f"circuit ids of shard {shard} must ascend from 0 or more")
    wrong = sorted(set(table) ^ set(manifest.by_name))
    if wrong:
        kind = "unknown" if wrong[0] in table else "missing"
        raise ValueError(f"column {wrong[0]} of shard {shard} is {kind}")
    for name, values in table.items():
        if np.shape(values) != (n,):
            raise ValueError(f"column {name} must have shape ({n},), not {np.shape(values)}")
    if set(states) != set(STATE_VARIABLES):
        raise ValueError(f"states must be {', '.join(STATE_VARIABLES)}, not {', '.join(states)}")
    for name, values in states.items():
        expected = (n, *state_shape(manifest, name))
        if np.shape(values) != expected:
            raise ValueError(f"state {name} must have shape {expected}, not {np.shape(values)}")


def _encode_states(
    files: Files, manifest: Manifest, shard: int, values: Mapping[str, Array]
) -> dict[str, bytes]:
    """The bytes of a shard's Zarr files, by name, as the stored metadata asks for."""
    rows = slice(shard * manifest.shard_circuits, (shard + 1) * manifest.shard_circuits)
    contents = {}
    for name, metadata in read_metadata(files, manifest).items():
        array, stored = _array_in_memory(metadata, {})
        if array.size == 0:
            continue  # no sources, no file
        padded = np.full((manifest.shard_circuits, *array.shape[1:]), array.fill_value, array.dtype)
        padded[: len(values[name])] = values[name]
        # without empty chunks a shard of nothing but NaN would leave no file
        array.with_config({"write_empty_chunks": True})[rows] = padded
        key = shard_key(manifest, name, shard)
        contents[f"{STATES_DIR}/{key}"] = stored[key.removeprefix(f"{name}/")].to_bytes()
    return contents


def read_states(path: Location, manifest: Manifest, shard: int) -> dict[str, Array]:
    """The states of one shard, each (n, ...), as `write_shard` took them."""
    files = files_at(path)
    start = shard * manifest.shard_circuits
    rows = slice(start, start + manifest.shard_size(shard))
    states = {}
    for name, metadata in read_metadata(files, manifest).items():
        if name == CIRCUIT_ID:
            continue
        key = shard_key(manifest, name, shard)
        data = (
            {}
            if 0 in state_shape(manifest, name)
            else {key.removeprefix(f"{name}/"): files.read(f"{STATES_DIR}/{key}")}
        )
        states[name] = np.asarray(_array_in_memory(metadata, data)[0][rows])
    return states


def _array_in_memory(metadata: bytes, data: Mapping[str, bytes]) -> tuple[Any, dict[str, Any]]:
    """A Zarr array over some of its files, and where it puts those that are written to it."""
    import zarr
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    contents = {"zarr.json": metadata, **data}
    store: dict[str, Any] = {key: Buffer.from_bytes(value) for key, value in contents.items()}
    return zarr.open_array(MemoryStore(store), mode="r+", zarr_format=3), store


def _counts(table: Mapping[str, Array]) -> dict[str, int]:
    counts = {}
    if "status" in table:
        statuses, numbers = np.unique(table["status"].astype(str), return_counts=True)
        counts = {str(s): int(n) for s, n in zip(statuses, numbers, strict=True)}
    for name in LABELS:
        if name in table:
            counts[name] = int(np.count_nonzero(table[name]))
    return counts
