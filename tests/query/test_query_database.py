import errno
import shutil
import subprocess
import sys
import types
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic
import xarray as xr

import pyloric_db
from pyloric_db.errors import ConfigError, DatabaseError, QueryError
from pyloric_db.protocol import Protocol
from pyloric_db.query import database
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger


@pytest.fixture(scope="module")
def db(pristine):
    return database.open(pristine[0])


@pytest.fixture(scope="module")
def everything(pristine):
    return synthetic.expected(pristine[1])


def same(found, wanted) -> bool:
    found, wanted = np.asarray(found), np.asarray(wanted)
    if wanted.dtype == object:
        return found.tolist() == wanted.tolist()
    return np.array_equal(found, wanted, equal_nan=wanted.dtype.kind == "f")


def test_circuits_hold_every_column_with_units(db, everything):
    circuits = db.circuits
    assert len(db) == circuits.sizes["circuit"] == 48 and db.complete
    for column in db.manifest.columns:
        variable = circuits[column.name]
        assert same(variable.values, everything[column.name]), column.name
        assert variable.attrs == {"units": column.unit, "long_name": column.long_name}
    assert circuits.period_ms.dtype == circuits.n_criteria_met.dtype == np.float32
    assert circuits.pyloric.dtype == bool and circuits.abpd.dtype == np.uint8
    assert "circuit_id" in circuits.coords
    assert "48 circuits of a grid of 2 x 3 x 4 x 2" in repr(db)


def test_the_protocol_is_that_of_the_recipe(db, tiny_db):
    assert db.protocol == Protocol(spike_threshold_mV=5)
    built = database.open(tiny_db)
    # the published temperature is not recorded
    assert asdict(built.protocol) == {**built.manifest.settings, "temperature_K": 283.0}
    settings = {**db.manifest.settings, "period_cv": "wide"}
    wrong = database.Database(db.files, replace(db.manifest, settings=settings), db._ledger)
    with pytest.raises(ConfigError, match="period_cv must be a number, not 'wide'"):
        wrong.protocol  # noqa: B018


def test_a_path_is_no_opened_database(pristine, tmp_path):
    with pytest.raises(ConfigError, match=r"which pyloric_db.open\(path\) gives, not a str"):
        pyloric_db.export(str(pristine[0]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_methods_are_the_only_way_to_statistics_and_arrays(db):
    assert not {"stats", "to_arrays"} & {*dir(pyloric_db)}
    for name in ("stats", "to_arrays"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(pyloric_db, name)
    assert db.stats("lp == 1").n_selected == len(
        db.to_arrays(where="lp == 1", missing="mask").place
    )


def test_columns_are_read_only_when_needed(pristine, everything):
    db = database.open(pristine[0])
    circuits = db.circuits
    repr(circuits)
    part = circuits.isel(circuit=slice(3, 9))
    assert set(db._table._loaded) == frozenset()
    assert same(part.period_ms.values, everything["period_ms"][3:9])
    assert set(db._table._loaded) == {"period_ms"}
    assert circuits.period_ms[4].item() == pytest.approx(everything["period_ms"][4], nan_ok=True)
    assert same(circuits.lp.isel(circuit=[5, 1, 1]), everything["lp"][[5, 1, 1]])
    assert same(circuits.lp[::-5], everything["lp"][::-5])
    mask = circuits.pyloric & (circuits.period_ms > 1000)
    wanted = everything["pyloric"] & (everything["period_ms"] > 1000)
    assert same(circuits.status[mask.values], everything["status"][wanted])
    with pytest.raises(ValueError, match="read-only"):
        circuits.period_ms.values[0] = 0


def test_cube_is_a_reshape(db, everything):
    cube = db.cube()
    assert dict(cube.sizes) == {"abpd": 2, "lp": 3, "gsyn_ab_lp_nS": 4, "gsyn_lp_py_nS": 2}
    assert "gsyn_ab_lp_index" not in cube and cube.abpd.values.tolist() == ["ABPD 1", "ABPD 2"]
    assert cube.lp.attrs == {"units": "1", "long_name": "LP cell"}
    for name in ("period_ms", "activity_lp", "pyloric", "circuit_id"):
        assert same(cube[name].values, everything[name].reshape(2, 3, 4, 2))
    reshaped = everything["period_ms"].reshape(2, 3, 4, 2)
    chosen = cube.period_ms.sel(lp=["LP 3", "LP 1"], gsyn_ab_lp_nS=0.1, abpd="ABPD 2")
    assert same(chosen, reshaped[1][[2, 0], 1])
    assert same(cube.period_ms.isel(lp=-1, abpd=[1, 0], gsyn_lp_py_nS=slice(None, None, -1)),
                reshaped[[1, 0], -1, :, ::-1])  # fmt: skip
    only = db.cube(["pyloric", "lp", "gsyn_ab_lp_index"])
    assert list(only.data_vars) == ["pyloric", "gsyn_ab_lp_index"]
    with pytest.raises(QueryError, match="did you mean 'pyloric'"):
        db.cube(["pylori"])


def test_cube_is_lazy(pristine):
    db = database.open(pristine[0])
    cube = db.cube()
    assert set(db._table._loaded) == frozenset()
    cube.pyloric.mean(["lp", "abpd"]).load()
    assert set(db._table._loaded) == {"pyloric"}


def test_cube_of_an_unfinished_build_has_gaps(tmp_path, everything):
    synthetic.build(tmp_path / "db", shards=[2, 0])
    db = database.open(tmp_path / "db")
    cube = db.cube()
    there = np.ones(48, dtype=bool)
    there[20:40] = False
    there = there.reshape(2, 3, 4, 2)
    assert same(cube.circuit_id, np.where(there, np.arange(48).reshape(there.shape), -1))
    period = np.where(there, everything["period_ms"].reshape(there.shape), np.nan)
    assert same(cube.period_ms, period.astype(np.float32))
    assert set(np.unique(cube.status.values[~there])) == {""}
    assert not cube.pyloric.values[~there].any()


def test_unfinished_build_serves_finished_shards(tmp_path, everything):
    manifest = synthetic.build(tmp_path / "db", shards=[2, 0])
    db = database.open(tmp_path / "db")
    rows = [*range(20), *range(40, 48)]
    assert len(db) == 28 and not db.complete and "2 of 3 shards" in repr(db)
    assert same(db.circuits.circuit_id, rows)
    assert same(db.circuits.period_ms, everything["period_ms"][rows])
    assert same(db.query("pyloric").circuit_id, np.array(rows)[everything["pyloric"][rows]])
    states = db.states()
    assert same(states.circuit_id, rows)
    wanted = np.concatenate([synthetic.shard_data(manifest, s)[2]["h"] for s in (0, 2)])
    assert same(states.h, wanted) and same(db.states([44, 3]).h, wanted[[24, 3]])
    with pytest.raises(QueryError, match="circuit 25 is not in the database"):
        db.states([1, 25, 99])


def test_database_without_circuits(tmp_path):
    create(Ledger(tmp_path / "db"), synthetic.make_manifest())
    db = database.open(tmp_path / "db")
    assert len(db) == 0 and "0 circuits" in repr(db)
    assert db.circuits.period_ms.values.size == 0
    assert db.query("pyloric and period_ms > 3").sizes["circuit"] == 0
    assert db.states().V.shape == (0, 3)
    assert not db.cube().pyloric.any()
    with pytest.raises(QueryError, match="no finished circuits"):
        db.sql("select 1")
    with pytest.raises(DatabaseError, match="no thermalised cells"):
        db.cells()


def test_sample_with_ids_anywhere(tmp_path):
    manifest = synthetic.make_manifest(n_circuits=8, shard_circuits=5, chunk_circuits=5)
    create(Ledger(tmp_path / "db"), manifest)
    ids = [[1, 7, 8, 30, 47], [0, 2, 31]]
    for shard in (0, 1):
        Ledger(tmp_path / "db").record(
            synthetic.write(tmp_path / "db", manifest, shard, ids[shard])
        )
    db = database.open(tmp_path / "db")
    assert db.circuits.circuit_id.values.tolist() == ids[0] + ids[1]
    assert db.query("True").circuit_id.values.tolist() == sorted(ids[0] + ids[1])
    states = db.states([2, 47, 2])
    wanted = [synthetic.shard_data(manifest, s, ids[s])[2]["V"] for s in (0, 1)]
    assert same(states.V, [wanted[1][1], wanted[0][4], wanted[1][1]])
    assert db.cube().circuit_id.max() == 47 and (db.cube().circuit_id >= 0).sum() == 8


def test_states_come_in_the_order_asked(db, pristine):
    states = db.states(np.array([45, 0, 21]))
    wanted = [synthetic.shard_data(pristine[1], s)[2] for s in range(3)]
    for name in ("V", "Ca", "m", "h", "s"):
        assert same(states[name], [wanted[2][name][5], wanted[0][name][0], wanted[1][name][1]])
        assert states[name].attrs["units"]
    assert states.circuit_id.values.tolist() == [45, 0, 21]
    assert states.m.dims == ("circuit", "cell", "m_gate") and states.s.dims == ("circuit", "source")
    assert states.source.values.tolist() == ["ab", "pd", "lp", "py"]
    assert db.states(7).sizes["circuit"] == 1 and db.states([]).sizes["circuit"] == 0
    assert same(db.states().V[45], states.V[0])
    for ids in ([1.5], ["a"], [[1, 2]]):
        with pytest.raises(QueryError, match="whole numbers"):
            db.states(ids)
    for ids in ([-1], [48], [2**63]):
        with pytest.raises(QueryError, match="not in the database, which has 48 .* from 0 to 47"):
            db.states(ids)


def test_rows_are_no_ids(db):
    rows = db.query("lp == 1")
    message = "circuit ids must be a list of whole numbers, not "
    for ask in (db.parameters, db.states, lambda ids: db.simulate(ids, duration_ms=50)):
        with pytest.raises(QueryError, match=message + r"a Dataset: pass its \.circuit_id$"):
            ask(rows)
        with pytest.raises(QueryError, match=message + "an array of 2 dimensions$"):
            ask([[1, 2]])
        with pytest.raises(QueryError, match=message + "float64$"):
            ask([1.0])
    assert db.parameters(rows.circuit_id).sizes["circuit"] == rows.sizes["circuit"]


def test_xarray_opens_the_states_by_itself(pristine):
    states = xr.open_zarr(pristine[0] / "states", chunks=None)
    assert states.V.dims == ("circuit", "cell") and states.V.attrs["units"] == "mV"
    assert "circuit_id" in states.coords and states.m_gate.values.tolist()[0] == "Na"


def test_parameters(db):
    found = db.parameters([47, 2])
    assert found.gbar.dims == ("circuit", "cell", "channel")
    assert found.gbar.sel(cell="abpd", channel="CaT").values.tolist() == [11, 1]
    assert found.gsyn.sel(synapse="ab_lp").values.tolist() == [30, 0.1]
    assert found.gsyn.attrs["units"] == "nS" and found.gbar.attrs["units"] == "mS/cm2"


def test_simulate_goes_on_from_the_stored_states(db, monkeypatch):
    calls = []
    package = types.ModuleType("pyloric_db")
    traces = xr.Dataset({"V": (("circuit", "time"), np.zeros((2, 5)))})
    package.simulate = lambda **given: calls.append(given) or traces
    package.circuit_of = lambda manifest: ("circuit", manifest.name)
    package.constants_of = lambda manifest: ("constants", manifest.name)
    monkeypatch.setitem(sys.modules, "pyloric_db", package)
    found = db.simulate([3, 1], duration_ms=50, dt_ms=0.01)
    assert found is traces
    settings = calls[0]
    gbar, gsyn = settings.pop("gbar"), settings.pop("gsyn")
    assert gbar.shape == (2, 3, 8) and gsyn.shape == (2, 7)
    assert same(gbar.circuit_id, [3, 1]) and same(gsyn.circuit_id, [3, 1])
    assert same(settings.pop("initial").circuit_id, [3, 1])
    assert settings == {
        "duration_ms": 50, "dt_ms": 0.01, "protocol": db.protocol,
        "circuit": ("circuit", "tiny"), "constants": ("constants", "tiny"),
    }  # fmt: skip

    # changed ones in their place, as in `classify`; None is the database's own
    db.simulate([3, 1], duration_ms=50, gbar=2 * gbar, gsyn=None, protocol=None)
    assert same(calls[1]["gbar"], 2 * gbar) and same(calls[1]["gsyn"], gsyn)
    assert calls[1]["protocol"] == db.protocol


def test_forked_and_other_processes_may_ask(db, everything):
    expected = int(everything["pyloric"].sum())
    assert db.count("pyloric") == expected  # a connection, whose threads a fork leaves behind
    program = (
        "import multiprocessing, pickle, sys\n"
        "from pyloric_db.query import database\n"
        "db = database.open(sys.argv[1])\n"
        "def ask(given=None): return (given or db).count('pyloric')\n"
        "if __name__ == '__main__':\n"
        "    print(ask(pickle.loads(pickle.dumps(db))), ask())\n"
        "    with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "        print(*pool.map(ask, [None, db, None]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(db.path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [str(expected)] * 5, done.stderr


def test_cells(db):
    cells = db.cells()
    assert cells.gbar_Na.attrs["units"] == "mS/cm2" and np.isnan(cells.period_ms.values[0])
    assert cells.activity.values.tolist() == ["silent", "tonic", "bursting"]


def test_no_database_is_one_sentence(tmp_path, database_copy):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    newer = tmp_path / "newer"
    newer.mkdir()
    text = (database_copy / "database.json").read_text()
    (newer / "database.json").write_text(text.replace('"schema_version": 1', '"schema_version": 7'))
    (database_copy / "ledger.jsonl").unlink()
    for path, message in (
        (tmp_path / "nothing", "does not exist"),
        ("~nobody-of-this-name/db", "cannot be found"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / "other", r"no database\.json"),
        (tmp_path / "other" / "notes.txt", "not a directory"),
        (newer, "newer pyloric-db"),
        (database_copy, r"no ledger\.jsonl"),
    ):
        with pytest.raises(DatabaseError, match=message) as caught:
            database.open(path)
        assert "\n" not in str(caught.value)


def test_a_directory_that_may_not_be_read(database_copy, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("pyloric_db.store.disk.os.listdir", refuse)
    with pytest.raises(DatabaseError, match=r"copy cannot be read \(Permission denied\)"):
        database.open(database_copy)


def test_ids_and_limits_of_several_kinds(pristine):
    db = database.open(pristine[0])
    with pytest.raises(QueryError, match="list of whole numbers"):
        db.states([[0], [1, 2]])
    assert db.query("True", columns=["circuit_id"], limit=np.int64(2)).sizes["circuit"] == 2
    with pytest.raises(QueryError, match="limit must be a whole number"):
        db.query("True", limit=2.0)


@pytest.fixture
def database_copy(pristine, tmp_path):
    return Path(shutil.copytree(pristine[0], tmp_path / "copy"))


def test_half_copied_database_is_refused(database_copy):
    part = database_copy / "features/part-000001.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    with pytest.raises(DatabaseError, match=r"part-000001\.parquet has .* bytes instead of"):
        database.open(database_copy)
    part.unlink()
    with pytest.raises(DatabaseError, match=r"part-000001\.parquet is missing"):
        database.open(database_copy)


def test_missing_states_never_read_as_nan(database_copy):
    (database_copy / "states/V/c/1/0").unlink()
    db = database.open(database_copy)
    assert not np.isnan(db.states([3]).V).any()
    for ids in ([3, 21], None):
        with pytest.raises(DatabaseError, match="states/V/c/1/0 is missing"):
            db.states(ids)
    shutil.rmtree(database_copy / "states")
    with pytest.raises(DatabaseError, match="states/.* is missing"):
        database.open(database_copy).states([3])


def test_damaged_bytes_are_never_served(database_copy):
    part = "features/part-000000.parquet"
    columns = pq.ParquetFile(database_copy / part).metadata.row_group(0)
    places = range(columns.num_columns)
    column = next(c for c in map(columns.column, places) if c.path_in_schema == "period_ms")
    in_page = column.data_page_offset + column.total_compressed_size - 10
    for name, place in (("states/V/c/0/0", 40), (part, in_page)):
        data = bytearray((database_copy / name).read_bytes())
        data[place] ^= 255
        (database_copy / name).write_bytes(data)
    db = database.open(database_copy)
    with pytest.raises(DatabaseError, match="cannot be read"):
        db.states([1])
    with pytest.raises(DatabaseError, match="column period_ms .*cannot be read"):
        db.circuits.period_ms.load()


def test_foreign_ledger_is_refused_and_a_damaged_one_warns(database_copy, pristine, tmp_path):
    other = replace(pristine[1], recipe={"name": "other"})
    (database_copy / "database.json").write_text(other.to_json())
    with pytest.raises(DatabaseError, match="different recipes"):
        database.open(database_copy)
    shutil.copy(pristine[0] / "database.json", database_copy)
    file = database_copy / "ledger.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"shard":1,', b'"shard":7,'))
    with pytest.warns(UserWarning, match="damaged in line 4"):
        assert len(database.open(database_copy)) == 28


def test_opening_and_asking_loads_no_jax(pristine):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pyloric_db.query import database\n"
        "db = database.open(sys.argv[1])\n"
        "assert not {'jax', 'zarr', 'duckdb', 'xarray', 'dask'} & set(sys.modules)\n"
        "db.circuits.period_ms.mean(); db.query('pyloric'); db.states([1]); db.cube()\n"
        "db.parameters([1])\n"
        "assert not {'jax', 'jaxlib', 'distributed'} & set(sys.modules)\n"
    )
    arguments = [sys.executable, "-c", code, str(pristine[0]), *filter(None, sys.path)]
    subprocess.run(arguments, check=True)


def test_questions_are_answered_in_a_notebook(pristine):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    code = f"import pyloric_db as pyl\nprint(pyl.open({str(pristine[0])!r}).count('True'))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=60).execute()
    assert notebook.cells[0].outputs[0].text == f"{len(database.open(pristine[0]))}\n"


def test_names_of_columns_are_one_text_or_several(db):
    assert list(db.cube("pyloric").data_vars) == ["pyloric"]
    assert list(db.query("True", columns="pyloric").data_vars) == ["pyloric"]
    for ask in (
        lambda: db.query("True", order_by=5),
        lambda: db.query("True", order_by=0),
        lambda: db.query("True", columns=5),
        lambda: db.cube(5),
    ):
        with pytest.raises(QueryError, match="columns are given by their names, not as [05]"):
            ask()


@pytest.mark.parametrize("ids", [[[1, 7, 8, 30, 47], [0, 2, 31]], [[0, 1, 2, 7, 8], [30, 31, 47]]])
def test_batches_are_the_query_in_pieces(tmp_path, monkeypatch, ids):
    manifest = synthetic.make_manifest(n_circuits=8, shard_circuits=5, chunk_circuits=5)
    create(Ledger(tmp_path / "db"), manifest)
    for shard in (0, 1):
        Ledger(tmp_path / "db").record(
            synthetic.write(tmp_path / "db", manifest, shard, ids[shard])
        )
    db = database.open(tmp_path / "db")
    monkeypatch.setattr(database, "_AT_ONCE", 4)
    for expr, columns in (("True", None), ("True", ["activity_lp"]), ("lp > 7", [])):
        pieces = list(db.batches(expr, columns))
        whole = db.query(expr, columns)
        assert xr.concat(pieces, "circuit").identical(whole)
        assert len(pieces) == (2 if whole.sizes["circuit"] > 4 and ids[1][0] else 1)
    with pytest.raises(QueryError, match="not an expression"):
        db.batches("lp =")


def test_a_few_rows_are_read_from_their_parts_alone(tmp_path, monkeypatch):
    manifest = synthetic.build(tmp_path / "db", synthetic.make_manifest(shard_circuits=5))
    table = synthetic.expected(manifest)
    db = database.open(tmp_path / "db")
    read = []
    whole = type(db._table)._table
    monkeypatch.setattr(
        type(db._table),
        "_table",
        lambda self, part, names: read.append(part) or whole(self, part, names),
    )
    period = db.circuits.period_ms
    for rows in (slice(7, 12), slice(12, 7, -2), slice(-3, None), 33, slice(5, 5), [41, -6, 8]):
        np.testing.assert_array_equal(period.isel(circuit=rows), table["period_ms"][rows])
        np.testing.assert_array_equal(period.isel(circuit=rows).circuit_id, np.arange(48)[rows])
    assert len(read) == 2 + 2 + 1 + 1 + 2 and len(set(read)) < 8
    np.testing.assert_array_equal(db.circuits.circuit_id, np.arange(48))
    assert len(read) == 8  # the ledger knows the ids
    np.testing.assert_array_equal(period.isel(circuit=slice(3, 40)), table["period_ms"][3:40])
    read.clear()
    assert period.isel(circuit=slice(7, 12)).values.size == 5
    assert not read  # all of them have been read since


def test_an_interrupted_question_is_no_error_of_the_database(pristine):
    """Ctrl-C while DuckDB answers: KeyboardInterrupt, in Python and so in notebooks."""
    code = f"""
import os, signal, threading
import pyloric_db
db = pyloric_db.open({str(pristine[0])!r})
db.count("True")
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    db.sql("select sum(sqrt(range)) from range(100000000000)")
except KeyboardInterrupt:
    print("interrupted", db.count("True"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted 48\n", done.stderr
