"""Files that users name are written whole, or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyloric_db.errors import ConfigError, first_line


@contextmanager
def written_whole(path: str | Path, *, new: bool = False) -> Iterator[Path]:
    """A name to write a file at, or a directory, which has the user's name once it is complete.

    Where writing fails, what was at `path` before is still there. Pipes and terminals are written
    to as they are.

    Args:
        path: what the user asked for; links are followed.
        new: whether there must be nothing there, or an empty directory.

    Yields:
        a name in the same directory, with the same suffix; for a pipe, `path`.

    Raises:
        ConfigError: there is a directory at `path`, none to hold it, or it cannot be written.
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path} cannot be written: {path.parent} is no directory")
    if new and path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"{path} exists already: choose another name")
    if not new and path.is_dir():
        raise ConfigError(f"{path} cannot be written: it is a directory")
    target = path.resolve()
    special = path.exists() and not path.is_file() and not new
    work = path if special else target.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        if target.is_file() and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        yield work
        if not special:
            work.replace(target)
    except OSError as err:
        raise ConfigError(f"{path} cannot be written: {err.strerror or first_line(err)}") from err
    finally:
        if not special:
            with suppress(OSError):
                shutil.rmtree(work) if work.is_dir() else work.unlink(missing_ok=True)
