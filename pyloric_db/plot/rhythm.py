"""Rhythm diagram: when in the AB/PD cycle each cell bursts, beside the published ranges."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError
from pyloric_db.plot.canvas import COLOURS, new_figure
from pyloric_db.plot.tallies import count
from pyloric_db.query.database import Database
from pyloric_db.vocabulary import CELLS, PUBLISHED, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns of the phases at which each cell's burst starts and ends; AB/PD starts the cycle.
STARTS = {"lp": "phase_start_lp", "py": "phase_start_py"}
ENDS = {"abpd": "duty_cycle_abpd", "lp": "phase_end_lp", "py": "phase_end_py"}


def rhythm_figure(db: Database, where: str = "pyloric") -> "Figure":
    """Bursts of one circuit or of a set as bars over the phase of the AB/PD cycle.

    Bars go from the median start to the median end, with whiskers over the middle 90% of
    circuits. Below each, hatched, the published bar from mean start to mean start + duty cycle,
    with whiskers of ± 2 SD at the ends whose spread was published (Prinz, Bucher & Marder 2004,
    Nat Neurosci 7:1345, table 1).

    Raises:
        QueryError: the expression is not valid, or finds no circuit with all the phases.
        ConfigError: matplotlib is missing.
    """
    names = [*STARTS.values(), *ENDS.values()]
    if missing := set(names) - {c.name for c in db.manifest.columns}:
        raise QueryError(
            f"the circuits of {db.manifest.name} have no column {min(missing)}: a rhythm diagram "
            "needs AB/PD, LP and PY"
        )
    chosen = count(db, where)
    found = db.query(where, columns=[*names, "period_ms"])
    phases = {n: found[n].values.astype(np.float64) for n in names}
    whole = np.all([np.isfinite(v) for v in phases.values()], axis=0)
    if not whole.any():
        raise QueryError(
            f"none of the {chosen:,} circuits of {where!r} bursts in all three cells in every cycle"
        )
    phases = {n: v[whole] for n, v in phases.items()}
    period = found["period_ms"].values[whole]
    figure = new_figure(figsize=(8, 3.6))
    ax = figure.subplots()
    for row, cell in enumerate(CELLS):
        start = phases[STARTS[cell]] if cell in STARTS else np.zeros(int(whole.sum()))
        _measured(ax, row - 0.17, start, phases[ENDS[cell]], COLOURS[row])
        _published(ax, row + 0.2, cell)
    ax.set_yticks(range(len(CELLS)), [label(c) for c in CELLS], fontsize=12)
    ax.set_ylim(len(CELLS) - 0.45, -0.55)
    ax.set_xlim(0, max(1.05, ax.get_xlim()[1]))
    ax.axvline(1, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.set_xlabel("phase in the AB/PD cycle (from burst start to burst start)")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    _legend(ax, int(whole.sum()))
    words = f"circuit {found['circuit_id'].values[whole][0]}" if whole.sum() == 1 else where
    ax.set_title(f"{words}: period {np.median(period):.0f} ms{_spread(period)}", fontsize=11)
    return figure


def _spread(period: npt.NDArray[np.float32]) -> str:
    if len(period) == 1:
        return ""
    low, high = np.quantile(period, (0.05, 0.95))
    return f" (median; 90% from {low:.0f} to {high:.0f} ms), {len(period):,} circuits"


def _measured(
    ax: "Axes",
    y: float,
    start: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    colour: str,
) -> None:
    left, right = float(np.median(start)), float(np.median(end))
    ax.barh(y, right - left, left=left, height=0.34, color=colour, zorder=2)
    for ends in (start, end):
        low, high = np.quantile(ends, (0.05, 0.95))
        if high > low:
            ax.plot([low, high], [y, y], color="black", linewidth=1.4, marker="|", zorder=3)


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
        handles.insert(1, Line2D([], [], color="black", marker="|", label="90% of circuits"))
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, -0.2), ncols=4, fontsize=8,
        frameon=False,
    )  # fmt: skip
