"""How the circuits of a database were given each of their conductances, in words."""

from collections.abc import Sequence
from typing import Any

from pyloric_db.store.manifest import Manifest
from pyloric_db.store.parameters import gbar_column, index_column
from pyloric_db.vocabulary import CHANNELS, CONDUCTANCES

#: How the words for a log-uniform range begin.
LOG_UNIFORM = "log-uniform"
#: Most values of a list that are written out.
_MOST = 12


def prior_of(name: str, manifest: Manifest) -> str:
    """Such as `log-uniform [0.01, 100]` or `grid levels 0, 3, 10`; "" for what is measured."""
    own = {gbar_column(cell, channel): cell for cell in manifest.cells for channel in CHANNELS}
    cell = own.get(name)
    for axis in manifest.axes or ():
        if name in (axis.name, index_column(axis)) or cell == axis.name:
            return f"grid levels {_listed(axis.levels)}"
    if not name.startswith(CONDUCTANCES):
        return ""
    recipe: Any = manifest.recipe.get("parameters") or {}
    if recipe.get("table"):
        return "column of a table"
    laws = (recipe.get("prior") or {}).get("parameters") or {}
    return _law(laws.get(name, laws.get(cell, 0)))


def _law(given: Any) -> str:
    """What a recipe's prior says of a parameter; of what it does not name, 0."""
    if not isinstance(given, dict):
        return f"fixed at {_text(given)}"
    if "choice" in given:
        return f"choice of {_listed(given['choice'])}"
    kind, ends = next(iter(given.items()))
    return f"{LOG_UNIFORM if kind == 'log_uniform' else kind} [{_listed(ends)}]"


def _listed(values: Sequence[Any]) -> str:
    shown = [_text(v) for v in values[:_MOST]]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} others" if rest else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
