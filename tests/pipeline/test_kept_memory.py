"""Memory that workers keep."""

import os
import platform
import subprocess
import sys

import pytest

CLEARED = """
import resource, threading
import numpy as np
from pyloric_db.pipeline.kept_memory import keep_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def measure():
    print(pages())
    keep_memory()
    pages()
    print(pages())

thread = threading.Thread(target=measure)  # as Dask's tasks are
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no mallopt")
def test_arrays_made_anew_are_not_cleared_by_the_system_again():
    done = subprocess.run(
        [sys.executable, "-c", CLEARED],
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"},  # as Dask has it
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert after < before / 20
