"""A real S3 server on loopback, and what tests do to its objects."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "databases"


@contextmanager
def server(log: Path) -> Iterator[dict[str, str]]:
    """Runs moto's server; yields the environment that leads to it."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        port = None
        while port is None:
            assert process.poll() is None, log.read_text()
            port = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())
        endpoint = port[0]
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request).close()
        yield {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.kill()
        process.wait()


def upload(directory: Path, url: str) -> str:
    """Copies a directory into the store, as any tool would."""
    from pyloric_db.store.files import files_at

    names = [p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()]
    files_at(url).write({name: (directory / name).read_bytes() for name in names})
    return url


def download(url: str, directory: Path) -> Path:
    """Copies a database out of the store."""
    from pyloric_db.store.files import files_at

    files = files_at(url)
    for name in files.names():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files.read(name))
    return directory


def environment(added: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **added}
