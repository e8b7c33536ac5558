"""Counts behind figures, taken by the database engine: no column of all rows is loaded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError
from pyloric_db.query.columns import check_names
from pyloric_db.query.database import Database
from pyloric_db.query.expression import quote_name, to_sql
from pyloric_db.store.manifest import Axis
from pyloric_db.store.parameters import index_column
from pyloric_db.vocabulary import CONDUCTANCES, MOST_VALUES, Column, value_names

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Circuits per bin, of all and of a subset.

    `beyond` are those of all whose value lies beyond the bins, `missing` those without one.

    `edges` are the bins' ends; for single values, which have no width, they are None.
    """

    whole: Counts
    subset: Counts
    beyond: int
    missing: int
    edges: npt.NDArray[np.float64] | None = None

    @property
    def log(self) -> bool:
        """Whether the bins are even over the logarithm."""
        return self.edges is not None and evenly_logarithmic(self.edges)


def evenly_logarithmic(edges: npt.NDArray[np.float64]) -> bool:
    """Whether bins are even over the logarithm, and not over the value."""
    return not np.isclose(edges[1] - edges[0], edges[-1] - edges[-2], atol=0)


def condition(db: Database, where: str | None) -> str:
    """The SQL of an expression; all circuits without one.

    Raises:
        QueryError: the expression is not valid.
    """
    return "TRUE" if where is None else to_sql(where, db.manifest)


def count(db: Database, where: str | None) -> int:
    """Circuits that satisfy an expression.

    Raises:
        QueryError: it is not valid, or there is none: a figure of nothing says nothing.
    """
    found = len(db) if where is None else db.count(where)
    if not found:
        raise QueryError(f"no circuit of the {len(db):,} satisfies {where!r}")
    return found


def number_columns(db: Database, names: Sequence[str], *, categories: bool = False) -> list[Column]:
    """Columns by name.

    Raises:
        QueryError: one is unknown, or holds text, which has no number; categories are refused
            unless they are asked for.
    """
    check_names(db.manifest, names)
    columns = [db.manifest.by_name[n] for n in names]
    for column in columns:
        if column.kind == "string" or (column.kind == "category" and not categories):
            raise QueryError(f"column {column.name} holds text: a figure needs numbers or flags")
    return columns


def number(column: Column) -> str:
    """SQL of a column's value; a flag is 0 or 1, a category its place among them."""
    name = quote_name(column.name)
    if column.kind == "category":
        name = f"list_position({list(column.categories)}, {name}) - 1"
    return f"CAST({name} AS DOUBLE)"


def extent(db: Database, column: Column) -> tuple[float, float]:
    """Lowest and highest value of a column; (0, 1) where it has none."""
    value = number(column)
    low, high = rows(db, f"SELECT min({value}), max({value}) FROM circuits")[0]
    return (0.0, 1.0) if low is None else (float(low), float(high))


def spread(db: Database, column: Column, bins: int) -> npt.NDArray[np.float64]:
    """Ends of bins from the lowest to the highest value, over the logarithm where it is shown."""
    low, high = extent(db, column)
    high = high if high > low else low + 1
    if low > 0 and _is_logarithmic(db, column.name, high / low):
        return np.geomspace(low, high, bins + 1)
    return np.linspace(low, high, bins + 1)


def _is_logarithmic(db: Database, name: str, ratio: float) -> bool:
    """Whether values are shown by their logarithms: parameters that a prior draws so."""
    if not name.startswith(CONDUCTANCES):
        return False
    found: Any = db.manifest.recipe.get("parameters")
    if not isinstance(found, dict) or found.get("prior") is None:
        return ratio > 1000  # a table does not say
    for key in ("prior", "parameters", name):
        found = found.get(key) if isinstance(found, dict) else None
    return isinstance(found, dict) and "log_uniform" in found


def percentiles(db: Database, column: Column) -> tuple[float, float] | None:
    """The 1st and the 99th percentile of a column; None where it has no value."""
    text = f"SELECT quantile_disc({number(column)}, [0.01, 0.99]) FROM circuits"
    found = rows(db, text)[0][0]
    return None if found is None else (float(found[0]), float(found[1]))


def histogram(
    db: Database,
    column: Column,
    edges: npt.NDArray[np.float64],
    where: str | None,
) -> Tally:
    """Circuits per bin; the last bin holds its upper end.

    `edges` are evenly spaced, or their logarithms are.
    """
    n = len(edges) - 1
    value = number(column)
    low, high = float(edges[0]), float(edges[-1])
    beyond = f"{value} < {low!r} OR {value} > {high!r}"
    if evenly_logarithmic(edges):
        value, low, high = f"log10({value})", math.log10(low), math.log10(high)
    place = f"CAST(floor(({value} - {low!r}) / {(high - low) / n!r}) AS BIGINT)"
    place = (
        f"CASE WHEN {quote_name(column.name)} IS NULL THEN -2 WHEN {beyond} THEN -1 "
        f"ELSE greatest(0, least({place}, {n - 1})) END"
    )
    return _tally(db, place, where, n, edges)


def per_value(db: Database, axis: Axis, where: str | None) -> Tally:
    """Circuits per value of an axis of the grid."""
    return _tally(db, grid_index(axis), where, len(axis), None)


def per_distinct(
    db: Database, column: Column, where: str | None
) -> tuple[tuple[str, ...], Tally] | None:
    """Names of the different values of a column and circuits per value; None where it has bins."""
    if column.measured:
        return None
    # the limit ends the search: to group a column with many values takes seconds and memory
    some = f"SELECT DISTINCT {number(column)} FROM circuits LIMIT {MOST_VALUES + 2}"
    if rows(db, f"SELECT count(*) FROM ({some})")[0][0] == MOST_VALUES + 2:
        return None
    found = rows(
        db,
        f"SELECT {number(column)} AS value, count(*), count(*) FILTER ({condition(db, where)}) "
        "FROM circuits GROUP BY 1 ORDER BY 1 NULLS FIRST",
    )
    missing = found.pop(0)[1] if found[0][0] is None else 0
    names = value_names(value for value, _, _ in found)
    if not names:
        return None
    values, whole, subset = zip(*found, strict=True)
    words = ("no", "yes") if column.kind == "bool" else column.categories
    if words:
        names = tuple(words[int(v)] for v in values)
    return names, Tally(np.array(whole), np.array(subset), 0, missing)


def grid_index(axis: Axis) -> str:
    """SQL of the zero-based index along an axis of the grid."""
    return f"CAST({quote_name(index_column(axis))} AS BIGINT)"


def _tally(
    db: Database, place: str, where: str | None, n: int, edges: npt.NDArray[np.float64] | None
) -> Tally:
    """Counts per place from 0 to n - 1; -1 is beyond them and -2 missing."""
    whole, subset = np.zeros(n, np.int64), np.zeros(n, np.int64)
    apart = {-2: 0, -1: 0}
    for at, both, chosen in rows(
        db,
        f"SELECT CAST({place} AS BIGINT) AS place, count(*), "
        f"count(*) FILTER ({condition(db, where)}) FROM circuits GROUP BY 1",
    ):
        if at < 0:
            apart[at] = both
        else:
            whole[at], subset[at] = both, chosen
    return Tally(whole, subset, apart[-1], apart[-2], edges)


def rows(db: Database, text: str) -> list[tuple[Any, ...]]:
    """The rows of a small result."""
    return list(zip(*(column.to_pylist() for column in db.sql(text).columns), strict=True))
