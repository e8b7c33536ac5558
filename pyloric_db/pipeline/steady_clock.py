"""Event loops of Dask on a clock that is never set.

Tornado's loops and Dask's batches of messages go by the time of day: a message waits until a moment
a few milliseconds ahead. Set back by an hour in between, processes would be silent for an hour. The
scheduler asks how long ago it heard of a worker: set forward, all workers would seem to be dead.
"""

import time
from typing import Any

from distributed import batched, scheduler
from tornado.ioloop import IOLoop


def keep_steady() -> None:
    """From now on the loops of this process go by the monotonic clock, without a jump."""
    if IOLoop.time.__module__ == __name__:
        return
    ahead = time.time() - time.monotonic()

    def now(*_: Any) -> float:
        return time.monotonic() + ahead

    type.__setattr__(IOLoop, "time", now)
    for module in (batched, scheduler):  # what waits on the loop has to go by the same clock
        vars(module)["time"] = now
