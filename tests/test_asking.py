"""Commands that describe, export and index a database: what they print and write."""

import json

import pytest
import synthetic

from pyloric_db.query import database
from pyloric_db.query.save import load_rows


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("asking") / "db"
    synthetic.build(path)
    return path


def refused(done, message):
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pyloric-db: ") and message in line, line


def test_stats(inside, path):
    n = database.open(path).count("pyloric")
    shown = inside("stats", path)
    assert shown.returncode == 0, shown.stderr
    for text in (f"{n} of 48 circuits", "combinations of cells", "connected components", "lp"):
        assert text in shown.stdout
    (header,) = (line for line in shown.stdout.splitlines() if line.startswith("feature "))
    assert header.endswith("what tells most about it  share of variance  direction")
    found = json.loads(inside("stats", path, "--where", "lp == 1", "--json").stdout)
    assert found["circuits"] == 16 and found["where"] == "lp == 1"
    refused(inside("stats", path, "--where", "lp > 77"), "no circuit for which")
    refused(inside("stats", path, "--where", "pyloricc"), "did you mean 'pyloric'")


def test_a_table_shows_what_the_cells_of_any_circuit_do(inside, path, tmp_path):
    synthetic.build(tmp_path / "two", synthetic.other_cells())
    synthetic.build(tmp_path / "five", synthetic.other_cells(("abpd", "lp", "py", "ic", "vd")))
    duties = [f"duty_cycle_{c}" for c in ("abpd", "lp", "py", "ic", "vd")]
    start, labels, end = (
        ["circuit_id", "netcode", "period_ms"],
        ["pyloric_like", "pyloric"],
        ["phase_start_lp", "phase_start_py"],
    )
    of_two = ["activity_a", "duty_cycle_a", "activity_b", "duty_cycle_b", "phase_start_b"]
    for db, columns in (
        (path, [*start, *labels, *duties[:3], *end, "status"]),
        (
            tmp_path / "five",
            [*start, *labels, *duties, *end, "phase_start_ic", "phase_start_vd", "status"],
        ),
        (tmp_path / "two", [*start, *of_two, "status"]),
    ):
        shown = inside("query", db, "circuit_id < 3").stdout.splitlines()
        assert shown[0].split() == columns and len(shown) == 4


def test_stats_of_a_sample_says_what_its_components_mean(inside, tmp_path):
    synthetic.build(tmp_path / "db", shards=[0])
    assert "does not hold the whole grid" in inside("stats", tmp_path / "db").stdout


def test_export(inside, path, tmp_path):
    done = inside(
        "export", path, "--format", "csv", "--where", "lp < 2", "--missing", "mask",
        "--inputs", "parameters,pyloric", "--targets", "period_ms, n_criteria_met",
        "--split", "0.5/0.5", "-o", tmp_path / "out", "--json",
    )  # fmt: skip
    counts = json.loads(done.stdout)["circuits"]
    assert list(counts) == ["train", "test"] and sum(counts.values()) == 32
    rows = load_rows(tmp_path / "out/train.csv")
    assert rows.sizes["circuit"] == counts["train"] and rows.period_ms.attrs["units"] == "ms"
    assert "pyloric" in rows and "gbar_lp_Kd" in rows and "phase_start_lp" not in rows
    shown = inside("export", path, "--targets", "period_ms", "-o", tmp_path / "whole")
    n = database.open(path).count("not isnull(period_ms)")
    assert f"{n} of 48 circuits, without {48 - n} that lack a value (" in shown.stdout
    refused(inside("export", path, "-o", tmp_path / "out"), "is not empty")
    refused(inside("export", path, "-o", tmp_path / "new", "--format", "hdf"), "format must be")
    refused(inside("export", path, "-o", tmp_path / "new", "--split", "1/1"), "add up to 1")
    refused(inside("export", path, "-o", tmp_path / "new", "--missing", "no"), "missing must be")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "whole"]


def test_no_export_into_the_database(inside, path, tmp_path, snapshot):
    (tmp_path / "link").symlink_to(path)
    before = snapshot(path)
    for out in (path, path / "out", tmp_path / "link/out", path / "../db/features"):
        refused(inside("export", path, "-o", out), f"{out} lies inside the database")
    assert snapshot(path) == before


def test_index(inside, tmp_path):
    synthetic.build(tmp_path / "db")
    before = inside("query", tmp_path / "db", "pyloric", "--format", "csv").stdout
    done = inside("index", tmp_path / "db")
    assert done.returncode == 0 and "is ready" in done.stdout, done.stderr
    assert database.open(tmp_path / "db")._index is not None
    assert inside("query", tmp_path / "db", "pyloric", "--format", "csv").stdout == before
    verified = inside("verify", tmp_path / "db")
    assert verified.returncode == 0 and "killed writer" not in verified.stdout
    refused(inside("index", tmp_path / "nowhere"), "does not exist")


@pytest.mark.parametrize("file_format, suffix", [("netcdf", ".nc"), ("zarr", ".zarr")])
def test_rows_as_arrays(inside, path, tmp_path, file_format, suffix):
    if file_format == "netcdf":
        pytest.importorskip("h5netcdf")
    file = tmp_path / f"rows{suffix}"
    done = inside(
        "query", path, "pyloric", "--columns", "lp,period_ms", "--format", file_format, "-o", file
    )
    assert done.returncode == 0, done.stderr
    rows = load_rows(file)
    assert rows.identical(database.open(path).query("pyloric", columns=["lp", "period_ms"]))
    alone = tmp_path / f"ids{suffix}"
    done = inside("query", path, "pyloric", "--columns", "circuit_id", "-o", alone)
    assert done.returncode == 0, done.stderr
    assert load_rows(alone).identical(database.open(path).query("pyloric", columns=[]))
    refused(inside("query", path, "pyloric", "--format", file_format), "needs a file")


def test_an_unfinished_database_is_said_to_be_so(inside, path, tmp_path):
    synthetic.build(tmp_path / "part", shards=[0])
    note = f"{tmp_path / 'part'} is not complete: asked are the 20 of 48 circuits that are finished"
    for command in (
        ["query", "DB", "period_ms > 0"],
        ["show", "DB", "3", "--json"],
        ["stats", "DB", "--where", "circuit_id >= 0"],
        ["plot", "DB", "marginals", "--where", "circuit_id >= 0", "-o", tmp_path / "x.png"],
        ["export", "DB", "--missing", "mask", "-o", tmp_path / "out"],
    ):
        done = inside(*(tmp_path / "part" if word == "DB" else word for word in command))
        assert done.returncode == 0 and note in done.stderr, command
    readme = (tmp_path / "out/README.md").read_text()
    assert "It was not complete: 20 of its 48 circuits were finished" in readme
    assert "not complete" not in inside("query", path, "period_ms > 0").stderr


def test_rows_come_in_pieces(inside, path, monkeypatch):
    """JSON and CSV are the same whatever the size of the pieces."""
    for style in ("json", "csv"):
        whole = inside("query", path, "circuit_id < 40", "--format", style).stdout
        with monkeypatch.context() as patch:
            patch.setattr("pyloric_db.cli.asking._AT_ONCE", 7)
            patch.setattr("pyloric_db.query.save._ROWS_AT_ONCE", 7)
            assert inside("query", path, "circuit_id < 40", "--format", style).stdout == whole
    rows = json.loads(inside("query", path, "circuit_id < 40", "--format", "json").stdout)
    assert [row["circuit_id"] for row in rows] == list(range(40))
    assert inside("query", path, "circuit_id < 0", "--format", "json").stdout == "[]\n"
    assert inside("query", path, "circuit_id < 0", "--format", "csv").stdout.count("\n") == 1
