"""Derived tables: rows of the parts in another order, to answer some questions faster.

A derived table is never a second truth. Its name carries the fingerprint of the parts that it was
made from, its record (one sealed line) the checksums of its bytes; one that does not fit in both is
as if it were not there, and the parts answer.
"""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

from pyloric_db.store.files import (
    PARTIAL,
    FileSum,
    difference,
    fsync_path,
    is_file_sum,
    remove_partials,
    sum_file,
)
from pyloric_db.store.ledger import files_of
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.sealed import Row, read_sealed, rewrite_sealed, seal, unseal
from pyloric_db.store.table import part_name

DERIVED_DIR = "derived"
RECORD_FILE = f"{DERIVED_DIR}/record.jsonl"

#: To be raised whenever tables of the same parts would be made differently.
LAYOUT = 1

_BLOCK = 1 << 24


def fingerprint(manifest: Manifest, shards: Mapping[int, Row]) -> str:
    """What a derived table must have been made from: these parts, to the byte (hex)."""
    digest = hashlib.sha256(f"{LAYOUT} {manifest.recipe_hash}".encode())
    for shard in sorted(shards):
        for file in files_of(shards[shard]):
            if file.path == part_name(shard):
                digest.update(f"\n{file.to_text()}".encode())
    return digest.hexdigest()


def derived_name(table: str, made_from: str) -> str:
    """Path, below the database, of a derived table; another version has another name."""
    return f"{DERIVED_DIR}/{table}-{made_from[:16]}.parquet"


def find_derived(path: Path, table: str, made_from: str) -> Path | None:
    """The file of a derived table that is intact and made from these parts; None without one.

    Reads the whole file once (a third of a second for a gigabyte that is in memory).
    """
    row = _record(path)
    if row is None or row["fingerprint"] != made_from:
        return None
    file = path / derived_name(table, made_from)
    known = FileSum.from_text(row["file"])
    if known.path != file.relative_to(path).as_posix():
        return None
    try:
        if file.stat().st_size != known.size or _crc32(file) != row["crc32"]:
            return None
    except OSError:
        return None
    return file


def keep_derived(path: Path, partial: Path, table: str, made_from: str) -> Path:
    """Puts a finished table at its place durably, records it, and deletes older versions."""
    target = path / derived_name(table, made_from)
    fsync_path(partial)
    partial.replace(target)
    fsync_path(target.parent)
    row: Row = {
        "fingerprint": made_from,
        "file": sum_file(path, target).to_text(),
        "crc32": _crc32(target),
    }
    rewrite_sealed(path / RECORD_FILE, [seal(row)[:-1]])
    for older in target.parent.glob(f"{table}-*.parquet"):
        if older != target:
            older.unlink(missing_ok=True)
    return target


def partial_derived(path: Path, table: str) -> Path:
    """Where to write a table that is not finished; clears what a killed writer left."""
    directory = path / DERIVED_DIR
    directory.mkdir(exist_ok=True)
    remove_partials(directory)
    return directory / f"{table}.parquet{PARTIAL}"


def derived_files(path: Path) -> tuple[str, ...]:
    """Files of derived tables that have a record, below the database."""
    row = _record(path)
    return () if row is None else (RECORD_FILE, FileSum.from_text(row["file"]).path)


def derived_damage(path: Path) -> tuple[str, str] | None:
    """A recorded derived table that is not as it was written: its name, and what is wrong."""
    row = _record(path)
    if row is None:
        return None
    file = FileSum.from_text(row["file"])
    wrong = difference(path, file)
    return None if wrong is None else (file.path, wrong)


def _record(path: Path) -> Row | None:
    try:
        lines = read_sealed(path / RECORD_FILE).lines
        row = unseal(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return None
    valid = (
        isinstance(row.get("fingerprint"), str)
        and is_file_sum(row.get("file"))
        and isinstance(row.get("crc32"), int)
    )
    return row if valid else None


def _crc32(file: Path) -> int:
    """Faster than SHA-256, and enough against rot: it is asked before the first use."""
    value = 0
    with file.open("rb") as f:
        while block := f.read(_BLOCK):
            value = zlib.crc32(block, value)
    return value
