"""A database in a directory: fsync, rename, fsync, so that a power cut loses nothing finished."""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import (
    LEDGER_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    PARTIAL,
    Files,
    FileSum,
)

#: Where files are written before they are renamed into place.
STAGING_DIR = f"writing{PARTIAL}"


class Disk(Files):
    """The files of the database in directory `root`.

    A database holds its files itself: a link in it, wherever it leads, is an OSError.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.place = str(root)
        self.address = str(self.root)
        self._plain: set[str] = set()

    def absence(self) -> str | None:
        try:
            if not self.root.exists():
                return "does not exist"
            if not self.root.is_dir():
                return "is not a directory"
            return None if self.top_names() else "is empty: it holds no database"
        except OSError as err:
            return f"cannot be read ({err.strerror})"

    def check_writable(self) -> None:
        root = self.root
        for outer in root.parents:
            # whoever mends the outer one deletes what is half written in it
            if all((outer / name).exists() for name in (MANIFEST_FILE, LEDGER_FILE)):
                raise DatabaseError(f"{self} lies inside the database {outer}")
        if not root.exists():
            parent = next(p for p in root.parents if p.exists())
            if not parent.is_dir():
                raise DatabaseError(f"{self} cannot be made: {parent} is not a directory")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise DatabaseError(f"{self} cannot be made: {parent} is not writable")
        elif not root.is_dir():
            raise DatabaseError(f"{self} is not a directory")
        elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
            raise DatabaseError(f"{self} is not writable")

    def read(self, name: str) -> bytes:
        with open(self.path(name), "rb") as f:
            return f.read()

    def size(self, name: str) -> int:
        return os.stat(self.path(name)).st_size

    def sum(self, name: str) -> FileSum:
        with open(self.path(name), "rb") as f:
            size = os.fstat(f.fileno()).st_size
            return FileSum(name, size, hashlib.file_digest(f, "sha256").hexdigest())

    def version(self, name: str) -> object:
        found = os.stat(self.path(name))
        return found.st_ino, found.st_mtime_ns, found.st_size

    def names(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self.root):
            links = (f for f in folders if os.path.islink(os.path.join(folder, f)))
            for name in (*files, *links):
                yield Path(folder, name).relative_to(self.root).as_posix()

    def top_names(self) -> set[str]:
        return set(os.listdir(self.root)) if self.root.exists() else set()

    def write(self, contents: Mapping[str, bytes]) -> None:
        staging = self.path(STAGING_DIR)
        os.makedirs(staging, exist_ok=True)
        staged: dict[str, str] = {}
        try:
            for name, data in contents.items():
                temporary = os.path.join(staging, f"{uuid.uuid4().hex}{PARTIAL}")
                staged[temporary] = self.path(name)
                _write_durably(temporary, data)
            for temporary, target in staged.items():
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.replace(temporary, target)
        except BaseException:
            for temporary in staged:
                Path(temporary).unlink(missing_ok=True)
            raise
        self._fsync_folders(staged.values())

    def remove(self, name: str) -> None:
        try:
            os.unlink(self.path(name))
        except FileNotFoundError:
            return
        self._fsync_folders([self.path(name)])

    def remove_leftovers(self) -> None:
        for name in self.top_names():
            path = self.root / name
            if name.endswith(PARTIAL) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif name.endswith(PARTIAL):
                path.unlink(missing_ok=True)

    def read_lines(self, name: str) -> bytes:
        try:
            return self.read(name)
        except FileNotFoundError:
            return b""

    def lines_version(self, name: str) -> object | None:
        try:
            return self.version(name)
        except OSError:
            return None

    def append(self, name: str, lines: bytes) -> None:
        path = self.path(name)
        new = not os.path.exists(path)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            end = _end_of_lines(fd)
            os.ftruncate(fd, end)
            os.lseek(fd, end, os.SEEK_SET)
            while lines:  # a full disk shows as a short write first
                lines = lines[os.write(fd, lines) :]
            _fsync(fd)
        finally:
            os.close(fd)
        if new:
            self._fsync_folders([path])

    def replace_lines(self, name: str, lines: bytes) -> None:
        self.write({name: lines})

    def remove_lines(self, name: str) -> None:
        self.remove(name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        from pyloric_db.store.lock import file_lock

        with file_lock(self.root / LOCK_FILE, self.place):
            yield
            with suppress(OSError):  # empty, if all went well
                os.rmdir(self.root / STAGING_DIR)

    def builder(self) -> str | None:
        from pyloric_db.store.lock import builder_at

        return builder_at(self.root / LOCK_FILE)

    def zarr_store(self, folder: str) -> Any:
        from zarr.storage import LocalStore

        return LocalStore(self.path(folder), read_only=True)

    def arrow_filesystem(self) -> Any:
        return None

    def arrow_path(self, name: str) -> str:
        return self.path(name)

    def path(self, name: str) -> str:
        """The path of a file, which need not exist.

        Raises:
            OSError: it is a link or no file, or lies behind one.
        """
        path = str(self.root)
        *folders, last = name.split("/")
        for folder in folders:
            path = f"{path}/{folder}"
            if path not in self._plain:
                _refuse_special(path)
                self._plain.add(path)
        path = f"{path}/{last}"
        _refuse_special(path)
        return path

    def _fsync_folders(self, paths: Iterable[str]) -> None:
        """Makes the entries of every folder between some files and the root durable."""
        folders: set[str] = set()
        for path in paths:
            folder = os.path.dirname(path)
            while folder not in folders:
                folders.add(folder)
                if folder == str(self.root):
                    break
                folder = os.path.dirname(folder)
        # children first: an entry is worth keeping once what it names is safe
        for folder in sorted(folders, key=len, reverse=True):
            fsync_folder(folder)


def _refuse_special(path: str) -> None:
    """What is there must be a file or a folder: a pipe, say, would block its reader for ever."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "it is a link, and a database holds its files itself", path)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is neither a file nor a folder", path)


def _write_durably(path: str, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as f:
        f.write(data)
        f.flush()
        _fsync(f.fileno())


def fsync_folder(path: str | Path) -> None:
    """Makes the entries of a folder durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        _fsync(fd)
    finally:
        os.close(fd)


def _fsync(fd: int) -> None:
    """Wait until an open file is on the disk; on macOS `os.fsync` ends in the drive's cache."""
    to_the_disk = getattr(fcntl, "F_FULLFSYNC", None)
    if to_the_disk is not None:
        with suppress(OSError):  # some file systems know the other only
            fcntl.fcntl(fd, to_the_disk)
            return
    os.fsync(fd)


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
