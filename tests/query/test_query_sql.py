import shutil
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
import synthetic

from pyloric_db.errors import DatabaseError, QueryError
from pyloric_db.query import database as query
from pyloric_db.query.index import make_index


@pytest.fixture(scope="module")
def db(pristine):
    return query.open(pristine[0])


def test_folders_called_like_columns_do_not_stand_for_them(pristine, db, tmp_path):
    for folder in ("lp=2", "run=7", "pyloric=x"):
        path = shutil.copytree(pristine[0], tmp_path / folder / "db")
        there = query.open(path)
        assert there.sql("select * from circuits").column_names == list(db.manifest.by_name)
        make_index(path)
        for opened in (there, query.open(path)):
            for expr in ("lp == 2", "pyloric and lp == 1"):
                assert opened.count(expr) == db.count(expr) > 0


def test_select_gives_an_arrow_table(db):
    table = db.sql("select lp, count(*) as n from circuits group by lp order by lp")
    assert isinstance(table, pa.Table)
    assert table.to_pylist() == [{"lp": i, "n": 16} for i in range(3)]
    assert db.sql("from circuits where gsyn_ab_lp_nS = 0.1").num_rows == 12
    assert db.sql("with p as (select * from circuits) select 1 from p limit 1").num_rows == 1


def test_averages_leave_null_out(db):
    import numpy as np

    mean = db.sql("select avg(period_ms) as m from circuits")["m"][0].as_py()
    assert mean == pytest.approx(np.nanmean(synthetic.expected(db.manifest)["period_ms"]))


REFUSED = [
    "copy circuits to '{out}'",
    "copy (select 1) to '{features}/x.csv'",
    "copy circuits to '{part}'",
    "attach '{out}'",
    "attach '{features}/x.db' as x",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "set threads = 1",
    "reset all",
    "pragma database_list",
    "create table x as select 1",
    "create or replace view circuits as select 1",
    "drop view circuits",
    "insert into circuits values (1)",
    "update circuits set lp = 1",
    "delete from circuits",
    "export database '{out}'",
    "import database '{out}'",
    "call enable_logging()",
    "checkpoint",
    "begin",
    "prepare x as select 1",
    "explain analyze select 1",
    "select 1; select 2",
    "select 1; drop view circuits",
    "",
    ";",
    "-- nothing",
    "selec 1",
    "select nothing from circuits",
    "select * from read_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('{manifest}')",
    "select * from read_json('{manifest}')",
    "select * from read_parquet('{outside}')",
    "select * from '{outside}'",
    "select * from glob('/*')",
    "select * from read_parquet('https://example.com/x.parquet')",
    "select * from secret",
    "select * from enable_logging()",
    "select * from query('drop view circuits')",
    "select * from json_execute_serialized_sql('{{}}')",
]


@pytest.mark.parametrize("text", REFUSED)
def test_everything_but_one_select_within_is_refused(pristine, tmp_path, text):
    path, _ = pristine
    db = query.open(path)
    secret = pa.table({"key": [1]})
    outside = tmp_path / "outside.parquet"
    import pyarrow.parquet as pq

    pq.write_table(secret, outside)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    text = text.format(
        out=tmp_path / "out",
        features=path / "features",
        part=path / "features/part-000000.parquet",
        manifest=path / "database.json",
        outside=outside,
    )
    with pytest.raises(QueryError) as caught:
        db.sql(text)
    assert "\n" not in str(caught.value)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before
    assert [p.name for p in tmp_path.iterdir()] == ["outside.parquet"]
    assert db.sql("select count(*) as n from circuits").to_pylist() == [{"n": 48}]


def test_only_what_the_ledger_names_is_seen(tmp_path):
    manifest = synthetic.build(tmp_path / "db", shards=[0])
    synthetic.write(tmp_path / "db", manifest, 1)  # without its row
    assert len(query.open(tmp_path / "db").sql("select * from circuits")) == 20


def test_any_directory_name(tmp_path):
    path = tmp_path / "it's [1]* a?b" / "db"
    synthetic.build(path, shards=[0])
    db = query.open(path)
    assert db.query("lp >= 0").sizes["circuit"] == 20
    assert db.states([3]).sizes["circuit"] == 1 and db.circuits.lp.values.size == 20


def test_sql_must_be_text(db):
    with pytest.raises(QueryError, match="must be text"):
        db.sql(None)


def test_threads_may_ask_at_once(pristine):
    db = query.open(pristine[0])
    slow = "select count(*) as n from circuits a, circuits b, circuits c, circuits d"
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: db.sql(slow)["n"][0].as_py(), range(12)))
    assert counts == [48**4] * 12


PART = "features/part-000001.parquet"


@pytest.mark.parametrize("begin, end", [(-4, None), (4, 3000)], ids=["footer", "pages"])
def test_a_damaged_part_is_not_called_a_mistake_in_sql(database, begin, end):
    path, _ = database
    data = bytearray((path / PART).read_bytes())
    data[begin:end] = b"\xff" * len(data[begin:end])
    (path / PART).write_bytes(data)
    db = query.open(path)
    for ask in (lambda: db.query("lp >= 0"), lambda: db.sql("select * from circuits")):
        with pytest.raises(DatabaseError, match="cannot be read: `pyloric-db verify` says") as said:
            ask()
        assert "SQL" not in str(said.value)
        assert PART in str(said.value) or begin == 4  # DuckDB does not always say which


def test_a_part_that_went_missing_is_named(database):
    path, _ = database
    db = query.open(path)
    (path / PART).unlink()
    with pytest.raises(DatabaseError, match=f"{PART} of .* cannot be read"):
        db.sql("select * from circuits")


def test_sums_of_integers_are_plain_numbers(db):
    table = db.sql(
        "select sum(circuit_id) n, sum(circuit_id * 1::hugeint << 60) wide from circuits"
    )
    assert str(table.schema.field("n").type) == "int64"
    assert table["n"][0].as_py() == sum(range(48))
    assert str(table.schema.field("wide").type) in ("int64", "double")
