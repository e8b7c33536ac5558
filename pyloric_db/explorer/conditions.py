"""Brushes as an expression, which `pyloric-db query` and `Database.query` take."""

from collections.abc import Mapping

from pyloric_db.explorer.bins import RHYTHM, Binned
from pyloric_db.explorer.crossfilter import Brush
from pyloric_db.vocabulary import MOST_VALUES


def expression(columns: Mapping[str, Binned], brushes: Mapping[str, Brush]) -> str:
    """The condition that all brushes make, true for just the circuits within them; "" for none.

    A circuit without a value lies in no brush, and a null satisfies no comparison.
    """
    return " and ".join(_condition(columns[name], brush) for name, brush in brushes.items())


def _condition(binned: Binned, brush: Brush) -> str:
    first, last = brush
    if binned.name == RHYTHM:
        return _rhythm(binned.levels, first, last)
    if (first, last) == (0, binned.n):
        return f"not isnull({binned.name})"
    if binned.levels:
        return _one_of(binned.name, binned.levels[first:last])
    # the first and the last bin take in what lies beyond
    low = f"{_text(binned, first)} <= " if first > 0 else ""
    high = f" < {_text(binned, last)}" if last < binned.n else ""
    return f"{low}{binned.name}{high}"


def _text(binned: Binned, edge: int) -> str:
    """The shortest number that is the edge in the precision of the column."""
    return str(binned.edges[edge]).removesuffix(".0")


def _one_of(name: str, levels: tuple[str, ...]) -> str:
    """That a column has one of these values, which follow each other."""
    if levels == ("True",):
        return name
    if levels == ("False",):
        return f"not {name}"
    if len(levels) == 1:
        return f"{name} == {levels[0]}"
    if len(levels) > MOST_VALUES:  # cells, whose numbers would be more than a query may hold
        return f"{levels[0]} <= {name} <= {levels[-1]}"
    return f"{name} in [{', '.join(levels)}]"


def _rhythm(labels: tuple[str, ...], first: int, last: int) -> str:
    """That the strictest label is one of these, behind which come no label and a failed run."""
    other = len(labels)
    parts = ["status == 'ok'", *(f"not {name}" for name in labels[:first])]
    if last <= other:
        some = " or ".join(labels[first:last])
        parts.append(f"({some})" if last - first > 1 else some)
    if last <= other + 1:
        return " and ".join(parts)
    if first > other:
        return "status != 'ok'"
    if first == 0:
        return "not isnull(status)"
    return f"(status != 'ok' or {' and '.join(parts)})"
