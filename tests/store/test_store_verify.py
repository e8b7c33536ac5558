from dataclasses import replace

import pytest
import synthetic

from pyloric_db.errors import DatabaseError
from pyloric_db.store.cells import cells_intact, read_cells
from pyloric_db.store.create import create
from pyloric_db.store.disk import Disk
from pyloric_db.store.ledger import (
    Failure,
    Ledger,
    clear_failures,
    failures,
    files_of,
    record_failure,
)
from pyloric_db.store.sealed import seal
from pyloric_db.store.verify import damaged_shards, status, verify


def flip(files, name, at, bit=1):
    data = bytearray(files.read(name))
    data[at] ^= bit
    files.write({name: bytes(data)})


def repair(path, manifest):
    """What a build does: metadata, damaged shards, missing shards."""
    ledger = Ledger(path)
    create(ledger, manifest)
    if not cells_intact(ledger):
        ledger.append(synthetic.write_cells(path, synthetic.cell_columns()))
    for shard in damaged_shards(ledger) | (set(range(manifest.n_shards)) - ledger.done_shards()):
        ledger.record(synthetic.write(path, manifest, shard))


def test_a_flipped_byte_in_any_file_is_named_and_mended(stored):
    files, manifest = stored
    record_failure(files, Failure(1, "no", 3))
    names = sorted(files.names())
    assert len(names) > 30
    for name in names if isinstance(files, Disk) else names[::8]:
        good = files.read(name)
        for at in {0, len(good) // 3, len(good) - 1}:
            flip(files, name, at)
            assert name in [d.file for d in verify(files).damages], f"{name} at {at}"
            files.write({name: good})
        if name != "failed.jsonl":
            flip(files, name, len(good) // 2, 64)
            repair(files, manifest)
            assert [d.file for d in verify(files).damages if d.file != "failed.jsonl"] == []
        else:
            clear_failures(files)
    report = verify(files)
    assert report.good and report.complete and not report.strays


def test_every_byte_of_the_ledger_counts(pristine, tmp_path):
    source, _ = pristine
    good = (source / "ledger.jsonl").read_bytes()
    ledger, file = Ledger(tmp_path), tmp_path / "ledger.jsonl"
    for place in range(0, len(good), 7):
        for bit in (1, 32, 128):
            data = bytearray(good)
            data[place] ^= bit
            file.write_bytes(data)
            assert ledger.read().damaged


def of_the_ledger(path):
    return [d.what for d in verify(path).damages if d.file == "ledger.jsonl"]


def test_a_ledger_of_another_database_is_damage(tmp_path):
    other = synthetic.make_manifest(recipe={"name": "other"})
    synthetic.build(tmp_path / "one", shards=[0])
    synthetic.build(tmp_path / "other", other, shards=[0])
    assert of_the_ledger(tmp_path / "one") == []
    (tmp_path / "other" / "ledger.jsonl").rename(tmp_path / "one" / "ledger.jsonl")
    assert of_the_ledger(tmp_path / "one") == ["belongs to another recipe than database.json"]


def test_a_ledger_needs_its_header_once_there_is_something_to_lose(tmp_path):
    create(Ledger(tmp_path), synthetic.make_manifest())
    file = tmp_path / "ledger.jsonl"
    file.write_bytes(b"")
    assert verify(tmp_path).good
    receipt = synthetic.write(tmp_path, synthetic.make_manifest(), 0)
    assert of_the_ledger(tmp_path) == ["has no intact header row"]
    Ledger(tmp_path).record(receipt)
    assert of_the_ledger(tmp_path) == ["has no intact header row"]


@pytest.mark.parametrize("change", [{"shard": 3}, {"shard": 2}, {"n_circuits": 19}], ids=str)
def test_a_row_of_the_ledger_fits_the_manifest(tmp_path, change):
    """There are 48 circuits: 20, 20 and 8 in the shards 0, 1 and 2."""
    manifest = synthetic.build(tmp_path / "db", shards=[0])
    receipt = replace(synthetic.write(tmp_path / "db", manifest, 0), **change)
    Ledger(tmp_path / "db").record(receipt)
    wrong = f"row of shard {receipt.shard} does not fit database.json"
    assert of_the_ledger(tmp_path / "db") == [wrong]


def test_torn_last_line_is_ignored_and_cut_off(database):
    path, manifest = database
    file = path / "ledger.jsonl"
    whole = file.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in (last + 1, last + 40, len(whole) - 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        assert Ledger(path).done_shards() == {0, 1} and not Ledger(path).read().damaged
        assert verify(path).good
        Ledger(path).record(synthetic.write(path, manifest, 2))
        assert Ledger(path).done_shards() == {0, 1, 2}
        assert file.read_bytes()[:last] == whole[:last]
    file.write_bytes(whole[:last] + b"\0" * 300)  # blocks that a power cut left unwritten
    assert verify(path).good
    create(Ledger(path), manifest)
    assert file.read_bytes() == whole[:last]


def test_paths_that_leave_the_database_are_refused(tmp_path):
    ledger, file = Ledger(tmp_path), tmp_path / "ledger.jsonl"
    for name in ("/etc/passwd", "../x", "a/../../x", "a\\b", "", "a b", ".hidden", "a//b"):
        row = {"kind": "cells", "files": [f"{name} 3 {'0' * 64}"]}
        with pytest.raises(ValueError, match="not a row"):
            ledger.append(row)
        file.write_bytes(seal(row))
        with pytest.raises(DatabaseError, match="not pyloric-db's"):
            ledger.read()


def test_missing_shards_are_incomplete_not_damaged(tmp_path):
    manifest = synthetic.build(tmp_path / "db", shards=[1])
    report = verify(tmp_path / "db")
    assert report.good and not report.complete
    assert (report.shards_done, report.n_shards) == (1, 3)
    (tmp_path / "db" / "features" / "part-000002.parquet.9.partial").write_bytes(b"x")
    assert verify(tmp_path / "db").strays == ("features/part-000002.parquet.9.partial",)
    synthetic.write(tmp_path / "db", manifest, 2)
    assert "features/part-000002.parquet" in verify(tmp_path / "db").strays


def test_missing_files_and_progress(stored):
    path, _ = stored
    path.remove("states/h/c/1/0/0")
    path.remove("states/s/c/2/0")
    seen = []
    report = verify(path, lambda done, total: seen.append((done, total)))
    assert {d.file for d in report.damages} == {"states/h/c/1/0/0", "states/s/c/2/0"}
    assert all("missing" in d.what for d in report.damages)
    assert seen[-1][0] == seen[-1][1] > 0
    assert damaged_shards(Ledger(path)) == {1, 2}
    for among, damaged in ({0, 1}, {1}), ({0, 7}, set()), ((), set()):
        assert damaged_shards(Ledger(path), among) == damaged
    seen.clear()
    damaged_shards(Ledger(path), {2}, lambda done, total: seen.append((done, total)))
    n = len(files_of(Ledger(path).read().shards[2]))
    assert seen == [(i, n) for i in range(1, n + 1)]


def test_damaged_manifest_does_not_stop_verify(stored):
    path, _ = stored
    path.write({"database.json": b"\xff\xfe garbage"})
    report = verify(path)
    assert "database.json" in [d.file for d in report.damages]
    assert report.n_shards is None and report.shards_done == 3


def test_no_database_is_an_error(tmp_path):
    for path, message in ((tmp_path, "is empty"), (tmp_path / "x", "does not exist")):
        for ask in (verify, status):
            with pytest.raises(DatabaseError, match=message):
                ask(path)


def test_status_sums_up(stored):
    path, manifest = stored
    record_failure(path, Failure(2, "ShardError: out of memory", 2))
    record_failure(path, Failure(2, "ShardError: again", 3))
    for shard, seconds, kernel_seconds in ((1, 2.5, 1.5), (2, 4.0, 2.0)):
        again = synthetic.write(path, manifest, shard)
        times = {"seconds": seconds, "kernel_seconds": kernel_seconds}
        Ledger(path).record(replace(again, **times))
    seen = []
    found = status(path, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert (found.name, found.circuits_done, found.complete) == ("tiny", 48, True)
    everything = synthetic.expected(manifest)
    assert found.counts["pyloric"] == everything["pyloric"].sum()
    assert found.counts["ok"] == (everything["status"] == "ok").sum()
    assert found.failures == (Failure(2, "ShardError: again", 3),) == verify(path).failures
    lines = ("ledger.jsonl", "failed.jsonl")  # which grow
    assert found.bytes == sum(path.size(n) for n in path.names() if n not in lines)
    assert (found.seconds, found.kernel_seconds) == (6.5, 3.5)
    clear_failures(path)
    assert failures(path) == [] and not path.exists("failed.jsonl")


def test_damaged_cells_are_not_read(stored):
    path, _ = stored
    flip(path, "cells.parquet", 200)
    assert not cells_intact(Ledger(path))
    with pytest.raises(DatabaseError, match=r"cells\.parquet does not match"):
        read_cells(path)


def test_a_long_ledger_is_read(pristine, tmp_path):
    line = (pristine[0] / "ledger.jsonl").read_bytes().splitlines()[2]
    (tmp_path / "ledger.jsonl").write_bytes((line + b"\n") * 100_000)
    assert Ledger(tmp_path).done_shards() == {0}
