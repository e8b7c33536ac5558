import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import synthetic
from test_store_shards import contents

from pyloric_db.errors import DatabaseError
from pyloric_db.store.create import check_target, create
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.lock import build_lock
from pyloric_db.store.verify import verify


def snapshot(path):
    return {p: (p.read_bytes() if p.is_file() else None) for p in path.rglob("*")}


def test_create_again_changes_nothing(database):
    path, manifest = database
    before = snapshot(path)
    newer = replace(manifest, versions={"pyloric_db": "2"})
    assert create(path, newer) == manifest  # the stored versions stay
    assert snapshot(path) == before


METADATA = [
    "database.json", "states/zarr.json", "states/V/zarr.json", "states/cell/zarr.json",
    "states/cell/c/0",
]  # fmt: skip


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("how", ["flip", "remove", "truncate"])
def test_create_mends_metadata(database, name, how):
    path, manifest = database
    before = contents(path)
    data = bytearray((path / name).read_bytes())
    if how == "remove":
        (path / name).unlink()
    else:
        data[len(data) // 2] ^= 4
        (path / name).write_bytes(data if how == "flip" else data[:-3])
    assert {d.file for d in verify(path).damages} == {name}
    create(path, manifest)
    assert contents(path) == before
    assert verify(path).good


def test_create_mends_the_ledger(database):
    path, manifest = database
    file = path / "ledger.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0].replace(b"database", b"databAse", 1) + b"".join(lines[1:]))
    assert [d.file for d in verify(path).damages][0] == "ledger.jsonl"
    create(path, manifest)
    report = verify(path)
    assert report.good and report.complete
    file.unlink()
    create(path, manifest)
    report = verify(path)
    assert report.good and report.shards_done == 0


def test_leftovers_of_a_killed_create_are_no_obstacle(tmp_path):
    path = tmp_path / "db"
    path.mkdir()
    (path / "database.json.7.partial").write_text("{")
    (path / "template.partial").mkdir()
    (path / "template.partial" / "zarr.json").write_text("{")
    manifest = create(path, synthetic.make_manifest())
    assert verify(path).good and not verify(path).strays
    for file in ("ledger.jsonl", "states/zarr.json", "states/m/zarr.json"):
        (path / file).unlink()
    create(path, manifest)
    assert verify(path).good


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"recipe": {"name": "other"}, "name": "other"},
            r"\(tiny, not other\): name, recipe differ",
        ),
        ({"selection": {"kind": "limit"}}, "selection differs"),
        ({"settings": {"dt_ms": 0.025}}, "settings differs"),
        ({"shard_circuits": 40}, "shard_circuits differs"),
        ({"n_circuits": 40}, "another version of pyloric-db, whose n_circuits differ"),
    ],
)
def test_another_recipe_is_refused_and_nothing_touched(database, change, message):
    path, manifest = database
    before = snapshot(path)
    for attempt in (check_target, create):
        with pytest.raises(DatabaseError, match=message):
            attempt(path, replace(manifest, **change))
    assert snapshot(path) == before


def test_newer_schema_is_refused_and_nothing_touched(database):
    path, manifest = database
    content = json.loads((path / "database.json").read_text())
    shutil.rmtree(path)
    path.mkdir()
    (path / "database.json").write_text(json.dumps(content | {"schema_version": 7}))
    before = snapshot(path)
    with pytest.raises(DatabaseError, match="newer pyloric-db"):
        create(path, manifest)
    assert snapshot(path) == before


def test_directory_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DatabaseError, match=r"not empty .*thesis\.tex"):
        create(tmp_path, synthetic.make_manifest())
    with pytest.raises(DatabaseError, match="not a directory"):
        create(tmp_path / "thesis.tex", synthetic.make_manifest())
    with pytest.raises(DatabaseError, match="not a directory"):
        create(tmp_path / "thesis.tex" / "db", synthetic.make_manifest())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DatabaseError, match="not writable"):
        create(tmp_path / "db", synthetic.make_manifest())


def test_build_lock_admits_one(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pyloric_db.store.lock import build_lock\n"
        "with build_lock(sys.argv[1]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path), *filter(None, sys.path)]
    holder = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(DatabaseError, match=f"is being built by process {holder.pid} on "),
        build_lock(tmp_path),
    ):
        pass
    holder.kill()
    holder.communicate()
    assert (tmp_path / "build.lock").exists()
    with build_lock(tmp_path):
        assert Ledger(tmp_path).read().shards == {}
    assert not (tmp_path / "build.lock").exists()
