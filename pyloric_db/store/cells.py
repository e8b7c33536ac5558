"""`cells.parquet`: the thermalised cells, computed once per distinct gbar vector."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import CELLS_FILE, FileSum, Location, check_intact, difference, files_at
from pyloric_db.store.ledger import Ledger, files_of
from pyloric_db.store.sealed import Row
from pyloric_db.vocabulary import PUBLISHED_CHANNELS, ChannelNames, attributes

Array = npt.NDArray[Any]


def cell_columns(channels: ChannelNames = PUBLISHED_CHANNELS) -> dict[str, tuple[str, str]]:
    """Columns of the table: name -> (unit, long name). `activity` is text, `steady` bool."""
    return {
        **{f"gbar_{c}": ("mS/cm2", f"maximal conductance of {c}") for c in channels.all},
        "activity": ("1", "activity of the isolated cell"),
        "period_ms": ("ms", "burst start (tonic: spike) to next, NaN if silent"),
        "steady": ("1", "the rhythm recurs"),
        "V": ("mV", "membrane potential"),
        "Ca": ("uM", "intracellular calcium concentration"),
        **{f"m_{g}": ("1", f"activation of {g}") for g in channels.m_gates},
        **{f"h_{g}": ("1", f"inactivation of {g}") for g in channels.h_gates},
    }


def write_cells(
    path: Location, columns: Mapping[str, Array], channels: ChannelNames = PUBLISHED_CHANNELS
) -> Row:
    """Stores the thermalised cells, each column (n,).

    NaN in `period_ms` is stored as null. The same columns give the same bytes.

    Returns:
        their row, without which they do not exist, for whoever holds the build lock to append to
        the ledger.

    Raises:
        ValueError: the columns are not those of `cell_columns`, or differ in length.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = cell_columns(channels)
    if set(columns) != set(wanted):
        wrong = sorted(set(columns) ^ set(wanted))
        raise ValueError(f"column {wrong[0]} of the cells is missing or unknown")
    if len({np.shape(v) for v in columns.values()}) != 1:
        raise ValueError("columns of the cells differ in length")
    fields, arrays = [], []
    for name, (unit, long_name) in wanted.items():
        values = np.asarray(columns[name])
        if name == "activity":
            array = pa.array(values.astype(object), pa.string())
        elif name == "steady":
            array = pa.array(values.astype(bool))
        else:
            array = pa.array(values.astype(np.float64), from_pandas=name == "period_ms")
        arrays.append(array)
        fields.append(pa.field(name, array.type, metadata=attributes(unit, long_name)))
    sink = io.BytesIO()
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    files_at(path).write({CELLS_FILE: sink.getvalue()})
    return {
        "kind": "cells",
        "n_cells": table.num_rows,
        "files": [FileSum.of(CELLS_FILE, sink.getvalue()).to_text()],
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cells_intact(ledger: Ledger) -> bool:
    """Whether there are thermalised cells that match their checksum."""
    row = ledger.read().cells
    return row is not None and not any(difference(ledger.files, f) for f in files_of(row))


def read_cells(path: Location, channels: ChannelNames = PUBLISHED_CHANNELS) -> dict[str, Array]:
    """The thermalised cells, each column (n,); `period_ms` is NaN for silent cells.

    Raises:
        DatabaseError: there are none (yet), or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = files_at(path)
    row = Ledger(files).read().cells
    if row is None:
        raise DatabaseError(
            f"{files} has no thermalised cells: builds of a grid of named cells that start "
            "thermal, with one thermal_phase for all, keep them once they have begun; others do not"
        )
    check_intact(files, files_of(row))
    try:
        table = pq.read_table(pa.BufferReader(files.read(CELLS_FILE)))
        return {name: table[name].to_numpy() for name in cell_columns(channels)}
    except (OSError, KeyError, pa.ArrowException) as err:
        raise DatabaseError(f"{files.named(CELLS_FILE)} is not a table of cells") from err
