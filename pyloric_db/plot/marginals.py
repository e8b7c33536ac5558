"""Marginals: how often each value of each parameter occurs in a subset, against the whole."""

from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.errors import QueryError
from pyloric_db.plot.canvas import SUBSET, WHOLE, new_figure, short_title
from pyloric_db.plot.tallies import Tally, count, extent, histogram, per_value
from pyloric_db.query.database import Database
from pyloric_db.vocabulary import CONDUCTANCES, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 20


def marginals_figure(db: Database, where: str = "pyloric") -> "Figure":
    """Shares of the values of every parameter among the circuits of an expression and among all.

    On a grid one bar per value. Off a grid a histogram, over the logarithm where the values
    are above 0 and span more than a factor of 1,000. Parameters that do not vary are left out.

    Raises:
        QueryError: the expression is not valid or finds nothing, or no parameter varies.
        ConfigError: matplotlib is missing.
    """
    subset = count(db, where)
    drawn = _off_grid(db, where) if db.manifest.axes is None else _on_grid(db, where)
    if not drawn:
        raise QueryError(f"no parameter of the circuits of {db.manifest.name} varies")
    across = 5 if len(drawn) > 6 else min(3, len(drawn))
    down = -(-len(drawn) // across)
    figure = new_figure(figsize=(2.4 * across, 2.2 * down + 0.8))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax, (title, tally, names) in zip(axes, drawn, strict=False):
        _draw(ax, title, tally, names)
    for ax in axes[len(drawn) :]:
        ax.set_axis_off()
    figure.supylabel("share of circuits (%)", fontsize=10)
    figure.suptitle(
        f"blue: the {subset:,} circuits of {where!r}; grey: all {len(db):,}", fontsize=10
    )
    return figure


Drawn = list[tuple[str, Tally, list[str]]]


def _on_grid(db: Database, where: str) -> Drawn:
    drawn = []
    for place, axis in enumerate(db.manifest.axes or ()):
        if len(axis) < 2:
            continue
        if axis.kind == "cell":
            title = f"{label(axis.name)} cell"
            names = [text.removeprefix(f"{label(axis.name)} ") for text in axis.labels]
        else:
            title = short_title(db.manifest.column(axis.name))
            names = [f"{v:g}" for v in axis.values]
        drawn.append((title, per_value(db, place, where), names))
    return drawn


def _off_grid(db: Database, where: str) -> Drawn:
    drawn: Drawn = []
    for column in (c for c in db.manifest.columns if c.name.startswith(CONDUCTANCES)):
        low, high = extent(db, column)
        if high <= low:
            continue
        log = low > 0 and _is_logarithmic(db, column.name, high / low)
        edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
        drawn.append((short_title(column), histogram(db, column, edges, where, log=log), []))
    return drawn


def _is_logarithmic(db: Database, name: str, ratio: float) -> bool:
    """Whether values of a parameter are shown by their logarithms: as a prior draws them."""
    found: Any = db.manifest.recipe.get("parameters")
    if not isinstance(found, dict) or found.get("prior") is None:
        return ratio > 1000  # a table does not say
    for key in ("prior", "parameters", name):
        found = found.get(key) if isinstance(found, dict) else None
    return isinstance(found, dict) and "log_uniform" in found


def _draw(ax: "Axes", title: str, tally: Tally, names: list[str]) -> None:
    """Bars of the subset, in front of broader bars of the whole where values are discrete."""
    whole = 100 * tally.whole / max(int(tally.whole.sum()), 1)
    subset = 100 * tally.subset / max(int(tally.subset.sum()), 1)
    if tally.edges is None:
        places = np.arange(len(names))
        ax.bar(places, whole, width=0.9, color=WHOLE)
        ax.bar(places, subset, width=0.5, color=SUBSET)
        ax.set_xticks(places, names)
    else:
        ax.stairs(whole, tally.edges, fill=True, color=WHOLE)
        ax.stairs(subset, tally.edges, color=SUBSET, linewidth=1.6)
        if not np.isclose(tally.edges[1] - tally.edges[0], tally.edges[-1] - tally.edges[-2]):
            ax.set_xscale("log")
    ax.set_xlabel(title, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
