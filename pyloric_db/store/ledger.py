"""The ledger: one sealed row per finished shard, and the rows of shards set aside.

Data first, then its row: a shard without a row does not exist, whatever files there are. Later
rows of a shard replace earlier ones. Only the process that holds the build lock appends.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import (
    FAILURES_FILE,
    LEDGER_FILE,
    FileSum,
    Location,
    files_at,
    is_file_sum,
)
from pyloric_db.store.sealed import (
    Row,
    append_sealed,
    read_sealed,
    rewrite_sealed,
    seal,
    unseal,
)

#: How `Ledger.record` begins a line, so that a million shards are listed without decoding.
_SHARD_LINE = re.compile(rb'\{"kind":"shard","shard":(\d{1,12}),')


class ShardRows(Mapping[int, Row]):
    """The latest row of each finished shard, decoded whenever it is looked at.

    Looking at a row that carries a checksum but was not written by this package raises
    `DatabaseError`.
    """

    def __init__(self, lines: dict[int, bytes]) -> None:
        self.lines = lines

    def __getitem__(self, shard: int) -> Row:
        row = _decode(self.lines[shard])
        if row["kind"] != "shard" or row["shard"] != shard:  # a key twice: the later counts
            raise _foreign(self.lines[shard])
        return row

    def __iter__(self) -> Iterator[int]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class LedgerRows:
    """What a ledger says.

    `header` names the files that exist from the start, `cells` the thermalised cells; either
    may be None. `damaged` holds line numbers from 1; `torn` says that the last line was being
    written when its writer died.
    """

    header: Row | None = None
    cells: Row | None = None
    shards: ShardRows = field(default_factory=lambda: ShardRows({}))
    damaged: tuple[int, ...] = ()
    torn: bool = False

    def files(self) -> list[FileSum]:
        """Every file that the ledger vouches for."""
        rows = [self.header, self.cells, *self.shards.values()]
        return [file for row in rows if row is not None for file in files_of(row)]


def files_of(row: Row) -> list[FileSum]:
    """The files of a row."""
    return [FileSum.from_text(text) for text in row["files"]]


@dataclass(frozen=True)
class Receipt:
    """A written shard.

    `counts` maps each status to its number of circuits, and `pyloric_like` and `pyloric`,
    where the table has them, to theirs. `seconds`, and `kernel_seconds` of them for integrating,
    are for whoever ran the whole task to fill in; so is `finished_at`, unless that is when the
    shard is recorded.
    """

    shard: int
    n_circuits: int
    first_id: int
    last_id: int
    files: tuple[FileSum, ...]
    counts: dict[str, int]
    seconds: float = 0.0
    kernel_seconds: float = 0.0
    finished_at: str | None = None


class Ledger:
    """The ledger of the database at `path`.

    One that does not change is read once, because that of a million shards is a gigabyte and a
    build asks several times on its way to the first shard. Let go of the object to free it.
    """

    def __init__(self, path: Location) -> None:
        self.files = files_at(path)
        self._rows: LedgerRows | None = None
        self._version: object = None

    def read(self) -> LedgerRows:
        """All that is intact; damaged lines are listed, a torn last line is ignored.

        Raises:
            DatabaseError: a line carries a checksum but is no row of a ledger.
        """
        version = self.files.lines_version(LEDGER_FILE)
        if self._rows is None or version is None or version != self._version:
            self._rows, self._version = self._read(), version
        return self._rows

    def _read(self) -> LedgerRows:
        header = cells = None
        content = read_sealed(self.files, LEDGER_FILE)
        lines: dict[int, bytes] = {}
        for line in content.lines:
            match = _SHARD_LINE.match(line)
            if match:
                lines[int(match[1])] = line
                continue
            row = _decode(line)
            if row["kind"] == "cells":
                cells = row
            elif row["kind"] == "database":
                header = row
            else:  # a shard in another order, or of a number that no database has
                raise _foreign(line)
        return LedgerRows(header, cells, ShardRows(lines), content.damaged, content.torn)

    def append(self, *rows: Row) -> None:
        """Adds rows durably (one fsync); their `sum` is added here."""
        for row in rows:
            if not _is_valid(row):
                raise ValueError(f"not a row of a ledger: {row!r}")
        append_sealed(self.files, LEDGER_FILE, *rows)

    def record(self, *receipts: Receipt) -> None:
        """Makes shards exist."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self.append(
            *(
                {
                    "kind": "shard",
                    "shard": receipt.shard,
                    "n_circuits": receipt.n_circuits,
                    "first_id": receipt.first_id,
                    "last_id": receipt.last_id,
                    "files": [f.to_text() for f in receipt.files],
                    "counts": receipt.counts,
                    "seconds": round(receipt.seconds, 3),
                    "kernel_seconds": round(receipt.kernel_seconds, 3),
                    "finished_at": receipt.finished_at or now,
                }
                for receipt in receipts
            )
        )

    def done_shards(self) -> set[int]:
        return set(self.read().shards)

    def compact(self) -> None:
        """Rewrites the ledger without damaged, torn and outdated rows, shards ascending.

        After it, the ledgers of two builds of one recipe differ in times only.
        """
        rows = self.read()
        lines = [seal(row)[:-1] for row in (rows.header, rows.cells) if row is not None]
        lines += [rows.shards.lines[shard] for shard in sorted(rows.shards)]
        rewrite_sealed(self.files, LEDGER_FILE, lines)


def _decode(line: bytes) -> Row:
    try:
        row = unseal(line)
    except ValueError:
        row = {}
    if not _is_valid(row):
        raise _foreign(line)
    return row


def _foreign(line: bytes) -> DatabaseError:
    return DatabaseError(f"{LEDGER_FILE} has a row that is not pyloric-db's: {line[:60]!r}")


def _is_valid(row: Row) -> bool:
    """Whether readers can rely on a row's shape."""
    files = row.get("files")
    if not isinstance(files, list) or not all(map(is_file_sum, files)):
        return False
    if row.get("kind") == "database":
        return isinstance(row.get("recipe_hash"), str)
    if row.get("kind") != "shard":
        return row.get("kind") == "cells"
    numbers = [row.get(k) for k in ("shard", "n_circuits", "first_id", "last_id")]
    return (
        all(type(n) is int and 0 <= n < 2**62 for n in numbers)
        and 1 <= row["n_circuits"] <= row["last_id"] - row["first_id"] + 1
        and isinstance(row.get("counts"), dict)
        and all(type(n) is int for n in row["counts"].values())
        and all(_is_finite(row.get(k)) for k in ("seconds", "kernel_seconds"))
        and _is_moment(row.get("finished_at"))
    )


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max  # an int may be too large for `math.isfinite`


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


@dataclass(frozen=True)
class Failure:
    """A shard set aside: its number, the error that it ended with, and how often it was tried."""

    shard: int
    error: str
    attempts: int


def record_failure(path: Location, failure: Failure) -> None:
    """Notes that a shard was set aside."""
    append_sealed(files_at(path), FAILURES_FILE, asdict(failure))


def failures(path: Location) -> list[Failure]:
    """Shards set aside, each once with its latest error, ascending; damaged rows are left out.

    Raises:
        DatabaseError: a row carries a checksum but was not written by this package.
    """
    latest = {}
    for line in read_sealed(files_at(path), FAILURES_FILE).lines:
        try:
            row = unseal(line)
            failure = Failure(int(row["shard"]), str(row["error"]), int(row["attempts"]))
        except (ValueError, KeyError, TypeError, OverflowError) as err:
            raise DatabaseError(f"{FAILURES_FILE} has a row that is not pyloric-db's") from err
        latest[failure.shard] = failure
    return [latest[shard] for shard in sorted(latest)]


def clear_failures(path: Location) -> None:
    """Forgets the failures, before the shards are tried again."""
    files_at(path).remove_lines(FAILURES_FILE)
