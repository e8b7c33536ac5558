import json

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import synthetic
import xarray as xr

import pyloric_db
from pyloric_db.errors import ConfigError, DatabaseError
from pyloric_db.query import database
from pyloric_db.query.save import SUFFIXES, load_rows, save_rows


@pytest.fixture(scope="module")
def db(pristine):
    return database.open(pristine[0])


@pytest.fixture(params=SUFFIXES)
def suffix(request):
    if request.param == "netcdf":
        pytest.importorskip("h5netcdf")
    return SUFFIXES[request.param]


@pytest.mark.parametrize("expr", ["pyloric", "True", "lp > 77"])
def test_what_was_saved_is_what_is_loaded(db, tmp_path, suffix, expr):
    rows = db.query(expr)
    save_rows(rows, tmp_path / f"rows{suffix}")
    loaded = load_rows(tmp_path / f"rows{suffix}")
    assert loaded.identical(rows) and list(loaded.data_vars) == list(rows.data_vars)
    assert {n: v.dtype for n, v in loaded.items()} == {n: v.dtype for n, v in rows.items()}


def test_circuit_ids_alone_are_rows_too(db, tmp_path, suffix):
    rows = db.query("pyloric", columns=[])
    save_rows(rows, tmp_path / f"rows{suffix}")
    assert load_rows(tmp_path / f"rows{suffix}").identical(rows)


def test_units_are_where_each_format_has_them(db, tmp_path):
    pytest.importorskip("h5netcdf")
    rows = db.query("pyloric", columns=["period_ms", "activity_lp", "pyloric"])
    files = {name: tmp_path / f"rows{s}" for name, s in SUFFIXES.items()}
    for file in files.values():
        save_rows(rows, file)
    field = pq.read_schema(files["parquet"]).field("period_ms")
    assert field.metadata[b"units"] == b"ms"
    assert xr.open_dataset(files["netcdf"], engine="h5netcdf").period_ms.attrs["units"] == "ms"
    assert xr.open_zarr(files["zarr"]).period_ms.attrs["units"] == "ms"  # without a warning
    beside = json.loads((tmp_path / "rows.csv-metadata.json").read_text())
    (column,) = (c for c in beside["tableSchema"]["columns"] if c["name"] == "period_ms")
    assert column["http://qudt.org/schema/qudt/unit"] == "ms" and beside["url"] == "rows.csv"
    table = pyarrow.csv.read_csv(files["csv"])
    assert table.column_names == ["circuit_id", "period_ms", "activity_lp", "pyloric"]
    assert table["period_ms"].null_count == int(np.isnan(rows.period_ms).sum()) > 0


def test_nearest_circuits_can_be_saved_with_their_distance(db, tmp_path, suffix):
    found = db.nearest({"period_ms": 1000.0}, k=3).drop_attrs(deep=False)
    save_rows(found, tmp_path / f"near{suffix}")
    assert load_rows(tmp_path / f"near{suffix}").distance.identical(found.distance)


def test_columns_of_ones_own(db, tmp_path, suffix):
    rows = db.query("pyloric", columns=["period_ms"], limit=3)
    rows["mark"] = ("circuit", np.array(["NA", "null", "x"]))
    save_rows(rows.assign_attrs(compared=["period_ms"]), tmp_path / f"rows{suffix}")
    loaded = load_rows(tmp_path / f"rows{suffix}")
    assert loaded.mark.values.tolist() == ["NA", "null", "x"]
    assert loaded.attrs == {"name": rows.attrs["name"]}


def test_a_column_that_csv_has_no_type_for(db, tmp_path):
    rows = db.query("pyloric", columns=["period_ms"]).astype(np.float16)
    with pytest.raises(ConfigError, match="CSV has no type for period_ms, which holds float16"):
        save_rows(rows, tmp_path / "rows.csv")
    assert not list(tmp_path.iterdir())


def test_bad_places(db, tmp_path):
    rows = db.query("pyloric", columns=["period_ms"])
    for name, message in (
        ("rows.doc", "must end in one of .parquet, .csv, .nc, .zarr"),
        ("nowhere/rows.csv", "is no directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            save_rows(rows, tmp_path / name)
    with pytest.raises(ConfigError, match="format must be one of .*'xml'"):
        save_rows(rows, tmp_path / "rows.csv", "xml")
    for name in ("mine.zarr", "mine.csv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.txt").write_text("mine")
        with pytest.raises(ConfigError, match="exists already|is a directory"):
            save_rows(rows, tmp_path / name)
        assert (tmp_path / name / "thesis.txt").read_text() == "mine"


def test_what_is_no_rows_of_circuits(db, tmp_path):
    rows = db.query("pyloric", columns=["period_ms"])
    rhythm = pyloric_db.features_from_spikes([[[100.0, 200.0, 1100.0, 1200.0]] * 3])
    for wrong, message in (
        (rows.to_dataframe(), "an xarray Dataset, not DataFrame"),
        (None, "not NoneType"),
        (rhythm, "these have no circuit_id"),
        (db.states([3]), r"V has the dimensions \('circuit', 'cell'\)"),
    ):
        for name in ("x.parquet", "x.csv", "x.zarr"):
            with pytest.raises(ConfigError, match=f"what can be saved are rows .*: .*{message}"):
                save_rows(wrong, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_none_of_ours(db, tmp_path):
    with pytest.raises(DatabaseError, match="does not exist"):
        load_rows(tmp_path / "rows.csv")
    (tmp_path / "lonely.csv").write_text("circuit_id\n3\n")
    with pytest.raises(DatabaseError, match="has no lonely.csv-metadata.json beside it, which"):
        load_rows(tmp_path / "lonely.csv")
    for name in ("x.csv", "x.parquet", "x.nc"):
        (tmp_path / "x.csv-metadata.json").write_text("{}")
        (tmp_path / name).write_text("hello")
        if name == "x.nc":
            pytest.importorskip("h5netcdf")
        with pytest.raises(DatabaseError, match="cannot be read") as caught:
            load_rows(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="must end in"):
        load_rows(tmp_path / "x")


def test_the_synthetic_rows_hold_what_is_hard(db):
    """Text that is missing, flags, small integers and NaN are among the rows above."""
    rows = db.query("True")
    kinds = {rows[n].dtype.kind for n in rows.variables}
    assert kinds == {"i", "u", "f", "b", "O"}
    assert "" in rows.activity_lp.values and np.isnan(rows.period_ms).any()
    assert len(rows.circuit_id) == len(synthetic.expected(db.manifest)["circuit_id"])
