"""The figures of a report, as images that stand in the page itself."""

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyloric_db.errors import PyloricDBError, QueryError
from pyloric_db.plot.histograms import histograms_figure
from pyloric_db.plot.marginals import marginals_figure
from pyloric_db.plot.rhythm import rhythm_figure
from pyloric_db.plot.stacking import stack_figure
from pyloric_db.plot.traces import BEYOND_MS, traces_figure
from pyloric_db.query.database import Database
from pyloric_db.vocabulary import RHYTHMS, published

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRACE_MS = 4000.0


@dataclass(frozen=True)
class Picture:
    """A figure as a `data:` address, or the reason why there is none."""

    title: str
    caption: str
    image: str | None
    missing: str = ""


def pictures(db: Database) -> Iterator[Picture]:
    """The figures, one after the other; what a database has nothing for comes without an image."""
    where = _best_label(db)
    lobsters = "; hatched the published ranges (Prinz, Bucher & Marder 2004)"
    hatched = lobsters if published(db.manifest.cells) else ""
    plans: list[tuple[str, str, Callable[[], Figure]]] = [
        (
            "Features",
            f"All circuits, and in front of them those of '{where}'{hatched}.",
            lambda: histograms_figure(db, where=where),
        ),
        (
            "Rhythm",
            f"When in the cycle the cells of the circuits of '{where}' burst.",
            lambda: rhythm_figure(db, where),
        ),
        (
            "Parameters",
            f"How often each parameter's values occur among the circuits of '{where}'.",
            lambda: marginals_figure(db, where),
        ),
        (
            "Grid",
            f"Dimensional stacking of '{where}', in the order of dimensions with the least "
            "clutter (Taylor, Hickey, Prinz & Marder 2006).",
            lambda: stack_figure(db, where),
        ),
        (
            "Traces",
            f"A circuit (of '{where}' if there is one), simulated on from its stored state.",
            lambda: _traces(db, where),
        ),
    ]
    for title, caption, draw in plans:
        try:
            if not len(db):
                raise QueryError("no circuit is finished yet")
            yield Picture(title, caption, _inline(draw()))
        except PyloricDBError as reason:
            yield Picture(title, caption, None, str(reason))


def _best_label(db: Database) -> str:
    """The strictest label that some circuit has: a report should have something to show."""
    candidates = [n for n in RHYTHMS if n in db.manifest.by_name]
    return next((name for name in candidates if db.count(name)), candidates[0])


def _traces(db: Database, where: str) -> "Figure":
    found = db.query(where, columns=[], limit=1)["circuit_id"].values
    circuit = int(found[0] if len(found) else db.circuits["circuit_id"].values[0])
    dt_ms = float(db.manifest.settings["dt_ms"])
    duration_ms = round((TRACE_MS + BEYOND_MS) / dt_ms) * dt_ms
    simulation = db.simulate([circuit], duration_ms=duration_ms)
    return traces_figure(
        simulation, title=f"circuit {circuit}", protocol=db.protocol, shown_ms=TRACE_MS
    )


def _inline(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
