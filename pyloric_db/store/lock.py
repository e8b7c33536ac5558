"""One build of a database at a time."""

import errno
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import Location, files_at

#: Within this time whoever only asks who holds the lock has let go of it.
LOOK_S = 0.1
#: What a file system says that keeps no locks, such as Lustre mounted without `flock`.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # two on macOS


def build_lock(path: Location) -> AbstractContextManager[None]:
    """The build lock of the database at `path`, whose directory is made if need be.

    Raises:
        DatabaseError: another process holds it, or the place cannot be written.
    """
    return files_at(path).lock()


@contextmanager
def file_lock(file: Path, place: str) -> Iterator[None]:
    """A lock that dies with its process, so that a killed build leaves none behind.

    Raises:
        DatabaseError: another process holds it, or the directory cannot be written or locked.
    """
    from pyloric_db.store.disk import fsync_folder

    try:
        new = [folder for folder in file.parents if not folder.exists()]
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in new:
            fsync_folder(folder.parent)
        fd = _acquire(file)
    except BlockingIOError as err:
        raise DatabaseError(f"{place} is being built by {_holder(file)}") from err
    except OSError as err:
        if err.errno in NO_LOCKS:
            raise DatabaseError(
                f"{place} lies on a file system without locks (flock: {err.strerror}), where two "
                "builds would not know of each other: have it mounted with them (Lustre: -o "
                "flock), or build on another disk"
            ) from err
        raise DatabaseError(f"{place} cannot be written ({err.strerror})") from err
    try:
        with suppress(OSError):  # a full disk holds the lock all the same
            os.ftruncate(fd, 0)
            os.write(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        # while still locked, so that nobody locks a file that is about to go
        with suppress(OSError):  # on a disk that became read-only it stays, and binds nobody
            file.unlink(missing_ok=True)
        os.close(fd)


def builder_at(file: Path) -> str | None:
    """Who holds the lock, by its file; None where nobody does, or none can be told."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go of at once, within LOOK_S
    except BlockingIOError:
        return _holder(file)
    except OSError:
        pass
    finally:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)  # a process forked meanwhile has the file open, too
        os.close(fd)
    return None


def _acquire(file: Path) -> int:
    while True:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _lock(fd)
            if _is_same(fd, file):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder removed it between our open and our lock


def _lock(fd: int) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(LOOK_S)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_same(fd: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file.stat())
    except FileNotFoundError:
        return False


def _holder(file: Path) -> str:
    try:
        text = file.read_text(errors="replace").strip()
    except OSError:
        text = ""
    return holder_of(text)


def holder_of(text: str) -> str:
    """Who holds a lock, from its contents, which may be anything."""
    return text if re.fullmatch(r"process \d+ on [\w.-]+", text) else "another process"
