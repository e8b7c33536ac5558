"""The files of a database: names, checksums, and the one interface to disks and object stores."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pyloric_db.errors import DatabaseError

MANIFEST_FILE = "database.json"
LEDGER_FILE = "ledger.jsonl"
FAILURES_FILE = "failed.jsonl"
CELLS_FILE = "cells.parquet"
LOCK_FILE = "build.lock"
README_FILE = "README.md"
FEATURES_DIR = "features"
STATES_DIR = "states"
EVENTS_DIR = "events"

#: Ending of files that are still being written.
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

    @classmethod
    def of(cls, path: str, data: bytes) -> "FileSum":
        return cls(path, len(data), hashlib.sha256(data).hexdigest())


#: Only relative paths that cannot leave the directory they are joined to.
_FILE_SUM = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]* \d{1,18} [0-9a-f]{64}", re.ASCII)


def is_file_sum(text: object) -> bool:
    """Whether a text of unknown origin is one that `FileSum.from_text` may read."""
    return isinstance(text, str) and _FILE_SUM.fullmatch(text) is not None


class Files(ABC):
    """The files of one database, wherever it lies. Names are relative, with slashes.

    Methods raise OSError (FileNotFoundError where there is no such file) when the place cannot be
    read or written; those that lock, append or look ahead say it in a DatabaseError.
    """

    #: Directory or URL, as messages name it.
    place: str
    #: The same, as other processes find it.
    address: str

    def __str__(self) -> str:
        return self.place

    def named(self, name: str) -> str:
        """A file as messages name it."""
        return f"{self.place.rstrip('/')}/{name}"

    @abstractmethod
    def absence(self) -> str | None:
        """Why there can be no database here, as the end of a sentence; None if there may be."""

    @abstractmethod
    def check_writable(self) -> None:
        """Whether files may be written here, as far as can be said without trying.

        Raises:
            DatabaseError: they may not.
        """

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The contents of a file."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes of a file, without reading it."""

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        """Bytes of those files that exist."""
        found = {}
        for name in names:
            try:
                found[name] = self.size(name)
            except FileNotFoundError:
                pass
        return found

    @abstractmethod
    def sum(self, name: str) -> FileSum:
        """Size and checksum of a file, from its contents."""

    @abstractmethod
    def version(self, name: str) -> object:
        """What changes whenever a file is written anew (hashable)."""

    @abstractmethod
    def names(self) -> Iterator[str]:
        """Everything there is, in no order. Takes long on a large database."""

    @abstractmethod
    def top_names(self) -> set[str]:
        """Files and folders at the top."""

    @abstractmethod
    def write(self, contents: Mapping[str, bytes]) -> None:
        """Puts files in place: each afterwards holds the old bytes or the new, never a mixture.

        When it returns, all of them survive a power cut.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Deletes a file durably; it need not be there."""

    @abstractmethod
    def remove_leftovers(self) -> None:
        """Deletes what killed writers left behind. Only for who holds the lock."""

    @abstractmethod
    def read_lines(self, name: str) -> bytes:
        """A file made by `append`, which is empty if it is not there."""

    def lines_version(self, name: str) -> object | None:
        """What changes whenever a file made by `append` does; None where that is not known."""
        return None

    @abstractmethod
    def append(self, name: str, lines: bytes) -> None:
        """Adds whole lines to a file durably; a torn line before them is cut off."""

    @abstractmethod
    def replace_lines(self, name: str, lines: bytes) -> None:
        """Replaces a file made by `append` at once."""

    @abstractmethod
    def remove_lines(self, name: str) -> None:
        """Deletes a file made by `append`, durably; it need not be there."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Holds the build lock; see `build_lock`."""

    @abstractmethod
    def builder(self) -> str | None:
        """Who holds the build lock, as `process 7 on host`; None where nobody does, or none can
        be told. Nothing is written, and nobody kept from the lock."""

    @abstractmethod
    def zarr_store(self, folder: str) -> Any:
        """A folder as a read-only `zarr.abc.store.Store`."""

    @abstractmethod
    def arrow_filesystem(self) -> Any:
        """What Arrow and DuckDB read files through (fsspec); None for their own of local disks."""

    @abstractmethod
    def arrow_path(self, name: str) -> str:
        """A file, which is no link, as that filesystem names it."""

    def exists(self, name: str) -> bool:
        """Whether there is such a file, which may be one that cannot be read."""
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True


#: Where a database lies: a directory or a URL, or its files.
Location = str | Path | Files

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


def is_url(location: object) -> bool:
    """Whether this names a place that is no directory."""
    return _URL.match(str(location)) is not None


def files_at(location: Location) -> Files:
    """The files at a directory or URL; looks at nothing yet.

    Raises:
        DatabaseError: it is no path, the URL is not valid, or its library is not installed.
    """
    if isinstance(location, Files):
        return location
    if is_url(location):
        from pyloric_db.store.bucket import bucket_at

        return bucket_at(str(location))
    from pyloric_db.store.disk import Disk

    try:
        str(location).encode()
    except UnicodeEncodeError as err:
        raise DatabaseError(f"the name {str(location)!r} is not valid in UTF-8") from err
    try:
        return Disk(Path(location).expanduser())
    except (RuntimeError, TypeError) as err:  # ~somebody who is not there, or no path at all
        raise DatabaseError(f"{location} cannot be found: {err}") from err


def database_at(location: Location) -> Files:
    """The files of a database.

    Raises:
        DatabaseError: there is none, not even its manifest or its ledger.
    """
    files = files_at(location)
    absence = files.absence()
    if absence:
        raise DatabaseError(f"{files} {absence}")
    if not files.exists(MANIFEST_FILE) and not files.exists(LEDGER_FILE):
        raise DatabaseError(f"{files} holds no database: it has no {MANIFEST_FILE}")
    return files


def difference(location: Location, file: FileSum) -> str | None:
    """How a stored file differs from its record; None if it does not."""
    try:
        found = files_at(location).sum(file.path)
        if found.size != file.size:
            return _wrong_size(file, found.size)
        if found != file:
            return "does not match its checksum"
    except FileNotFoundError:
        return "is missing"
    except OSError as err:
        return f"cannot be read ({err.strerror})"
    return None


#: Files that are compared with their records at a time.
READERS = 8
_BLOCK = 256


def differences(
    location: Location, listed: Sequence[FileSum]
) -> Iterator[tuple[FileSum, str | None]]:
    """Each file and its `difference`, in order, reading several at a time."""
    files = files_at(location)
    with ThreadPoolExecutor(READERS) as pool:  # hashing and waiting let go of the interpreter
        for start in range(0, len(listed), _BLOCK):
            block = listed[start : start + _BLOCK]
            yield from zip(block, pool.map(partial(difference, files), block), strict=True)


def check_intact(files: Files, listed: Sequence[FileSum]) -> None:
    """Reads files and compares them with their checksums.

    Raises:
        DatabaseError: the first that differs.
    """
    for file, wrong in differences(files, listed):
        if wrong:
            raise DatabaseError(
                f"{files.named(file.path)} {wrong}: build or copy {files} again to mend it"
            )


def check_sizes(files: Files, listed: Sequence[FileSum]) -> None:
    """Whether files are there in their right sizes, which reads no data.

    Raises:
        DatabaseError: the first that is not.
    """
    try:
        sizes = files.sizes([file.path for file in listed])
    except OSError as err:
        raise DatabaseError(f"{err.filename or files} cannot be read ({err.strerror})") from err
    for file in listed:
        if sizes.get(file.path) != file.size:
            size = sizes.get(file.path)
            wrong = "is missing" if size is None else _wrong_size(file, size)
            raise DatabaseError(
                f"{files.named(file.path)} {wrong}: the database is damaged or copied in part; "
                "verify it, and copy it again or build it again to mend it"
            )


def remove_all_partials(files: Files) -> None:
    """Deletes what killed writers left behind anywhere in a database."""
    files.remove_leftovers()
    for name in [name for name in files.names() if name.endswith(PARTIAL)]:
        files.remove(name)


def _wrong_size(file: FileSum, size: int) -> str:
    return f"has {size:,} bytes instead of {file.size:,}"
