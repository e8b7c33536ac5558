"""Rhythm diagram: when in the AB/PD cycle each cell bursts, beside the published ranges."""

from typing import TYPE_CHECKING, NamedTuple

from pyloric_db.errors import QueryError
from pyloric_db.plot.canvas import new_figure
from pyloric_db.plot.tallies import condition, count, number, rows
from pyloric_db.query.database import Database
from pyloric_db.query.expression import quote_name
from pyloric_db.vocabulary import CELLS, COLOURS, PUBLISHED, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns of the phases at which each cell's burst starts and ends; AB/PD starts the cycle.
STARTS = {"lp": "phase_start_lp", "py": "phase_start_py"}
ENDS = {"abpd": "duty_cycle_abpd", "lp": "phase_end_lp", "py": "phase_end_py"}
#: All that is drawn.
DRAWN = (*STARTS.values(), *ENDS.values(), "period_ms")
WHISKERS = "90% of circuits: start above end"


class Spread(NamedTuple):
    """The middle of a set of circuits: its 5%, 50% and 95% quantiles."""

    low: float
    median: float
    high: float


def rhythm_figure(db: Database, where: str = "pyloric") -> "Figure":
    """Bursts of one circuit or of a set as bars over the phase of the AB/PD cycle.

    Bars go from the median start to the median end, with whiskers over the middle 90% of
    circuits, that of the start above that of the end. Below each, hatched, the published bar from
    mean start to mean start + duty cycle, with whiskers of ± 2 SD at the ends whose spread was
    published (Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345, table 1).

    Raises:
        QueryError: the expression is not valid, or finds no circuit with all the phases.
        ConfigError: matplotlib is missing.
    """
    check_phases(db)
    chosen = count(db, where)
    whole, first, spreads = _spreads(db, where)
    if not whole:
        raise QueryError(
            f"none of the {chosen:,} circuits of {where!r} bursts in all three cells in every cycle"
        )
    figure = new_figure(figsize=(8, 3.6))
    ax = figure.subplots()
    for row, cell in enumerate(CELLS):
        start = spreads[STARTS[cell]] if cell in STARTS else Spread(0, 0, 0)
        _measured(ax, row - 0.17, start, spreads[ENDS[cell]], COLOURS[row])
        _published(ax, row + 0.2, cell)
    ax.set_yticks(range(len(CELLS)), [label(c) for c in CELLS], fontsize=12)
    ax.set_ylim(len(CELLS) - 0.45, -0.55)
    ax.set_xlim(0, max(1.05, ax.get_xlim()[1]))
    ax.axvline(1, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xlabel("phase in the AB/PD cycle (from burst start to burst start)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    _legend(ax, whole)
    period = spreads["period_ms"]
    title = f"circuit {first}: period {period.median:.0f} ms"
    if chosen > 1:
        of = f" of {chosen:,}" if whole < chosen else ""  # the others lack phases
        title = (
            f"{where}: {whole:,}{of} circuits\nperiod {period.median:.0f} ms (median; 90% from "
            f"{period.low:.0f} to {period.high:.0f} ms)"
        )
    ax.set_title(title, fontsize=11)
    return figure


def check_phases(db: Database) -> None:
    """QueryError where the circuits have no columns for a rhythm diagram."""
    if missing := set(DRAWN) - set(db.manifest.by_name):
        raise QueryError(
            f"the circuits of {db.manifest.name} have no column {min(missing)}: a rhythm diagram "
            "needs AB/PD, LP and PY"
        )


def _spreads(db: Database, where: str) -> tuple[int, int, dict[str, Spread]]:
    """How many circuits of an expression have all columns drawn, the first, and their spreads."""
    quantiles = [
        f"quantile_cont({number(db.manifest.column(n))}, [0.05, 0.5, 0.95])" for n in DRAWN
    ]
    known = " AND ".join(f"{quote_name(n)} IS NOT NULL" for n in DRAWN)
    ((whole, first, *spreads),) = rows(
        db,
        f"SELECT count(*), min(circuit_id), {', '.join(quantiles)} FROM circuits "
        f"WHERE ({condition(db, where)}) AND {known}",
    )
    if not whole:
        return 0, 0, {}
    return whole, first, {n: Spread(*s) for n, s in zip(DRAWN, spreads, strict=True)}


def _measured(ax: "Axes", y: float, start: Spread, end: Spread, colour: str) -> None:
    width = end.median - start.median
    ax.barh(y, width, left=start.median, height=0.34, color=colour, zorder=2)
    # one above the other: those of wide sets overlap
    for at, (low, _, high) in ((y - 0.08, start), (y + 0.08, end)):
        if high > low:
            ax.plot([low, high], [at, at], color="black", linewidth=1.4, marker="|", zorder=3)


def _published(ax: "Axes", y: float, cell: str) -> None:
    duty = PUBLISHED[f"duty_cycle_{cell}"]
    start = PUBLISHED.get(STARTS.get(cell, ""))
    left = start.mean if start else 0.0
    ax.barh(
        y, duty.mean, left=left, height=0.3, facecolor="white", edgecolor="0.35", hatch="////",
        linewidth=0.8, zorder=2,
    )  # fmt: skip
    known = start if start else duty
    ax.plot([known.low, known.high], [y, y], color="0.35", linewidth=1.4, marker="|", zorder=3)


def _legend(ax: "Axes", n: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="0.35", label="database" if n == 1 else "database: median"),
        Patch(facecolor="white", edgecolor="0.35", hatch="////", label="lobsters (2004): mean"),
        Line2D([], [], color="0.35", marker="|", label="± 2 SD of lobsters"),
    ]
    if n > 1:
        handles.insert(1, Line2D([], [], color="black", marker="|", label=WHISKERS))
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=4, fontsize=8,
        frameon=False,
    )  # fmt: skip
