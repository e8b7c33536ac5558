"""Histograms of features, with the published ranges."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyloric_db.plot.canvas import SUBSET, WHOLE, name_bars, new_figure, number_ticks, unfinished
from pyloric_db.plot.tallies import (
    Counts,
    Tally,
    count,
    histogram,
    number_columns,
    per_distinct,
    percentiles,
    spread,
)
from pyloric_db.query.database import Database
from pyloric_db.vocabulary import Column, Criterion, default_features, published

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 60
#: How many fit beside each other below a panel.
LETTERS = 50


def histograms_figure(
    db: Database, columns: Sequence[str] | None = None, where: str | None = None
) -> "Figure":
    """One histogram per feature; a subset is drawn in front of all circuits.

    What was measured is drawn from the 1st to the 99th percentile of all circuits, the features of
    the published criteria at least over the published mean ± 3 SD (from 0 on, but for gaps), with
    the accepted range, mean ± 2 SD, behind (Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345,
    table 1), if the circuits have AB/PD, LP and PY. Parameters, whole numbers, flags and categories
    have a bar for each value where these are at most 20, and else an axis from the lowest to the
    highest, over the logarithm where marginals have it. A panel says how many
    of all circuits lie beyond its axis, and how many are without the feature.

    Args:
        columns: names; if not said, the fifteen of the criteria or as many as the circuits have,
            and burst duration, duty cycle and phase of other cells; without labels also activities.
        where: an expression that says the subset.

    Raises:
        QueryError: a column is unknown or holds text, or the expression finds nothing.
        ConfigError: matplotlib is missing.
    """
    names = _default_columns(db) if columns is None else columns
    chosen = number_columns(db, names, categories=True)
    criteria = published(db.manifest.cells)
    subset = count(db, where)
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    figure = new_figure(figsize=(3.4 * across + 0.4, 2.1 * down + 0.9))
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax, column in zip(axes, chosen, strict=False):
        criterion = criteria.get(column.name)
        values, tally = _tally(db, column, criterion, where)
        _draw(ax, column, criterion, tally, values, where is not None)
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    figure.supylabel("circuits", fontsize=10)
    words = f"{len(db):,} circuits (grey)"
    if where is not None:
        words += f" and the {subset:,} of {where!r} (blue), each scaled to its highest bar"
    ranges = any(c.name in criteria for c in chosen)
    words += "\nhatched: accepted range, mean ± 2 SD of 99 lobsters" if ranges else ""
    figure.suptitle(words + unfinished(db), fontsize=10, wrap=True)
    return figure


def _default_columns(db: Database) -> list[str]:
    """The features; where there are no labels the activity of each cell stands in for them."""
    manifest = db.manifest
    activities = [] if manifest.has_labels else [f"activity_{c}" for c in manifest.cells]
    return [*activities, *default_features(manifest.columns)]


def _tally(
    db: Database, column: Column, criterion: Criterion | None, where: str | None
) -> tuple[tuple[str, ...], Tally]:
    """Counts, and the names of the values where each has a bar."""
    few = per_distinct(db, column, where)
    return few or ((), histogram(db, column, _edges(db, column, criterion), where))


def _edges(db: Database, column: Column, criterion: Criterion | None) -> npt.NDArray[np.float64]:
    common = percentiles(db, column) if column.measured else None
    if criterion:
        low, high = (criterion.mean + k * criterion.sd for k in (-3, 3))
        # durations and phases begin at 0, gaps may be negative
        low = low if "gap" in column.name else max(low, 0.0)
        common = common or (low, high)
        return np.linspace(min(low, common[0]), max(high, common[1]), BINS + 1)
    if common and common[0] < common[1]:
        return np.linspace(*common, BINS + 1)
    return spread(db, column, BINS)


def _draw(
    ax: "Axes",
    column: Column,
    criterion: Criterion | None,
    tally: Tally,
    names: tuple[str, ...],
    has_subset: bool,
) -> None:
    """Counts of all circuits; the subset on an axis of its own, or it would be a flat line."""
    if criterion:
        ax.axvspan(
            criterion.low, criterion.high, facecolor="none", edgecolor="0.82", hatch="///",
            linewidth=0, zorder=0,
        )  # fmt: skip
        ax.axvline(criterion.mean, color="0.3", linestyle="--", linewidth=0.8, zorder=4)
    places = np.arange(len(names))
    if names:
        ax.bar(places, tally.whole, width=0.9, color=WHOLE)
        name_bars(ax, names, LETTERS)
    else:
        ax.stairs(tally.whole, tally.edges, fill=True, color=WHOLE, edgecolor="0.45", zorder=1)
        number_ticks(ax, tally, 6)
    _count_axis(ax, tally.whole)
    if has_subset:
        front = ax.twinx()
        if names:
            front.bar(places, tally.subset, width=0.5, color=SUBSET)
        else:
            front.stairs(tally.subset, tally.edges, color=SUBSET, linewidth=1.6)
        _count_axis(front, tally.subset)
        front.tick_params(axis="y", labelsize=7, colors=SUBSET)
    # its long name says how it is measured; people look for its name
    period = "period: " if column.name == "period_ms" else ""
    ax.set_xlabel(period + column.title, fontsize=8)
    ax.tick_params(labelsize=7)
    words = [f"{tally.beyond:,} beyond the axis"] if tally.beyond else []
    words += [f"{tally.missing:,} without"] if tally.missing else []
    ax.set_title(", ".join(words), loc="right", fontsize=6.5, pad=2)


def _count_axis(ax: "Axes", counts: Counts) -> None:
    """Whole numbers written out: two of them above 0, unless the highest bar is one circuit."""
    from matplotlib.ticker import MaxNLocator

    top = max(int(counts.max()), 1)
    least = min(3, top + 1)  # of a single circuit a third tick would be a half
    ax.set_ylim(0, 1.08 * top)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True, min_n_ticks=least))
    ax.yaxis.set_major_formatter("{x:,.0f}")
