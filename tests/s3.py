"""A real S3 server on loopback, and what tests do to its objects.

python tests/s3.py      # serves until it is killed
"""

import io
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "databases"


@contextmanager
def server(log: Path) -> Iterator[dict[str, str]]:
    """Runs the server; yields the environment that leads to it."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", __file__], stdout=output, stderr=subprocess.STDOUT
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


def serve() -> None:
    """moto's S3, but with conditional writes that are atomic, as S3's are.

    moto looks at the condition and then writes; in between another thread may have written. Its
    application for all services at once looks for them on the disk at every request, which takes
    longer than the answer.
    """
    from moto.server import create_backend_app
    from werkzeug.serving import run_simple

    moto = create_backend_app("s3")
    one_at_a_time = threading.Lock()

    def application(environ, start_response):
        # the whole request first: a client that was stopped while it sent must not hold the lock
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length))
        with one_at_a_time:
            return list(moto(environ, start_response))

    run_simple("127.0.0.1", 0, application, threaded=True)


if __name__ == "__main__":
    serve()
