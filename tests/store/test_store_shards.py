import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic
import zarr

from pyloric_db.errors import DatabaseError
from pyloric_db.store.cells import cell_columns, read_cells, write_cells
from pyloric_db.store.create import create
from pyloric_db.store.events import encode_events, events_name, events_table, read_events
from pyloric_db.store.files import files_at
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.shards import read_states, write_shard
from pyloric_db.store.verify import verify


def contents(where) -> dict[str, bytes]:
    """Every file but the ledger, whose rows tell the time."""
    files = files_at(where)
    return {name: files.read(name) for name in files.names() if name != "ledger.jsonl"}


def test_states_and_features_come_back(pristine):
    path, manifest = pristine
    group = zarr.open_group(path / "states", mode="r")
    for shard in range(manifest.n_shards):
        ids, columns, states = synthetic.shard_data(manifest, shard)
        rows = slice(shard * 20, shard * 20 + len(ids))
        assert np.array_equal(group["circuit_id"][rows], ids)
        again = read_states(path, manifest, shard)
        assert set(again) == set(states)
        for name, values in states.items():
            assert np.array_equal(group[name][rows], values)
            assert np.array_equal(again[name], values)
        table = pq.read_table(path / f"features/part-{shard:06d}.parquet", partitioning=None)
        for name, values in columns.items():
            if values.dtype == object:
                assert [v or "" for v in table[name].to_pylist()] == values.tolist()
            else:
                stored = table[name].to_numpy()
                assert np.array_equal(stored, values, equal_nan=values.dtype.kind == "f")
    assert (group["circuit_id"][48:] == -1).all() and np.isnan(group["V"][48:]).all()


@pytest.mark.parametrize("knows_it", [True, False], ids=["any", "a network disk"])
def test_where_fsync_ends_in_the_drives_cache_the_drive_is_asked(tmp_path, monkeypatch, knows_it):
    """As on macOS, whose call for it is not known to every file system."""
    asked, synced = [], []
    drive, fsync = 51, os.fsync

    def control(fd, command):
        assert command == drive
        if not knows_it:
            raise OSError(errno.ENOTSUP, "Operation not supported")
        asked.append(fd)

    monkeypatch.setattr(fcntl, "F_FULLFSYNC", drive, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", control)
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd) or fsync(fd))
    files_at(tmp_path).write({"a": b"1"})
    calls, others = (asked, synced) if knows_it else (synced, asked)
    assert len(calls) >= 2 and not others  # the file, its folder


def test_parquet_holds_null_units_and_small_row_groups(pristine):
    path, manifest = pristine
    file = pq.ParquetFile(path / "features/part-000000.parquet")
    _, columns, _ = synthetic.shard_data(manifest, 0)
    table = file.read()
    assert table["period_ms"].null_count == np.isnan(columns["period_ms"]).sum() > 0
    assert table["n_criteria_met"].type == "int8"
    field = file.schema_arrow.field("period_ms")
    assert field.metadata[b"units"] == b"ms" and field.metadata[b"long_name"]
    assert file.schema_arrow.metadata[b"recipe_hash"].decode() == manifest.recipe_hash
    column = file.metadata.row_group(0).column(file.schema_arrow.get_field_index("period_ms"))
    assert column.compression == "ZSTD" and "BYTE_STREAM_SPLIT" in column.encodings


def test_any_order_gives_the_same_files(pristine, place):
    path, manifest = pristine
    synthetic.build(place, manifest, shards=[2, 0, 1, 0])
    assert contents(place) == contents(path)
    Ledger(place).compact()
    rows = files_at(place).read("ledger.jsonl").decode().splitlines()
    assert len(rows) == 5 and [r.split(",")[1] for r in rows[2:]] == [
        f'"shard":{i}' for i in range(3)
    ]


def test_repeat_writes_the_same_bytes_and_receipt(stored):
    path, manifest = stored
    before = contents(path)
    first, again = (synthetic.write(path, manifest, 1) for _ in range(2))
    assert contents(path) == before
    assert first.files == again.files and first.counts == again.counts
    assert (first.n_circuits, first.first_id, first.last_id) == (20, 20, 39)
    assert sum(first.counts[s] for s in ("ok", "nonfinite", "event_overflow", "out_of_range")) == 20


@pytest.mark.parametrize("keep", [0, 1, 40])
def test_truncated_shard_can_be_written_again(stored, keep):
    files, manifest = stored
    before = contents(files)
    for name in ("states/V/c/0/0", "states/m/c/0/0/0", "states/circuit_id/c/0"):
        files.write({name: files.read(name)[:keep]})
    synthetic.write(files, manifest, 0)
    assert contents(files) == before


def test_shard_without_any_value_still_has_its_files(tmp_path):
    manifest = create(Ledger(tmp_path / "db"), synthetic.make_manifest())
    ids, columns, states = synthetic.shard_data(manifest, 2)
    empty = {k: np.full_like(v, np.nan) for k, v in states.items()}
    receipt = write_shard(tmp_path / "db", manifest, 2, ids, columns, empty)
    assert len(receipt.files) == 7 and all(
        (tmp_path / "db" / f.path).exists() for f in receipt.files
    )


def test_circuit_without_synapses(tmp_path):
    lone = synthetic.make_manifest(
        axes=None,
        n_circuits=4,
        shard_circuits=4,
        chunk_circuits=4,
        cells=("lp",),
        synapses=(),
        sources=(),
        columns=(synthetic.ID,),
    )
    create(Ledger(tmp_path / "db"), lone)
    states = {
        "V": np.ones((4, 1)),
        "Ca": np.ones((4, 1)),
        "m": np.ones((4, 1, 7)),
        "h": np.ones((4, 1, 4)),
        "s": np.ones((4, 0)),
    }
    Ledger(tmp_path / "db").record(write_shard(tmp_path / "db", lone, 0, range(4), {}, states))
    report = verify(tmp_path / "db")
    assert report.good and report.complete and not report.strays


def bad(columns, states, ids, what):
    if what == "missing":
        del columns["status"]
    elif what == "unknown":
        columns["extra"] = columns["period_ms"]
    elif what == "shape":
        columns["period_ms"] = columns["period_ms"][:3]
    elif what == "null":
        columns["t_simulated_ms"] = np.full(20, np.nan)
    elif what == "category":
        columns["status"] = np.array(["fine"] * 20, dtype=object)
    elif what == "fraction":
        columns["n_criteria_met"] = np.full(20, 1.5)
    elif what == "range":
        columns["abpd"] = np.full(20, 300)
    elif what == "state":
        states["V"] = states["V"][:, :2]
    elif what == "no state":
        del states["s"]
    elif what == "order":
        ids = ids[::-1]
    elif what == "twice":
        ids[1] = ids[0]
    elif what == "negative":
        ids[0] = -1
    elif what == "too few":
        ids = ids[:19]
    elif what == "not whole":
        ids = ids.astype(float)
    return ids


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "status .*missing"),
        ("unknown", "extra .*unknown"),
        ("shape", "period_ms must have shape"),
        ("null", "t_simulated_ms has 20 nulls"),
        ("category", "status has 'fine'"),
        ("fraction", "n_criteria_met does not fit int8"),
        ("range", "abpd does not fit uint8"),
        ("state", "state V must have shape"),
        ("no state", "states must be V, Ca, m, h, s, not V, Ca, m, h"),
        ("order", "must ascend"),
        ("twice", "must ascend"),
        ("negative", "must ascend from 0"),
        ("too few", r"must have 20 whole circuit ids, not \(19,\)"),
        ("not whole", "must have 20 whole circuit ids"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_written(database, what, message):
    path, manifest = database
    before = contents(path)
    ids, columns, states = synthetic.shard_data(manifest, 0)
    ids = bad(columns, states, ids, what)
    with pytest.raises(ValueError, match=message):
        write_shard(path, manifest, 0, ids, columns, states)
    assert contents(path) == before


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_there_is_not_is_refused(database, shard):
    path, manifest = database
    with pytest.raises(ValueError, match=f"shard {shard} is none of the 3 shards"):
        write_shard(path, manifest, shard, *synthetic.shard_data(manifest, 0))


def test_events_that_the_recipe_does_not_ask_for_are_refused(database):
    path, manifest = database
    before = contents(path)
    events = pa.table({"spikes_lp_ms": [[1.0]] * 20})
    with pytest.raises(ValueError, match="must have events for each circuit if its recipe says so"):
        write_shard(path, manifest, 0, *synthetic.shard_data(manifest, 0), events)
    assert contents(path) == before


def test_cells_round_trip(place):
    create(Ledger(place), synthetic.make_manifest())
    columns = synthetic.cell_columns()
    Ledger(place).append(write_cells(place, columns))
    before = files_at(place).read("cells.parquet")
    write_cells(place, columns)
    assert files_at(place).read("cells.parquet") == before
    found = read_cells(place)
    assert list(found) == list(cell_columns())
    for name, values in found.items():
        same = values == columns[name]
        assert (same | ((values != values) & (columns[name] != columns[name]))).all()
    with pytest.raises(ValueError, match="column CaT of the cells is missing or unknown"):
        write_cells(place, columns | {"CaT": np.zeros(3)})
    with pytest.raises(ValueError, match="differ in length"):
        write_cells(place, columns | {"V": np.zeros(4)})


def test_cells_have_units_and_no_period_where_they_are_silent(tmp_path):
    write_cells(tmp_path, synthetic.cell_columns())
    table = pq.read_table(tmp_path / "cells.parquet")
    units = {f.name: f.metadata[b"units"].decode() for f in table.schema}
    assert (units["gbar_Na"], units["V"], units["Ca"], units["m_Na"]) == ("mS/cm2", "mV", "uM", "1")
    assert table["period_ms"].is_null().to_pylist() == [True, False, False]
    assert sum(table[name].null_count for name in table.column_names) == 1


def test_events_are_the_spikes_of_each_cell_in_turn(tmp_path):
    manifest = synthetic.make_manifest(None, n_circuits=2, shard_circuits=2, chunk_circuits=2)
    counts = np.array([[2, 0, 1], [0, 3, 0]])
    events = events_table(manifest.cells, counts, np.array([1, 2.5, 4, 7, 8, 9]))
    assert events.to_pydict() == {
        "spikes_abpd_ms": [[1, 2.5], []],
        "spikes_lp_ms": [[], [7, 8, 9]],
        "spikes_py_ms": [[4], []],
    }
    assert {f.metadata[b"units"] for f in events.schema} == {b"ms"}
    assert not any(f.nullable or f.type.value_field.nullable for f in events.schema)
    pieces = pa.concat_tables([events.slice(0, 1), events.slice(1)])
    assert encode_events(pieces) == encode_events(events)
    files = files_at(tmp_path)
    files.write({events_name(0): encode_events(events)})
    assert read_events(files, manifest, 0).equals(events, check_metadata=True)
    # of another number of circuits, or with none where there is a list
    nulls = pa.table({name: pa.array([None, [1.0]]) for name in events.column_names})
    for other in (events.slice(0, 1), pa.concat_tables([events, events]), nulls):
        files.write({events_name(0): encode_events(other)})
        with pytest.raises(DatabaseError, match=r"part-000000\.parquet cannot be read"):
            read_events(files, manifest, 0)


WRITER = """
import os, sys
sys.path[:0] = sys.argv[2:]
import synthetic
path = sys.argv[1]
manifest = synthetic.make_manifest()
parent = os.getppid()
print("ready", flush=True)
while os.getppid() == parent:  # no test that is killed leaves it running
    synthetic.build(path, manifest)
"""


def test_killed_at_any_moment_then_resumed_equals_a_clean_build(pristine, place):
    clean, manifest = pristine
    path = place
    paths = [str(Path(synthetic.__file__).parent), *filter(None, sys.path)]
    rng = np.random.default_rng(int.from_bytes(os.urandom(4)))
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, *paths], stdout=subprocess.PIPE
        )
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 1.2))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if files_at(path).exists("ledger.jsonl"):
            assert not verify(path).damages or rewriting(verify(path).damages)
    synthetic.build(path, manifest)
    assert contents(path) == contents(clean)
    report = verify(path)
    assert report.good and report.complete and not report.strays


def rewriting(damages) -> bool:
    """A shard that was being written anew, over finished files, may be incomplete."""
    return all(d.file.startswith(("states/", "features/")) for d in damages)
