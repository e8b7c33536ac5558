"""Columns as small integers: what the explorer keeps in memory, one byte a row and column.

Two bytes where an axis has more than 254 cells.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError, nearest
from pyloric_db.query.database import Database
from pyloric_db.store.manifest import Axis
from pyloric_db.store.parameters import index_column
from pyloric_db.vocabulary import (
    LABELS,
    MOST_VALUES,
    RHYTHMS,
    Column,
    glance,
    label,
    value_names,
)

Edges = npt.NDArray[np.floating[Any]]
Codes = npt.NDArray[np.unsignedinteger[Any]]

BINS = 50
#: Rows that are looked at together.
_ROWS = 1 << 20

#: The choice that is no column: the strictest label of each circuit.
RHYTHM = "rhythm"


@dataclass(frozen=True)
class Binned:
    """A column in bins.

    `codes` (rows,) hold the bin, and `n` where a circuit has no value. `edges` (n + 1,) are the
    ends of the bins, in the precision of the column; parameters and whole numbers of few values
    have one bin for each, named by `names`, around 0, 1, 2 and so on. `whole` (n,) are the circuits
    per bin, `missing` those without a value. `levels` (n,) are the values with a bin each, as they
    stand in an expression; of the rhythm, the columns of its labels.
    """

    name: str
    title: str
    codes: Codes
    edges: Edges
    names: tuple[str, ...]
    whole: npt.NDArray[np.int64]
    missing: int
    levels: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.edges) - 1

    def bins_between(self, low: float, high: float) -> tuple[int, int]:
        """First bin and one past the last that an interval touches; equal if it touches none."""
        first = int(np.searchsorted(self.edges, low, side="right")) - 1
        last = int(np.searchsorted(self.edges, high, side="left"))
        return max(first, 0), min(max(last, 0), self.n)


class Bins:
    """The binned columns of a database, each read when first asked for, shared by all pages.

    All are of the circuits that were there when it was opened, whatever a build adds meanwhile.
    """

    def __init__(self, db: Database) -> None:
        self.rows = len(db)
        #: What is shown first; the rhythm says more than the labels.
        self.first = [n for n in glance(db.manifest.columns, db.manifest.cells) if n not in LABELS]
        self._table = db._table
        self._columns = db.manifest.by_name
        self._axes = {a.name: a for a in db.manifest.axes or ()}
        self._kept: dict[str, Binned] = {}
        self._lock = Lock()

    @property
    def choices(self) -> list[str]:
        """Names that can be asked for: the rhythm, numbers, flags and categories."""
        known = [RHYTHM] if "periodic" in self._columns else []
        indices = {index_column(a) for a in self._axes.values()} - set(self._axes)
        for name, column in self._columns.items():
            if column.kind != "string" and name not in ("circuit_id", *indices):
                known.append(name)
        return known

    def load(self, name: str) -> Binned:
        """A column by name.

        Raises:
            QueryError: there is no such choice.
            DatabaseError: the column cannot be read.
        """
        if name not in self.choices:
            raise QueryError(f"there is no column {name!r} to show{nearest(name, self.choices)}")
        with self._lock:
            if name not in self._kept:
                # not through `Database.circuits`, which would keep what it reads
                self._kept[name] = self._bin(name, self._table.read)
            return self._kept[name]

    def _bin(self, name: str, read: Callable[[str], npt.NDArray[Any]]) -> Binned:
        if name == RHYTHM:
            return _rhythm(set(self._columns), read)
        column, axis = self._columns[name], self._axes.get(name)
        if axis and axis.kind == "cell":
            levels = tuple(map(str, range(len(axis))))
            return _leveled(name, f"{label(name)} cell", read(name), axis.labels, levels)
        if column.kind == "category":
            values = read(name)
            n = len(column.categories)
            codes = np.full(len(values), n, code_type(n))
            for place, category in enumerate(column.categories):
                codes[values == category] = place
            levels = tuple(map(repr, column.categories))
            return _counted(name, column.long_name, codes, _around(n), column.categories, levels)
        return _numbers(column, read(name), axis)


def _rhythm(present: set[str], read: Callable[[str], npt.NDArray[Any]]) -> Binned:
    """Each circuit's strictest label; a failed run has none and is no silent circuit."""
    labels = tuple(n for n in RHYTHMS if n in present)
    status = read("status")
    codes = np.full(len(status), len(labels), np.uint8)
    for place in range(len(labels) - 1, -1, -1):
        codes[read(labels[place])] = place
    codes[status != "ok"] = len(labels) + 1
    names = (*(n.replace("_", "-") for n in labels), "other", "failed")
    title = "rhythm: the strictest label of each circuit"
    return _counted(RHYTHM, title, codes, _around(len(names)), names, labels)


def _numbers(column: Column, values: npt.NDArray[Any], axis: Axis | None = None) -> Binned:
    """Numbers or flags; a parameter on an axis of values has a bin for each of these."""
    if column.kind == "bool":
        return _leveled(column.name, column.title, values, ("no", "yes"), ("False", "True"))
    known = None if axis is None else np.asarray(axis.values, values.dtype)
    distinct = _distinct(values) if known is None else np.unique(known)
    names = () if column.measured else value_names(distinct)
    if names:
        places = np.where(np.isfinite(values), np.searchsorted(distinct, values), np.nan)
        levels = tuple(str(v).removesuffix(".0") for v in distinct)
        return _leveled(column.name, column.title, places, names, levels)
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, (0.001, 0.999)) if len(finite) else (0.0, 0.0)
    edges: Edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    if values.dtype == np.float32:
        edges = edges.astype(np.float32)  # as an expression compares them with the column
    return _binned(column.name, column.title, values, edges, ())


def _distinct(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """All different values of a column in order; where they are many, some of them."""
    found = np.empty(0, values.dtype)
    for start in range(0, len(values), _ROWS):
        part = values[start : start + _ROWS]
        found = np.union1d(found, part[np.isfinite(part)])
        if len(found) > MOST_VALUES:
            break
    return found


def code_type(n: int) -> np.dtype[np.unsignedinteger[Any]]:
    """What holds the codes of n bins, the one for no value and the one for rows left out."""
    return np.min_scalar_type(n + 1)


def _around(n: int) -> Edges:
    """Ends of the bins around 0, 1, ... n - 1."""
    edges: Edges = np.arange(n + 1, dtype=np.float64) - 0.5
    return edges


def _leveled(
    name: str,
    title: str,
    places: npt.NDArray[Any],
    names: tuple[str, ...],
    levels: tuple[str, ...],
) -> Binned:
    """Places among values that have a bin each; NaN where there is no value."""
    binned = _binned(name, title, places, _around(len(names)), names)
    return replace(binned, levels=levels)


def _binned(
    name: str,
    title: str,
    values: npt.NDArray[Any],
    edges: Edges,
    names: tuple[str, ...],
) -> Binned:
    """Values by edges; the first and the last bin take in what lies beyond."""
    n = len(edges) - 1
    codes = np.empty(len(values), code_type(n))
    for start in range(0, len(values), _ROWS):
        # compared with the edges as an expression would, not divided by a width
        part = values[start : start + _ROWS].astype(edges.dtype, copy=False)
        places = np.searchsorted(edges[1:-1], part, side="right")
        codes[start : start + _ROWS] = np.where(np.isnan(part), n, places)
    return _counted(name, title, codes, edges, names)


def _counted(
    name: str,
    title: str,
    codes: Codes,
    edges: Edges,
    names: tuple[str, ...],
    levels: tuple[str, ...] = (),
) -> Binned:
    n = len(edges) - 1
    counts = np.bincount(codes, minlength=n + 1)
    return Binned(name, title, codes, edges, names, counts[:n], int(counts[n]), levels)
