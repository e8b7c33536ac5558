"""Writing one shard: its states, its features, its receipt. Runs in a worker process."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.store.files import PARTIAL, STATES_DIR, fsync_tree, remove_partials, sum_file
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.receipt import Receipt
from pyloric_db.store.table import write_part
from pyloric_db.store.template import CIRCUIT_ID, shard_key, state_shape
from pyloric_db.vocabulary import STATE_VARIABLES

Array = npt.NDArray[Any]


def write_shard(
    path: str | Path,
    manifest: Manifest,
    shard: int,
    circuit_ids: npt.ArrayLike,
    columns: Mapping[str, Array],
    states: Mapping[str, Array],
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

    Raises:
        ValueError: the arrays do not fit the manifest; nothing is written then.
        OSError: the files could not be written.
    """
    start = time.perf_counter()
    path = Path(path)
    ids = np.asarray(circuit_ids)
    table = {**columns, CIRCUIT_ID: ids}
    _check(manifest, shard, ids, table, states)
    # the table first: it refuses values that its columns exclude before it writes
    part = write_part(path, manifest, shard, table)
    written = [part, *_write_states(path, manifest, shard, ids, states)]
    return Receipt(
        shard=shard,
        n_circuits=len(ids),
        first_id=int(ids[0]),
        last_id=int(ids[-1]),
        files=tuple(sum_file(path, file) for file in written),
        counts=_counts(table),
        seconds=time.perf_counter() - start,
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
    wrong = sorted(set(table) ^ {c.name for c in manifest.columns})
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


def _write_states(
    path: Path, manifest: Manifest, shard: int, ids: Array, states: Mapping[str, Array]
) -> list[Path]:
    import zarr

    group = path / STATES_DIR
    rows = slice(shard * manifest.shard_circuits, (shard + 1) * manifest.shard_circuits)
    files = []
    for name, values in {CIRCUIT_ID: ids, **states}.items():
        file = group / shard_key(manifest, name, shard)
        _remove_shard_file(file)
        # without empty chunks a shard of nothing but NaN would leave no file
        array = zarr.open_array(group / name, mode="r+")
        array = array.with_config({"write_empty_chunks": True})
        if array.size == 0:
            continue  # no sources, no file
        padded = np.full((manifest.shard_circuits, *array.shape[1:]), array.fill_value, array.dtype)
        padded[: len(ids)] = values
        array[rows] = padded
        files.append(file)
    fsync_tree(files, path)
    return files


def read_states(path: Path, manifest: Manifest, shard: int) -> dict[str, Array]:
    """The states of one shard, each (n, ...), as `write_shard` took them."""
    import zarr

    group: Any = zarr.open_group(path / STATES_DIR, mode="r", zarr_format=3)
    start = shard * manifest.shard_circuits
    rows = slice(start, start + manifest.shard_size(shard))
    return {name: np.asarray(group[name][rows]) for name in STATE_VARIABLES}


def _remove_shard_file(file: Path) -> None:
    """Deletes a shard's file and what killed writers left beside it.

    The file has to go before it is written again: zarr reads the index of an existing shard,
    and fails for ever on a truncated one.
    """
    file.unlink(missing_ok=True)
    if file.parent.is_dir():
        remove_partials(file.parent, f"{file.name}.*{PARTIAL}")


def _counts(table: Mapping[str, Array]) -> dict[str, int]:
    counts = {}
    if "status" in table:
        statuses, numbers = np.unique(table["status"].astype(str), return_counts=True)
        counts = {str(s): int(n) for s, n in zip(statuses, numbers, strict=True)}
    for name in ("pyloric_like", "pyloric"):
        if name in table:
            counts[name] = int(np.count_nonzero(table[name]))
    return counts
