"""What a report says in words and numbers, from the manifest, the ledger and the table."""

import json
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from pyloric_db.query.database import Database
from pyloric_db.query.expression import quote_name
from pyloric_db.query.heading import heading
from pyloric_db.store.ledger import Ledger, LedgerRows
from pyloric_db.store.verify import Status, status
from pyloric_db.summary import Share, shares
from pyloric_db.vocabulary import ACTIVITIES, label


@dataclass(frozen=True)
class Times:
    """What the shards' receipts say of time; None where no shard is finished.

    `work_s` is summed over workers, `wall_s` runs from the start of the first shard to the end of
    the last, pauses of a stopped build included.
    """

    work_s: float
    wall_s: float
    shard_s: tuple[float, float, float]  # shortest, median, longest
    circuits_per_work_s: float
    first: str
    last: str


@dataclass(frozen=True)
class Facts:
    """Everything of a report but its figures."""

    status: Status
    description: str
    recipe: str
    recipe_hash: str
    selection: str
    axes: list[tuple[str, int, str]]  # name, number of values, values with unit
    settings: dict[str, object]
    versions: dict[str, object]
    times: Times | None
    labels: bool  # whether circuits can be pyloric
    shares: list[Share]
    activities: list[tuple[str, list[int]]]  # cell, circuits per activity; if not among the shares


def collect(db: Database) -> Facts:
    """Reads the facts of a database; one that is not finished has fewer.

    Raises:
        DatabaseError: a file is damaged.
    """
    m = db.manifest
    axes = []
    for axis in m.axes or ():
        if axis.kind == "cell":
            axes.append((label(axis.name), len(axis), ", ".join(axis.labels)))
        else:
            values = ", ".join(f"{v:g}" for v in axis.values)
            axes.append((axis.name, len(axis), f"{values} {m.by_name[axis.name].unit}"))
    selection = ", ".join(f"{k} {v}" for k, v in m.selection.items())
    return Facts(
        status=status(db.path),
        description=heading(m),
        recipe=json.dumps(m.recipe, indent=2),
        recipe_hash=m.recipe_hash,
        selection=selection or "all that the recipe names",
        axes=axes,
        settings=m.settings,
        versions=m.versions,
        times=_times(Ledger(db.path).read()),
        labels=m.has_labels,
        shares=shares(db),
        activities=_activities(db) if m.has_labels else [],
    )


def _times(rows: LedgerRows) -> Times | None:
    shards = list(rows.shards.values())
    if not shards:
        return None
    seconds = [float(row["seconds"]) for row in shards]
    ends = [datetime.fromisoformat(row["finished_at"]) for row in shards]
    starts = [end.timestamp() - s for end, s in zip(ends, seconds, strict=True)]
    work = sum(seconds)
    return Times(
        work_s=work,
        wall_s=max(end.timestamp() for end in ends) - min(starts),
        shard_s=(min(seconds), median(seconds), max(seconds)),
        circuits_per_work_s=sum(row["n_circuits"] for row in shards) / max(work, 1e-9),
        first=min(ends).isoformat(sep=" ", timespec="minutes"),
        last=max(ends).isoformat(sep=" ", timespec="minutes"),
    )


def _activities(db: Database) -> list[tuple[str, list[int]]]:
    """Circuits in which each cell is silent, tonic, bursting or irregular; the rest failed."""
    found = []
    for cell in db.manifest.cells if len(db) else ():
        column = quote_name(f"activity_{cell}")
        counts = ", ".join(f"count(*) FILTER ({column} = '{a}')" for a in ACTIVITIES)
        (row,) = db.sql(f"SELECT {counts} FROM circuits").to_pylist()
        found.append((label(cell), list(row.values())))
    return found
