"""Lines of JSON that carry their own checksum, for files that only grow.

A sealed line is a JSON object whose last member is `"sum"`, the CRC-32 of the bytes before it
(which finds any damage to a few bytes, and costs nothing even for a million lines). A last
line without its newline was being written when its writer died: it is torn, not damaged.
"""

import json
import os
import zlib
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from pyloric_db.store.files import fsync_path, write_atomically

Row = dict[str, Any]

_SEAL = len(',"sum":"00000000"}')


@dataclass(frozen=True)
class SealedFile:
    """What a file of sealed lines holds.

    `lines` are the intact lines, still sealed: most readers need few of them decoded.
    `damaged` are the numbers of damaged lines, counted from 1.
    """

    lines: tuple[bytes, ...]
    damaged: tuple[int, ...]
    torn: bool


def seal(row: Row) -> bytes:
    """One line, newline included, for a row (which must not be empty or hold NaN)."""
    if not row or "sum" in row:
        raise ValueError("a row needs members, and gets its 'sum' here")
    body = json.dumps(row, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + _sealing(body) + b"\n"


def _sealing(body: bytes) -> bytes:
    return b',"sum":"%08x"}' % zlib.crc32(body)


def is_intact(line: bytes) -> bool:
    """Whether a line (without its newline) matches the checksum that it carries."""
    body = line[:-_SEAL]
    return line[-_SEAL:] == _sealing(body) and body.startswith(b"{")


def unseal(line: bytes) -> Row:
    """The row of an intact line.

    Raises:
        ValueError: it was sealed, but is no JSON object: this package has not written it.
    """
    try:
        row: Row = json.loads((line[:-_SEAL] + b"}").decode())
    except RecursionError as err:
        raise ValueError("nested too deeply") from err
    return row


def read_sealed(path: Path) -> SealedFile:
    """All intact rows in order; a file that does not exist has none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return SealedFile((), (), False)
    *lines, tail = data.split(b"\n")
    intact = [is_intact(line) for line in lines]
    damaged = [number for number, good in enumerate(intact, start=1) if not good]
    # a whole row with one wrong byte in place of its newline is damage; a torn row is cut short
    if tail and is_intact(tail[:-1]):
        damaged.append(len(lines) + 1)
    return SealedFile(tuple(compress(lines, intact)), tuple(damaged), bool(tail))


def append_sealed(path: Path, *rows: Row) -> None:
    """Adds rows durably, in one go; a torn line before them is cut off."""
    line = b"".join(map(seal, rows))
    new = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = _end_of_lines(fd)
        os.ftruncate(fd, end)
        os.lseek(fd, end, os.SEEK_SET)
        while line:  # a full disk shows as a short write first
            line = line[os.write(fd, line) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    if new:
        fsync_path(path.parent)


def _end_of_lines(fd: int) -> int:
    """Offset behind the last newline."""
    end = os.lseek(fd, 0, os.SEEK_END)
    block = 1 << 16
    while end > 0:
        start = max(0, end - block)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def rewrite_sealed(path: Path, lines: list[bytes]) -> None:
    """Replaces the whole file at once by these intact lines."""
    write_atomically(path, b"".join(line + b"\n" for line in lines))
