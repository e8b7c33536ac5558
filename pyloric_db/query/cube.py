"""The table as a labelled hypercube: one dimension for each axis of the grid."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from pyloric_db.errors import QueryError
from pyloric_db.query.columns import Table, check_names, dtype_of
from pyloric_db.query.lazy import lazy_variable
from pyloric_db.query.rows import Rows
from pyloric_db.store.manifest import Axis, Manifest
from pyloric_db.store.parameters import index_column
from pyloric_db.vocabulary import Column, attributes, label

#: Places of a cube that may be filled from samples, or from a part of a grid.
MOST_SCATTERED = 50_000_000

Array = npt.NDArray[Any]


def make_cube(table: Table, rows: Rows, names: Sequence[str] | None) -> xr.Dataset:
    """See `Database.cube`; `rows` are those of the table."""
    manifest = table.manifest
    if manifest.axes is None:
        raise QueryError(f"the circuits of {manifest.name} are no grid: use db.circuits")
    axes = manifest.axes
    dims, shape = tuple(a.name for a in axes), tuple(map(len, axes))
    size = math.prod(shape)
    whole = rows.are(size)
    if not whole and size > MOST_SCATTERED:
        raise QueryError(
            f"a cube of {size:,} places for {rows.count:,} circuits is too large (at most "
            f"{MOST_SCATTERED:,} unless the grid is complete): use db.circuits"
        )

    def variable(name: str) -> xr.Variable:
        column = manifest.by_name[name]
        dtype = dtype_of(column)
        load: Callable[[], Array]
        if whole:
            load = partial(_reshaped, table, name, shape)
        else:
            empty, dtype = _empty(column)
            load = _Scattered(table, name, shape, rows.ids, np.asarray(empty, dtype))
        return lazy_variable(dims, shape, dtype, load, column.attrs)

    if names is None:
        on_axes = {n for axis in axes for n in (axis.name, index_column(axis))}
        names = [c.name for c in manifest.columns if c.name not in on_axes]
    check_names(manifest, names)
    coords: dict[str, Any] = {a.name: _coordinate(a, manifest) for a in axes}
    coords["circuit_id"] = variable("circuit_id")
    data = {name: variable(name) for name in names if name not in coords}
    return xr.Dataset(data, coords, {"name": manifest.name})


def _reshaped(table: Table, name: str, shape: tuple[int, ...]) -> Array:
    """A column of a complete grid: no copy."""
    return table.load(name).reshape(shape)


class _Scattered:
    """A column of some circuits of a grid, put into their places once."""

    def __init__(
        self, table: Table, name: str, shape: tuple[int, ...], ids: Array, empty: Array
    ) -> None:
        self.table, self.name, self.shape, self.ids, self.empty = table, name, shape, ids, empty
        self.values: Array | None = None

    def __call__(self) -> Array:
        if self.values is None:
            values = np.full(self.shape, self.empty, self.empty.dtype)
            values.reshape(-1)[self.ids] = self.table.load(self.name)
            values.flags.writeable = False
            self.values = values
        return self.values


def _empty(column: Column) -> tuple[object, np.dtype[Any]]:
    """What stands in places without a circuit, and the dtype that can hold it."""
    dtype = dtype_of(column)
    if dtype.kind == "O":
        return "", dtype
    if dtype.kind == "b":
        return False, dtype
    if dtype == np.int64:
        return -1, dtype
    return np.nan, dtype if dtype.kind == "f" else np.dtype(np.float32)


def _coordinate(axis: Axis, manifest: Manifest) -> xr.Variable:
    if axis.kind == "cell":
        attrs = attributes("1", f"{label(axis.name)} cell")
        return xr.Variable((axis.name,), np.array(axis.labels, dtype=object), attrs)
    values = np.asarray(axis.values, dtype=np.float64)
    return xr.Variable((axis.name,), values, manifest.by_name[axis.name].attrs)
