"""The derived table of the pyloric-like circuits, which most questions are about.

A fifth of the circuits, sorted by (pyloric, period), so that a reader finds the rows of a
period range side by side. docs/benchmarks.md says what it brings.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from pyloric_db.errors import DatabaseError, QueryError, first_line
from pyloric_db.query.engine import rows_of
from pyloric_db.query.expression import quote_text
from pyloric_db.query.narrow import Narrowing
from pyloric_db.store.derived import find_derived, fingerprint, keep_derived
from pyloric_db.store.files import Files, FileSum, Location, check_intact, files_at
from pyloric_db.store.ledger import Ledger, files_of
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Manifest, read_manifest
from pyloric_db.store.sealed import Row
from pyloric_db.store.table import part_name
from pyloric_db.vocabulary import LABELS

TABLE = "pyloric_like"

#: Rows read at least where one is wanted. Smaller groups cost more to find than they save.
_ROW_GROUP = 16_384
#: From so many circuits on a build makes the index: below, the parts answer as fast.
WORTHWHILE = 200_000

Progress = Callable[[int, int], None]


def find_index(files: Files, manifest: Manifest, shards: Mapping[int, Row]) -> str | None:
    """The table's file if it is there, intact and of these shards."""
    return find_derived(files, TABLE, fingerprint(manifest, shards))


def in_index(narrowing: Narrowing) -> bool:
    """Whether every circuit that a condition finds is in the table."""
    return not narrowing.flags.isdisjoint(LABELS)


def make_index(path: Location, progress: Progress | None = None) -> FileSum:
    """Makes the table of a database's finished shards, or leaves it if it is there and good.

    Takes a quarter of a minute and 1 GB of memory for 20 million circuits.

    Args:
        path: the database.
        progress: called with circuits done and in all.

    Returns:
        its file.

    Raises:
        QueryError: its circuits have no label `pyloric_like`, or none is finished yet.
        DatabaseError: a part is damaged, the directory cannot be written, or the database is
            being built.
    """
    files = files_at(path)
    manifest, shards = read_manifest(files), Ledger(files).read().shards
    if not manifest.has_labels:
        raise QueryError(f"the circuits of {manifest.name} have no label pyloric_like to index")
    if not shards:
        raise QueryError(f"{files} has no finished circuits yet")
    with build_lock(files):
        name = find_index(files, manifest, shards)
        if name is None:
            # damage must not be copied into a table that then counts as intact
            parts = {part_name(shard): row for shard, row in sorted(shards.items())}
            check_intact(
                files, [f for part, row in parts.items() for f in files_of(row) if f.path == part]
            )
            total = sum(row["n_circuits"] for row in shards.values())
            data = _sorted_rows(
                files, list(parts), lambda share: progress and progress(round(share * total), total)
            )
            name = keep_derived(files, data, TABLE, fingerprint(manifest, shards))
        return files.sum(name)


def _sorted_rows(files: Files, parts: Sequence[str], progress: Callable[[float], Any]) -> bytes:
    """The table as a Parquet file."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="pyloric-db-") as folder:
        target = Path(folder) / "table.parquet"
        copy = (
            f"COPY (SELECT * FROM {rows_of(files, parts)} WHERE {' OR '.join(LABELS)} "
            f"ORDER BY pyloric, period_ms, circuit_id) TO {quote_text(str(target))} "
            f"(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
        )
        filesystem = files.arrow_filesystem()
        try:
            with duckdb.connect(":memory:") as connection, ThreadPoolExecutor(1) as pool:
                if filesystem is not None:
                    connection.register_filesystem(filesystem)
                connection.execute("SET memory_limit = '1GB'")
                connection.execute(f"SET temp_directory = {quote_text(folder)}")
                connection.execute("SET enable_progress_bar = true")
                connection.execute("SET enable_progress_bar_print = false")
                copying = pool.submit(connection.execute, copy)
                while True:
                    try:
                        copying.result(timeout=0.2)
                        break
                    except NotYet:
                        progress(max(0.0, connection.query_progress()) / 100)
                progress(1.0)
        except duckdb.Error as err:
            raise DatabaseError(f"the index cannot be made: {first_line(err)}") from err
        return target.read_bytes()
