"""Hands out shards to workers: a few at a time, again where one fails, and never for ever."""

import errno
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from pyloric_db.errors import ClusterError, DatabaseError
from pyloric_db.store.ledger import Failure

if TYPE_CHECKING:
    from pyloric_db.pipeline.cluster import Crew

#: Shards in flight per worker: one that runs and one that waits.
WINDOW = 2
#: A shard that fails so often is set aside.
ATTEMPTS = 3
#: Dask event topic on which workers say which shard they begin, and what came of it. A result would
#: otherwise be fetched from its worker, which takes longer than all the rest of handing it out.
TOPIC = "pyloric-db shards"
#: The one on which they report circuits as they finish.
PROGRESS_TOPIC = "pyloric-db progress"
#: How keys of tasks that are shards begin: Dask takes it for their kind.
KEY_PREFIX = "pyloric-shard"
#: How often to look after the workers, s.
LOOK_S = 2.0
#: Errors of the disk or the machine and not of the shard: they would fail every other shard too.
DISK_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM,
    errno.EFBIG, errno.EMFILE, errno.ENFILE,
}  # fmt: skip

#: A function that workers can import, and its arguments.
Call = tuple[Callable[..., Any], *tuple[Any, ...]]
#: What a scheduler says of its workers, by address.
Workers = dict[str, dict[str, Any]]


@dataclass
class _Flight:
    """A shard that was handed out."""

    shard: int
    attempt: int
    future: Any
    worker: str | None = None
    since: float = 0.0  # when the worker began it


class Coordinator:
    """Runs shards on a crew.

    Args:
        crew: the workers.
        call: what to run for a shard.
        done: called with what that returned, for several shards at once where they come fast.
        aside: called with a shard that was set aside.
    """

    def __init__(
        self,
        crew: "Crew",
        call: Callable[[int], Call],
        done: Callable[[Sequence[Any]], None],
        aside: Callable[[Failure], None],
    ):
        self.crew = crew
        self.call = call
        self.done = done
        self.aside = aside
        self._flights: dict[str, _Flight] = {}
        self._failed: list[int] = []
        self._results: dict[str, Any] = {}
        self._ready: SimpleQueue[Any] = SimpleQueue()
        self._window = WINDOW
        self._address = crew.client.scheduler_info(n_workers=0)["address"]

    def run(self, shards: Iterable[int]) -> list[int]:
        """Runs shards; returns those that were set aside.

        Raises:
            ClusterError: the scheduler was lost, or a worker is none for this build.
            DatabaseError: the disk is full or cannot be written any more.
        """
        client = self.crew.client
        client.subscribe_topic(TOPIC, self._on_event)
        waiting = iter(shards)
        look_at = 0.0
        try:
            while True:
                if time.monotonic() >= look_at:
                    self._look_after_workers()
                    look_at = time.monotonic() + LOOK_S
                self._fill(waiting)
                if not self._flights:
                    return self._failed
                results = []
                for flight, result, error in self._finished():
                    if error is None:
                        results.append(result)
                    else:
                        self._again(flight, error)
                if results:
                    self.done(results)
        finally:
            with suppress(Exception):  # a scheduler that is gone has no subscribers
                client.unsubscribe_topic(TOPIC)
            for flight in self._flights.values():
                flight.future.release()

    def _fill(self, waiting: Iterator[int]) -> None:
        while len(self._flights) < self._window:
            shard = next(waiting, None)
            if shard is None:
                return
            self._submit(shard, 1)

    def _submit(self, shard: int, attempt: int) -> None:
        from distributed.client import ClosedClientError

        key = f"{KEY_PREFIX}-{shard}-attempt-{attempt}-{time.monotonic_ns()}"
        function, *arguments = self.call(shard)
        try:
            future = self.crew.client.submit(_begin, key, function, *arguments, key=key, pure=False)
        except ClosedClientError as err:
            raise self._lost() from err
        self._flights[key] = _Flight(shard, attempt, future)
        future.add_done_callback(self._ready.put)

    def _finished(self) -> list[tuple[_Flight, Any, Exception | None]]:
        """Results and errors that came in, after a wait for the first."""
        futures = []
        with suppress(Empty):
            futures.append(self._ready.get(timeout=LOOK_S))
            while True:
                futures.append(self._ready.get_nowait())
        found = []
        for future in futures:
            flight = self._flights.get(future.key)
            if flight is None:  # given up
                continue
            if future.status == "cancelled":
                raise self._lost()
            result, error = None, None
            try:
                # asked for, not raised: the task's own TimeoutError is none of ours
                if future.status == "error":
                    error = future.exception(timeout=LOOK_S)
                elif future.status == "finished" and future.key in self._results:
                    result = self._results[future.key]
                else:
                    result = future.result(timeout=LOOK_S)
            except TimeoutError:  # it was on a worker that died since: it is being made again
                if future.status not in ("finished", "error"):
                    future.add_done_callback(self._ready.put)
                else:
                    self._ready.put(future)
                continue
            except Exception as err:
                error = err
            del self._flights[future.key]
            self._results.pop(future.key, None)
            future.release()
            found.append((flight, result, error))
        return found

    def _again(self, flight: _Flight, error: Exception) -> None:
        """Hands a failed shard out again, or sets it aside."""
        if isinstance(error, ClusterError):  # the worker would fail every shard that it got
            raise error
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            where = f" ({error.filename})" if error.filename else ""
            raise DatabaseError(
                f"the database cannot be written: {error.strerror}{where}; what is finished is "
                "kept, and the same command goes on when it can be"
            )
        if flight.attempt < ATTEMPTS:
            self._submit(flight.shard, flight.attempt + 1)
            return
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self._failed.append(flight.shard)
        self.aside(Failure(flight.shard, text, flight.attempt))

    # workers

    def _lost(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self._address} was lost; what is finished is "
            "kept, and the same command goes on"
        )

    def _on_event(self, event: tuple[float, tuple[str, str, bytes | None]]) -> None:
        key, worker, result = event[1]
        flight = self._flights.get(key)
        if flight is None:
            return
        if result is None:
            flight.worker, flight.since = worker, time.monotonic()
        else:
            self._results[key] = pickle.loads(result)

    def _look_after_workers(self) -> None:
        if self.crew.client.status != "running":
            raise self._lost()
        try:
            workers = self.crew.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, KeyError) as err:  # one that is closing says nothing of workers
            raise self._lost() from err
        self.crew.keep(workers)
        self._window = WINDOW * max(1, len(workers))
        late = time.monotonic() - self.crew.shard_limit_s
        for key, flight in list(self._flights.items()):
            if flight.worker is not None and flight.since < late and not flight.future.done():
                del self._flights[key]
                self._results.pop(key, None)
                flight.future.cancel()
                self._restart(flight.worker)
                limit = f"{self.crew.shard_limit_s / 60:g} min"
                self._again(flight, TimeoutError(f"took longer than the shard limit of {limit}"))

    def _restart(self, worker: str) -> None:
        """Kills a worker that hangs. Its nanny starts another; without one it is only dropped."""
        client = self.crew.client
        assert client.scheduler is not None  # it is connected
        try:
            client.sync(
                client.scheduler.restart_workers,
                workers=[worker],
                timeout=30,
                wait_for_workers=False,
                on_error="return",
                stimulus_id=f"shard-limit-{time.monotonic_ns()}",
            )
        except OSError as err:
            raise self._lost() from err


def is_shard(key: Any) -> bool:
    """Whether a key of Dask's is one of ours."""
    return isinstance(key, str) and key.startswith(f"{KEY_PREFIX}-")


def _begin(key: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs on a worker: says that a shard has begun, does it, and says what came of it."""
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(TOPIC, (key, worker.address, None))
    result = function(*arguments)
    worker.log_event(TOPIC, (key, worker.address, pickle.dumps(result)))
    return result
