"""Checking every byte of a database against the checksums it carries."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from pyloric_db.errors import DatabaseError
from pyloric_db.store.derived import derived_damage, derived_files
from pyloric_db.store.files import (
    FAILURES_FILE,
    FEATURES_DIR,
    LEDGER_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    Files,
    Location,
    database_at,
    differences,
)
from pyloric_db.store.ledger import Failure, Ledger, LedgerRows, failures, files_of
from pyloric_db.store.manifest import read_manifest
from pyloric_db.store.sealed import read_sealed


class Damage(NamedTuple):
    """A damaged file of a database, relative to its directory, and what is wrong with it."""

    file: str
    what: str


@dataclass(frozen=True)
class Report:
    """What `verify` found.

    Shards that are not done yet are no damage, nor are shards set aside (`failures`) or
    leftovers of killed writers (`strays`).
    """

    damages: tuple[Damage, ...]
    shards_done: int
    n_shards: int | None
    failures: tuple[Failure, ...]
    strays: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.damages

    @property
    def complete(self) -> bool:
        return self.shards_done == self.n_shards


@dataclass(frozen=True)
class Status:
    """How far a database is; `counts` and times are sums over finished shards.

    `builder` is who holds its lock, as `process 7 on host`; None where nobody is seen to.
    """

    name: str
    shards_done: int
    n_shards: int
    circuits_done: int
    n_circuits: int
    counts: dict[str, int]
    failures: tuple[Failure, ...]
    seconds: float
    kernel_seconds: float
    bytes: int
    builder: str | None

    @property
    def complete(self) -> bool:
        return self.shards_done == self.n_shards


def verify(path: Location, progress: Callable[[int, int], None] | None = None) -> Report:
    """Reads every file of a database and compares it with its checksum.

    Args:
        path: directory of the database.
        progress: called with the bytes read so far and in all.

    Raises:
        DatabaseError: the directory holds no database at all, or its ledger has rows that
            carry a checksum but are not pyloric-db's. Other damage never raises.
    """
    files = database_at(path)
    rows = Ledger(files).read()
    damages = _damaged_lines(rows)
    manifest = None
    try:
        manifest = read_manifest(files)
    except DatabaseError as err:
        damages.append(Damage(MANIFEST_FILE, str(err)))
    if rows.header is None and not _just_begun(files, rows):
        damages.append(Damage(LEDGER_FILE, "has no intact header row"))
    if rows.header and manifest and rows.header["recipe_hash"] != manifest.recipe_hash:
        damages.append(Damage(LEDGER_FILE, f"belongs to another recipe than {MANIFEST_FILE}"))
    damages += [
        Damage(LEDGER_FILE, f"row of shard {shard} does not fit {MANIFEST_FILE}")
        for shard, row in rows.shards.items()
        if manifest and not manifest.fits(shard, row["n_circuits"])
    ]
    listed = rows.files()
    total = sum(f.size for f in listed)
    read = 0
    for file, wrong in differences(files, listed):
        if wrong:
            damages.append(Damage(file.path, wrong))
        read += file.size
        if progress:
            progress(read, total)
    derived = derived_damage(files)
    if derived:
        file_name, wrong = derived
        damages.append(Damage(file_name, f"{wrong} (`pyloric-db index` makes it again)"))
    damages += [
        Damage(FAILURES_FILE, f"line {line} does not match its checksum")
        for line in read_sealed(files, FAILURES_FILE).damaged
    ]
    return Report(
        damages=tuple(dict.fromkeys(damages)),
        shards_done=len(rows.shards),
        n_shards=manifest.n_shards if manifest else None,
        failures=tuple(failures(files)),
        strays=_strays(files, {f.path for f in listed} | set(derived_files(files))),
    )


def damaged_shards(
    ledger: Ledger,
    among: Collection[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> set[int]:
    """Finished shards with a file that does not match its checksum, to be made again.

    Args:
        ledger: of the database.
        among: only of these; None for all.
        progress: called with the files read so far and in all.
    """
    if among is not None and not among:
        return set()
    rows = ledger.read().shards
    shards = sorted(rows if among is None else set(among) & set(rows))
    shard_of = {file: shard for shard in shards for file in files_of(rows[shard])}
    found = set()
    for read, (file, wrong) in enumerate(differences(ledger.files, list(shard_of)), start=1):
        if wrong:
            found.add(shard_of[file])
        if progress:
            progress(read, len(shard_of))
    return found


def status(path: Location, progress: Callable[[int, int], None] | None = None) -> Status:
    """How far a database is, from its manifest, its ledger and what it notes of failures.

    Args:
        path: directory of the database.
        progress: called with the rows of the ledger read so far and in all.

    Raises:
        DatabaseError: there is no database, its manifest is damaged, or its ledger is lost.
    """
    files = database_at(path)
    manifest, rows = read_manifest(files), Ledger(files).read()
    if FEATURES_DIR in files.top_names() and not files.exists(LEDGER_FILE):
        raise DatabaseError(f"{files} has no {LEDGER_FILE}: it may have been copied in part")
    counts: Counter[str] = Counter()
    circuits, seconds, kernel_seconds = 0, 0.0, 0.0
    size = sum(f.size for row in (rows.header, rows.cells) if row for f in files_of(row))
    for n_read, row in enumerate(rows.shards.values(), start=1):
        counts.update(row["counts"])
        circuits += row["n_circuits"]
        seconds += row["seconds"]
        kernel_seconds += row["kernel_seconds"]
        size += sum(file.size for file in files_of(row))
        if progress:
            progress(n_read, len(rows.shards))
    return Status(
        name=manifest.name,
        shards_done=len(rows.shards),
        n_shards=manifest.n_shards,
        circuits_done=circuits,
        n_circuits=manifest.n_circuits,
        counts=dict(counts),
        failures=tuple(failures(files)),
        seconds=seconds,
        kernel_seconds=kernel_seconds,
        bytes=size,
        builder=files.builder(),
    )


def _just_begun(files: Files, rows: LedgerRows) -> bool:
    """Whether a builder was killed before it had written anything that could be lost."""
    if rows.shards or rows.damaged:
        return False
    return not any(name.startswith(f"{FEATURES_DIR}/") for name in files.names())


def _damaged_lines(rows: LedgerRows) -> list[Damage]:
    return [
        Damage(LEDGER_FILE, f"line {line} does not match its checksum") for line in rows.damaged
    ]


def _strays(files: Files, known: set[str]) -> tuple[str, ...]:
    known = known | {MANIFEST_FILE, LEDGER_FILE, FAILURES_FILE, LOCK_FILE}
    return tuple(sorted(set(files.names()) - known))
