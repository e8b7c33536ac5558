"""Builds into an object store end as the same files as builds on a disk."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3
from contents import contents

import pyloric_db as pyl
from pyloric_db.errors import DatabaseError
from pyloric_db.pipeline.ranges import parse_ranges
from pyloric_db.store.files import files_at
from pyloric_db.store.lock import build_lock
from pyloric_db.store.verify import verify

COMMAND = Path(sys.executable).parent / "pyloric-db"


@pytest.fixture(scope="module")
def workers(client, object_store):
    """The two workers, who may have been started before there was a store."""

    def enter(environment):
        os.environ.update(environment)

    client.run(enter, object_store)
    return client


@pytest.fixture
def same_as_on_disk(tiny_db, tmp_path):
    def check(url):
        report = verify(url)
        assert report.good and report.complete and not report.strays
        assert contents(s3.download(url, tmp_path / "copy")) == contents(tiny_db)

    return check


@pytest.mark.slow
def test_a_build_makes_the_same_bytes(workers, tiny, tiny_db, url, same_as_on_disk):
    db = pyl.build(tiny(), url, cluster=workers)
    assert db.complete and db.circuits.load().identical(pyl.open(tiny_db).circuits.load())
    same_as_on_disk(url)
    before = {name: files_at(url).version(name) for name in files_at(url).names()}
    assert pyl.build(tiny(), url).complete  # needs no workers
    found = {name: files_at(url).version(name) for name in files_at(url).names()}
    assert {n for n in before if before[n] != found[n]} <= {"ledger.jsonl"}
    with pytest.raises(DatabaseError, match="another recipe"):
        pyl.build(tiny({"protocol.dt_ms": 0.05}), url)
    traces = db.simulate([5], duration_ms=2)
    assert traces.V.sizes["cell"] == 3


@pytest.mark.slow
def test_killed_it_goes_on(object_store, tiny_toml, url, same_as_on_disk):
    for rows in (1, 4):
        with subprocess.Popen(
            [COMMAND, "build", tiny_toml, "--out", url, "--workers", "2"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        ) as build:  # fmt: skip
            end = time.monotonic() + 200
            while files_at(url).read_lines("ledger.jsonl").count(b'"shard":') < rows:
                assert build.poll() is None and time.monotonic() < end
                time.sleep(0.2)  # the server is a process of this machine, too
            os.killpg(build.pid, signal.SIGKILL)
        assert files_at(url).exists("build.lock")  # of a dead process: it is taken over
        report = verify(url)
        assert report.good and rows <= report.shards_done < 12
    done = subprocess.run(
        [COMMAND, "build", tiny_toml, "--out", url, "--workers", "2"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    same_as_on_disk(url)


DAMAGED = [
    "database.json", "cells.parquet", "features/part-000004.parquet", "states/zarr.json",
    "states/V/c/3/0", "ledger.jsonl",
]  # fmt: skip


@pytest.mark.slow
def test_damage_is_named_and_mended(workers, tiny, tiny_db, url, same_as_on_disk):
    s3.upload(tiny_db, url)
    files = files_at(url)
    for name in DAMAGED:
        data = bytearray(files.read(name))
        data[len(data) // 2] ^= 1
        files.write({name: bytes(data)})
        assert {d.file for d in verify(url).damages} == {name}
        assert pyl.build(tiny(), url, cluster=workers).complete
        assert verify(url).good
    files.remove("features/part-000007.parquet")
    assert pyl.build(tiny(), url, cluster=workers).complete
    same_as_on_disk(url)


def test_one_build_at_a_time(tiny, tiny_db, url, workers):
    s3.upload(tiny_db, url)
    with (
        build_lock(url),
        pytest.raises(DatabaseError, match=f"being built by process {os.getpid()} on "),
    ):
        pyl.build(tiny(), url)
    assert pyl.build(tiny(), url).complete


def test_ranges_in_a_store_and_on_a_disk_are_merged(workers, tiny, url, tmp_path, same_as_on_disk):
    for place, ids in ((f"{url}/a", "0:7"), (tmp_path / "b", "7:24")):
        pyl.build(tiny(), place, cluster=workers, ids=parse_ranges(ids))
    db = pyl.merge([tmp_path / "b", f"{url}/a"], f"{url}/whole")
    assert db.complete
    same_as_on_disk(f"{url}/whole")


def test_the_command_line(object_store, tiny_db, tiny_toml, url, inside):
    s3.upload(tiny_db, url)
    for arguments in (
        ("status", url), ("verify", url), ("show", url, "3"),
        ("query", url, "circuit_id < 3", "--format", "csv"),
    ):  # fmt: skip
        here = inside(*(tiny_db if a == url else a for a in arguments))
        there = inside(*arguments)
        assert there.returncode == here.returncode == 0, there.stderr
        assert there.stdout.replace(url, str(tiny_db)) == here.stdout
    refused = inside("build", tiny_toml, "--out", "s3://no-such-bucket/db")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "bucket does not exist" in refused.stderr
