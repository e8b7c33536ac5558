"""Where commands may write: never into the database, and never into a folder that is not there."""

import pytest
import typer

from pyloric_db.cli import app

COMMANDS = (
    ["query", "DB", "pyloric", "--format", "csv", "-o"],
    ["plot", "DB", "stack", "-o"],
    ["trace", "DB", 3, "-o"],
    ["report", "DB", "-o"],
)


def name(command):
    """A file that the command would write."""
    return "x.html" if command[0] == "report" else "x.png"


def refused(done, text):
    assert done.returncode == 2 and text in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


@pytest.fixture(autouse=True)
def nothing_is_simulated(monkeypatch):
    monkeypatch.setattr("pyloric_db.cli.asking.simulate_on", None)
    monkeypatch.setattr("pyloric_db.report.page.report_html", None)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_no_output_lands_in_the_database(inside, figures_db, tmp_path, snapshot, command):
    (tmp_path / "link").symlink_to(figures_db)
    file = name(command)
    (tmp_path / file).symlink_to(figures_db / "ledger.jsonl")
    before = snapshot(figures_db)
    for place in (figures_db / file, figures_db / "features" / file, f"link/{file}", file):
        done = inside(*[figures_db if a == "DB" else a for a in command], place, cwd=tmp_path)
        refused(done, "lies inside the database")
    assert snapshot(figures_db) == before


@pytest.mark.parametrize("command", [["plot", ".", "stack"], ["report", "."], ["trace", ".", 3]])
def test_nor_does_the_default_output_where_the_database_is_the_working_directory(
    inside, figures_db, snapshot, command
):
    before = snapshot(figures_db)
    refused(inside(*command, cwd=figures_db), "choose another place with -o")
    assert snapshot(figures_db) == before


WRITING = ("build", "merge", "query", "plot", "trace", "match", "report", "export")


@pytest.mark.parametrize("command", WRITING)
def test_every_command_that_writes_is_told_where_in_the_same_ways(command):
    found = typer.main.get_command(app).commands[command]
    (option,) = (o for o in found.params if "--output" in o.opts)
    assert set(option.opts) == {"-o", "--output", "--out"}


def test_no_other_command_writes():
    commands = typer.main.get_command(app).commands
    writing = [n for n, c in commands.items() if any("-o" in o.opts for o in c.params)]
    assert sorted(writing) == sorted(WRITING)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_missing_folder_is_noticed_at_once(inside, figures_db, tmp_path, command):
    place = f"no/{name(command)}"
    done = inside(*[figures_db if a == "DB" else a for a in command], place, cwd=tmp_path)
    refused(done, f"{place} cannot be written: no is no directory")
