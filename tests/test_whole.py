"""Files that users name: complete, or as they were."""

import os

import numpy as np
import pytest
import xarray as xr

from pyloric_db.errors import ConfigError
from pyloric_db.query.save import save_rows
from pyloric_db.whole import written_whole

FULL = OSError(28, "No space left on device")


def rows(n):
    ids = np.arange(n)
    period = ("circuit", ids * 2.0, {"units": "ms", "long_name": "period"})
    return xr.Dataset({"period_ms": period}, {"circuit_id": ("circuit", ids)})


def test_what_was_there_stays_until_all_is_written(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("before")
    with pytest.raises(ConfigError, match="a.txt cannot be written: No space left"):
        with written_whole(file) as work:
            work.write_text("half")
            raise FULL
    assert file.read_text() == "before"
    with written_whole(file) as work:
        work.write_text("after")
        assert work.suffix == ".txt" and file.read_text() == "before"
    assert file.read_text() == "after"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_interruption_leaves_nothing(tmp_path):
    for new in (False, True):
        with pytest.raises(KeyboardInterrupt), written_whole(tmp_path / "x", new=new) as work:
            work.mkdir() if new else work.write_text("half")
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_links_are_followed_and_pipes_written_to(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "there/file.txt")
    with written_whole(tmp_path / "link.txt") as work:
        work.write_text("x")
    assert (tmp_path / "there/file.txt").read_text() == "x"
    assert (tmp_path / "link.txt").is_symlink()
    os.mkfifo(tmp_path / "pipe.csv")
    reader = os.open(tmp_path / "pipe.csv", os.O_RDONLY | os.O_NONBLOCK)
    try:
        save_rows(rows(2), tmp_path / "pipe.csv")
        assert os.read(reader, 1000) == b'"circuit_id","period_ms"\n0,0\n1,2\n'
    finally:
        os.close(reader)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.txt", "pipe.csv", "there"]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "nc", "zarr"])
def test_rows_on_a_full_disk_leave_what_was_there(tmp_path, monkeypatch, suffix):
    file = tmp_path / f"rows.{suffix}"
    if suffix != "zarr":  # which is never written over
        save_rows(rows(3), file)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*arguments, **settings):
        raise FULL

    monkeypatch.setattr("pyloric_db.query.save.csv_pieces", full)
    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_table", full)
    monkeypatch.setattr("xarray.Dataset.to_netcdf", full)
    monkeypatch.setattr("xarray.Dataset.to_zarr", full)
    with pytest.raises(ConfigError, match=f"rows.{suffix} cannot be written: No space left"):
        save_rows(rows(5).rename(period_ms="other"), file)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
