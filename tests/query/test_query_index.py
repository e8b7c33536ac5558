"""The derived table: answers are the same with it, without it, and with what is left of it."""

import itertools

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.errors import DatabaseError, QueryError
from pyloric_db.query import database
from pyloric_db.query.index import make_index
from pyloric_db.query.narrow import narrow
from pyloric_db.store.create import create
from pyloric_db.store.derived import RECORD_FILE, derived_files
from pyloric_db.store.files import FileSum, files_at
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.lock import build_lock
from pyloric_db.store.sealed import seal
from pyloric_db.store.verify import verify

ASKED = [
    {"expr": "pyloric"},
    {"expr": "pyloric_like and period_ms > 1000", "columns": ["status", "activity_lp"]},
    {"expr": "period_ms < 1200 and (lp == 1 or lp == 2) and pyloric", "order_by": "-period_ms"},
    {"expr": "pyloric & (isnull(period_ms))", "limit": 2},
    {"expr": "pyloric_like", "order_by": ["status", "netcode"], "limit": 5},
    {"expr": "not pyloric"},
    {"expr": "pyloric or period_ms > 1000"},
    {"expr": "circuit_id in [3, 21, 40] and pyloric_like"},
]


def answers(path):
    db = database.open(path)
    found = [db.query(**asked) for asked in ASKED]
    counts = [db.count(asked["expr"]) for asked in ASKED]
    return db, found, counts


def same(a, b) -> bool:
    return all(x.identical(y) for x, y in zip(a[1], b[1], strict=True)) and a[2] == b[2]


@pytest.fixture
def indexed(database):
    """A database with an index, and its answers without."""
    path, _ = database
    without = answers(path)
    assert without[0]._index is None
    make_index(path)
    return path, without


def test_answers_are_the_same_with_the_index(indexed):
    path, without = indexed
    with_index = answers(path)
    assert same(with_index, without)
    db = with_index[0]
    assert db._index is not None and (path / db._index).exists()
    sources = {asked["expr"]: list(db._sources(asked["expr"])) for asked in ASKED}
    used = [expr for expr, source in sources.items() if db._index in source[0]]
    assert used == [asked["expr"] for asked in ASKED[:5]]
    assert all(source[-1] == "circuits" for source in sources.values())


def test_a_good_index_is_left_alone(indexed):
    path, _ = indexed
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    make_index(path)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def test_sql_sees_the_parts_in_their_order(indexed):
    path, _ = indexed
    found = database.open(path).sql("select circuit_id from circuits where pyloric limit 3")
    assert found["circuit_id"].to_pylist() == sorted(found["circuit_id"].to_pylist())


def test_every_flipped_byte_is_noticed(indexed):
    path, without = indexed
    file = path / database.open(path)._index
    good = file.read_bytes()
    for place in range(0, len(good), len(good) // 40):
        file.write_bytes(good[:place] + bytes([good[place] ^ 16]) + good[place + 1 :])
        assert database.open(path)._index is None
    assert same(answers(path), without)
    (damage,) = verify(path).damages
    assert damage.file.startswith("derived/") and "checksum" in damage.what
    assert "pyloric-db index" in damage.what
    assert path / make_index(path).path == file and file.read_bytes() == good
    report = verify(path)
    assert report.good and report.strays == ()


@pytest.mark.parametrize("harm", ["truncated", "missing", "record", "no record", "rubbish"])
def test_a_damaged_index_is_as_if_it_were_not_there(indexed, harm):
    path, without = indexed
    file, record = path / database.open(path)._index, path / RECORD_FILE
    if harm == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif harm == "missing":
        file.unlink()
    elif harm == "record":
        record.write_text(record.read_text().replace('"fingerprint":"', '"fingerprint":"0'))
    elif harm == "no record":
        record.unlink()
    else:
        record.write_bytes(b"\xff{}\n")
    found = answers(path)
    assert found[0]._index is None and same(found, without)
    make_index(path)
    found = answers(path)
    assert found[0]._index is not None and same(found, without)


def test_an_index_of_fewer_shards_is_stale(tmp_path):
    path = tmp_path / "db"
    manifest = synthetic.build(path, shards=[0, 2])
    old = make_index(path)
    early = answers(path)
    Ledger(path).record(synthetic.write(path, manifest, 1))
    grown = answers(path)
    assert grown[0]._index is None and grown[2] > early[2]
    new = make_index(path)
    assert new != old and not (path / old.path).exists()
    assert same(answers(path), grown)
    # a database that was opened before answers for the shards it knows
    assert all(early[0].query(**a).identical(f) for a, f in zip(ASKED, early[1], strict=True))


def test_an_index_that_goes_while_the_database_is_open(indexed):
    path, without = indexed
    db = database.open(path)
    assert db.count("pyloric") == without[2][0]
    (path / db._index).unlink()
    assert db.query("pyloric_like", limit=3).sizes["circuit"] == 3
    assert db.query("pyloric").identical(without[1][0])


def test_a_record_that_names_a_part_does_not_get_it_deleted(database):
    path, _ = database
    part = FileSum("features/part-000000.parquet", 1, "0" * 64)
    (path / RECORD_FILE).parent.mkdir()
    (path / RECORD_FILE).write_bytes(seal({"fingerprint": "x", "file": part.to_text()}))
    make_index(path)
    assert verify(path).good


def test_damaged_parts_are_not_copied(database):
    path, _ = database
    part = path / "features/part-000001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(DatabaseError, match=r"part-000001\.parquet does not match"):
        make_index(path)
    assert not (path / "derived").exists()


def test_what_cannot_be_indexed(tmp_path, database):
    manifest = synthetic.make_manifest()
    columns = tuple(c for c in manifest.columns if c.name != "pyloric_like")
    create(Ledger(tmp_path / "other"), synthetic.make_manifest(columns=columns))
    with pytest.raises(QueryError, match="no label pyloric_like"):
        make_index(tmp_path / "other")
    create(Ledger(tmp_path / "empty"), manifest)
    with pytest.raises(QueryError, match="no finished circuits"):
        make_index(tmp_path / "empty")
    with build_lock(database[0]), pytest.raises(DatabaseError, match="is being built"):
        make_index(database[0])


def test_an_index_that_cannot_be_made_leaves_nothing(database, monkeypatch):
    path, _ = database
    with monkeypatch.context() as patch:
        patch.setattr("pyloric_db.query.index._ROW_GROUP", "none")  # an error of the engine
        with pytest.raises(DatabaseError, match="the index cannot be made: .*none"):
            make_index(path)
    assert not (path / "derived").exists()
    assert make_index(path).path in derived_files(files_at(path))


def test_progress_ends_with_everything(database):
    seen = []
    make_index(database[0], lambda done, total: seen.append((done, total)))
    assert seen[-1] == (48, 48)


numbers = st.one_of(st.integers(-5, 55), st.floats(-5, 55).map(lambda x: round(x, 1)))
comparisons = st.one_of(
    st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers).map(
        lambda t: f"circuit_id {t[0]} {t[1]}"
    ),
    st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "=="])).map(
        lambda t: f"{t[0]} {t[1]} circuit_id"
    ),
    st.tuples(numbers, numbers).map(lambda t: f"{t[0]} < circuit_id <= {t[1]}"),
    st.lists(numbers, min_size=1, max_size=4).map(lambda v: f"circuit_id in {v}"),
    st.lists(numbers, min_size=1, max_size=4).map(lambda v: f"circuit_id not in {v}"),
    st.sampled_from(["pyloric", "True", "lp == 1", "circuit_id / 2 > 20"]),
)
conditions = st.recursive(
    comparisons,
    lambda c: st.one_of(
        st.tuples(c, st.sampled_from(["and", "or", "&", "|"]), c).map(
            lambda t: f"({t[0]}) {t[1]} ({t[2]})"
        ),
        c.map(lambda t: f"not ({t})"),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def opened(pristine):
    db = database.open(pristine[0])
    return db, db.sql


@settings(max_examples=80, deadline=None)
@given(conditions)
def test_narrowing_leaves_no_circuit_out(opened, text):
    from pyloric_db.query.expression import to_sql

    db, sql = opened
    everywhere = sql(f"select circuit_id from circuits where {to_sql(text, db.manifest)}")
    ids = np.sort(everywhere["circuit_id"].to_numpy())
    assert db.query(text, columns=[]).circuit_id.values.tolist() == ids.tolist()
    narrowing = narrow(text)
    for i in ids:
        assert narrowing.may_hold(int(i), int(i))


@pytest.mark.parametrize(
    "text, held",
    [
        ("circuit_id == 25", [1]),
        ("circuit_id == 25 and pyloric", [1]),
        ("(circuit_id >= 40) & pyloric", [2]),
        ("19 < circuit_id < 40", [0, 1, 2]),  # ends count
        ("circuit_id in [3, 44]", [0, 2]),
        ("circuit_id in {3, 44}", [0, 2]),
        ("circuit_id == 999", []),
        ("circuit_id == 3 or pyloric", [0, 1, 2]),
    ],
)
def test_only_parts_that_may_hold_circuits_are_read(opened, text, held):
    assert opened[0]._rows.shards_within(narrow(text).may_hold) == held


def test_ids_are_narrowed_as_sql_compares_them():
    """As float64, in which ids from 2**53 on are equal to their neighbours."""
    for odd in (2**53 + 1, 2**53 + 3):  # one is rounded down, the other up
        assert narrow(f"circuit_id == {odd}").may_hold(odd, odd)
    assert not narrow(f"circuit_id == {2**53}").may_hold(2**53 + 2, 2**53 + 2)


def test_find_where_ids_are_spans_and_where_not(pristine, tmp_path):
    whole = database.open(pristine[0])
    manifest = synthetic.make_manifest(n_circuits=8, shard_circuits=5, chunk_circuits=5)
    create(Ledger(tmp_path / "db"), manifest)
    ids = [[1, 7, 8, 30, 47], [0, 2, 31]]
    for shard in (0, 1):
        receipt = synthetic.write(tmp_path / "db", manifest, shard, ids[shard])
        Ledger(tmp_path / "db").record(receipt)
    scattered = database.open(tmp_path / "db")
    for db in (whole, scattered):
        known = list(itertools.chain(*ids)) if db is scattered else list(range(48))
        asked = known[::-1] + known[:3]
        rows = db._rows.find(asked)
        assert [known[r] for r in rows] == asked
        assert db._rows.ids_at(rows).tolist() == asked
        for missing in (-1, 48, 2**62):
            with pytest.raises(QueryError, match=f"circuit {missing} is not"):
                db.parameters([known[0], missing])
    values = synthetic.shard_data(manifest, 1, ids[1])[1]["period_ms"]
    taken = scattered._table.take(["period_ms"], *scattered._rows.in_parts([7, 5]))
    assert np.array_equal(taken["period_ms"], values[[2, 0]], equal_nan=True)
