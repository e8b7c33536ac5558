"""The explorer as people start it."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(path, *options):
    """The installed command in a process of its own; yields its address."""
    command = Path(sys.executable).parent / "pyloric-db"
    process = subprocess.Popen(
        [command, "explore", path, "--no-browser", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), process.stderr.read()
        yield line.split()[0], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
