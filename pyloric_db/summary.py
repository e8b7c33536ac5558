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
PUBLISHED = {
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
    stand beside those of the whole Prinz 2004 grid, or of a random sample of it: ranges of ids lie
    in one corner of it.
    """
    if not len(db):
        return []
    sampled = db.random_sample and not db.whole_grid
    published = PUBLISHED if _is_published(db) else {}
    found = []
    for words, expression in _expressions(db).items():
        count = db.count(expression)
        interval = wilson(count, len(db)) if sampled else None
        found.append(Share(words, count, len(db), published.get(expression), interval))
    return [s for s in found if s.count or not s.label.endswith(ACTIVITIES)]


def has_labels(db: Database) -> bool:
    """Whether circuits can be pyloric: whether they have AB/PD, LP and PY."""
    return set(PUBLISHED) <= set(db.manifest.by_name)


def _is_published(db: Database) -> bool:
    grid = [len(axis) for axis in db.manifest.axes or ()]
    of_grid = db.random_sample or db.whole_grid
    return of_grid and "netcode" in db.manifest.by_name and prod(grid) == PUBLISHED_CIRCUITS


def _expressions(db: Database) -> dict[str, str]:
    """What is counted, by its label."""
    if has_labels(db):
        return {name.replace("_", "-"): name for name in PUBLISHED}
    cells = db.manifest.cells
    activities = {
        f"{label(cell)} {activity}"
        if len(cells) > 1
        else activity: f"activity_{cell} == {activity!r}"
        for cell in cells
        for activity in ACTIVITIES
    }
    return {"periodic": "periodic", **activities}
