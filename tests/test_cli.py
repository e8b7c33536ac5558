"""The installed command: what it prints, its exit codes, and what it leaves alone."""

import csv
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import pyloric_db as pyl
from pyloric_db.pipeline.profile import packaged_profiles
from pyloric_db.pipeline.recipe import packaged_recipes
from pyloric_db.query.save import load_rows


def refused(done, *expected):
    """Exit code 2 and one sentence on one line of stderr."""
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("pyloric-db: "), done.stderr
    for text in expected:
        assert re.search(text, lines[0]), lines[0]


@pytest.fixture
def named(named_db, tmp_path):
    """A copy of the database that a test may change."""
    return shutil.copytree(named_db, tmp_path / "named")


# recipes and plans


def test_version_and_help(cli):
    assert cli("--version").stdout == f"{pyl.__version__}\n"
    shown = cli("--help")
    assert shown.returncode == 0
    for command in ("recipes", "plan", "build", "status", "verify", "query", "show", "trace"):
        assert command in shown.stdout


def test_the_package_can_be_run_itself():
    done = subprocess.run(
        [sys.executable, "-m", "pyloric_db", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{pyl.__version__}\n", "")


def test_recipes(inside):
    rows = json.loads(inside("recipes", "--json").stdout)
    assert {r["name"] for r in rows} == set(packaged_recipes())
    assert {r["name"]: r["circuits"] for r in rows}["prinz2004"] == 20_250_000
    shown = inside("recipes").stdout
    assert "prinz2004" in shown and "20,250,000" in shown


def test_what_comes_with_the_package_can_be_copied(inside, cli, tmp_path):
    printed = {**packaged_recipes(), **packaged_profiles()}
    assert len(printed) == len(packaged_recipes()) + len(packaged_profiles()) >= 9
    for name, text in printed.items():
        assert inside("recipes", name).stdout == text
        assert json.loads(inside("recipes", name, "--json").stdout) == tomllib.loads(text)
    (tmp_path / "mine.toml").write_text(cli("recipes", "demo").stdout)
    of_mine, of_demo = (inside("plan", r, cwd=tmp_path).stdout for r in ("mine.toml", "demo"))
    assert of_mine == of_demo
    shown = inside("recipes").stdout
    assert all(name in shown for name in printed) and "`pyloric-db recipes NAME`" in shown
    refused(inside("recipes", "slurm_cpu"), "one of demo,.*; did you mean 'slurm-cpu'")


def test_plan(inside, tmp_path, snapshot):
    done = inside("plan", "prinz2004", "--sample", 100, "--limit", 60, "--json", cwd=tmp_path)
    described = json.loads(done.stdout)
    assert (described["circuits"], described["recipe"]) == (60, "prinz2004")
    assert described["shards"] * described["circuits_per_shard"] >= 60
    assert "20,250,000" in inside("plan", "prinz2004", cwd=tmp_path).stdout
    assert snapshot(tmp_path) == {}


def test_a_plan_says_hours_and_readable_bytes_without_being_asked(inside, tmp_path):
    found = json.loads(inside("plan", "prinz2004", "--json", cwd=tmp_path).stdout)
    assert found["cluster"] == "local" and found["expected_hours"] > 0
    assert found["state_bytes"] == 3_645_000_000 and "job_script" not in found
    shown = inside("plan", "prinz2004", cwd=tmp_path).stdout
    assert "expected time" in shown and "3.6 GB" in shown and "script" not in shown


GOOD = """name = "x"
[circuit]
preset = "prinz2004"
[parameters.grid]
abpd = ["AB/PD 1"]
lp = ["LP 1"]
py = ["PY 1"]
gsyn_ab_lp_nS = [0, 3]
[protocol]
dt_ms = 0.05
"""


@pytest.mark.parametrize(
    "old, new, expected",
    [
        (GOOD, "name = [", "x.toml is not TOML"),
        ("name =", "nmae = 1\nname =", "unknown key nmae; did you mean 'name'"),
        ("[0, 3]", "[-3, 3]", "gsyn_ab_lp_nS.*-3"),
        ("[0, 3]", "[0, nan]", "gsyn_ab_lp_nS.*nan"),
        ("[0, 3]", "[]", "gsyn_ab_lp_nS is empty"),
        ("0.05", "0", "dt_ms.*not 0"),
        ("0.05", "0.3", "dt_ms.*at most 0.2 ms, not 0.3"),
        ("LP 1", "LP 7", "'LP 7'.*did you mean 'LP"),
    ],
)
def test_bad_recipes(inside, tmp_path, snapshot, old, new, expected):
    (tmp_path / "x.toml").write_text(GOOD.replace(old, new))
    before = snapshot(tmp_path)
    refused(inside("build", "x.toml", "--out", "db", cwd=tmp_path), "x.toml", expected)
    assert snapshot(tmp_path) == before


def test_unknown_recipes(inside, cli, tmp_path, snapshot):
    refused(cli("build", "prinz204", "--out", "db", cwd=tmp_path), "no recipe 'prinz204'")
    for command in (["build", "prinz204", "--out", "db"], ["plan", "prinz204"]):
        refused(inside(*command, cwd=tmp_path), "no recipe 'prinz204'.*did you mean 'prinz2004'")
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize(
    "more, expected",
    [
        (["--limit", 0], "limit must be at least 1, not 0"),
        (["--limit", -5], "limit must be at least 1, not -5"),
        (["--sample", 0], "sample of 0"),
        (["--sample", 10**9], "cannot be drawn from"),
        (["--sample", 5, "--seed", -1], "seed must not be negative"),
        (["--seed", 1], "a seed is for a sample"),
        (["--workers", 0], "workers must be a whole number from 1 on"),
    ],
)
def test_bad_counts(inside, tmp_path, snapshot, more, expected):
    refused(inside("build", "demo", "--out", "db", *more, cwd=tmp_path), expected)
    assert snapshot(tmp_path) == {}


def test_an_option_that_is_no_number(inside, tmp_path, snapshot):
    done = inside("build", "demo", "--out", "db", "--limit", "x", cwd=tmp_path)
    assert done.returncode == 2 and "--limit" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(tmp_path) == {}


# directories


def test_directories_that_cannot_be_built_in(inside, named_db, named_toml, tmp_path, snapshot):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = snapshot(tmp_path), snapshot(named_db)
    for out, expected in (
        (named_db, "another recipe"),
        ("full", "not empty and holds no database.*thesis.txt"),
        ("file", "file is not a directory"),
        ("file/db", "file is not a directory"),
    ):
        refused(inside("build", "demo", "--out", out, cwd=tmp_path), expected)
    refused(
        inside("build", named_toml, "--out", named_db, "--limit", 5),
        "holds all circuits of this recipe",
    )
    assert (snapshot(tmp_path), snapshot(named_db)) == before


COMMANDS = {
    "status": ["status", "DB"],
    "verify": ["verify", "DB"],
    "query": ["query", "DB", "circuit_id < 3"],
    "show": ["show", "DB", "0"],
    "trace": ["trace", "DB", "0"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_directories_that_hold_no_database(inside, tmp_path, snapshot, command):
    (tmp_path / "empty").mkdir()
    before = snapshot(tmp_path)
    for path, expected in (("empty", "empty.*no database"), ("nowhere", "nowhere")):
        arguments = [path if a == "DB" else a for a in COMMANDS[command]]
        refused(inside(*arguments, cwd=tmp_path), expected)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("command", ["status", "query", "show", "trace", "build"])
def test_a_database_of_a_newer_schema(inside, named, named_toml, snapshot, command):
    file = named / "database.json"
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    (named / "ledger.jsonl").unlink()  # as a newer version would have its own
    before = snapshot(named)
    arguments = {**COMMANDS, "build": ["build", named_toml, "--out", "DB"]}[command]
    done = inside(*[named if a == "DB" else a for a in arguments], cwd=named.parent)
    refused(done, "newer pyloric-db.*update")
    assert snapshot(named) == before
    assert list(named.parent.iterdir()) == [named]


@pytest.mark.parametrize("command", ["query", "show", "trace"])
def test_a_database_copied_in_part(inside, named, snapshot, command):
    (named / "features" / "part-000001.parquet").unlink()
    before = snapshot(named)
    arguments = [named if a == "DB" else a for a in COMMANDS[command]]
    done = inside(*arguments, cwd=named.parent)
    refused(done, r"part-000001\.parquet is missing.*copied in part")
    (named / "ledger.jsonl").unlink()
    refused(inside(*arguments, cwd=named.parent), r"no ledger\.jsonl.*copied in part")
    del before["ledger.jsonl"]
    assert snapshot(named) == before


def test_verify_says_what_is_missing(inside, named):
    (named / "features" / "part-000001.parquet").unlink()
    done = inside("verify", named)
    assert done.returncode == 1 and "features/part-000001.parquet: is missing" in done.stdout
    found = json.loads(inside("verify", named, "--json").stdout)
    assert not found["good"]
    assert found["damages"] == [{"file": "features/part-000001.parquet", "what": "is missing"}]


# what a build says


def test_a_damaged_line_of_the_ledger_is_said_in_a_sentence(cli, named):
    ledger = named / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes().replace(b'"kind":"database"', b'"kind":"databas3"'))
    done = cli("query", named, "circuit_id >= 0", "--format", "csv")
    assert done.returncode == 0
    assert done.stderr == (
        f"pyloric-db: {ledger} is damaged in line 1: what it recorded is left out; build the "
        "database again to mend it\n"
    )


def test_a_build_again_prints_what_it_holds(inside, named_db, named_toml, snapshot):
    before = {k: v[0] for k, v in snapshot(named_db).items()}
    done = inside("build", named_toml, "--out", named_db)
    assert done.returncode == 0, done.stderr
    # published are shares of the whole grid, and this is a corner of it
    assert "24 circuits" in done.stdout and "published" not in done.stdout
    assert "0 of 24" in done.stdout
    found = json.loads(inside("build", named_toml, "--out", named_db, "--json").stdout)
    assert found["circuits"] == 24 and [s["label"] for s in found["shares"]] == [
        "pyloric-like",
        "pyloric",
    ]
    # of all the circuits of a grid nothing was sampled
    assert "interval" not in done.stdout and found["shares"][0]["interval"] is None
    assert {k: v[0] for k, v in snapshot(named_db).items()} == before


def test_shares_of_a_sample_are_printed_with_intervals(tmp_path, capsys):
    import synthetic

    import pyloric_db
    from pyloric_db.cli.building import _print_shares

    sampled = synthetic.make_manifest(n_circuits=20, selection={"sample": 20, "seed": 0})
    synthetic.build(tmp_path / "db", sampled)
    _print_shares(pyloric_db.open(tmp_path / "db"))
    head, row, _ = capsys.readouterr().out.splitlines()
    assert "measured" in head and "95% interval" in head and row.count("%") == 2


def test_status(inside, named_db):
    found = json.loads(inside("status", named_db, "--json").stdout)
    assert found["complete"] and found["circuits_done"] == found["n_circuits"] == 24
    assert found["counts"]["ok"] == 24 and found["failures"] == []
    shown = inside("status", named_db).stdout
    assert shown.startswith("named: 24 of 24 circuits") and "complete" in shown


def test_status_of_a_build_that_stopped(inside, named):
    from pyloric_db.store.ledger import Failure, record_failure

    ledger = named / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    record_failure(named, Failure(3, "OSError: no space", 3))
    done = inside("status", named)
    assert done.returncode == 0 and "not complete" in done.stdout
    assert "shard 3 failed 3 times: OSError: no space" in done.stdout
    assert inside("verify", named).returncode == 0


def test_status_of_a_build_that_runs_says_whose_it_is(inside, named):
    from pyloric_db.store.lock import build_lock

    ledger = named / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    us = f"process {os.getpid()} on {socket.gethostname()}"
    with build_lock(named):
        assert f"not complete: {us} is building it\n" in inside("status", named).stdout
        assert json.loads(inside("status", named, "--json").stdout)["builder"] == us
    assert "not complete: `pyloric-db build` again" in inside("status", named).stdout
    assert json.loads(inside("status", named, "--json").stdout)["builder"] is None


def test_a_terminal_obeys_no_database(inside, named):
    from pyloric_db.store.ledger import Failure, record_failure

    record_failure(named, Failure(3, "\x1b]0;title\x07\x1b[2Jno\u202e space", 3))
    (named / "x\x1b[31mred").write_text("")
    for command in ("status", "verify"):
        shown = inside(command, named).stdout
        assert "\N{REPLACEMENT CHARACTER}" in shown
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_brackets_in_the_text_of_a_database_are_no_markup(inside, named):
    file = named / "database.json"
    file.write_text(file.read_text().replace("how the run ended", "how [/x] [red]it ended"))
    shown = inside("show", named)
    assert shown.returncode == 0 and "how [/x] [red]it ended" in shown.stdout


def test_a_ledger_that_is_lost_is_said(inside, named):
    (named / "ledger.jsonl").unlink()
    refused(inside("status", named), "has no ledger.jsonl: it may have been copied in part")
    done = inside("verify", named)
    assert done.returncode == 1 and "part-000000.parquet: not in the ledger" in done.stdout


def test_verify(cli, named_db):
    done = cli("verify", named_db)
    assert done.returncode == 0 and "all shards are there" in done.stdout
    assert json.loads(cli("verify", named_db, "--json").stdout)["good"]


# questions


EXPR = "gsyn_ab_lp_nS > 1 and circuit_id < 8 and v_min_lp_mV < 0"
ANSWER = [1, 3, 5, 7]


def test_query_as_csv_and_json(inside, named_db):
    columns = "circuit_id, gsyn_ab_lp_nS,activity_py ,period_ms"
    done = inside("query", named_db, EXPR, "--columns", columns, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [int(r["circuit_id"]) for r in rows] == ANSWER
    assert list(rows[0]) == ["circuit_id", "gsyn_ab_lp_nS", "activity_py", "period_ms"]
    done = inside("query", named_db, EXPR, "--columns", columns, "--format", "json")
    found = json.loads(done.stdout)  # NaN would not be JSON: null it is
    assert [r["circuit_id"] for r in found] == ANSWER
    assert "NaN" not in done.stdout and found[0]["gsyn_ab_lp_nS"] == 30


def test_whole_numbers_stay_whole_in_json(inside, pristine, tmp_path):
    db = pristine[0]
    asked = ("query", db, "circuit_id < 20", "--columns", "n_criteria_met,lp")
    (tmp_path / "x.json").write_text(inside(*asked, "--format", "json").stdout)
    inside(*asked, "-o", tmp_path / "y.json")
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()
    rows = json.loads((tmp_path / "x.json").read_text())
    assert {type(r["n_criteria_met"]) for r in rows} == {int, type(None)}
    for row in rows[:8]:
        shown = json.loads(inside("show", db, row["circuit_id"], "--json").stdout)
        assert repr(shown["n_criteria_met"]) == repr(row["n_criteria_met"])
        assert shown["lp"] == row["lp"]


def test_query_with_order_and_limit(inside, named_db):
    done = inside(
        "query", named_db, EXPR, "--order-by", "-circuit_id", "--limit", 2, "--format", "csv",
        "--columns", "circuit_id",
    )  # fmt: skip
    assert done.stdout.split() == ['"circuit_id"', "7", "5"]


def test_query_ordered_by_several_columns(inside, named_db):
    done = inside(
        "query", named_db, "circuit_id < 8", "--order-by", "gsyn_ab_lp_nS, -circuit_id",
        "--columns", "circuit_id", "--format", "csv",
    )  # fmt: skip
    assert done.stdout.split()[1:] == ["6", "4", "2", "0", "7", "5", "3", "1"]


def test_query_as_a_table(cli, named_db):
    shown = cli("query", named_db, "circuit_id >= 0")
    assert shown.returncode == 0
    assert shown.stderr == "the first 20 of 24; --limit N shows more, --format csv all\n"
    lines = shown.stdout.splitlines()
    assert len(lines) == 21 and lines[0].split()[:2] == ["circuit_id", "netcode"]
    assert lines[2].split()[:2] == ["1", "0003111220"]
    assert len(cli("query", named_db, "circuit_id >= 0", "--limit", 24).stdout.splitlines()) == 25


def test_a_table_has_only_the_columns_that_fit_on_the_screen(inside, named_db, monkeypatch):
    names = ["circuit_id", "netcode", "gsyn_ab_lp_nS", "v_min_lp_mV", "v_max_lp_mV", "status"]
    arguments = ("query", named_db, EXPR, "--columns", ",".join(names))
    piped = inside(*arguments)
    cells = [line.split() for line in piped.stdout.splitlines()]
    assert cells[0] == names and len(cells) == 1 + len(ANSWER) and piped.stderr == ""
    whole = len(piped.stdout.splitlines()[0])
    for width, n in ((200, 6), (whole, 6), (whole - 1, 5), (21, 1), (10, 1)):
        monkeypatch.setattr("pyloric_db.cli.asking.out", Console(width=width))
        shown = inside(*arguments)
        assert [line.split() for line in shown.stdout.splitlines()] == [c[:n] for c in cells]
        left_out = f"too narrow for {', '.join(names[n:])}: --columns" if n < 6 else ""
        assert left_out in shown.stderr and len(shown.stderr.splitlines()) == bool(left_out)


def test_a_table_in_a_file_is_as_wide_as_it_needs(inside, named_db, tmp_path):
    names = [c.name for c in pyl.open(named_db).manifest.columns]
    done = inside("query", named_db, EXPR, "-o", tmp_path / "x.txt", "--columns", ",".join(names))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {tmp_path / 'x.txt'}: 4 circuits\n"
    lines = (tmp_path / "x.txt").read_text().splitlines()
    assert lines[0].split() == names and len(lines) == 1 + len(ANSWER)


def test_a_table_that_was_not_cut_does_not_say_so(inside, named_db):
    for arguments in (["circuit_id >= 0", "--limit", 24], ["circuit_id < 20"], ["circuit_id < 3"]):
        shown = inside("query", named_db, *arguments)
        assert len(shown.stdout.splitlines()) > 3 and shown.stderr == ""


def test_a_limit_says_how_many_there_are(inside, named_db, tmp_path):
    asked = ("query", named_db, "circuit_id < 8")
    shown = inside(*asked, "--limit", 3)
    assert len(shown.stdout.splitlines()) == 4 and shown.stderr == "the first 3 of 8\n"
    shown = inside(*asked, "--limit", 3, "-o", "x.csv", cwd=tmp_path)
    assert (shown.stdout, shown.stderr) == ("wrote x.csv: the first 3 of 8 circuits\n", "")
    # what programs read is not commented on
    assert inside(*asked, "--limit", 3, "--format", "csv").stderr == ""


def test_that_nothing_satisfies_is_said_where_nothing_does(inside, named_db):
    assert inside("query", named_db, "circuit_id < 0").stderr == "no circuit satisfies this\n"
    for limit in (0, -1):
        done = inside("query", named_db, "circuit_id < 3", "--limit", limit)
        refused(done, f"--limit must be at least 1, not {limit}")


def test_how_many_there_are_can_be_asked_alone(inside, named_db):
    asked = ("query", named_db, EXPR, "--count")
    assert (inside(*asked).stdout, inside(*asked).stderr) == ("4\n", "")
    assert json.loads(inside(*asked, "--format", "json").stdout) == {"count": 4}
    assert inside("query", named_db, "circuit_id < 0", "--count").stdout == "0\n"
    refused(inside(*asked, "--format", "csv"), "--count is a number or.*not csv")
    for others in (["--limit", 2], ["-o", "x.csv"], ["--columns", "lp"], ["--order-by", "lp"]):
        refused(inside(*asked, *others), f"--count.*leave out {others[0]}")


def test_query_into_files(inside, named_db, tmp_path):
    done = inside("query", named_db, EXPR, "--format", "parquet", "-o", tmp_path / "x.parquet")
    assert done.returncode == 0 and done.stdout == f"wrote {tmp_path / 'x.parquet'}: 4 circuits\n"
    table = pq.read_table(tmp_path / "x.parquet")
    assert table["circuit_id"].to_pylist() == ANSWER
    assert table.schema.field("gsyn_ab_lp_nS").metadata[b"units"] == b"nS"
    db = pyl.open(named_db)
    assert set(table.column_names) == {c.name for c in db.manifest.columns}
    inside("query", named_db, EXPR, "--format", "csv", "-o", tmp_path / "x.csv")
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 1 + len(ANSWER)


def test_the_suffix_of_a_file_says_its_format_unless_another_is_named(inside, named_db, tmp_path):
    def written(name, *arguments):
        done = inside("query", named_db, EXPR, "-o", tmp_path / name, *arguments)
        assert done.returncode == 0 and f"{name}: 4 circuits" in done.stdout, done.stderr
        return tmp_path / name

    for name in ("x.parquet", "X.CSV", "x.zarr"):
        assert load_rows(written(name)).circuit_id.values.tolist() == ANSWER
    assert [r["circuit_id"] for r in json.loads(written("x.json").read_text())] == ANSWER
    assert written("x.txt").read_text().split()[:2] == ["circuit_id", "netcode"]
    assert written("y.parquet", "--format", "csv").read_text().startswith('"circuit_id"')


def test_csv_into_a_pipe_leaves_nothing_beside_it(cli, named_db, tmp_path):
    (tmp_path / "out.csv").symlink_to("/dev/stdout")
    done = cli("query", named_db, EXPR, "-o", tmp_path / "out.csv")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1 + len(ANSWER)
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert not Path("/dev/stdout-metadata.json").exists()


def test_a_table_can_be_piped_into_nothing(named_db):
    command = Path(sys.executable).parent / "pyloric-db"
    done = subprocess.run(
        f"'{command}' query '{named_db}' 'circuit_id >= 0' --format csv | true",
        shell=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["perod_ms > 1"], "'perod_ms'.*did you mean 'period_ms'"),
        (["period_ms > "], "period_ms"),
        (["__import__('os').remove('x')"], "."),
        (["period_ms > 1; drop table circuits"], "."),
        (["pyloric", "--columns", "perod_ms"], "'perod_ms'.*did you mean 'period_ms'"),
        (["pyloric", "--order-by", "perod_ms"], "'perod_ms'"),
        (["pyloric", "--limit", "-1"], "--limit must be at least 1, not -1"),
        (["pyloric", "--format", "xml"], "--format must be one of table, csv.*'xml'"),
        (["pyloric", "--format", "parquet"], "needs a file"),
        (["pyloric", "-o", "no/where.txt"], "cannot be written"),
        (["pyloric", "-o", "near.xls"], "near.xls must end in one of .txt, .csv.*or --format"),
        (["pyloric", "-o", "near"], "near must end in one of .txt, .csv.*or --format"),
        (["pyloric", "--columns", ""], "--columns names nothing"),
        (["pyloric", "--order-by", " ,"], "--order-by names nothing"),
        (["pyloric", "--format", "parquet", "-o", "no/where"], "cannot be written"),
    ],
)
def test_bad_questions(inside, named_db, tmp_path, snapshot, arguments, expected):
    before = snapshot(named_db)
    refused(inside("query", named_db, *arguments, cwd=tmp_path), expected)
    assert snapshot(named_db) == before and snapshot(tmp_path) == {}


def test_errors_of_the_installed_command(cli, named_db, tmp_path, snapshot):
    """As above, but in a process of its own."""
    (tmp_path / "x.toml").write_text(GOOD.replace("[0, 3]", "[-3, 3]"))
    before = snapshot(tmp_path)
    refused(cli("build", "x.toml", "--out", "db", cwd=tmp_path), "gsyn_ab_lp_nS.*-3")
    refused(cli("build", "demo", "--out", named_db), "another recipe")
    refused(cli("query", named_db, "perod_ms > 1"), "did you mean 'period_ms'")
    refused(cli("show", named_db, 24), "24")
    assert snapshot(tmp_path) == before


def test_show_by_id_and_by_netcode(cli, named_db):
    by_id = cli("show", named_db, 15, "--json")
    found = json.loads(by_id.stdout)
    # 15 of 2 x 2 x 3 x 2: AB/PD 2, LP 1, PY 2, AB-LP 30 nS
    assert found["netcode"] == "1013111220"
    assert found["gbar_mS_per_cm2"]["abpd"]["Na"] == 100  # AB/PD 2
    assert found["gsyn_nS"]["ab_lp"] == 30 and found["gsyn_nS"]["py_lp"] == 0
    assert cli("show", named_db, "1013111220", "--json").stdout == by_id.stdout
    shown = cli("show", named_db, 15).stdout
    assert re.search(r"abpd +1 \(AB/PD 2\) *\nlp +0 \(LP 1\) *\npy +1 \(PY 2\)", shown), shown
    assert "1013111220" in shown and "gbar (mS/cm2)" in shown and "spike_rate_abpd_Hz" in shown


def test_show_without_a_circuit_lists_the_columns(inside, named_db):
    db = pyl.open(named_db)
    shown = inside("show", named_db)
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == [
        c.name for c in db.manifest.columns
    ]
    assert "period_ms  " in shown.stdout and "AB/PD burst start to next start" in shown.stdout
    found = json.loads(inside("show", named_db, "--json").stdout)
    assert {
        "name": "period_ms",
        "unit": "ms",
        "meaning": "AB/PD burst start to next start",
        "published": {"mean": 1509.0, "sd": 279.0, "low": 951.0, "high": 2067.0},
    } in found
    assert len(found) == len(db.manifest.columns)
    assert "how the run ended: ok | nonfinite | event_overflow | out_of_range" in shown.stdout
    assert "LP activity: silent | tonic | bursting | irregular" in shown.stdout
    columns = {c.pop("name"): c for c in found}
    assert columns["status"]["meaning"] == "how the run ended"
    assert columns["status"]["values"] == ["ok", "nonfinite", "event_overflow", "out_of_range"]
    assert columns["duty_cycle_abpd"]["published"] == {
        "mean": 0.385,
        "sd": 0.04,
        "low": 0.305,
        "high": 0.465,
    }
    assert sum("published" in c for c in columns.values()) == 15
    assert columns["v_min_lp_mV"].keys() == {"unit", "meaning"}
    refused(inside("query", named_db, "zzzz > 1"), "which `pyloric-db show DB` lists")


@pytest.mark.parametrize(
    "circuit", ["24", "9999999999", "99999999999999999999999", "x", "1.5", "٣"]
)
@pytest.mark.parametrize("command", ["show", "trace"])
def test_unknown_circuits(inside, named_db, tmp_path, snapshot, command, circuit):
    refused(inside(command, named_db, circuit, cwd=tmp_path), re.escape(circuit))
    assert snapshot(tmp_path) == {}
