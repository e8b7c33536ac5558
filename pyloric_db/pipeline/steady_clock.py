"""Event loops of Dask on a clock that is never set back.

Tornado's loops go by the time of day, and Dask's processes hold messages to each other until a
moment a few milliseconds ahead. Set back by an hour in between, they would be silent for an hour.
"""

import time
from typing import Any

from distributed import SchedulerPlugin
from tornado.ioloop import IOLoop


def keep_steady() -> None:
    """From now on the loops of this process go by the monotonic clock, without a jump."""
    if IOLoop.time.__module__ == __name__:
        return
    ahead = time.time() - time.monotonic()

    def steady(loop: IOLoop) -> float:
        return time.monotonic() + ahead

    type.__setattr__(IOLoop, "time", steady)


class SteadyScheduler(SchedulerPlugin):
    """Does so in the process of a scheduler."""

    name = "pyloric-db-clock"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        keep_steady()
