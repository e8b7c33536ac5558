"""Marginals: how often each value of each parameter occurs in a subset, against the whole."""

from typing import TYPE_CHECKING

import numpy as np

from pyloric_db.errors import QueryError
from pyloric_db.plot.canvas import (
    SUBSET,
    WHOLE,
    name_bars,
    new_figure,
    number_ticks,
    short_title,
    unfinished,
)
from pyloric_db.plot.tallies import (
    Tally,
    count,
    histogram,
    per_distinct,
    per_value,
    spread,
)
from pyloric_db.query.database import Database
from pyloric_db.vocabulary import CONDUCTANCES, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 20
#: How many fit beside each other below a panel.
LETTERS = 35


def marginals_figure(db: Database, where: str = "pyloric") -> "Figure":
    """Shares of the values of every parameter among the circuits of an expression and among all.

    One bar per value on a grid, and off it where a parameter has at most 20 different ones. All
    others have a histogram, over the logarithm where a prior draws them so, or where the values of
    a table are above 0 and span more than a factor of 1,000. Parameters that do not vary are left
    out.

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
    circuits = "circuit" if subset == 1 else "circuits"
    figure.suptitle(
        f"blue: the {subset:,} {circuits} of {where!r}; grey: all {len(db):,}{unfinished(db)}",
        fontsize=10,
    )
    return figure


Drawn = list[tuple[str, Tally, list[str]]]


def _on_grid(db: Database, where: str) -> Drawn:
    drawn = []
    for axis in db.manifest.axes or ():
        if len(axis) < 2:
            continue
        if axis.kind == "cell":
            title = f"{label(axis.name)} cell"
            names = [text.removeprefix(f"{label(axis.name)} ") for text in axis.labels]
        else:
            title = short_title(db.manifest.by_name[axis.name])
            names = [f"{v:g}" for v in axis.values]
        drawn.append((title, per_value(db, axis, where), names))
    return drawn


def _off_grid(db: Database, where: str) -> Drawn:
    drawn: Drawn = []
    for column in (c for c in db.manifest.columns if c.name.startswith(CONDUCTANCES)):
        few = per_distinct(db, column, where)
        names, tally = few or ((), histogram(db, column, spread(db, column, BINS), where))
        if len(names) != 1:
            drawn.append((short_title(column), tally, list(names)))
    return drawn


def _draw(ax: "Axes", title: str, tally: Tally, names: list[str]) -> None:
    """Bars of the subset, in front of broader bars of the whole where values are discrete."""
    whole = 100 * tally.whole / max(int(tally.whole.sum()), 1)
    subset = 100 * tally.subset / max(int(tally.subset.sum()), 1)
    if tally.edges is None:
        places = np.arange(len(names))
        ax.bar(places, whole, width=0.9, color=WHOLE)
        ax.bar(places, subset, width=0.5, color=SUBSET)
        name_bars(ax, names, LETTERS)
    else:
        ax.stairs(whole, tally.edges, fill=True, color=WHOLE)
        ax.stairs(subset, tally.edges, color=SUBSET, linewidth=1.6)
        number_ticks(ax, tally, 4)
    ax.set_xlabel(title, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)
