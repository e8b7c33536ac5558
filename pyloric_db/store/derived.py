"""Derived tables: rows of the parts in another order, to answer some questions faster.

A derived table is never a second truth. Its name carries the fingerprint of the parts that it was
made from, its record (one sealed line) the checksum of its bytes; one that does not fit in both is
as if it were not there, and the parts answer.
"""

import hashlib
from collections.abc import Mapping

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import Files, FileSum, difference, is_file_sum
from pyloric_db.store.ledger import files_of
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.sealed import Row, read_sealed, rewrite_sealed, seal, unseal
from pyloric_db.store.table import part_name

DERIVED_DIR = "derived"
RECORD_FILE = f"{DERIVED_DIR}/record.jsonl"

#: To be raised whenever tables of the same parts would be made differently.
LAYOUT = 2


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


def find_derived(files: Files, table: str, made_from: str) -> str | None:
    """The name of a derived table that is intact and made from these parts; None without one.

    Reads the whole file once, for its checksum.
    """
    row = _record(files)
    name = derived_name(table, made_from)
    if row is None or row["fingerprint"] != made_from:
        return None
    known = FileSum.from_text(row["file"])
    return name if known.path == name and difference(files, known) is None else None


def keep_derived(files: Files, data: bytes, table: str, made_from: str) -> str:
    """Puts a finished table at its place durably, records it, and deletes the older version."""
    older = _record(files)
    name = derived_name(table, made_from)
    files.write({name: data})
    row: Row = {"fingerprint": made_from, "file": FileSum.of(name, data).to_text()}
    rewrite_sealed(files, RECORD_FILE, [seal(row)[:-1]])
    if older is not None and FileSum.from_text(older["file"]).path != name:
        files.remove(FileSum.from_text(older["file"]).path)
    return name


def derived_files(files: Files) -> tuple[str, ...]:
    """Files of derived tables that have a record, below the database."""
    row = _record(files)
    return () if row is None else (RECORD_FILE, FileSum.from_text(row["file"]).path)


def derived_damage(files: Files) -> tuple[str, str] | None:
    """A recorded derived table that is not as it was written: its name, and what is wrong."""
    row = _record(files)
    if row is None:
        return None
    file = FileSum.from_text(row["file"])
    wrong = difference(files, file)
    return None if wrong is None else (file.path, wrong)


def _record(files: Files) -> Row | None:
    try:
        lines = read_sealed(files, RECORD_FILE).lines
        row = unseal(lines[-1]) if lines else {}
    except (DatabaseError, ValueError):
        return None
    # the older file is deleted when a newer one is kept: it must not be one of the database's own
    valid = (
        isinstance(row.get("fingerprint"), str)
        and is_file_sum(row.get("file"))
        and row["file"].startswith(f"{DERIVED_DIR}/")
    )
    return row if valid else None
