"""Join databases of disjoint id ranges of one recipe into the database of them all.

Every shard of the new database is written as `build` would write it, from rows that are read from
the old ones. So the files do not depend on where the ranges were cut.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pyloric_db.errors import ConfigError, DatabaseError, PyloricDBWarning
from pyloric_db.pipeline.build import Progress, finished_database, writing
from pyloric_db.pipeline.plan import layout
from pyloric_db.pipeline.ranges import Ranges, ranges_text, recorded_ranges
from pyloric_db.query.columns import numpy_column
from pyloric_db.query.database import Database
from pyloric_db.query.database import open as open_database
from pyloric_db.store.cells import cells_intact, read_cells, write_cells
from pyloric_db.store.create import check_target, create
from pyloric_db.store.events import has_events, read_events
from pyloric_db.store.files import Files, Location, check_intact, files_at
from pyloric_db.store.ledger import Ledger, LedgerRows, files_of
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Manifest, first_difference
from pyloric_db.store.sealed import Row
from pyloric_db.store.shards import read_states, write_shard
from pyloric_db.store.table import read_part
from pyloric_db.store.template import CIRCUIT_ID
from pyloric_db.store.verify import damaged_shards

Arrays = dict[str, np.ndarray]
#: Of a shard: columns, states, events, and seconds of computing and of these for integrating.
_Contents = tuple[Arrays, Arrays, pa.Table | None, np.ndarray]


def merge(
    sources: Sequence[Location], path: Location, *, progress: Progress | None = None
) -> Database:
    """Join databases that `build(..., ids=...)` made, and open the result.

    It equals, but for times in the ledger, the database that one build of all the ranges makes
    with the same versions of the libraries. May be interrupted; the same call goes on.

    Args:
        sources: complete databases of disjoint ranges of one recipe, in any order; recipes of a
            prior may differ in its count.
        path: directory of the new database.
        progress: called with (circuits done, circuits in all).

    Raises:
        ConfigError: fewer than two databases.
        DatabaseError: one is incomplete or damaged, they overlap or differ in more than their
            ranges, or `path` holds something else.
    """
    if len(sources) < 2:
        raise ConfigError("merge needs at least two databases")
    parts = [_part(source) for source in sources]
    for part in parts[1:]:
        _check_same(parts[0], part)
    pieces = _pieces(parts)
    manifest = _merged(parts)
    path = files_at(path)
    ledger = Ledger(path)
    check_target(ledger, manifest)
    with build_lock(path), writing(path):
        manifest = create(ledger, manifest)
        if not cells_intact(ledger):
            row = _copied_cells(parts, path)
            if row is not None:
                ledger.append(row)
        read = lru_cache(maxsize=2)(_read_shard)  # the next rows may be of the same shard
        todo = set(range(manifest.n_shards)) - ledger.done_shards() | damaged_shards(ledger)
        done = manifest.n_circuits - sum(map(manifest.shard_size, todo))
        for shard in sorted(todo):
            start = shard * manifest.shard_circuits
            rows = list(_rows(pieces, start, start + manifest.shard_size(shard)))
            columns, states, events, times = _gather(rows, read)
            ids = columns.pop(CIRCUIT_ID)
            receipt = write_shard(path, manifest, shard, ids, columns, states, events)
            last = max((piece.finished_at for piece in rows), key=datetime.fromisoformat)
            ledger.record(
                replace(receipt, seconds=times[0], kernel_seconds=times[1], finished_at=last)
            )
            done += len(ids)
            if progress is not None:
                progress(done, manifest.n_circuits)
        ledger.compact()
    return finished_database(path, manifest)


@dataclass(frozen=True, eq=False)
class _Part:
    """A database to be merged, and its ranges of ids."""

    db: Database
    rows: LedgerRows
    ranges: Ranges
    of: int

    @property
    def files(self) -> Files:
        return self.db.files

    @property
    def manifest(self) -> Manifest:
        return self.db.manifest


class _Piece(NamedTuple):
    """Rows from `start` on of a database, that come next in the new one."""

    part: _Part
    start: int
    length: int

    @property
    def finished_at(self) -> str:
        """When the shard of its first row was finished."""
        shard = self.start // self.part.manifest.shard_circuits
        return str(self.part.rows.shards[shard]["finished_at"])


def _part(path: Location) -> _Part:
    db = open_database(path)
    selection = db.manifest.selection
    if not db.complete:
        raise DatabaseError(f"{path} is not complete: build the rest of it before it is merged")
    prior = db.manifest.recipe["parameters"].get("prior")
    if prior and not selection:  # more draws of it may be elsewhere
        return _Part(db, Ledger(db.files).read(), (range(prior["count"]),), prior["count"])
    if "ids" not in selection:
        raise DatabaseError(
            f"{path} was not built with --ids: merged are ranges of ids, and draws of a prior"
        )
    try:
        ranges = tuple(range(start, stop) for start, stop in selection["ids"])
        good = recorded_ranges(ranges, selection["of"])["ids"] == selection["ids"]
        good &= 1 <= db.manifest.recipe["store"]["shard_circuits"]
    except (TypeError, ValueError, KeyError):
        good = False
    if not good:
        raise DatabaseError(f"{path} is damaged: its ranges of ids are not valid")
    return _Part(db, Ledger(db.files).read(), ranges, selection["of"])


def _check_same(a: _Part, b: _Part) -> None:
    """Whether two databases differ in their ranges alone."""
    for key in ("recipe", "settings", "versions", "selection"):
        ours, theirs = (_compared(part.manifest, key) for part in (a, b))
        different = first_difference(ours, theirs, key)
        if different:
            place, x, y = different
            raise DatabaseError(
                f"{b.files} cannot be merged with {a.files}: {place} is {y}, but there {x}"
            )
    for key in ("name", "cells", "synapses", "sources", "axes", "columns"):
        if getattr(a.manifest, key) != getattr(b.manifest, key):
            raise DatabaseError(f"{b.files} cannot be merged with {a.files}: their {key} differ")


def _compared(manifest: Manifest, key: str) -> dict[str, Any]:
    """What must be the same: the draws of a prior do not depend on how many there are."""
    content = dict(getattr(manifest, key))
    if manifest.recipe["parameters"].get("prior"):
        if key == "recipe":
            prior = {**content["parameters"]["prior"], "count": None}
            content["parameters"] = {**content["parameters"], "prior": prior}
        content.pop("of", None)
    content.pop("ids", None)
    return content


def _pieces(parts: Sequence[_Part]) -> list[_Piece]:
    """The rows of all databases in ascending order of circuit id."""
    found = []
    for part in parts:
        ends = np.cumsum([len(r) for r in part.ranges])
        starts = ends - [len(r) for r in part.ranges]
        if ends[-1] != len(part.db):  # a sample of the ranges
            ids = part.db.circuits[CIRCUIT_ID].values
            starts = np.searchsorted(ids, [r.start for r in part.ranges])
            ends = np.searchsorted(ids, [r.stop for r in part.ranges])
        for r, start, end in zip(part.ranges, starts, ends, strict=True):
            found.append((r, _Piece(part, int(start), int(end - start))))
    found.sort(key=lambda item: item[0].start)
    for (r, piece), (later, other) in zip(found, found[1:], strict=False):
        if later.start < r.stop:
            both = range(later.start, min(r.stop, later.stop))
            raise DatabaseError(
                f"{piece.part.files} and {other.part.files} both hold circuits "
                f"{ranges_text([both])}"
            )
    return [piece for _, piece in found]


def _merged(parts: Sequence[_Part]) -> Manifest:
    largest = max(parts, key=lambda part: part.of)
    first = largest.manifest
    ranges = [r for part in parts for r in part.ranges]
    selection = {k: v for k, v in first.selection.items() if k not in ("ids", "of")}
    count = sum(len(part.db) for part in parts)
    shard, chunk = layout(count, first.recipe["store"]["shard_circuits"])
    return replace(
        first,
        selection=selection | recorded_ranges(ranges, largest.of),
        n_circuits=count,
        shard_circuits=shard,
        chunk_circuits=chunk,
    )


def _copied_cells(parts: Sequence[_Part], path: Files) -> Row | None:
    """Stores the thermalised cells of the first database that has any; their row."""
    having = [part for part in parts if part.rows.cells is not None]
    if not having:
        return None
    first = read_cells(having[0].files, having[0].manifest.channels)
    for part in having[1:]:
        other = read_cells(part.files, part.manifest.channels)
        if any(
            not np.array_equal(v, other[k], equal_nan=v.dtype.kind == "f") for k, v in first.items()
        ):
            warnings.warn(
                f"the thermalised cells of {part.files} and {having[0].files} differ: they come "
                "from different kinds of machine, and those of the latter are kept",
                PyloricDBWarning,
                stacklevel=3,
            )
    return write_cells(path, first, having[0].manifest.channels)


def _rows(pieces: Sequence[_Piece], start: int, stop: int) -> Iterator[_Piece]:
    """The pieces, cut by the shards of their databases, that make up rows start ... stop - 1."""
    begin = 0
    for part, first, length in pieces:
        a, b = max(start, begin), min(stop, begin + length)
        row, end = first + a - begin, first + b - begin
        size = part.manifest.shard_circuits
        while row < end:
            until = min(end, (row // size + 1) * size)
            yield _Piece(part, row, until - row)
            row = until
        begin += length


def _gather(
    rows: Sequence[_Piece], read: Callable[[_Part, int], _Contents]
) -> tuple[Arrays, Arrays, pa.Table | None, list[float]]:
    """Columns, states, events and their share of the shards' seconds, of some rows."""
    columns, states, events, times = [], [], [], np.zeros(2)
    for part, start, length in rows:
        shard, offset = divmod(start, part.manifest.shard_circuits)
        table, state, spikes, took = read(part, shard)
        inside = slice(offset, offset + length)
        columns.append({name: values[inside] for name, values in table.items()})
        states.append({name: values[inside] for name, values in state.items()})
        if spikes is not None:
            events.append(spikes.slice(offset, length))
        times += took * length / part.manifest.shard_size(shard)
    joined = pa.concat_tables(events) if events else None
    return _concatenate(columns), _concatenate(states), joined, times.tolist()


def _concatenate(pieces: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def _read_shard(part: _Part, shard: int) -> _Contents:
    """What is in a shard whose files match their checksums."""
    files, manifest, row = part.files, part.manifest, part.rows.shards[shard]
    check_intact(files, files_of(row))
    table = read_part(files, manifest, shard)
    columns = {c.name: numpy_column(c, table[c.name]) for c in manifest.columns}
    events = read_events(files, manifest, shard) if has_events(manifest) else None
    took = np.array([row["seconds"], row["kernel_seconds"]])
    return columns, read_states(files, manifest, shard), events, took
