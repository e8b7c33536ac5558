"""How the circuits of a database were given each of their conductances."""

from collections.abc import Sequence
from typing import Any

from pyloric_db.store.manifest import Manifest
from pyloric_db.store.parameters import gbar_column, index_column
from pyloric_db.vocabulary import CHANNELS, CONDUCTANCES

LOG_UNIFORM = "log_uniform"
#: Most values of a list that are written out in words.
_MOST = 12


def prior_of(name: str, manifest: Manifest) -> dict[str, Any] | None:
    """The law of a column, one key with its values; None for what is measured.

    Of a prior `uniform`, `log_uniform` (two ends each) or `choice` (a list), as in its recipe; of
    a grid `grid` (its levels); `fixed` (a value), or of a table `table` (its path). Conductances
    are in the column's unit; those of a cell that is chosen by name have the name.
    """
    channels = manifest.channels.all
    own = {
        gbar_column(cell, channel): (cell, k)
        for cell in manifest.cells
        for k, channel in enumerate(channels)
    }
    cell, k = own.get(name, (None, 0))
    other = k >= len(CHANNELS)  # which published cells have not
    axes = manifest.axes or ()
    # a conductance that is an axis, and then one of a named cell
    for axis in sorted(axes, key=lambda axis: axis.kind == "cell"):
        if name in (axis.name, index_column(axis)):
            return {"grid": list(axis.levels)}
        if cell == axis.name:
            none = other and not any(gbar[k] for gbar in axis.gbar)
            return {"fixed": 0} if none else {"grid": list(axis.levels)}
    if not name.startswith(CONDUCTANCES):
        return None
    recipe: Any = manifest.recipe.get("parameters") or {}
    if recipe.get("table"):
        return {"table": recipe["table"].get("path")}
    laws = (recipe.get("prior") or {}).get("parameters") or {}
    law = laws.get(name, 0 if other else laws.get(cell, 0))  # what is not named is 0
    if not isinstance(law, dict):
        return {"fixed": law}
    kind, values = next(iter(law.items()))
    return {kind: list(values)}


def in_words(prior: dict[str, Any] | None) -> str:
    """Such as `log-uniform [0.01, 100]` or `grid levels 0, 3, 10`."""
    if prior is None:
        return ""
    kind, values = next(iter(prior.items()))
    if kind == "table":
        return "column of a table"
    if kind == "fixed":
        return f"fixed at {_text(values)}"
    if kind in ("choice", "grid"):
        return f"{'choice of' if kind == 'choice' else 'grid levels'} {_listed(values)}"
    return f"{kind.replace('_', '-')} [{_listed(values)}]"


def _listed(values: Sequence[Any]) -> str:
    shown = [_text(v) for v in values[:_MOST]]
    rest = len(values) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} others" if rest else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
