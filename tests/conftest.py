"""Tiny recipes and databases that the tests of pipeline and command line share."""

import contextlib
import copy
import fcntl
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sys.executable).parent / "pyloric-db"


def pytest_configure(config: pytest.Config) -> None:
    """Settings of all processes of a run, which are in place before JAX is imported."""
    # where there is a GPU, `-m gpu` runs the tests that need it; the others expect a CPU
    if config.getoption("markexpr") != "gpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    keep_programs(config)


def keep_programs(config: pytest.Config) -> None:
    """One folder of compiled programs for all processes of a run, and for the runs that follow.

    The commands that tests run keep theirs in the user's cache, which is here: so they share them
    with the tests, and leave nothing in the home of who runs these.
    """
    cache = getattr(config, "cache", None)
    if cache is None:  # without pytest's cache there is none of ours
        return
    folder = cache.mkdir("programs")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
        folder / "pyloric-db" / "jax" / (platform.node() or "node")
    )
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    # a program that another process is just writing is compiled instead
    for done in ("reading", "writing"):
        config.addinivalue_line(
            "filterwarnings", f"ignore:Error {done} persistent compilation cache:UserWarning"
        )


#: Three epochs of a quarter of a second: nothing a scientist would run, but all of the path.
SHORT = {
    "dt_ms": 0.1,
    "transient_ms": 250,
    "epoch_ms": 250,
    "min_ms": 500,
    "max_ms": 750,
    "thermal_max_ms": 2000,
}

#: 24 circuits in 12 shards, three times what two workers have in flight.
TINY: dict[str, Any] = {
    "name": "tiny",
    "circuit": {"preset": "prinz2004"},
    "parameters": {
        "grid": {
            "abpd": ["AB/PD 1", "AB/PD 2"],
            "lp": ["LP 1", "LP 2"],
            "py": ["PY 1", "PY 2"],
            "gsyn_ab_lp_nS": [0, 3, 10],
        }
    },
    "protocol": SHORT,
    "store": {"shard_circuits": 2},
}

#: 24 circuits with the ten axes of Prinz 2004, so that they have netcodes.
NAMED = """
name = "named"
description = "a corner of the Prinz 2004 grid, run for three quarters of a second"
[circuit]
preset = "prinz2004"
[parameters.grid]
abpd = ["AB/PD 1", "AB/PD 2"]
lp = ["LP 1", "LP 2"]
py = ["PY 1", "PY 2", "PY 3"]
gsyn_ab_lp_nS = [0, 30]
gsyn_pd_lp_nS = [3]
gsyn_ab_py_nS = [1]
gsyn_pd_py_nS = [1]
gsyn_lp_abpd_nS = [10]
gsyn_lp_py_nS = [3]
gsyn_py_lp_nS = [0]
[protocol]
dt_ms = 0.1
initial = "cold"
transient_ms = 250
epoch_ms = 250
min_ms = 500
max_ms = 750
"""


def _changed(recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with values at dotted paths; None deletes the key."""
    recipe = copy.deepcopy(recipe)
    for place, value in changes.items():
        *tables, key = place.split(".")
        table = recipe
        for name in tables:
            table = table.setdefault(name, {})
        if value is None:
            del table[key]
        else:
            table[key] = value
    return recipe


@pytest.fixture(scope="session")
def tiny() -> Callable[..., dict[str, Any]]:
    """The tiny recipe, with changes by dotted place."""
    return lambda changes=None: _changed(TINY, changes or {})


def _toml(table: dict[str, Any], place: str = "") -> str:
    values = {k: v for k, v in table.items() if not isinstance(v, dict)}
    text = f"[{place}]\n" if place and values else ""
    text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items())
    tables = {k: v for k, v in table.items() if isinstance(v, dict)}
    return text + "".join(_toml(v, f"{place}.{k}".strip(".")) for k, v in tables.items())


@pytest.fixture(scope="session")
def tiny_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe as a file."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    file.write_text(_toml(TINY))
    return file


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, tuple[bytes | None, int]]]:
    """Everything below a directory, to the byte and the time of the last change."""

    def read(path: Path) -> dict[str, tuple[bytes | None, int]]:
        return {
            str(p.relative_to(path)): (
                p.read_bytes() if p.is_file() else None,
                p.stat().st_mtime_ns,
            )
            for p in path.rglob("*")
        }

    return read


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """Two worker processes, started once: they compile each engine once."""
    from pyloric_db.pipeline.cluster import local_client

    with local_client(2) as client:
        yield client


@pytest.fixture(scope="session")
def copy_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A database that is built once in a run of tests: each process of the run has a copy.

    Not the same files: a build holds a lock on them even where nothing is left to do.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def copy(name: str, build: Callable[[Path], object]) -> Path:
        path, part = shared / name, shared / f"{name}.part"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                shutil.rmtree(part, ignore_errors=True)
                build(part)
                part.rename(path)
        return Path(shutil.copytree(path, tmp_path_factory.mktemp(name) / "db"))

    return copy


@pytest.fixture(scope="session")
def tiny_db(copy_of: Any, request: pytest.FixtureRequest, tiny: Any) -> Path:
    """The tiny recipe's database, built undisturbed by two workers. Not to be changed."""
    import pyloric_db

    def build(path: Path) -> None:
        pyloric_db.build(tiny(), path, cluster=request.getfixturevalue("client"))

    return copy_of("tiny", build)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A complete database of random values, and its manifest. Not to be changed."""
    import synthetic

    path = tmp_path_factory.mktemp("pristine") / "db"
    return path, synthetic.build(path)


@pytest.fixture
def database(pristine: tuple[Path, Any], tmp_path: Path) -> tuple[Path, Any]:
    """The same, which the test may damage."""
    path, manifest = pristine
    return shutil.copytree(path, tmp_path / "db"), manifest


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server on loopback; the environment leads to it as long as tests run."""
    import s3

    with s3.server(tmp_path_factory.mktemp("s3") / "log") as environment:
        os.environ.update(environment)
        yield environment
        for name in environment:
            del os.environ[name]


@pytest.fixture
def url(object_store: dict[str, str]) -> str:
    """A place in the object store where nothing is."""
    return f"s3://databases/{uuid.uuid4().hex}/db"


@pytest.fixture(scope="session")
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the installed command."""

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture(scope="session")
def inside() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same command without a process of its own, which is much faster."""
    from pyloric_db.cli import main

    def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", ["pyloric-db", *map(str, arguments)])
            if cwd is not None:
                patch.chdir(cwd)
            try:
                main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def named_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file whose circuits have netcodes."""
    file = tmp_path_factory.mktemp("named") / "named.toml"
    file.write_text(NAMED)
    return file


@pytest.fixture(scope="session")
def named_db(copy_of: Any, cli: Any, named_toml: Path) -> Path:
    """The database of `named_toml`, built by the command line. Not to be changed."""

    def build(path: Path) -> None:
        done = cli("build", named_toml, "--out", path, "--workers", 1)
        assert done.returncode == 0, done.stderr

    return copy_of("named", build)
