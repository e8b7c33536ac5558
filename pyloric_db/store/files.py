"""Durable writes, checksums and safe relative paths, shared by everything that touches disk."""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MANIFEST_FILE = "database.json"
LEDGER_FILE = "ledger.jsonl"
FAILURES_FILE = "failed.jsonl"
CELLS_FILE = "cells.parquet"
LOCK_FILE = "build.lock"
FEATURES_DIR = "features"
STATES_DIR = "states"

#: Ending of files that are still being written; zarr-python uses the same one.
PARTIAL = ".partial"


class FileSum(NamedTuple):
    """A file of a database: path relative to its directory, size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str

    def to_text(self) -> str:
        """As it stands in a ledger: path, size and checksum with a space between."""
        return f"{self.path} {self.size} {self.sha256}"

    @classmethod
    def from_text(cls, text: str) -> "FileSum":
        path, size, sha256 = text.split(" ")
        return cls(path, int(size), sha256)


#: Only relative paths that cannot leave the directory they are joined to.
_FILE_SUM = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]* \d{1,18} [0-9a-f]{64}", re.ASCII)


def is_file_sum(text: object) -> bool:
    """Whether a text of unknown origin is one that `FileSum.from_text` may read."""
    return isinstance(text, str) and _FILE_SUM.fullmatch(text) is not None


def sha256_of(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sum_file(root: Path, path: Path) -> FileSum:
    """The checksum record of `path`, a file below `root`."""
    return FileSum(path.relative_to(root).as_posix(), path.stat().st_size, sha256_of(path))


def difference(root: Path, file: FileSum, *, contents: bool = True) -> str | None:
    """How a file on disk differs from its record; None if it does not.

    With `contents=False` only existence and size are looked at, which reads no data.
    """
    path = root / file.path
    try:
        size = path.stat().st_size
        if size != file.size:
            return f"has {size:,} bytes instead of {file.size:,}"
        if contents and sha256_of(path) != file.sha256:
            return "does not match its checksum"
    except FileNotFoundError:
        return "is missing"
    except OSError as err:
        return f"cannot be read ({err.strerror})"
    return None


def fsync_path(path: Path) -> None:
    """Makes a file's contents, or a directory's entries, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_tree(paths: Iterable[Path], root: Path) -> None:
    """fsync of files and of every directory between them and `root`, each once."""
    directories = set()
    for path in paths:
        fsync_path(path)
        parent = path.parent
        while parent not in directories:
            directories.add(parent)
            if parent == root:
                break
            parent = parent.parent
    # children first: a directory entry is worth keeping once what it names is safe
    for directory in sorted(directories, key=lambda p: -len(p.parts)):
        fsync_path(directory)


def write_atomically(path: Path, data: bytes) -> None:
    """Puts `data` at `path`, which afterwards holds the old bytes or the new, never a mixture."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    with temporary.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
    fsync_path(path.parent)


def remove_partials(directory: Path, pattern: str = f"*{PARTIAL}") -> None:
    """Deletes what killed writers left behind in one directory."""
    for path in directory.glob(pattern):
        if path.is_file():
            path.unlink(missing_ok=True)


def remove_all_partials(root: Path) -> None:
    """Deletes what killed writers left behind anywhere in a database."""
    for directory, _, names in os.walk(root):
        for name in names:
            if name.endswith(PARTIAL):
                Path(directory, name).unlink(missing_ok=True)
