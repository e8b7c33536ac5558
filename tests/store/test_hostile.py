"""Databases made to harm who opens them: one sentence, and nothing of theirs is run or reached."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyloric_db.errors import DatabaseError, PyloricDBError
from pyloric_db.query import database
from pyloric_db.store.create import check_target, create
from pyloric_db.store.files import FileSum
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.lock import build_lock
from pyloric_db.store.sealed import seal, unseal
from pyloric_db.store.verify import damaged_shards, status, verify


@pytest.fixture
def database_copy(pristine, tmp_path):
    return Path(shutil.copytree(pristine[0], tmp_path / "db"))


def write_manifest(path: Path, content: dict) -> None:
    """A manifest with any content, and the recipe hash that belongs to it."""
    keys = ("recipe", "selection", "settings", "shard_circuits")
    hashed = {k: content.get(k) for k in keys}
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    content["recipe_hash"] = hashlib.sha256(text.encode()).hexdigest()
    (path / "database.json").write_text(json.dumps(content, sort_keys=True, indent=2) + "\n")


def vouch(path: Path) -> None:
    """Makes the ledger agree with the files as they are, as any attacker can."""
    lines = []
    manifest = json.loads((path / "database.json").read_text())
    for line in (path / "ledger.jsonl").read_bytes().splitlines():
        row = unseal(line)
        del row["files"]
        names = [text.split(" ")[0] for text in unseal(line)["files"]]
        sums = [FileSum.of(n, (path / n).read_bytes()).to_text() for n in names]
        if row["kind"] == "database":
            row["recipe_hash"] = manifest["recipe_hash"]
        lines.append(seal({**row, "files": sums}))
    (path / "ledger.jsonl").write_bytes(b"".join(lines))


def ask_everything(path: Path) -> None:
    """All that a person does with a database that they were sent."""
    status(path)
    verify(path)
    damaged_shards(Ledger(path))
    db = database.open(path)
    repr(db)
    db.circuits.load()
    db.query("pyloric and period_ms > 0", limit=3)
    db.sql("select count(*) from circuits")
    db.cube()
    db.parameters(db.circuits.circuit_id.values[:2])
    db.states([3, 25])
    db.states().V[:3].load()
    db.cells()


def refused(path: Path, match: str) -> None:
    with pytest.raises(DatabaseError, match=match) as caught:
        ask_everything(path)
    assert "\n" not in str(caught.value)


# manifests


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "../../.ssh/config"}, "name must be letters"),
        ({"name": "a/b"}, "name must be letters"),
        ({"name": "\x1b[2J"}, "name must be letters"),
        ({"n_circuits": 10**13}, "n_circuits must be a whole number"),
        ({"n_circuits": 10**4000}, "n_circuits must be a whole number"),
        ({"shard_circuits": 10**9, "n_circuits": 10**9}, "shard_circuits must be"),
        ({"settings": {"dt_ms": float("nan")}}, "not JSON"),
        ({"cells": ["abpd", "..", "py"]}, "cells must be names"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(database_copy, change, match):
    content = json.loads((database_copy / "database.json").read_text())
    write_manifest(database_copy, content | change)
    vouch(database_copy)
    refused(database_copy, match)


@pytest.mark.parametrize("depth", [40, 900, 100_000])
def test_deep_json_is_refused(database_copy, depth):
    text = (database_copy / "database.json").read_text()
    deep = '{"a":' * depth + "1" + "}" * depth
    (database_copy / "database.json").write_text(
        text.replace('"recipe": {', f'"recipe": {{"x": {deep},')
    )
    refused(database_copy, "nested too deeply|not JSON")
    (database_copy / "ledger.jsonl").write_bytes(
        b"".join(_sealed_raw(f'{{"kind":"cells","files":{"[" * depth}{"]" * depth}'))
    )
    with pytest.raises(DatabaseError):
        Ledger(database_copy).read()


@pytest.mark.parametrize("key", ["seconds", "kernel_seconds", "finished_at"])
@pytest.mark.parametrize("value", [None, "1", True, "missing"])
def test_a_ledger_row_without_its_times_is_refused(database_copy, key, value):
    first, *rest = (database_copy / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    row = next(unseal(line[:-1]) for line in rest if b'"kind":"shard"' in line)
    changed = {k: v for k, v in row.items() if k != key} | (
        {} if value == "missing" else {key: value}
    )
    (database_copy / "ledger.jsonl").write_bytes(first + b"".join(rest) + seal(changed))
    for look in (status, verify):
        with pytest.raises(DatabaseError, match="not pyloric-db's"):
            look(database_copy)


@pytest.mark.parametrize(
    "odd",
    [
        lambda text: text.replace('"kind":"shard","shard":1,', '"shard":1,"kind":"shard",'),
        lambda text: text.replace('"shard":1,', f'"shard":{10**13},'),
        lambda text: text + ',"shard":2',
        lambda text: text + ',"kind":"cells"',
        lambda text: text + ',"kind":"database","recipe_hash":"x"',
    ],
)
def test_a_ledger_row_of_another_shape_is_refused(database_copy, odd):
    lines = (database_copy / "ledger.jsonl").read_bytes().splitlines()
    body, _ = next(line for line in lines if b'"shard":1,' in line).decode().split(',"sum"')
    with (database_copy / "ledger.jsonl").open("ab") as file:
        file.write(b"".join(_sealed_raw(odd(body))))
    for look in (status, verify):
        with pytest.raises(DatabaseError, match="not pyloric-db's"):
            look(database_copy)


@pytest.mark.parametrize("name", ["database.json", "ledger.jsonl", "features/part-000001.parquet"])
def test_a_pipe_blocks_nobody(database_copy, name):
    (database_copy / name).unlink()
    os.mkfifo(database_copy / name)
    if name.startswith("features"):
        assert "neither a file nor a folder" in dict(verify(database_copy).damages)[name]
        assert damaged_shards(Ledger(database_copy)) == {1}
    else:
        with pytest.raises(DatabaseError, match="neither a file nor a folder"):
            status(database_copy)


def _sealed_raw(body: str):
    import zlib

    data = body.encode()
    yield data + b',"sum":"%08x"}\n' % zlib.crc32(data)


def test_infinity_in_numbers_is_refused(database_copy):
    file = database_copy / "database.json"
    file.write_text(file.read_text().replace('"dt_ms": 0.05', '"dt_ms": 1e999'))
    refused(database_copy, "is damaged")


def test_a_manifest_too_large_to_be_one_is_not_read(database_copy):
    with (database_copy / "database.json").open("ab") as f:
        f.truncate(1 << 40)
    refused(database_copy, "more than 67,108,864 bytes")


# ledgers


@pytest.mark.parametrize(
    "change",
    [
        {"files": ["../../../etc/passwd 3 " + "0" * 64]},
        {"files": ["/etc/passwd 3 " + "0" * 64]},
        {"n_circuits": 10**18},
        {"n_circuits": 0},
        {"n_circuits": True},
        {"first_id": -5},
        {"last_id": 2**70},
        {"first_id": 30, "last_id": 20},
        {"seconds": float("inf")},
        pytest.param({"seconds": 10**400}, id="seconds beyond a float"),
        {"finished_at": "2026-01-01T00:00:00"},  # of which zone?
        {"shard": 10**11},
        {"counts": {"ok": 1.5}},
        {"counts": {"ok": True}},
        {"counts": ["ok"]},
        {"kernel_seconds": float("nan")},
        {"finished_at": "today"},
        {"files": "cells.parquet"},
        {"files": []},
    ],
    ids=str,
)
def test_a_row_that_cannot_be_is_refused(database_copy, change):
    file = database_copy / "ledger.jsonl"
    *lines, last = file.read_bytes().splitlines(keepends=True)
    row = {k: v for k, v in unseal(last[:-1]).items() if k != "sum"} | change
    body = json.dumps(row, separators=(",", ":")).replace("Infinity", "1e999")[:-1]
    file.write_bytes(b"".join([*lines, *_sealed_raw(body)]))
    refused(database_copy, "ledger|row of shard")


# links


@pytest.mark.parametrize(
    "name",
    ["database.json", "ledger.jsonl", "cells.parquet", "features", "features/part-000001.parquet",
     "states", "states/zarr.json", "states/V", "states/V/c/1", "states/V/c/1/0"],
)  # fmt: skip
def test_a_link_is_refused_wherever_it_leads(database_copy, tmp_path, name):
    outside = tmp_path / "outside"
    (database_copy / name).rename(outside)
    (database_copy / name).symlink_to(outside)
    with pytest.raises(DatabaseError, match="is a link") as caught:
        ask_everything(database_copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["ledger.jsonl", "build.lock", "failed.jsonl", "cells.parquet", "features", "states",
     "states/V/c", "writing.partial"],
)  # fmt: skip
def test_nothing_is_written_through_a_link(tmp_path, name):
    victim = tmp_path / "victim"
    path = tmp_path / "db"
    manifest = synthetic.build(path, shards=[0])
    target = path / name
    if target.is_dir():
        shutil.rmtree(target)
        victim.mkdir()
    else:
        target.unlink(missing_ok=True)
        if name.endswith(".partial"):
            victim.mkdir()
        else:
            victim.write_text("precious")
    target.symlink_to(victim)

    def mend():
        check_target(Ledger(path), manifest)
        with build_lock(path):
            create(Ledger(path), manifest)
            Ledger(path).append(synthetic.write_cells(path, synthetic.cell_columns()))
            from pyloric_db.store.ledger import Failure, clear_failures, record_failure

            record_failure(path, Failure(1, "x", 3))
            clear_failures(path)
            Ledger(path).record(synthetic.write(path, manifest, 1))

    try:
        mend()
    except (PyloricDBError, OSError) as err:
        assert "link" in str(err) or "Too many levels" in str(err)
    if victim.is_dir():
        assert list(victim.iterdir()) == []
    else:
        assert victim.read_text() == "precious"


# arrays and tables


def edited(path: Path, change) -> None:
    """Changes the stored metadata of V in both places where it stands."""
    for name, place in (("states/zarr.json", ("consolidated_metadata", "metadata", "V")),
                        ("states/V/zarr.json", ())):  # fmt: skip
        content = json.loads((path / name).read_text())
        array = content
        for key in place:
            array = array[key]
        change(array)
        (path / name).write_text(json.dumps(content))
    vouch(path)


def test_a_huge_declared_shape_is_refused(database_copy):
    edited(database_copy, lambda a: a.update(shape=[10**15, 3]))
    refused(database_copy, "V has the shape")


def test_huge_chunks_are_refused(database_copy):
    edited(
        database_copy,
        lambda a: a["codecs"][0]["configuration"].update(chunk_shape=[10**12, 3]),
    )
    refused(database_copy, "V has chunks")


@pytest.mark.parametrize(
    "change",
    [
        {"data_type": "object"},
        {"data_type": {"name": "struct", "configuration": {}}},
        {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}]},
        {"codecs": []},
        {"codecs": [7]},
        {"dimension_names": ["cell", "circuit"]},
        {"storage_transformers": [{"name": "x"}]},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}},
        {"zarr_format": 2},
    ],
    ids=str,
)
def test_other_arrays_than_states_are_refused(database_copy, change):
    edited(database_copy, lambda a: a.update(change))
    refused(database_copy, r"states/zarr\.json is damaged")


@pytest.mark.parametrize("codecs", ["codecs", "index_codecs"])
def test_other_codecs_within_a_shard_are_refused(database_copy, codecs):
    unknown = {"name": "numcodecs.pickle", "configuration": {}}
    edited(database_copy, lambda a: a["codecs"][0]["configuration"][codecs].append(unknown))
    refused(database_copy, "V has unknown codecs")


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group.update(zarr_format=2),
        lambda group: group.update(node_type="array"),
        lambda group: group["consolidated_metadata"]["metadata"].pop("V"),
        lambda group: group["consolidated_metadata"]["metadata"].update(X={}),
        lambda group: group.pop("consolidated_metadata"),
    ],
)
def test_other_groups_than_states_are_refused(database_copy, change):
    file = database_copy / "states" / "zarr.json"
    group = json.loads(file.read_text())
    change(group)
    file.write_text(json.dumps(group))
    vouch(database_copy)
    refused(database_copy, r"states/zarr\.json is damaged")


CANARY = "import pathlib; pathlib.Path({!r}).touch()"


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return exec, (CANARY.format(str(self.canary)),)


@pytest.fixture
def canary(tmp_path):
    """A file that only a bomb makes."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "works")))
    assert (tmp_path / "works").exists()
    return tmp_path / "exploded"


def test_nothing_is_unpickled_from_states(database_copy, canary):
    """Zarr 2 arrays of objects are unpickled by any reader that lets them in."""
    from numcodecs import Pickle

    shutil.rmtree(database_copy / "states")
    (database_copy / "states").mkdir()
    (database_copy / "states/.zgroup").write_text('{"zarr_format": 2}')
    chunk = Pickle().encode(np.array([Bomb(canary)] * 60, dtype=object))
    array = {
        "zarr_format": 2, "shape": [60], "chunks": [60], "dtype": "|O", "fill_value": None,
        "order": "C", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    for name in ("V", "Ca", "m", "h", "s", "circuit_id"):
        (database_copy / "states" / name).mkdir()
        (database_copy / "states" / name / ".zarray").write_text(json.dumps(array))
        (database_copy / "states" / name / "0").write_bytes(chunk)
    keep = []
    for line in (database_copy / "ledger.jsonl").read_bytes().splitlines():
        row = unseal(line)
        row["files"] = [f for f in row["files"] if not f.startswith("states/")]
        keep.append(seal(row))
    (database_copy / "ledger.jsonl").write_bytes(b"".join(keep))
    with pytest.raises(DatabaseError, match="not valid|cannot be read"):
        ask_everything(database_copy)
    assert not canary.exists()


def test_nothing_is_unpickled_from_tables(database_copy, canary):
    """Arrow once kept Python types as pickles in the metadata of a Parquet file."""
    for name in ("features/part-000000.parquet", "cells.parquet"):
        table = pq.read_table(database_copy / name)
        metadata = {
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickle.dumps(Bomb(canary)),
        }
        fields = [f.with_metadata({**(f.metadata or {}), **metadata}) for f in table.schema]
        pq.write_table(table.cast(pa.schema(fields)), database_copy / name)
    vouch(database_copy)
    try:
        ask_everything(database_copy)
    except PyloricDBError:
        pass
    assert not canary.exists()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_damage_gives_a_traceback(pristine, tmp_path_factory, data):
    """Any value in the manifest, with all checksums made to fit."""
    path = Path(shutil.copytree(pristine[0], tmp_path_factory.mktemp("fuzz") / "db"))
    content = json.loads((path / "database.json").read_text())
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
    values = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5), st.lists(st.integers(0, 3), max_size=2),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=1),
        st.sampled_from([10**30, -1, "../x", 1e308, "circuit_id", 0]),
    )  # fmt: skip
    place[key] = data.draw(values)
    write_manifest(path, content)
    vouch(path)
    try:
        ask_everything(path)
    except PyloricDBError as err:
        assert "\n" not in str(err)
    finally:
        shutil.rmtree(path)
