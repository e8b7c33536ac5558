"""Checking every byte of a database against the checksums it carries."""

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import NamedTuple

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import (
    FAILURES_FILE,
    FEATURES_DIR,
    LEDGER_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    difference,
)
from pyloric_db.store.ledger import Failure, Ledger, LedgerRows, failures, files_of
from pyloric_db.store.manifest import Manifest, read_manifest
from pyloric_db.store.sealed import read_sealed

#: Finished shards are checked in blocks, several at a time.
READERS = 4
_BLOCK = 64


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
    """How far a database is; `counts` and `seconds` are sums over finished shards."""

    name: str
    shards_done: int
    n_shards: int
    circuits_done: int
    n_circuits: int
    counts: dict[str, int]
    failures: tuple[Failure, ...]
    seconds: float
    bytes: int

    @property
    def complete(self) -> bool:
        return self.shards_done == self.n_shards


def verify(path: str | Path, progress: Callable[[int, int], None] | None = None) -> Report:
    """Reads every file of a database and compares it with its checksum.

    Args:
        path: directory of the database.
        progress: called with the bytes read so far and in all.

    Raises:
        DatabaseError: the directory holds no database at all. Damage never raises.
    """
    path = _database_directory(path)
    rows = Ledger(path).read()
    damages = _damaged_lines(rows)
    manifest = None
    try:
        manifest = read_manifest(path)
    except DatabaseError as err:
        damages.append(Damage(MANIFEST_FILE, str(err)))
    if rows.header is None and not _just_begun(path, rows):
        damages.append(Damage(LEDGER_FILE, "has no intact header row"))
    if rows.header and manifest and rows.header["recipe_hash"] != manifest.recipe_hash:
        damages.append(Damage(LEDGER_FILE, f"belongs to another recipe than {MANIFEST_FILE}"))
    damages += [
        Damage(LEDGER_FILE, f"row of shard {shard} does not fit {MANIFEST_FILE}")
        for shard, row in rows.shards.items()
        if manifest and not _fits(manifest, shard, row["n_circuits"])
    ]
    files = rows.files()
    total = sum(f.size for f in files)
    read = 0
    for file in files:
        wrong = difference(path, file)
        if wrong:
            damages.append(Damage(file.path, wrong))
        read += file.size
        if progress:
            progress(read, total)
    damages += [
        Damage(FAILURES_FILE, f"line {line} does not match its checksum")
        for line in read_sealed(path / FAILURES_FILE).damaged
    ]
    return Report(
        damages=tuple(dict.fromkeys(damages)),
        shards_done=len(rows.shards),
        n_shards=manifest.n_shards if manifest else None,
        failures=tuple(failures(path)),
        strays=_strays(path, {f.path for f in files}),
    )


def damaged_shards(
    path: str | Path,
    among: Collection[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> set[int]:
    """Finished shards with a file that does not match its checksum, to be made again.

    Args:
        path: directory of the database.
        among: only of these; None for all.
        progress: called with the shards read so far and in all.
    """
    path = Path(path)
    if among is not None and not among:
        return set()
    rows = Ledger(path).read().shards
    shards = sorted(rows if among is None else set(among) & set(rows))

    def is_damaged(shard: int) -> bool:
        return any(difference(path, file) for file in files_of(rows[shard]))

    found = set()
    with ThreadPoolExecutor(READERS) as pool:  # hashing lets go of the interpreter
        for start in range(0, len(shards), _BLOCK):
            block = shards[start : start + _BLOCK]
            found |= set(compress(block, pool.map(is_damaged, block)))
            if progress:
                progress(start + len(block), len(shards))
    return found


def status(path: str | Path) -> Status:
    """How far a database is, from its manifest and ledger alone.

    Raises:
        DatabaseError: there is no database, or its manifest is damaged.
    """
    path = _database_directory(path)
    manifest, rows = read_manifest(path), Ledger(path).read()
    counts: dict[str, int] = {}
    for row in rows.shards.values():
        for key, n in row["counts"].items():
            counts[key] = counts.get(key, 0) + n
    return Status(
        name=manifest.name,
        shards_done=len(rows.shards),
        n_shards=manifest.n_shards,
        circuits_done=sum(row["n_circuits"] for row in rows.shards.values()),
        n_circuits=manifest.n_circuits,
        counts=counts,
        failures=tuple(failures(path)),
        seconds=sum(row["seconds"] for row in rows.shards.values()),
        bytes=sum(file.size for file in rows.files()),
    )


def _database_directory(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_dir():
        raise DatabaseError(f"{path} is not a directory")
    if not (path / MANIFEST_FILE).is_file() and not (path / LEDGER_FILE).is_file():
        raise DatabaseError(f"{path} holds no database: it has no {MANIFEST_FILE}")
    return path


def _just_begun(path: Path, rows: LedgerRows) -> bool:
    """Whether a builder was killed before it had written anything that could be lost."""
    return not rows.shards and not rows.damaged and not any((path / FEATURES_DIR).glob("*"))


def _damaged_lines(rows: LedgerRows) -> list[Damage]:
    return [
        Damage(LEDGER_FILE, f"line {line} does not match its checksum") for line in rows.damaged
    ]


def _fits(manifest: Manifest, shard: int, n_circuits: int) -> bool:
    return shard < manifest.n_shards and n_circuits == manifest.shard_size(shard)


def _strays(path: Path, known: set[str]) -> tuple[str, ...]:
    known = known | {MANIFEST_FILE, LEDGER_FILE, FAILURES_FILE, LOCK_FILE}
    found = (p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir())
    return tuple(sorted(set(found) - known))
