import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import synthetic

import pyloric_db

#: The synthetic circuits can be simulated, from their random states, if a circuit is said.
RECIPE = {
    "name": "tiny",
    "circuit": {"preset": "prinz2004"},
    "description": "<script>alert(1)</script> & co",
}


@pytest.fixture(scope="session")
def explorer_db(tmp_path_factory):
    """600 circuits with seeded random features, on no grid. Not to be changed."""
    path = tmp_path_factory.mktemp("explorer") / "db"
    manifest = synthetic.make_manifest(axes=None, n_circuits=600, shard_circuits=200, recipe=RECIPE)
    synthetic.build(path, manifest)
    return pyloric_db.open(path)


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


@pytest.fixture(scope="session")
def address(explorer_db):
    """Where the explorer of `explorer_db` is served."""
    with served(explorer_db.path) as (address, _):
        yield address


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, as the system has it."""
    pytest.importorskip("playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
