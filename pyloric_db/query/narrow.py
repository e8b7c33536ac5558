"""What an expression says about where its circuits are, before any data is read.

Only what must hold in every circuit that is found counts: the parts of a condition that are
joined by `and`. Everything else is passed over; to see less than there is only costs time.
"""

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass

from pyloric_db.query.expression import parsed

Span = tuple[float, float]


@dataclass(frozen=True)
class Narrowing:
    """Flags that are true in every circuit found, and where its `circuit_id` may lie.

    A circuit's id is within some span (ends included) of each member of `spans`.
    """

    flags: frozenset[str]
    spans: tuple[tuple[Span, ...], ...]

    def may_hold(self, first: int, last: int) -> bool:
        """Whether circuits with ids from `first` to `last` can be found."""
        begin, end = float(first), float(last)  # as SQL compares them
        return all(any(low <= end and high >= begin for low, high in s) for s in self.spans)


def narrow(expression: str) -> Narrowing:
    """What a valid expression says; see `pyloric_db.query.expression`."""
    flags: set[str] = set()
    spans = []
    for part in _joined(parsed(expression)):
        if isinstance(part, ast.Name):
            flags.add(part.id)
        elif isinstance(part, ast.Compare):
            spans += [s for s in _compared(part) if s is not None]
    return Narrowing(frozenset(flags), tuple(spans))


def _joined(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            for value in values:
                yield from _joined(value)
        case ast.BinOp(op=ast.BitAnd(), left=left, right=right):
            yield from _joined(left)
            yield from _joined(right)
        case _:
            yield node


def _compared(node: ast.Compare) -> Iterator[tuple[Span, ...] | None]:
    sides = [node.left, *node.comparators]
    for left, op, right in zip(sides[:-1], node.ops, sides[1:], strict=True):
        if isinstance(op, ast.In) and _is_id(left):
            yield _members(right)
        elif _is_id(left):
            yield _span(op, _number(right))
        elif _is_id(right):
            yield _span(_MIRRORED.get(type(op), op), _number(left))


_MIRRORED: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.Gt(), ast.LtE: ast.GtE(), ast.Gt: ast.Lt(), ast.GtE: ast.LtE(),
}  # fmt: skip


def _span(op: ast.cmpop, value: float | None) -> tuple[Span, ...] | None:
    if value is None:
        return None
    match op:
        case ast.Eq():
            return ((value, value),)
        case ast.Lt() | ast.LtE():
            return ((-math.inf, value),)
        case ast.Gt() | ast.GtE():
            return ((value, math.inf),)
    return None


def _members(node: ast.expr) -> tuple[Span, ...] | None:
    if not isinstance(node, ast.List | ast.Tuple | ast.Set):
        return None
    values = [_number(e) for e in node.elts]
    return tuple((v, v) for v in values if v is not None) if None not in values else None


def _is_id(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "circuit_id"


def _number(node: ast.expr) -> float | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return float(value) if isinstance(value, int | float) else None
