"""The clock of Dask's event loops."""

import subprocess
import sys

SET_BACK = """
import asyncio, time
real, shift = time.time, 0
time.time = lambda: real() + shift
from distributed import scheduler
from distributed.batched import BatchedSend
from tornado.ioloop import IOLoop
from pyloric_db.pipeline.steady_clock import keep_steady

class Comm:
    sent = []
    def closed(self): return False
    async def write(self, messages, **settings):
        self.sent += messages
        return 1

async def main():
    before = IOLoop.current().time()
    keep_steady()
    keep_steady()
    assert 0 <= IOLoop.current().time() - before < 1
    sender = BatchedSend(interval="50ms")
    sender.start(Comm())
    sender.send("first")
    await asyncio.sleep(0.01)
    global shift
    shift = -3600
    sender.send("second")
    assert abs(scheduler.time() - before) < 10  # of two clocks it would call workers dead
    await asyncio.sleep(0.5)
    print(Comm.sent)

asyncio.run(main())
"""


def test_messages_go_out_when_the_time_of_day_is_set_back():
    done = subprocess.run([sys.executable, "-c", SET_BACK], capture_output=True, text=True)
    assert done.stdout == "['first', 'second']\n", done.stderr
