"""A build that is killed, interrupted or damaged ends as the same files."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contents import contents

import pyloric_db as pyl
from pyloric_db.store.verify import verify

COMMAND = Path(sys.executable).parent / "pyloric-db"


class Build:
    """`pyloric-db build` in a session of its own, which ends with the block."""

    def __init__(self, recipe, path):
        self.path = path
        self.process = subprocess.Popen(
            [COMMAND, "build", recipe, "--out", path, "--workers", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.communicate()

    def wait_for_rows(self, count, kind=b'"kind"', timeout_s=120.0):
        """Until the ledger has so many rows; True if the build still runs then."""
        ledger = self.path / "ledger.jsonl"
        end = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < end, "the build stands still"
            if ledger.exists() and ledger.read_bytes().count(kind) >= count:
                return True
            time.sleep(0.01)
        return False


def shards_done(path):
    return verify(path).shards_done


@pytest.mark.slow
def test_killed_twice(tiny_toml, tiny_db, tmp_path):
    path = tmp_path / "db"
    with Build(tiny_toml, path) as build:
        assert build.wait_for_rows(1)
        build.process.kill()  # the coordinator alone; its workers are orphans for a moment
        build.process.wait()
    assert shards_done(path) == 0
    with Build(tiny_toml, path) as build:
        assert build.wait_for_rows(3, b'"kind":"shard"')
    done = shards_done(path)
    assert 3 <= done < 12
    assert verify(path).good
    with Build(tiny_toml, path) as build:
        _, err = build.process.communicate(timeout=200)
        assert build.process.returncode == 0, err
    report = verify(path)
    assert report.good and report.complete and not report.strays
    assert contents(path) == contents(tiny_db)


@pytest.mark.slow
def test_interrupted(tiny_toml, tiny_db, tmp_path, client, tiny):
    """Ctrl-C reaches every process of the terminal."""
    path = tmp_path / "db"
    with Build(tiny_toml, path) as build:
        assert build.wait_for_rows(2, b'"kind":"shard"')
        os.killpg(build.process.pid, signal.SIGINT)
        out, err = build.process.communicate(timeout=60)
    assert build.process.returncode == 130
    lines = [line for line in err.splitlines() if line and " of 24 circuits" not in line]
    assert len(lines) == 1 and "interrupted" in lines[0], err
    assert out == "" and "Traceback" not in err
    assert 2 <= shards_done(path) < 12
    assert pyl.build(tiny(), path, cluster=client).complete
    assert contents(path) == contents(tiny_db)


@pytest.mark.slow
def test_killed_at_ten_random_moments(tiny_toml, tiny_db, tmp_path):
    path = tmp_path / "db"
    rng = random.Random(7)
    kills = 0
    while kills < 10:
        with Build(tiny_toml, path) as build:
            time.sleep(rng.uniform(0.2, 9.0))
            if build.process.poll() is not None:
                assert build.process.returncode == 0, build.process.stderr.read()
                # complete: take most of it away again, so that there is something to kill
                keep = rng.randrange(1, 6)
                lines = (path / "ledger.jsonl").read_bytes().splitlines(keepends=True)
                (path / "ledger.jsonl").write_bytes(b"".join(lines[:keep]))
                continue
            if rng.random() < 0.5:
                os.killpg(build.process.pid, signal.SIGKILL)
            else:
                build.process.kill()
            build.process.wait()
            kills += 1
        if (path / "database.json").exists():
            assert verify(path).good
    with Build(tiny_toml, path) as build:
        _, err = build.process.communicate(timeout=300)
        assert build.process.returncode == 0, err
    report = verify(path)
    assert report.good and report.complete and not report.strays
    assert contents(path) == contents(tiny_db)


KINDS = [
    "README.md",
    "database.json",
    "cells.parquet",
    "features/part-000004.parquet",
    "states/zarr.json",
    "states/V/zarr.json",
    "states/V/c/3/0",
    "states/m/c/0/0/0",
    "states/circuit_id/c/11",
    "states/cell/c/0",
    "ledger.jsonl",
]


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_byte_is_named_and_mended(tiny, tiny_db, tmp_path, client, name):
    path = shutil.copytree(tiny_db, tmp_path / "db")
    flip(path / name)
    assert {d.file for d in verify(path).damages} == {name}
    assert pyl.build(tiny(), path, cluster=client).complete
    assert verify(path).good and verify(path).complete
    assert contents(path) == contents(tiny_db)


def test_the_kinds_are_all_there_are(tiny_db):
    """Every file of a database is of a kind whose damage is tested above."""
    kinds = {tuple(part.strip("0123456789") for part in Path(k).parts[:2]) for k in KINDS}
    kinds |= {("states", n) for n in ("Ca", "h", "s", "m_gate", "h_gate", "source")}
    for file in tiny_db.rglob("*"):
        if file.is_file():
            parts = file.relative_to(tiny_db).parts[:2]
            kind = tuple(p if p[0] != "p" else "part-000004.parquet" for p in parts)
            assert tuple(p.strip("0123456789") for p in kind) in kinds, file


@pytest.mark.slow
def test_the_command_line_names_and_mends(tiny_toml, tiny_db, tmp_path, cli):
    path = shutil.copytree(tiny_db, tmp_path / "db")
    for name in KINDS[:-1]:
        flip(path / name)
    found = cli("verify", path)
    assert found.returncode == 1 and "Traceback" not in found.stderr
    for name in KINDS[:-1]:
        assert name in found.stdout
    assert "pyloric-db build" in found.stdout
    built = cli("build", tiny_toml, "--out", path, "--workers", 1)
    assert built.returncode == 0, built.stderr
    found = cli("verify", path)
    assert found.returncode == 0 and "all shards are there" in found.stdout
    assert contents(path) == contents(tiny_db)


@pytest.mark.slow
def test_any_flipped_byte(tiny, tiny_db, tmp_path, client):
    rng = random.Random(3)
    files = sorted(p.relative_to(tiny_db) for p in tiny_db.rglob("*") if p.is_file())
    path = shutil.copytree(tiny_db, tmp_path / "db")
    for name in rng.sample(files, 40):
        data = bytearray((path / name).read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (path / name).write_bytes(data)
        assert name.as_posix() in {d.file for d in verify(path).damages}
        pyl.build(tiny(), path, cluster=client)
        assert verify(path).good
        assert contents(path) == contents(tiny_db)
