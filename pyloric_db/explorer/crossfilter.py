"""Linked counts under brushes, exact, in a time that does not depend on the number of rows.

While one brush moves, the others stand still. So when a column becomes the active one, its bins
are counted against the bins of every other view, rows outside the standing brushes left out, and
summed up along the active column. The counts of a view under any brush of the active column are
then the difference of two rows of its table. One pass over all rows per view prepares a column;
every move after that costs a few subtractions. (The idea is that of Falcon: Moritz, Howe & Heer
2019, CHI, "Falcon: balancing interactive latency and resolution sensitivity for scalable linked
visualizations".)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.explorer.bins import Binned, Codes

Counts = npt.NDArray[np.int64]
Brush = tuple[int, int]

#: Rows counted at a time: their codes and keys stay in the processor's cache.
_ROWS = 1 << 16
#: The same for tables too large to be added up so often.
_MANY_ROWS = 1 << 20


@dataclass(frozen=True)
class Linked:
    """What the views show: circuits per bin of each column, of the pair, and in all brushes.

    A column's own brush does not apply to its own histogram; the pair is under all brushes.
    """

    histograms: dict[str, Counts]
    density: Counts
    selected: int


class CrossFilter:
    """Columns, a pair for the density, and at most one brush per column.

    Args:
        columns: binned columns of the same rows, at least one.
        pair: names of two columns, along x and y; they need not be among `columns`.
    """

    def __init__(self, columns: Sequence[Binned], pair: tuple[Binned, Binned]) -> None:
        self.columns = {c.name: c for c in columns}
        self.pair = pair
        self.brushes: dict[str, Brush] = {}
        self._active: str | None = None
        self._tables: dict[tuple[str, ...], Counts] = {}
        self._standing: dict[str, tuple[Brush, Codes]] = {}

    def replace(self, columns: Sequence[Binned], pair: tuple[Binned, Binned]) -> None:
        """Other columns or another pair; brushes of columns that are gone are lifted."""
        self.columns, self.pair = {c.name: c for c in columns}, pair
        self.brushes = {n: b for n, b in self.brushes.items() if n in self.columns}
        self._standing = {n: s for n, s in self._standing.items() if n in self.columns}
        self._active = None

    def brush(self, name: str, brush: Brush | None) -> Linked:
        """Counts after the brush of a column is set to bins [first, last), or lifted."""
        self.activate(name)
        if brush is None:
            self.brushes.pop(name, None)
        else:
            self.brushes[name] = brush
        return self.linked()

    def clear(self) -> Linked:
        """Counts without any brush."""
        self.brushes.clear()
        self._standing.clear()
        self._active = None
        return self.linked()

    def linked(self) -> Linked:
        """Counts under the present brushes."""
        if self._active is None:
            self.activate(next(iter(self.columns)))
        active = self._active
        assert active is not None
        first, last = self.brushes.get(active, (0, self.columns[active].n + 1))
        under = {view: table[last] - table[first] for view, table in self._tables.items()}
        histograms = {}
        for name, column in self.columns.items():
            counts = np.diff(self._tables[()]) if name == active else under[(name,)]
            histograms[name] = counts[: column.n]
        x, y = self.pair
        density = under[_PAIR].reshape(y.n + 1, x.n + 1)[: y.n, : x.n]
        return Linked(histograms, density, int(under[()]))

    def first_rows(self, most: int) -> npt.NDArray[np.int64]:
        """The first rows within all brushes, ascending."""
        found: list[npt.NDArray[np.int64]] = []
        for rows in _pieces(self._n_rows(), _MANY_ROWS):
            outside = np.zeros(rows.stop - rows.start, np.uint8)
            for name, brush in self.brushes.items():
                outside |= _outside(self.columns[name], brush, rows)
            found.append(np.flatnonzero(outside == 0)[:most] + rows.start)
            if sum(map(len, found)) >= most:
                break
        return np.concatenate([np.empty(0, np.int64), *found])[:most]

    def _n_rows(self) -> int:
        return len(next(iter(self.columns.values())).codes)

    def activate(self, name: str) -> None:
        """Prepares the brush of a column; nothing to do if it was the last one brushed."""
        if name == self._active:
            return
        active = self.columns[name]
        x, y = self.pair
        views: dict[tuple[str, ...], tuple[Binned, ...]] = {(): (), _PAIR: (y, x)}
        views |= {(n,): (c,) for n, c in self.columns.items() if n != name}
        standing = {n: self._outside_of(n) for n in self.brushes if n != name}
        fails = np.zeros(self._n_rows(), np.uint8)
        for outside in standing.values():
            fails += outside
        nowhere = active.codes.dtype.type(active.n + 1)
        wholly = np.where(fails == 0, active.codes, nowhere) if standing else active.codes
        self._tables = {}
        for view, columns in views.items():
            inside = wholly
            if len(view) == 1 and view[0] in standing:
                # with a brush of its own a view counts the rows that are outside of that alone
                inside = np.where(fails == standing[view[0]], active.codes, nowhere)
            self._tables[view] = _table(active.n, inside, columns)
        self._active = name

    def _outside_of(self, name: str) -> Codes:
        """1 for the rows outside the brush of a column; kept until the brush moves."""
        brush = self.brushes[name]
        column = self.columns[name]
        if self._standing.get(name, (None,))[0] != brush:
            rows = slice(0, len(column.codes))
            self._standing[name] = (brush, _outside(column, brush, rows))
        return self._standing[name][1]


#: The view of the pair among the tables; no column has this name.
_PAIR = ("", "")


def _outside(column: Binned, brush: Brush, rows: slice) -> Codes:
    """1 for rows outside a brush, in which no row without a value lies; 0 for the others."""
    outside = np.ones(column.n + 1, np.uint8)
    outside[brush[0] : brush[1]] = 0
    return outside[column.codes[rows]]


def _table(n: int, active: Codes, columns: Sequence[Binned]) -> Counts:
    """Circuits below each bin of the active column and in each bin of the view.

    Args:
        n: bins of the active column; n is the code of rows without a value.
        active: its codes; n + 1 is the code of rows that are left out.
        columns: the view; none for the circuits alone.

    Returns:
        (n + 2, bins of the view with one for no value), the last row that of all circuits;
        without columns (n + 2,).
    """
    inner = prod(c.n + 1 for c in columns)
    total = (n + 2) * inner
    counts = np.zeros(total, np.int64)
    key_type = np.uint16 if total <= 1 << 16 else np.uint32
    for rows in _pieces(len(active), _ROWS if total <= 1 << 14 else _MANY_ROWS):
        keys: npt.NDArray[Any] = active[rows].astype(key_type)
        for column in columns:
            keys *= key_type(column.n + 1)
            keys += column.codes[rows]
        counts += np.bincount(keys, minlength=total)
    table = np.zeros((n + 2, inner), np.int64)
    np.cumsum(counts.reshape(n + 2, inner)[:-1], axis=0, out=table[1:])
    return table if columns else table[:, 0]


def _pieces(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
