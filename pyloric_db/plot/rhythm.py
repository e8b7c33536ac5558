"""Rhythm diagram: when in the cycle each cell bursts, beside the published ranges."""

from typing import TYPE_CHECKING, NamedTuple

from pyloric_db.errors import QueryError
from pyloric_db.plot.canvas import new_figure, unfinished
from pyloric_db.plot.tallies import condition, count, number, rows
from pyloric_db.query.database import Database
from pyloric_db.vocabulary import Criterion, colour_of, label, published

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHISKERS = "90% of circuits: start above end"


class Spread(NamedTuple):
    """The middle of a set of circuits: its 5%, 50% and 95% quantiles."""

    low: float
    median: float
    high: float


def rhythm_figure(db: Database, where: str = "pyloric") -> "Figure":
    """Bursts of one circuit or of a set as bars over the phase of the first cell's cycle.

    Bars go from the median start to the median end, with whiskers over the middle 90% of
    circuits, that of the start above that of the end; each cell's are of the circuits that have its
    phases. Below those of AB/PD, LP and PY, hatched, the published bar from mean start to mean
    start + duty cycle, with whiskers of ± 2 SD at the ends whose spread was published (Prinz,
    Bucher & Marder 2004, Nat Neurosci 7:1345, table 1).

    Raises:
        QueryError: the expression is not valid, or finds no circuit in which the first cell bursts.
        ConfigError: matplotlib is missing.
    """
    first_cell, *others = cells = db.manifest.cells
    lobsters = published(cells)
    ends = {first_cell: f"duty_cycle_{first_cell}"} | {c: f"phase_end_{c}" for c in others}
    starts = {cell: f"phase_start_{cell}" for cell in others}
    drawn = ["period_ms", *starts.values(), *ends.values()]
    if missing := [name for name in drawn if name not in db.manifest.by_name]:
        raise QueryError(f"{db.path} has no column {missing[0]}, which a rhythm diagram needs")
    chosen = count(db, where)
    first, counts, spreads = _spreads(db, where, drawn)
    if not counts[ends[first_cell]]:
        raise QueryError(
            f"in none of the {chosen:,} circuits of {where!r} does {label(first_cell)} burst with "
            "a period"
        )
    figure = new_figure(figsize=(8, 1.5 + 0.7 * len(cells)))
    ax = figure.subplots()
    names = []
    for row, cell in enumerate(cells):
        duty = lobsters.get(f"duty_cycle_{cell}")
        n = counts[ends[cell]]
        if n:
            start = spreads[starts[cell]] if cell in starts else Spread(0, 0, 0)
            at = row - 0.17 if duty else row
            _measured(ax, at, start, spreads[ends[cell]], colour_of(row))
        if duty:
            _published(ax, row + 0.2, duty, lobsters.get(starts.get(cell, "")))
        names.append(label(cell) if n == chosen else f"{label(cell)}\n{n:,} of {chosen:,}")
    ax.set_yticks(range(len(cells)), names, fontsize=10)
    ax.set_ylim(len(cells) - 0.45, -0.55)
    low, high = ax.get_xlim()
    ax.set_xlim(min(0, low), max(1.05, high))
    ax.axvline(1, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xlabel(f"phase in the {label(first_cell)} cycle (from burst start to burst start)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    _legend(figure, chosen, bool(lobsters))
    period = spreads["period_ms"]
    title = f"circuit {first}: period {period.median:.0f} ms"
    if chosen > 1:
        title = (
            f"{where}: {chosen:,} circuits\nperiod {period.median:.0f} ms (median; 90% from "
            f"{period.low:.0f} to {period.high:.0f} ms)"
        )
    ax.set_title(title + unfinished(db), fontsize=11)
    return figure


def _spreads(
    db: Database, where: str, drawn: list[str]
) -> tuple[int, dict[str, int], dict[str, Spread]]:
    """The first circuit of an expression, how many have each column drawn, and its spread."""
    columns = [number(db.manifest.by_name[name]) for name in drawn]
    asked = [f"count({x}), quantile_cont({x}, [0.05, 0.5, 0.95])" for x in columns]
    ((first, *found),) = rows(
        db,
        f"SELECT min(circuit_id), {', '.join(asked)} FROM circuits WHERE {condition(db, where)}",
    )
    counts, spreads = (
        dict(zip(drawn, found[::2], strict=True)),
        zip(drawn, found[1::2], strict=True),
    )
    return first, counts, {name: Spread(*s) for name, s in spreads if s is not None}


def _measured(ax: "Axes", y: float, start: Spread, end: Spread, colour: str) -> None:
    width = end.median - start.median
    ax.barh(y, width, left=start.median, height=0.34, color=colour, zorder=2)
    # one above the other: those of wide sets overlap
    for at, (low, _, high) in ((y - 0.08, start), (y + 0.08, end)):
        if high > low:
            ax.plot([low, high], [at, at], color="black", linewidth=1.4, marker="|", zorder=3)


def _published(ax: "Axes", y: float, duty: Criterion, start: Criterion | None) -> None:
    left = start.mean if start else 0.0
    ax.barh(
        y, duty.mean, left=left, height=0.3, facecolor="white", edgecolor="0.35", hatch="////",
        linewidth=0.8, zorder=2,
    )  # fmt: skip
    known = start if start else duty
    ax.plot([known.low, known.high], [y, y], color="0.35", linewidth=1.4, marker="|", zorder=3)


def _legend(figure: "Figure", n: int, lobsters: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Patch(facecolor="0.35", label="database" if n == 1 else "database: median")
    ]
    if n > 1:
        handles.append(Line2D([], [], color="black", marker="|", label=WHISKERS))
    if lobsters:
        handles += [
            Patch(facecolor="white", edgecolor="0.35", hatch="////", label="lobsters (2004): mean"),
            Line2D([], [], color="0.35", marker="|", label="± 2 SD of lobsters"),
        ]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, fontsize=8, frameon=False)
