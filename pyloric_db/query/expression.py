"""Boolean expressions over columns, translated to SQL. Nothing in one can execute code.

The text is parsed by Python's grammar and then translated piece by piece; whatever is not in
the list below is refused. Allowed are column names, numbers, text in quotes, True and False;
`and or not`, or `& | ~` around conditions in parentheses; comparisons, also chained; `in` and
`not in` with a list; `+ - * /`; and `isnull(x)`.

A null makes every comparison with it null, and a null condition selects nothing: neither
`period_ms > 1000` nor `not (period_ms > 1000)` finds a circuit without a period; `isnull(
period_ms)` does. A division by zero is null too.

Numbers are compared with a float32 column in float32, so that `gsyn_ab_lp_nS == 0.1` finds the
rows written from 0.1. Arithmetic on float32 columns, with each other or with numbers, is in float32
too; all other is in float64.

A grid's axis of cells holds indices, which count from 0, and can be compared with the names of its
cells: `lp == 'LP 3'` is `lp == 2`. Asking whether it is a number that no cell has is refused.
"""

import ast
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from pyloric_db.errors import QueryError, nearest
from pyloric_db.query.columns import check_names
from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import Column

MOST_CHARACTERS = 10_000
DEEPEST = 100

_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_COMPARE = {
    ast.Eq: "=", ast.NotEq: "<>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_ALLOWED = (
    "allowed are columns, numbers, text in quotes, comparisons, in, and, or, not, + - * / and "
    "isnull(...)"
)
#: Slips of those who know other languages, looked for outside of quotes, and what to write.
_SLIPS = (
    (
        r"(?i)\bis\s+(not\s+)?null\b",
        "null is asked for with isnull(...), the others with not isnull(...)",
    ),
    (
        r"\b(AND|OR|NOT|IN)\b|&&|\|\||!(?!=)",
        "and, or, not and in are written out, in small letters",
    ),
    (r"<>", "unequal is written !="),
    (r"(?<![=<>!])=(?!=)", "equal is written =="),
    (r"\b0\d", "a number has no 0 in front; a netcode is text, in quotes"),
)
_FLOAT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Part:
    """A translated part: its SQL, and what it is.

    `kind` is `condition`, `text`, `single` (a float32), `double` or `whole` (an integer
    column). A literal keeps its value; a column itself, for its categories and its name, and the
    names of its cells where it is a grid's axis of cells.
    """

    sql: str
    kind: str
    literal: float | str | bool | None = None
    column: Column | None = None
    cells: tuple[str, ...] = ()

    @property
    def is_number(self) -> bool:
        return self.kind in ("single", "double", "whole")

    def describe(self) -> str:
        if self.column is not None:
            return self.column.name
        if self.literal is not None:
            return repr(self.literal)
        return {"condition": "a condition", "text": "text"}.get(self.kind, "a number")


def to_sql(expression: str, manifest: Manifest) -> str:
    """The SQL condition of an expression over the columns of a database.

    Raises:
        QueryError: it is no such expression; the message says where it stops being one.
    """
    if not isinstance(expression, str):
        raise QueryError(f"a query must be text, not {type(expression).__name__}")
    if len(expression) > MOST_CHARACTERS:
        raise QueryError(
            f"a query may have at most {MOST_CHARACTERS:,} characters, not {len(expression):,}"
        )
    if not expression.strip():
        raise QueryError("the query is empty: write a condition such as 'period_ms > 1200'")
    try:
        tree = parsed(expression)
    except SyntaxError as err:
        mistake = _mistake(expression.strip(), err)
        raise QueryError(f"the query {_quote(expression)} is not an expression {mistake}") from err
    except (ValueError, MemoryError, RecursionError) as err:
        raise QueryError(f"the query {_quote(expression)} cannot be read") from err
    part = _Translator(manifest, expression.strip()).translate(tree, 0)
    if part.kind != "condition":
        raise QueryError(
            f"the query {_quote(expression)} must be a condition, but is {_article(part)}"
        )
    return part.sql


def parsed(expression: str) -> ast.expr:
    """An expression as Python's grammar reads it; raises what `ast.parse` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's advice on `1 is 1`, `'\\d'` and the like
        return ast.parse(expression.strip(), mode="eval").body


def _mistake(text: str, err: SyntaxError) -> str:
    """Where a text stops being an expression, and what to write instead."""
    begin = len(text)
    if err.offset and err.offset > 0:  # else it is the end
        lines = text.splitlines(keepends=True)
        begin = sum(map(len, lines[: (err.lineno or 1) - 1])) + err.offset - 1
    place = f"at {_quote(text[begin:])}" if text[begin:].strip() else "at its end"
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "''", text)
    for slip, hint in _SLIPS:
        if re.search(slip, bare):
            return f"{place}: {hint}"
    lines = bare.splitlines()
    if len(lines) > 1 and _is_whole(" ".join(lines)):
        return f"{place}: several lines stand together in parentheses"
    known = "" if err.msg.startswith("invalid syntax") else f" ({err.msg})"
    return f"{place}{known}: {_ALLOWED}"


def _is_whole(text: str) -> bool:
    """Whether a text is an expression."""
    try:
        parsed(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def quote_text(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(column: str) -> str:
    """A column name as SQL; manifests allow letters, digits and _ only."""
    return f'"{column}"'


def _quote(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _article(part: _Part) -> str:
    return "text" if part.kind == "text" else "a number"


class _Translator:
    def __init__(self, manifest: Manifest, source: str) -> None:
        self.manifest = manifest
        self.source = source

    def translate(self, node: ast.expr, depth: int) -> _Part:
        if depth > DEEPEST:
            raise QueryError(f"the query is nested more than {DEEPEST} deep")
        below = depth + 1
        match node:
            case ast.Constant():
                return self.constant(node)
            case ast.Name(id=name):
                return self.name(name)
            case ast.BoolOp(op=op, values=values):
                word = "AND" if isinstance(op, ast.And) else "OR"
                return self.join(word, [self.translate(v, below) for v in values])
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() as op, left=left, right=right):
                word = "AND" if isinstance(op, ast.BitAnd) else "OR"
                return self.join(word, [self.translate(v, below) for v in (left, right)])
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
                sign = _ARITHMETIC[type(op)]
                return _arithmetic(sign, self.translate(left, below), self.translate(right, below))
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return _condition(f"(NOT {self.condition(self.translate(operand, below))})")
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
                return _signed(self.translate(operand, below), isinstance(op, ast.USub))
            case ast.Compare():
                return self.compare(node, below)
            case ast.Call(func=ast.Name(id="isnull"), args=[argument], keywords=[]):
                if isinstance(argument, ast.Starred):
                    self.refuse(argument)
                return _condition(f"({self.translate(argument, below).sql} IS NULL)")
        self.refuse(node)

    def refuse(self, node: ast.AST) -> NoReturn:
        text = ast.get_source_segment(self.source, node) or self.source
        raise QueryError(f"a query may not contain {_quote(text)}: {_ALLOWED}")

    def constant(self, node: ast.Constant) -> _Part:
        value = node.value
        if isinstance(value, bool):
            return _Part("TRUE" if value else "FALSE", "condition", literal=value)
        if isinstance(value, int | float):
            return _number(value)
        if isinstance(value, str):
            if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
                raise QueryError("text in a query may not contain NUL or surrogate characters")
            return _Part(quote_text(value), "text", literal=value)
        if value is None:
            raise QueryError("None is not allowed in a query: write isnull(...)")
        self.refuse(node)

    def name(self, name: str) -> _Part:
        if name.lower() in ("null", "nan") and name not in self.manifest.by_name:
            raise QueryError(f"{name} is not allowed in a query: write isnull(...)")
        if name not in self.manifest.by_name and any(
            name in c.categories for c in self.manifest.columns
        ):
            raise QueryError(f"unknown column {name!r}: text stands in quotes")
        check_names(self.manifest, [name])
        column = self.manifest.by_name[name]
        kinds = {"float32": "single", "float64": "double", "bool": "condition"}
        kinds |= {"string": "text", "category": "text"}
        axes = (a for a in self.manifest.axes or () if a.name == name and a.kind == "cell")
        cells = next((a.labels for a in axes), ())
        return _Part(quote_name(name), kinds.get(column.kind, "whole"), column=column, cells=cells)

    def join(self, word: str, parts: list[_Part]) -> _Part:
        return _condition("(" + f" {word} ".join(map(self.condition, parts)) + ")")

    def condition(self, part: _Part) -> str:
        if part.kind != "condition":
            raise QueryError(
                f"and, or, not, &, | and ~ join conditions, but {part.describe()} is "
                f"{_article(part)}; put comparisons in parentheses where you use &, | or ~"
            )
        return part.sql

    def compare(self, node: ast.Compare, depth: int) -> _Part:
        conditions = []
        left = self.translate(node.left, depth)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    raise QueryError("'in' cannot be chained: put it in parentheses")
                return self.member(left, right_node, isinstance(op, ast.NotIn), depth)
            if isinstance(op, ast.Is | ast.IsNot):
                raise QueryError("a query may not contain 'is': null is asked for with isnull(...)")
            right = self.translate(right_node, depth)
            conditions.append(_compared(_COMPARE[type(op)], left, right))
            left = right
        return _condition("(" + " AND ".join(conditions) + ")")

    def member(self, left: _Part, node: ast.expr, negated: bool, depth: int) -> _Part:
        if isinstance(node, ast.Call):
            text = ast.get_source_segment(self.source, node) or self.source
            raise QueryError(
                f"a query may not call {_quote(text)}: 'in' needs a list such as [1, 2], and what "
                "lies between two numbers is asked for as 0 <= circuit_id < 3"
            )
        if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
            raise QueryError("'in' needs a list that is not empty, such as [1, 2]")
        values = [self.translate(e, depth) for e in node.elts]
        if any(v.literal is None for v in values):
            raise QueryError("the list of 'in' may hold numbers and text only")
        sql = " OR ".join(_compared("=", left, v) for v in values)
        return _condition(f"(NOT ({sql}))" if negated else f"({sql})")


def _condition(sql: str) -> _Part:
    return _Part(sql, "condition")


def _number(value: float) -> _Part:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise QueryError("a number in the query is too large")
    return _Part(f"CAST('{number!r}' AS DOUBLE)", "double", literal=number)


def _signed(part: _Part, negative: bool) -> _Part:
    if not part.is_number:
        raise QueryError(f"+ and - need a number, not {part.describe()}")
    if isinstance(part.literal, float):
        return _number(-part.literal if negative else part.literal)
    kind = "double" if part.kind == "whole" else part.kind
    return _Part(f"({'-' if negative else '+'}{_double(part)})", kind)


def _double(part: _Part) -> str:
    """SQL of a number; whole numbers as DOUBLE, in which nothing overflows."""
    return f"CAST({part.sql} AS DOUBLE)" if part.kind == "whole" else part.sql


def _in_common(left: _Part, right: _Part) -> tuple[str, str, str]:
    """SQL of two numbers and their common kind: a literal takes the kind of what it meets."""
    kinds = {left.kind, right.kind}
    literals = [p.literal for p in (left, right) if isinstance(p.literal, float)]
    if kinds == {"single"}:
        return left.sql, right.sql, "single"
    if "single" in kinds and literals and abs(literals[0]) <= _FLOAT_MAX:
        sides = [p.sql if p.kind == "single" else f"CAST({p.sql} AS FLOAT)" for p in (left, right)]
        return sides[0], sides[1], "single"
    sides = [p.sql if p.kind == "double" else f"CAST({p.sql} AS DOUBLE)" for p in (left, right)]
    return sides[0], sides[1], "double"


def _arithmetic(sign: str, left: _Part, right: _Part) -> _Part:
    for part in (left, right):
        if not part.is_number:
            raise QueryError(f"{sign} needs numbers, not {part.describe()}")
    if isinstance(left.literal, float) and isinstance(right.literal, float):
        return _folded(sign, left.literal, right.literal)
    a, b, kind = _in_common(left, right)
    return _Part(f"({a} / nullif({b}, 0))" if sign == "/" else f"({a} {sign} {b})", kind)


def _folded(sign: str, a: float, b: float) -> _Part:
    if sign == "/" and b == 0:
        raise QueryError("the query divides by zero")
    values = {"+": a + b, "-": a - b, "*": a * b}
    return _number(a / b if sign == "/" else values[sign])


def _compared(operator: str, left: _Part, right: _Part) -> str:
    if operator in ("=", "<>"):  # the numbers of cells have no order
        left, right = _as_index(left, right), _as_index(right, left)
    if left.is_number and right.is_number:
        a, b, _ = _in_common(left, right)
        return f"({a} {operator} {b})"
    if left.kind != right.kind:
        raise QueryError(
            f"{left.describe()} cannot be compared with {right.describe()}{_advice(left, right)}"
        )
    if operator not in ("=", "<>"):
        raise QueryError(
            f"{left.describe()} and {right.describe()} can be compared with == and != only"
        )
    for one, other in ((left, right), (right, left)):
        if one.column and one.column.categories and isinstance(other.literal, str):
            _check_category(one.column, other.literal)
    return f"({left.sql} {operator} {right.sql})"


def _advice(left: _Part, right: _Part) -> str:
    for one, other in ((left, right), (right, left)):
        if one.cells and isinstance(other.literal, str):
            return " but by == and !=: cells have no order"
        if one.kind == "text" and isinstance(other.literal, float):
            return ": text stands in quotes"
    return ""


def _as_index(part: _Part, other: _Part) -> _Part:
    """A cell's name as its index, where the other side is an axis of cells.

    A number must be the index of a cell, or the comparison would find nothing without a word.
    """
    if not other.cells or not isinstance(part.literal, str | float):
        return part
    if part.literal in other.cells:
        return _number(other.cells.index(part.literal))
    if part.literal in range(len(other.cells)):
        return part
    given = repr(part.literal) if isinstance(part.literal, str) else f"{part.literal:g}"
    raise QueryError(
        f"{other.describe()} is never {given}{nearest(str(part.literal), other.cells)}; "
        f"its cells are {', '.join(f'{name} ({i})' for i, name in enumerate(other.cells))}"
    )


def _check_category(column: Column, value: str) -> None:
    categories: Sequence[str] = column.categories
    if value not in categories:
        raise QueryError(
            f"{column.name} is never {value!r}{nearest(value, list(categories))}; "
            f"it is one of {', '.join(categories)}"
        )
