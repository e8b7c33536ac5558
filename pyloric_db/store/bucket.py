"""A database in an object store: the same files under a URL such as `s3://bucket/prefix`.

A PUT of one object is atomic and durable, so a killed writer leaves nothing behind. What grows on a
disk is a chain of objects here: `ledger.jsonl`, then `ledger/000001.jsonl`, ... of a bounded size
each, of which the last is written anew with every row. Rewriting the ledger at the end of a
build makes them one object again. Reading needs a listing of that folder, never of the database.
"""

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import FAILURES_FILE, LEDGER_FILE, PARTIAL, Files, FileSum

#: Bytes after which a chain gets its next object: all of the last one is sent again with each row.
LINK_BYTES = 1 << 17
#: Requests at a time.
REQUESTS = 16
#: With more files than this their folder is listed, a thousand to a request, to know their sizes.
LISTED_FROM = 256

_URL = re.compile(r"s3://([^/]*)(.*)", re.DOTALL)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"((?:/[\w.=+@-]+)*)/?", re.ASCII)
#: A store that does not answer at all is said at once ...
_AT_FIRST = {"max_retries": 5}
#: ... but one that is away for a minute, or asks to slow down, ends nothing.
_LATER = {
    "max_retries": 15,
    "backoff": {
        "init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=15), "base": 4,
    },
}  # fmt: skip


def bucket_at(url: str) -> "Bucket":
    """The files under a URL: one object for each URL in a process, which keeps its connections.

    Raises:
        DatabaseError: it is no such URL, or obstore is not installed.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise DatabaseError(f"{url} must be a directory or a URL such as s3://bucket/name")
    bucket, rest = match.groups()
    if not _BUCKET.fullmatch(bucket):
        raise DatabaseError(
            f"{url} names a bucket {bucket!r}, but the name of one is 3 to 63 small letters, "
            "digits, dots and hyphens, the first and the last of them a letter or a digit"
        )
    prefix = _PREFIX.fullmatch(rest)
    if prefix is None or any(set(part) == {"."} for part in rest.split("/") if part):
        raise DatabaseError(
            f"{url} must be a URL such as s3://bucket/name, whose names behind the bucket are "
            "letters, digits and . _ = + @ -"
        )
    return _bucket(f"s3://{bucket}{prefix[1]}", bucket, prefix[1].strip("/"))


@lru_cache(maxsize=16)
def _bucket(url: str, bucket: str, prefix: str) -> "Bucket":
    return Bucket(url, bucket, prefix)


@dataclass
class _Link:
    """The last object of a chain, as this process wrote it."""

    key: str
    data: bytes
    e_tag: str


class Bucket(Files):
    """The files of the database under `prefix` in an S3 bucket.

    Endpoint, region and credentials come from the usual environment variables: `AWS_ENDPOINT_URL`,
    `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, or from the
    machine's role.
    """

    def __init__(self, url: str, bucket: str, prefix: str) -> None:
        try:
            import obstore
        except ImportError as err:
            raise DatabaseError(
                f"{url} needs obstore: install pyloric-db with the extra 's3'"
            ) from err
        self.place = self.address = url
        self._obstore = obstore
        self._bucket, self._prefix = bucket, prefix
        self._store = self._store_at(prefix)
        self._first = self._store_at(prefix, _AT_FIRST)
        self._links: dict[str, _Link] = {}
        #: Called before the ledger is written; raises DatabaseError once the lock is lost.
        self.check_lock: Callable[[], None] = lambda: None

    def absence(self) -> str | None:
        try:
            return None if self.top_names() else "is empty: it holds no database"
        except OSError as err:
            return f"cannot be read ({err.strerror})"

    def check_writable(self) -> None:
        try:
            self.top_names()
        except OSError as err:
            raise DatabaseError(f"{self} cannot be read ({err.strerror})") from err

    def read(self, name: str) -> bytes:
        return self._get(name)[0]

    def size(self, name: str) -> int:
        return int(self._head(name)["size"])

    def sizes(self, names: Collection[str]) -> dict[str, int]:
        if len(names) > LISTED_FROM:
            folders = {name.split("/")[0] for name in names}
            return {o["path"]: o["size"] for folder in folders for o in self._list(f"{folder}/")}

        def size(name: str) -> tuple[str, int | None]:
            try:
                return name, self.size(name)
            except FileNotFoundError:
                return name, None

        return {name: n for name, n in self._each(size, names) if n is not None}

    def sum(self, name: str) -> FileSum:
        return FileSum.of(name, self.read(name))

    def version(self, name: str) -> object:
        return self._head(name)["e_tag"]

    def names(self) -> Iterator[str]:
        chains = tuple(map(_folder, (LEDGER_FILE, FAILURES_FILE)))
        for found in self._list(""):
            if not found["path"].startswith(chains):
                yield found["path"]

    def top_names(self) -> set[str]:
        with self._errors():
            found = self._obstore.list_with_delimiter(self._first)
        return {o["path"] for o in found["objects"]} | set(found["common_prefixes"])

    def write(self, contents: Mapping[str, bytes]) -> None:
        self._each(lambda item: self._put(item[0], item[1], "overwrite"), contents.items())

    def remove(self, name: str) -> None:
        with self._errors():
            self._obstore.delete(self._store, name)

    def remove_leftovers(self) -> None:
        # nothing is there before it is whole, but a killed process may have asked for the time
        for name in self.top_names():
            if name.endswith(PARTIAL):
                self.remove(name)
        # what a killed rewriting left behind its gap, before new objects close the gap
        for name in (LEDGER_FILE, FAILURES_FILE):
            chain = set(self._chain(name))
            for key in {o["path"] for o in self._list(_folder(name))} - chain:
                self.remove(key)

    def read_lines(self, name: str) -> bytes:
        for _ in range(10):
            links = self._chain(name)
            try:
                first = self.read(name)
            except FileNotFoundError:
                first = b""
            try:
                return first + b"".join(self._each(self.read, links))
            except FileNotFoundError:
                continue  # a build has just made them one object
        raise OSError(errno.EAGAIN, "it is being rewritten again and again", self.named(name))

    def append(self, name: str, lines: bytes) -> None:
        self.check_lock()
        link = self._links.get(name)
        if link is not None and len(link.data) < LINK_BYTES:
            data = link.data + lines
            try:
                e_tag = self._put(link.key, data, {"e_tag": link.e_tag})
            except (FileExistsError, FileNotFoundError):
                pass  # somebody else has rewritten the chain: it goes on with an object of its own
            else:
                self._links[name] = _Link(link.key, data, e_tag)
                return
        self._links[name] = self._new_link(name, lines)

    def replace_lines(self, name: str, lines: bytes) -> None:
        self.check_lock()
        self._links.pop(name, None)
        self._put(name, lines, "overwrite")
        self._remove_chain(name)

    def remove_lines(self, name: str) -> None:
        self._links.pop(name, None)
        self.remove(name)
        self._remove_chain(name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        from pyloric_db.store.lease import held_lease

        with held_lease(self) as check:
            self.check_lock = check
            try:
                yield
            finally:
                self.check_lock = lambda: None

    def builder(self) -> str | None:
        from pyloric_db.store.lease import lease_holder

        return lease_holder(self)

    def zarr_store(self, folder: str) -> Any:
        from zarr.storage import ObjectStore

        return ObjectStore(self._store_at(f"{self._prefix}/{folder}".strip("/")), read_only=True)

    def arrow_filesystem(self) -> Any:
        from fsspec.implementations.dirfs import DirFileSystem
        from obstore.fsspec import FsspecStore

        return DirFileSystem(
            f"{self._bucket}/{self._prefix}".strip("/"), FsspecStore("s3", **_connection(_LATER))
        )

    def arrow_path(self, name: str) -> str:
        return name

    # what the lease needs besides

    def put_if(self, name: str, data: bytes, e_tag: str | None) -> str | None:
        """Writes a file if it is as it was (None: not there); its new tag, None if it is not."""
        try:
            return self._put(name, data, "create" if e_tag is None else {"e_tag": e_tag})
        except (FileExistsError, FileNotFoundError):
            return None

    def read_tagged(self, name: str) -> tuple[bytes, str, float]:
        """Contents, tag, and time of writing by the store's clock in seconds."""
        data, meta = self._get(name)
        return data, meta["e_tag"], meta["last_modified"].timestamp()

    # requests

    def _store_at(self, prefix: str, retries: Any = _LATER) -> Any:
        from obstore.store import S3Store

        with self._errors():
            return S3Store(self._bucket, prefix=prefix or None, **_connection(retries))

    def _get(self, name: str) -> tuple[bytes, Any]:
        with self._errors():
            found = self._obstore.get(self._store, name)
            return bytes(found.bytes()), found.meta

    def _head(self, name: str) -> Any:
        with self._errors():
            return self._obstore.head(self._store, name)

    def _list(self, prefix: str) -> Iterator[Any]:
        with self._errors():
            for page in self._obstore.list(self._store, prefix=prefix or None):
                yield from page

    def _put(self, name: str, data: bytes, mode: Any) -> str:
        """Writes an object in one request; FileExistsError where `mode` forbids it."""
        with self._errors():
            # in parts, a killed writer would leave parts behind
            done = self._obstore.put(self._store, name, data, mode=mode, use_multipart=False)
        return str(done["e_tag"])

    def _each(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        items = list(items)
        if len(items) < 2:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(REQUESTS, len(items))) as pool:
            return list(pool.map(function, items))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The library's errors as OSError."""
        exceptions = self._obstore.exceptions
        try:
            yield
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as err:
            raise FileExistsError(errno.EEXIST, "it has been changed", self.place) from err
        except exceptions.BaseError as err:
            raise OSError(errno.EIO, _sentence(err), self.place) from err

    # chains

    def _chain(self, name: str) -> list[str]:
        """The objects behind the first, in order; those after a gap are not part of it."""
        folder = _folder(name)
        keys = {o["path"] for o in self._list(folder)}
        chain: list[str] = []
        while _link_key(name, len(chain) + 1) in keys:
            chain.append(_link_key(name, len(chain) + 1))
        return chain

    def _new_link(self, name: str, lines: bytes) -> _Link:
        try:
            return _Link(name, lines, self._put(name, lines, "create"))
        except FileExistsError:
            pass
        number = len(self._chain(name)) + 1
        while True:
            key = _link_key(name, number)
            try:
                return _Link(key, lines, self._put(key, lines, "create"))
            except FileExistsError:
                number += 1

    def _remove_chain(self, name: str) -> None:
        """Deletes what follows the first object: in order, so that a kill cuts all of it off."""
        for key in sorted(o["path"] for o in self._list(_folder(name))):
            self.remove(key)


def _folder(name: str) -> str:
    return f"{name.removesuffix('.jsonl')}/"


def _link_key(name: str, number: int) -> str:
    return f"{_folder(name)}{number:06d}.jsonl"


def _connection(retries: Any) -> dict[str, Any]:
    """How to reach the store; the library reads region and credentials from the environment."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"retry_config": retries}
    if endpoint:
        options["endpoint"] = endpoint
        options["client_options"] = {"allow_http": endpoint.startswith("http://")}
    return options


def _sentence(err: Exception) -> str:
    """What the store said, without the library's record of the request."""
    if "169.254.169.254" in str(err):  # where a machine in the cloud asks for its role
        return "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    found = re.search(r"<Message>([^<]*)</Message>", str(err))
    text = found[1] if found else str(err)
    return text.strip().splitlines()[0][:200]
