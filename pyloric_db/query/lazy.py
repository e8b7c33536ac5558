"""Columns inside xarray that are read at their first use."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

Array = npt.NDArray[Any]


#: The values of some rows of the first axis, (n,), or None where it is better to load all.
TakeRows = Callable[[Array], Array | None]

#: At most one in so many rows are "some".
_SOME = 4


class LoadedArray(BackendArray):
    """An array of known shape and dtype whose values `load` brings; those of some rows, `take`."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        load: Callable[[], Array],
        take: TakeRows | None = None,
    ):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._load = load
        self._take = take

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    def _outer(self, key: tuple[int | slice | Array, ...]) -> Any:
        """Each part of `key` indexes one axis, independently of the others."""
        if self._take is not None:
            n = self.shape[0]
            rows = range(n)[key[0]] if isinstance(key[0], slice) else np.atleast_1d(key[0])
            some = self._take(np.asarray(rows) % n) if len(rows) * _SOME <= n else None
            if some is not None:
                return some if _keeps(key[0]) else some[0]
        values = self._load()
        # slices and numbers first: they copy nothing
        values = values[tuple(_as_slice(k) for k in key)]
        for axis, k in enumerate(key):
            if isinstance(k, np.ndarray):
                values = np.take(values, k, axis=axis)
        return values[tuple(slice(None) if _keeps(k) else 0 for k in key)]


def _keeps(key: int | slice | Array) -> bool:
    return isinstance(key, slice | np.ndarray)


def _as_slice(key: int | slice | Array) -> slice:
    if isinstance(key, slice):
        return key
    if isinstance(key, np.ndarray):
        return slice(None)
    return slice(key, key + 1 or None)


def lazy_variable(
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    load: Callable[[], Array],
    attrs: dict[str, str],
    take: TakeRows | None = None,
) -> xr.Variable:
    """An xarray variable that calls `load` when its values are needed, `take` for some rows."""
    array = LoadedArray(shape, dtype, load, take)
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), attrs)
