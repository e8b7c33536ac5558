"""What a database found, beside what was published."""

from dataclasses import dataclass
from math import prod, sqrt

from pyloric_db.query.database import Database


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
    """Shares of pyloric-like and pyloric circuits; empty for circuits without these labels.

    The published shares stand beside those of the whole Prinz 2004 grid, or of a random sample
    of it: ranges of ids lie in one corner of it.
    """
    grid = [len(axis) for axis in db.manifest.axes or ()]
    names = db.manifest.by_name
    found = []
    for column, label in (("pyloric_like", "pyloric-like"), ("pyloric", "pyloric")):
        if column in names and len(db):
            count = db.count(column)
            published = None
            of_grid = db.random_sample or db.whole_grid
            if of_grid and "netcode" in names and prod(grid) == PUBLISHED_CIRCUITS:
                published = PUBLISHED[column]
            interval = wilson(count, len(db)) if db.random_sample and not db.whole_grid else None
            found.append(Share(label, count, len(db), published, interval))
    return found
