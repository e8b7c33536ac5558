"""Commands that show a database."""

import io
import subprocess
import sys

import pytest
import synthetic
from rich.console import Console

import pyloric_db
from pyloric_db.errors import ConfigError
from pyloric_db.protocol import Protocol
from pyloric_db.report.figures import TRACE_MS

PNG = b"\x89PNG\r\n\x1a\n"


def refused(done, text):
    assert done.returncode == 2 and text in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["rhythm", "--where", "circuit_id >= 0"],
        ["histograms"],
        ["histograms", "--columns", "v_min_lp_mV, period_ms", "--where", "circuit_id < 12"],
        ["marginals", "--where", "circuit_id < 12"],
        ["stack", "--columns", "v_mean_lp_mV"],
        ["stack", "--axes", "abpd,lp"],
    ],
)
def test_plot_writes_a_figure(inside, figures_db, tmp_path, arguments):
    done = inside("plot", figures_db, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"wrote {arguments[0]}.png\n"
    data = (tmp_path / f"{arguments[0]}.png").read_bytes()
    assert data.startswith(PNG) and len(data) > 10_000


@pytest.mark.parametrize(
    "module, arguments, words, printed",
    [
        ("looking", ["plot", "marginals"], ["counting and drawing"], "wrote marginals.png\n"),
        (
            "asking",
            ["query", "-o", "x.csv"],
            ["looking through the circuits"],
            "wrote x.csv: 12 circuits\n",
        ),
    ],
)
def test_whoever_waits_in_a_terminal_sees_a_sign_of_life(
    inside, figures_db, tmp_path, monkeypatch, module, arguments, words, printed
):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True)
    monkeypatch.setattr(f"pyloric_db.cli.{module}.err", terminal)
    command, *rest = arguments
    what = ["circuit_id < 12"] if command == "query" else ["--where", "circuit_id < 12"]
    done = inside(command, figures_db, *rest, *what, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    assert all(text in screen.getvalue() for text in words)


def test_plot_as_a_vector_figure(inside, figures_db, tmp_path):
    done = inside("plot", figures_db, "stack", "-o", tmp_path / "x.svg")
    assert done.returncode == 0, done.stderr
    assert "LP-PY" in (tmp_path / "x.svg").read_text()


def test_traces_have_the_bursts_of_the_protocol_of_the_database(
    inside, tiny_db, tmp_path, monkeypatch
):
    drawn = []

    def note(*arguments, protocol, shown_ms, **others):
        assert shown_ms in (5000, TRACE_MS)
        drawn.append(protocol)
        raise ConfigError("enough")

    simulated = []
    monkeypatch.setattr("pyloric_db.cli.asking.simulate_on", lambda *a: simulated.append(a[2]))
    monkeypatch.setattr("pyloric_db.plot.traces.traces_figure", note)
    refused(inside("trace", tiny_db, 3, cwd=tmp_path), "enough")
    assert simulated == [10_000]  # bursts are told from several periods
    monkeypatch.setattr("pyloric_db.query.database.Database.simulate", lambda *_, **__: None)
    monkeypatch.setattr("pyloric_db.report.figures.traces_figure", note)
    assert inside("report", tiny_db, cwd=tmp_path).returncode == 0
    assert drawn == [pyloric_db.open(tiny_db).protocol] * 2 != [Protocol()] * 2


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["rhythm", "--columns", "period_ms"], "--columns says nothing about rhythm, which takes"),
        (["histograms", "--axes", "lp"], "--axes says nothing about histograms"),
        (["stack", "--where", "pyloric"], "--where says nothing about stack"),
        (["stack", "--columns", "period_ms,pyloric"], "a stack shows one column, not 2"),
        (["stack", "--columns", " ,"], "--columns names nothing"),
        (["stack", "--columns", "perod_ms"], "did you mean 'period_ms'"),
        (["stack", "--axes", "lpp"], "did you mean 'lp'"),
        (["histograms", "--columns", "netcode"], "netcode holds text"),
        (["marginals", "--where", "circuit_id < 0"], "no circuit of the 48 satisfies"),
        (["marginals", "--where", "pyloric;"], "not an expression"),
        (["stack", "--axes", "lp,abpd,lp"], "axis 'lp' is named twice"),
        (["rhythm", "--where", ""], "the query is empty"),
        (["marginals", "--where", ""], "the query is empty"),
        (["rhythm", "-o", "x.txt"], "x.txt must end in one of .png, .svg and .pdf"),
        (["rhythm", "-o", "x.jpg"], "x.jpg must end in one of .png, .svg and .pdf"),
        (["rhythm", "--where", "circuit_id >= 0", "-o", "no/x.png"], "cannot be written"),
    ],
)
def test_plot_refuses(inside, figures_db, tmp_path, snapshot, arguments, text):
    refused(inside("plot", figures_db, *arguments, cwd=tmp_path), text)
    assert snapshot(tmp_path) == {}


def test_circuits_without_labels_need_a_condition(inside, tmp_path):
    synthetic.build(tmp_path / "db", synthetic.other_cells())
    for kind in ("rhythm", "marginals"):
        refused(inside("plot", tmp_path / "db", kind, cwd=tmp_path), "give --where")
    done = inside("plot", tmp_path / "db", "rhythm", "--where", "circuit_id >= 0", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "rhythm.png").stat().st_size > 5000, done.stderr


def test_unknown_kinds(inside, figures_db, tmp_path, snapshot):
    done = inside("plot", figures_db, "pie", cwd=tmp_path)
    assert done.returncode == 2 and "pie" in done.stderr and snapshot(tmp_path) == {}


def test_a_directory_that_holds_no_database(inside, tmp_path):
    refused(inside("plot", tmp_path / "x", "rhythm"), "does not exist")


def test_trace_draws_a_figure(cli, named_db, tmp_path):
    done = cli("trace", named_db, 3, "-o", tmp_path / "x.png", "--duration-s", 0.5)
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "x.png").read_bytes()
    assert data.startswith(PNG) and len(data) > 10_000
    width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
    assert width > 1000 and height > 500


def test_ctrl_c_ends_a_command_even_while_an_object_is_finalised(tmp_path):
    """As an exception it would be lost there: JAX has a part in collecting garbage."""
    code = (
        "import os, signal\n"
        "from pyloric_db.cli.console import ends_at_once\n"
        "class Interrupted:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\n"
        "with ends_at_once():\n"
        "    Interrupted()\n"
        "print('went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\npyloric-db: interrupted\n"


def test_trace_refuses_bad_durations(inside, named_db, tmp_path, snapshot):
    for duration in ("0", "nan", "601"):
        done = inside("trace", named_db, 3, "--duration-s", duration, cwd=tmp_path)
        refused(done, "--duration-s must be from 0.01 to 600 s")
    assert snapshot(tmp_path) == {}
