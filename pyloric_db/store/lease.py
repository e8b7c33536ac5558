"""The build lock in an object store: an object that its holder renews, and others take over.

Only conditional writes change it, so that one of several wins. How long ago it was renewed is told
by the store's clock alone: those of the machines need not agree.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import LOCK_FILE, PARTIAL
from pyloric_db.store.lock import holder_of

if TYPE_CHECKING:
    from pyloric_db.store.bucket import Bucket

RENEW_S = 10.0
#: A holder that has not renewed its lease for so long is dead.
LEASE_S = 60.0


@contextmanager
def held_lease(bucket: "Bucket") -> Iterator[Callable[[], None]]:
    """Holds the lock; yields a function that raises DatabaseError once it is lost.

    Raises:
        DatabaseError: another process holds it, or the store cannot be written.
    """
    try:
        lease = _acquire(bucket)
    except OSError as err:
        raise DatabaseError(f"{bucket} cannot be written ({err.strerror})") from err
    stop = threading.Event()
    renewing = threading.Thread(target=lease.keep, args=(stop,), daemon=True)
    renewing.start()
    try:
        yield lease.check
    finally:
        stop.set()
        renewing.join()
        lease.release()


def lease_holder(bucket: "Bucket") -> str | None:
    """Who holds the lock; None where nobody does, or it cannot be read.

    By this machine's clock, since to ask for the store's is to write: where that is wrong, so may
    the answer be. Nothing depends on it.
    """
    try:
        data, _, renewed = bucket.read_tagged(LOCK_FILE)
    except OSError:
        return None
    holder = _parsed(data)
    if _has_died(holder) or time.time() - renewed >= LEASE_S:
        return None
    return _name_of(holder)


class _Lease:
    def __init__(self, bucket: "Bucket") -> None:
        self.bucket, self.lost = bucket, False
        self.name = secrets.token_hex(8)
        self.e_tag = ""

    def write(self, e_tag: str | None) -> bool:
        """Writes the lock if it is as it was (None: not there); whether it is ours now."""
        written = self.bucket.put_if(LOCK_FILE, _content(self.name), e_tag)
        self.e_tag = written or self.e_tag
        return written is not None

    def adopt(self, holder: dict[str, Any], e_tag: str) -> bool:
        """Whether the lock that was found is ours: written, but the store's answer was lost."""
        ours = holder.get("lease") == self.name
        self.e_tag = e_tag if ours else self.e_tag
        return ours

    def keep(self, stop: threading.Event) -> None:
        while not self.lost and not stop.wait(RENEW_S):
            try:
                if not self.write(self.e_tag):
                    data, e_tag, _ = self.bucket.read_tagged(LOCK_FILE)
                    self.lost = not self.adopt(_parsed(data), e_tag)
            except FileNotFoundError:
                self.lost = True  # taken over, and let go of
            except OSError:
                continue  # others take over if this lasts

    def check(self) -> None:
        if self.lost:
            raise DatabaseError(
                f"{self.bucket} has been taken over by another build while this one stood still"
            )

    def release(self) -> None:
        try:
            if not self.lost and self.bucket.read_tagged(LOCK_FILE)[1] == self.e_tag:
                self.bucket.remove(LOCK_FILE)
        except OSError:
            pass  # it runs out


def _acquire(bucket: "Bucket") -> _Lease:
    lease = _Lease(bucket)
    e_tag: str | None = None
    while not lease.write(e_tag):
        try:
            data, e_tag, renewed = bucket.read_tagged(LOCK_FILE)
        except FileNotFoundError:
            e_tag = None
            continue
        holder = _parsed(data)
        if lease.adopt(holder, e_tag):
            break
        if not _has_died(holder) and _now(bucket) - renewed < LEASE_S:
            raise DatabaseError(f"{bucket} is being built by {_name_of(holder)}")
    return lease


def _name_of(holder: dict[str, Any]) -> str:
    return holder_of(str(holder.get("holder")))


def _content(name: str) -> bytes:
    content = {
        "holder": f"process {os.getpid()} on {socket.gethostname()}",
        "pid": os.getpid(),
        "machine": _machine(),
        "lease": name,
        "nonce": secrets.token_hex(8),  # so that each renewal has another tag
    }
    return json.dumps(content).encode() + b"\n"


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _has_died(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    pid, machine = holder.get("pid"), _machine()
    if not machine or holder.get("machine") != machine or type(pid) is not int:
        return False
    try:
        # behind the name in brackets; Z is one that nobody has waited for
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def _machine() -> str:
    """Names this boot of this machine and its process numbers; "" where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _now(bucket: "Bucket") -> float:
    """The store's clock, in seconds."""
    probe = f"{secrets.token_hex(8)}{PARTIAL}"
    bucket.write({probe: b""})
    try:
        return bucket.read_tagged(probe)[2]
    finally:
        bucket.remove(probe)
