"""The last spikes of circuits, of a database that keeps them."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError
from pyloric_db.store.events import has_events, read_events
from pyloric_db.store.files import Files
from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import CELL, CIRCUIT, SPIKE, attributes

if TYPE_CHECKING:
    import xarray as xr


def last_spikes(
    files: Files, manifest: Manifest, shards: npt.NDArray[Any], places: npt.NDArray[Any]
) -> "xr.DataArray":
    """Spike times (circuit, cell, spike) ms, NaN behind the last, of circuits by their shards
    and their places in these.

    Raises:
        QueryError: the database keeps no spikes.
        DatabaseError: a file is damaged or missing.
    """
    import pyarrow as pa
    import xarray as xr

    if not has_events(manifest):
        raise QueryError(
            f'{files} keeps no spikes: its recipe does not say [store] events = "last_periods"'
        )
    tables = [
        read_events(files, manifest, shard).take(places[shards == shard])
        for shard in np.unique(shards)
    ]
    order = np.argsort(np.argsort(shards, kind="stable"), kind="stable")
    lists = pa.concat_tables(tables).take(order).combine_chunks().columns if tables else []
    counts = np.zeros((len(shards), len(manifest.cells)), np.int64)
    for i, column in enumerate(lists):
        counts[:, i] = column.combine_chunks().value_lengths().to_numpy()
    values = np.full((*counts.shape, int(counts.max(initial=0))), np.nan, np.float32)
    for i, column in enumerate(lists):
        inside = np.arange(values.shape[2]) < counts[:, i, None]
        values[:, i][inside] = column.combine_chunks().flatten().to_numpy()
    return xr.DataArray(
        values,
        dims=(CIRCUIT, CELL, SPIKE),
        coords={CELL: list(manifest.cells)},
        name="spike_ms",
        attrs=attributes("ms", "spike time from the start of the run"),
    )
