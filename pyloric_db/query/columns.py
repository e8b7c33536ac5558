"""Columns of the feature table as NumPy arrays: read when asked for, and then kept."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import DatabaseError, QueryError, first_line, nearest
from pyloric_db.store.files import Files
from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import Column

#: Parts that are read at a time.
READERS = 4

Array = npt.NDArray[Any]


class Table:
    """The columns of the finished shards of a database, one array of all rows for each name."""

    def __init__(self, files: Files, manifest: Manifest, parts: Sequence[str], n_rows: int) -> None:
        self.files = files
        self.manifest = manifest
        self.parts = tuple(parts)
        self.n_rows = n_rows
        self._loaded: dict[str, Array] = {}

    def load(self, name: str) -> Array:
        """One column, (rows,), read-only, as `numpy_column` converts it.

        Raises:
            DatabaseError: a part file is damaged.
        """
        if name not in self._loaded:
            values = self.read(name)
            values.flags.writeable = False  # everybody shares it
            self._loaded[name] = values
        return self._loaded[name]

    def is_loaded(self, name: str) -> bool:
        """Whether a column has been read whole."""
        return name in self._loaded

    def take(self, names: Sequence[str], part: Array, place: Array) -> dict[str, Array]:
        """Values of some rows: row `place` of part number `part`, both (n,).

        Reads just these parts, and keeps nothing.

        Raises:
            DatabaseError: a part file is damaged.
        """
        found = {n: np.empty(len(part), dtype_of(self.manifest.by_name[n])) for n in names}
        for k in np.unique(part):
            here = np.flatnonzero(part == k)
            table = self._table(self.parts[k], names)
            for name, values in found.items():
                column = self.manifest.by_name[name]
                values[here] = numpy_column(column, table[name])[place[here]]
        return found

    def read(self, name: str) -> Array:
        """As `load`, but nothing is kept.

        Several parts are read at a time, and each goes where it belongs.
        """
        column = self.manifest.by_name[name]
        values = np.empty(self.n_rows, dtype_of(column))
        end = 0
        with ThreadPoolExecutor(READERS) as pool:
            for part in pool.map(lambda p: self._table(p, [name]), self.parts):
                begin, end = end, end + part.num_rows
                if end <= self.n_rows:
                    values[begin:end] = numpy_column(column, part[name])
        if end != self.n_rows:
            raise DatabaseError(
                f"{self.files} holds {end:,} rows of features, but its "
                f"ledger says {self.n_rows:,}: verify it, and build it again to mend it"
            )
        return values

    def _table(self, part: str, names: Sequence[str]) -> Any:
        """Some columns of one part, compared with the checksums of their pages."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # a few row groups of one column: looking ahead costs more than it brings
            with pq.ParquetFile(
                self.files.arrow_path(part),
                filesystem=self.files.arrow_filesystem(),
                page_checksum_verification=True,
                pre_buffer=False,
            ) as file:
                return file.read(columns=list(names), use_threads=False).select(list(names))
        except (OSError, KeyError, pa.ArrowException) as err:
            raise DatabaseError(
                f"column {names[0]} of {self.files} cannot be read "
                f"({first_line(err)}): verify the database, and build it again to mend it"
            ) from err


def dtype_of(column: Column) -> np.dtype[Any]:
    """What a column becomes in NumPy.

    Nullable integers are float32 (int64: float64) with NaN, text is str objects with "".
    """
    if column.kind in ("string", "category"):
        return np.dtype(object)
    if column.nullable and column.kind not in ("float32", "float64"):
        return np.dtype(np.float64 if column.kind == "int64" else np.float32)
    return np.dtype(column.kind)


def numpy_column(column: Column, values: Any) -> Array:
    """An Arrow column as NumPy, in the dtype that `dtype_of` says."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dtype = dtype_of(column)
    if not len(values):
        return np.empty(0, dtype)
    if column.kind == "string":  # names, all different
        return np.array(pc.fill_null(values, "").to_numpy(), dtype=dtype)
    if column.kind == "category":
        return _text(values)
    if dtype.kind == "f":
        values = pc.fill_null(pc.cast(values, pa.from_numpy_dtype(dtype)), np.nan)
    return np.array(values.to_numpy(), dtype=dtype)


def _text(values: Any) -> Array:
    """Text through its distinct values: few objects, however many rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pieces = [np.empty(0, dtype=object)]
    for chunk in values.chunks:
        if not pa.types.is_dictionary(chunk.type):
            chunk = pc.cast(chunk, pa.string()).dictionary_encode()
        distinct = np.array([*chunk.dictionary.to_pylist(), ""], dtype=object)
        codes = pc.fill_null(pc.cast(chunk.indices, pa.int64()), -1)
        pieces.append(distinct[codes.to_numpy(zero_copy_only=False)])
    return np.concatenate(pieces)


def names_of(names: str | Sequence[str]) -> list[str]:
    """One name or several as a list.

    Raises:
        QueryError: it is neither.
    """
    if isinstance(names, str):
        return [names]
    try:
        return list(names)
    except TypeError as err:
        raise QueryError(f"columns are given by their names, not as {names!r}") from err


def check_names(manifest: Manifest, names: Sequence[str]) -> None:
    """Whether these are columns of the table.

    Raises:
        QueryError: one is not; it is named, and the nearest that exists.
    """
    known = list(manifest.by_name)
    for name in names:
        if name not in known:
            for axis in manifest.axes or ():
                twin = str(name).lower() in map(str.lower, known)
                if axis.kind == "cell" and not twin and str(name).startswith(f"gbar_{axis.name}_"):
                    raise QueryError(
                        f"unknown column {name!r}: this grid has its cells by name, as in "
                        f"{axis.name} == {axis.labels[-1]!r}, and db.parameters(ids) has their gbar"
                    )
            raise QueryError(
                f"unknown column {name!r}{nearest(str(name), known)}; the table has {len(known)} "
                "columns, which `pyloric-db show DB` lists with their meaning"
            )
