"""`events/`: the last spikes of each circuit, where the recipe asks for them.

One Parquet file per shard: a row per circuit in the order of the features, and for each cell a
list of spike times in ms from the start of the run. In memory it is the Arrow table.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import EVENTS_DIR, Files
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.table import ROW_GROUP

if TYPE_CHECKING:
    import pyarrow as pa


def has_events(manifest: Manifest) -> bool:
    """Whether the database's recipe asks for events."""
    store = manifest.recipe.get("store")
    return isinstance(store, dict) and store.get("events") == "last_periods"


def events_name(shard: int) -> str:
    """Path, below the database, of the events of a shard."""
    return f"{EVENTS_DIR}/part-{shard:06d}.parquet"


def events_table(
    cells: Sequence[str], counts: npt.NDArray[Any], times_ms: npt.NDArray[Any]
) -> "pa.Table":
    """Spikes as a table.

    Args:
        cells: their names.
        counts: (circuit, cell), spikes of each.
        times_ms: (spike,), ascending within a cell, the cells of a circuit one after the other.
    """
    import pyarrow as pa

    schema = _schema(cells)
    cell_of = np.repeat(np.tile(np.arange(len(cells)), len(counts)), counts.ravel())
    columns = []
    for i in range(len(cells)):
        offsets = np.concatenate([[0], np.cumsum(counts[:, i])])
        times = pa.array(times_ms[cell_of == i].astype(np.float32))
        kind = schema.field(i).type
        columns.append(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), times, type=kind))
    return pa.Table.from_arrays(columns, schema=schema)


def encode_events(events: "pa.Table") -> bytes:
    """The bytes of a shard's file: the same for equal tables, however put together."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(
        events.combine_chunks(),
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        use_dictionary=False,
        write_page_checksum=True,
    )
    return sink.getvalue()


def read_events(files: Files, manifest: Manifest, shard: int) -> "pa.Table":
    """The events of a shard.

    Raises:
        DatabaseError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = events_name(shard)
    try:
        source = pa.BufferReader(files.read(name))
        events = pq.read_table(source, page_checksum_verification=True).cast(
            _schema(manifest.cells)
        )
    except (OSError, ValueError, pa.ArrowException) as err:
        raise DatabaseError(_unreadable(files, name)) from err
    if len(events) != manifest.shard_size(shard) or any(c.null_count for c in events.columns):
        raise DatabaseError(_unreadable(files, name))
    return events


def _unreadable(files: Files, name: str) -> str:
    return f"{files.named(name)} cannot be read: verify the database, and build it again to mend it"


def _schema(cells: Sequence[str]) -> Any:
    import pyarrow as pa

    times = pa.list_(pa.field("element", pa.float32(), nullable=False))
    return pa.schema(
        [
            pa.field(f"spikes_{cell}_ms", times, nullable=False, metadata={"units": "ms"})
            for cell in cells
        ]
    )
