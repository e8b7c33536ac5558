"""The derived table of the pyloric-like circuits, which most questions are about.

A fifth of the circuits, sorted by (pyloric, period), so that a reader finds the rows of a
period range side by side. docs/benchmarks.md says what it brings.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any

from pyloric_db.errors import DatabaseError, QueryError
from pyloric_db.query.columns import first_line
from pyloric_db.query.engine import rows_of
from pyloric_db.query.expression import quote_text
from pyloric_db.query.narrow import Narrowing
from pyloric_db.store.derived import find_derived, fingerprint, keep_derived, partial_derived
from pyloric_db.store.files import PARTIAL, difference
from pyloric_db.store.ledger import Ledger, files_of
from pyloric_db.store.lock import build_lock
from pyloric_db.store.manifest import Manifest, read_manifest
from pyloric_db.store.sealed import Row
from pyloric_db.store.table import part_name

TABLE = "pyloric_like"
_FLAGS = ("pyloric_like", "pyloric")

#: Rows read at least where one is wanted. Smaller groups cost more to find than they save.
_ROW_GROUP = 16_384
#: From so many circuits on a build makes the index: below, the parts answer as fast.
WORTHWHILE = 200_000

Progress = Callable[[int, int], None]


def find_index(path: Path, manifest: Manifest, shards: Mapping[int, Row]) -> Path | None:
    """The table's file if it is there, intact and of these shards."""
    if not has_flags(manifest):
        return None
    return find_derived(path, TABLE, fingerprint(manifest, shards))


def in_index(narrowing: Narrowing) -> bool:
    """Whether every circuit that a condition finds is in the table."""
    return not narrowing.flags.isdisjoint(_FLAGS)


def make_index(path: str | Path, progress: Progress | None = None) -> Path:
    """Makes the table of a database's finished shards, or leaves it if it is there and good.

    Takes a quarter of a minute and 1 GB of memory for 20 million circuits.

    Args:
        path: the database.
        progress: called with circuits done and in all.

    Raises:
        QueryError: its circuits have no label `pyloric_like`, or none is finished yet.
        DatabaseError: a part is damaged, the directory cannot be written, or the database is
            being built.
    """
    path = Path(path)
    manifest, shards = read_manifest(path), Ledger(path).read().shards
    if not has_flags(manifest):
        raise QueryError(f"the circuits of {manifest.name} have no label pyloric_like to index")
    if not shards:
        raise QueryError(f"{path} has no finished circuits yet")
    with build_lock(path):
        found = find_index(path, manifest, shards)
        if found is not None:
            return found
        _check_parts(path, shards)
        target = partial_derived(path, TABLE)
        parts = [path / part_name(shard) for shard in sorted(shards)]
        total = sum(row["n_circuits"] for row in shards.values())
        try:
            _write(parts, target, lambda share: progress and progress(
                round(share * total), total
            ))  # fmt: skip
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return keep_derived(path, target, TABLE, fingerprint(manifest, shards))


def has_flags(manifest: Manifest) -> bool:
    """Whether the circuits have the labels that the table is made by."""
    return {*_FLAGS, "period_ms"} <= {c.name for c in manifest.columns}


def _check_parts(path: Path, shards: Mapping[int, Row]) -> None:
    """Damage must not be copied into a table that then counts as intact."""
    for shard, row in sorted(shards.items()):
        for file in files_of(row):
            wrong = difference(path, file) if file.path == part_name(shard) else None
            if wrong:
                raise DatabaseError(
                    f"{path / file.path} {wrong}: build the database again to mend it"
                )


def _write(parts: Sequence[Path], target: Path, progress: Callable[[float], Any]) -> None:
    import duckdb

    spill = target.with_name(f"spill{PARTIAL}")
    copy = (
        f"COPY (SELECT * FROM {rows_of(parts)} WHERE {' OR '.join(_FLAGS)} "
        f"ORDER BY pyloric, period_ms, circuit_id) TO {quote_text(str(target))} "
        f"(FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
    )
    try:
        with duckdb.connect(":memory:") as connection, ThreadPoolExecutor(1) as pool:
            connection.execute("SET memory_limit = '1GB'")
            connection.execute(f"SET temp_directory = {quote_text(str(spill))}")
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
    finally:
        shutil.rmtree(spill, ignore_errors=True)
