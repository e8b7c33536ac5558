"""What a database found, beside what was published."""

from dataclasses import dataclass
from math import prod, sqrt

from pyloric_db.query.database import Database
from pyloric_db.vocabulary import ACTIVITIES, label


@dataclass(frozen=True)
class Share:
    """A share of circuits, and the published share if there is one.

    `interval` is Wilson's 95% interval; None where the circuits are no random sample.
    """

    label: str
    count: int
    total: int
    published: float | None
    interval: tuple[float, float] | None


#: Shares of all circuits of the grid. Source: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345.
PUBLISHED_CIRCUITS = 20_250_000
PUBLISHED_SHARES = {
    "pyloric_like": 4_047_375 / PUBLISHED_CIRCUITS,
    "pyloric": 452_516 / PUBLISHED_CIRCUITS,
}


#: Standard deviations of a 95% interval.
Z = 1.959964


def wilson(count: int, total: int) -> tuple[float, float]:
    """Wilson score interval of a share, 95%; (0, 1) of nothing."""
    if total == 0:
        return 0.0, 1.0
    p = count / total
    middle = p + Z * Z / (2 * total)
    half = Z * sqrt(p * (1 - p) / total + Z * Z / (4 * total * total))
    scale = 1 + Z * Z / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def shares(db: Database) -> list[Share]:
    """Shares of pyloric-like and pyloric circuits; empty where no circuit is finished.

    Of circuits without these labels the shares of those that are periodic, and of those in which
    each cell is silent, tonic, bursting or irregular, as far as there are any. The published shares
    stand beside those of the whole Prinz 2004 grid of the published model, or of a random sample
    of it: ranges of ids lie in one corner of it.
    """
    if not len(db):
        return []
    sampled = db.random_sample and not db.whole_grid
    published = PUBLISHED_SHARES if _is_published(db) else {}
    found = []
    for words, expression in _expressions(db).items():
        count = db.count(expression)
        interval = wilson(count, len(db)) if sampled else None
        found.append(Share(words, count, len(db), published.get(expression), interval))
    return [s for s in found if s.count or not s.label.endswith(ACTIVITIES)]


def _is_published(db: Database) -> bool:
    """Whether these are circuits of the published grid and model, all of them or at random."""
    manifest = db.manifest
    grid = [len(axis) for axis in manifest.axes or ()]
    return (
        (db.random_sample or db.whole_grid)
        and "netcode" in manifest.by_name
        and prod(grid) == PUBLISHED_CIRCUITS
        and not manifest.recipe.get("constants")
        and "temperature_K" not in manifest.settings
    )


def _expressions(db: Database) -> dict[str, str]:
    """What is counted, by its label."""
    if db.manifest.has_labels:
        return {name.replace("_", "-"): name for name in PUBLISHED_SHARES}
    cells = db.manifest.cells
    found = {"periodic": "periodic"}
    for cell in cells:
        whose = f"{label(cell)} " if len(cells) > 1 else ""
        found |= {f"{whose}{a}": f"activity_{cell} == {a!r}" for a in ACTIVITIES}
    return found
