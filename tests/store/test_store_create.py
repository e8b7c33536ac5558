import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import synthetic
from test_store_shards import contents

from pyloric_db.errors import DatabaseError
from pyloric_db.store import lock
from pyloric_db.store.create import check_target, create
from pyloric_db.store.files import files_at
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.lock import build_lock
from pyloric_db.store.verify import verify


def snapshot(path):
    return {p: (p.read_bytes() if p.is_file() else None) for p in path.rglob("*")}


def test_names_that_are_no_text_are_refused(tmp_path):
    with pytest.raises(DatabaseError, match="is not valid in UTF-8"):
        create(Ledger(tmp_path / "b\udcff"), synthetic.make_manifest())
    assert not list(tmp_path.iterdir())


def test_create_again_changes_nothing(database):
    path, manifest = database
    before = snapshot(path)
    newer = replace(manifest, versions={"pyloric_db": "2"})
    assert create(Ledger(path), newer) == manifest  # the stored versions stay
    assert snapshot(path) == before


METADATA = [
    "database.json", "states/zarr.json", "states/V/zarr.json", "states/cell/zarr.json",
    "states/cell/c/0",
]  # fmt: skip


@pytest.mark.parametrize("how", ["flip", "remove", "truncate"])
def test_create_mends_metadata(stored, how):
    files, manifest = stored
    before = contents(files)
    for name in METADATA:
        data = bytearray(files.read(name))
        if how == "remove":
            files.remove(name)
        else:
            data[len(data) // 2] ^= 4
            files.write({name: bytes(data if how == "flip" else data[:-3])})
        assert {d.file for d in verify(files).damages} == {name}
        create(Ledger(files), manifest)
        assert contents(files) == before
        assert verify(files).good


def test_create_mends_the_ledger(stored):
    path, manifest = stored
    lines = path.read("ledger.jsonl").splitlines(keepends=True)
    wrong = lines[0].replace(b"database", b"databAse", 1) + b"".join(lines[1:])
    path.write({"ledger.jsonl": wrong})
    assert [d.file for d in verify(path).damages][0] == "ledger.jsonl"
    create(Ledger(path), manifest)
    report = verify(path)
    assert report.good and report.complete
    path.remove("ledger.jsonl")
    create(Ledger(path), manifest)
    report = verify(path)
    assert report.good and report.shards_done == 0


@pytest.mark.parametrize("with_ledger", [True, False])
@pytest.mark.parametrize("size, zeros", [(0, 0), (0, 700), (500, 0), (500, 200)])
def test_create_mends_a_manifest_that_was_cut_short_before_anything_was_recorded(
    database, tmp_path, size, zeros, with_ledger
):
    path, manifest = database
    new = tmp_path / "new"
    create(Ledger(new), manifest)
    before = contents(new)
    (new / "database.json").write_bytes((path / "database.json").read_bytes()[:size] + bytes(zeros))
    (new / "ledger.jsonl").write_bytes(b"")
    if not with_ledger:
        (new / "ledger.jsonl").unlink()
    create(Ledger(new), manifest)
    assert contents(new) == before and verify(new).good


def test_a_manifest_of_somebody_else_is_not_cut_short(tmp_path, pristine):
    file = tmp_path / "database.json"
    for text in ('{"recipe": ', "notes", " {}", "\0" * 100_000):
        file.write_text(text)
        with pytest.raises(DatabaseError, match="damaged|not"):
            create(Ledger(tmp_path), pristine[1])
        assert file.read_text() == text
    file.unlink()
    file.mkdir()
    with pytest.raises(DatabaseError, match="cannot be read"):
        create(Ledger(tmp_path), pristine[1])


def test_leftovers_of_a_killed_create_are_no_obstacle(tmp_path):
    path = tmp_path / "db"
    path.mkdir()
    (path / "database.json.7.partial").write_text("{")
    (path / "template.partial").mkdir()
    (path / "template.partial" / "zarr.json").write_text("{")
    manifest = create(Ledger(path), synthetic.make_manifest())
    assert verify(path).good and not verify(path).strays
    for file in ("ledger.jsonl", "states/zarr.json", "states/m/zarr.json"):
        (path / file).unlink()
    create(Ledger(path), manifest)
    assert verify(path).good


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"recipe": {"name": "other"}, "name": "other"},
            r"\(tiny, not other\): recipe.grid is not given, but there {'gsyn_ab_lp",
        ),
        ({"selection": {"limit": 7}}, r"of this recipe, and not 48 circuits \(limit 7\)"),
        ({"settings": {"dt_ms": 0.025}}, "settings.dt_ms is 0.025, but there 0.05"),
        ({"shard_circuits": 40}, "shard_circuits is 40, but there 20"),
        ({"n_circuits": 40}, "another version of pyloric-db, whose n_circuits differ"),
    ],
)
def test_another_recipe_is_refused_and_nothing_touched(stored, change, message):
    files, manifest = stored
    before = {name: files.version(name) for name in files.names()}
    for attempt in (check_target, create):
        with pytest.raises(DatabaseError, match=message):
            attempt(Ledger(files), replace(manifest, **change))
    assert {name: files.version(name) for name in files.names()} == before


def test_another_recipe_does_not_take_over_shards_whose_manifest_is_lost(stored):
    files, manifest = stored
    files.remove("database.json")
    before = contents(files)
    other = replace(manifest, recipe={"name": "other"}, name="other")
    for attempt in (check_target, create):
        with pytest.raises(DatabaseError, match=r"lost its database\.json, and its ledger is of"):
            attempt(Ledger(files), other)
    assert contents(files) == before
    assert create(Ledger(files), manifest) == manifest  # but its own recipe does
    assert verify(files).good and verify(files).complete


def test_newer_schema_is_refused_and_nothing_touched(database):
    path, manifest = database
    content = json.loads((path / "database.json").read_text())
    shutil.rmtree(path)
    path.mkdir()
    (path / "database.json").write_text(json.dumps(content | {"schema_version": 7}))
    before = snapshot(path)
    with pytest.raises(DatabaseError, match="newer pyloric-db"):
        create(Ledger(path), manifest)
    assert snapshot(path) == before


def test_directory_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DatabaseError, match=r"not empty .*thesis\.tex"):
        create(Ledger(tmp_path), synthetic.make_manifest())
    with pytest.raises(DatabaseError, match="not a directory"):
        create(Ledger(tmp_path / "thesis.tex"), synthetic.make_manifest())
    with pytest.raises(DatabaseError, match="not a directory"):
        create(Ledger(tmp_path / "thesis.tex" / "db"), synthetic.make_manifest())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DatabaseError, match="not writable"):
        create(Ledger(tmp_path / "db"), synthetic.make_manifest())


def test_build_lock_admits_one(place):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pyloric_db.store.lock import build_lock\n"
        "with build_lock(sys.argv[1]):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", code, place, *filter(None, sys.path)]
    holder = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with (
        pytest.raises(DatabaseError, match=f"is being built by process {holder.pid} on "),
        build_lock(place),
    ):
        pass
    files = files_at(place)
    assert files.builder() == f"process {holder.pid} on {socket.gethostname()}"
    holder.kill()
    holder.communicate()
    assert files.exists("build.lock") and files.builder() is None
    with build_lock(place):
        assert Ledger(place).read().shards == {}
    assert list(files.names()) == []


def test_to_look_at_the_lock_keeps_nobody_from_it(tmp_path, monkeypatch):
    """Not even where it is taken between a look and its end."""
    (tmp_path / "build.lock").touch()
    with open(tmp_path / "build.lock") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr("pyloric_db.store.lock.time.sleep", lambda s: looking.close())
        with build_lock(tmp_path):
            assert looking.closed


def test_who_holds_the_lock_is_not_read_through_a_link(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("process 7 on elsewhere\n")
    with outside.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert lock.builder_at(outside) == "process 7 on elsewhere"
        (tmp_path / "build.lock").symlink_to(outside)
        assert lock.builder_at(tmp_path / "build.lock") is None


@pytest.mark.parametrize("another", [False, True])
def test_the_lock_is_that_of_the_file_that_is_there(tmp_path, monkeypatch, another):
    """Its holder may remove it before it is ours: a lock on what is gone keeps nobody out."""
    file, take = tmp_path / "build.lock", lock._lock

    def late(fd):
        monkeypatch.setattr(lock, "_lock", take)
        take(fd)
        file.unlink()
        if another:
            file.touch()

    monkeypatch.setattr(lock, "_lock", late)
    opened = len(os.listdir("/dev/fd"))
    with build_lock(tmp_path):
        with pytest.raises(DatabaseError, match="is being built by process"), build_lock(tmp_path):
            pass
    assert not file.exists() and len(os.listdir("/dev/fd")) == opened


def test_the_lock_says_no_more_than_who_holds_it(tmp_path):
    """One that was killed has left its own name in it, which may be longer."""
    (tmp_path / "build.lock").write_text(f"process {10**30} on elsewhere\n")
    with build_lock(tmp_path):
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        assert (tmp_path / "build.lock").read_text() == holder + "\n"
        assert files_at(tmp_path).builder() == holder


def test_new_folders_outlive_a_power_cut(tmp_path, monkeypatch):
    """A folder is on the disk for certain once the one that it is in has been synced."""
    synced = []
    monkeypatch.setattr("pyloric_db.store.disk.fsync_folder", synced.append)
    with build_lock(tmp_path / "new" / "db"):
        assert set(synced) == {tmp_path, tmp_path / "new"}


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch, code):
    def flock(fd, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(DatabaseError, match=f"without locks .*{os.strerror(code)}.* -o flock"),
        build_lock(tmp_path / "db"),
    ):
        pass


def test_a_readme_tells_whoever_gets_a_copy_what_is_in_it(database):
    path, manifest = database
    file = path / "README.md"
    text = file.read_text()
    assert manifest.recipe_hash in text and f"{manifest.n_circuits:,} model circuits" in text
    for column in manifest.columns:
        assert f"| `{column.name}` |" in text
    names = {line.split("`")[1].rstrip("/") for line in text.splitlines() if line[:3] == "| `"}
    there = {p.name for p in path.iterdir()} - {"README.md"}
    assert there <= names, "files that it does not name"
