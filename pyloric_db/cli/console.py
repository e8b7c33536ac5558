"""What all commands print with: consoles, tables, progress."""

import os
import signal
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Protocol, TextIO

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

import pyloric_db
from pyloric_db.errors import ConfigError, PyloricDBWarning

if TYPE_CHECKING:
    from pyloric_db.query.database import Database
    from pyloric_db.store.manifest import Manifest

#: Width where there is no screen: more than any table needs.
WIDEST = 10_000
#: Lines that are printed together.
_LINES_AT_ONCE = 1000
#: The time left is said once this share is done at a rate that was measured, or after so many s.
LEFT_SHARE = 0.05
LEFT_S = 60.0
#: Where there is no terminal, a line of progress comes every so many s.
LINE_S = 5.0
# a closed stdout is None; and what stands in brackets is text of a database, not a style
out = Console(width=None if sys.stdout and sys.stdout.isatty() else WIDEST, markup=False)
err = Console(stderr=True, markup=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
DB = Annotated[str, typer.Argument(metavar="DB", help="Directory or URL of a database.")]
#: How a command is told what to write.
OUTPUT = ("-o", "--out", "--output")


def split_names(text: str) -> list[str]:
    """Names that stand in one option, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def names_in(text: str, option: str) -> list[str]:
    """The same of an option that must name something.

    Raises:
        ConfigError: it names nothing.
    """
    names = split_names(text)
    if not names:
        raise ConfigError(f"{option} names nothing")
    return names


def condition(given: str | None, db: "Database", option: str = "--where") -> str:
    """What was given with `option`, or the label that is meant where nothing was.

    Raises:
        ConfigError: nothing was given, and the circuits of this database have no such label.
    """
    if given is None and not db.manifest.has_labels:
        raise ConfigError(f"the circuits of {db.path} have no label pyloric: give {option}")
    return "pyloric" if given is None else given


def end_interrupted(note: str = "") -> NoReturn:
    """Ends the process there and then, with code 130."""
    # past all buffers: the signal may have come while they were being written
    show_cursor = "\x1b[?25h" if err.is_terminal else ""
    with suppress(OSError):  # nobody reads it any more
        os.write(2, f"{show_cursor}\npyloric-db: interrupted{note}\n".encode())
    os._exit(130)


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Ctrl-C ends the process there and then, with code 130.

    As an exception it may come while Python collects garbage, where JAX has a hand in it and it
    is lost. Only for commands that leave nothing half done.
    """

    before = signal.signal(signal.SIGINT, lambda signum, frame: end_interrupted())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def complain(sentence: str) -> None:
    with suppress(OSError):
        say(f"pyloric-db: {sentence}", err, style="red")


@contextmanager
def warnings_as_sentences() -> Iterator[None]:
    """Prints our warnings like errors, without the place in the code; others as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PyloricDBWarning)
        show = warnings.showwarning

        def showwarning(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, PyloricDBWarning):
                say(f"pyloric-db: {message}", err, style="yellow")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = showwarning
        yield


def say(text: str, console: Console = out, style: str | None = None) -> None:
    """Prints text as it is, not broken into lines, so that programs can read names from it.

    But a terminal would obey what a database from elsewhere says in unprintable characters.
    """
    plain = "".join(
        c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
    console.print(plain, style=style, markup=False, highlight=False, soft_wrap=True)


def table_of(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def open_to_ask(path: str) -> "Database":
    """Opens a database; says so where it is not complete, and may hold one corner of a grid."""
    opened = pyloric_db.open(path)
    if not opened.complete:
        total = opened.manifest.n_circuits
        say(f"{path} is not complete: asked are the {len(opened):,} of {total:,} circuits "
            "that are finished", err, style="yellow")  # fmt: skip
    return opened


def say_other_model(manifest: "Manifest") -> None:
    """What a database is of, where it is not the published model."""
    if manifest.other_model:
        say(f"not the published model at 283 K, but with {manifest.other_model}")


def check_output(path: Path, db: str) -> None:
    """ConfigError where the folder of a file to write is not there, or is the database's own."""
    from pyloric_db.store.files import is_url

    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: {path.parent} is no directory")
    target = Path(os.path.realpath(path))
    if not is_url(db) and target.is_relative_to(Path(db).expanduser().resolve()):
        raise ConfigError(f"{path} lies inside the database {db}: choose another place with -o")


def print_rows(found: Any, names: list[str], console: Console = out) -> list[str]:
    """Prints rows as a table of the columns that fit beside each other; returns the others.

    Breaking values over lines instead would make two numbers of one.
    """
    columns = [[name, *map(cell_text, found[name].values)] for name in names]
    # two spaces stand between columns
    widths = [max(map(len, column)) for column in columns]
    n = max(1, sum(end <= console.width + 2 for end in accumulate(2 + w for w in widths)))
    # rich would measure every value again
    aligned = [[c.rjust(w) for c in column] for column, w in zip(columns[:n], widths, strict=False)]
    aligned[0] = [cell.ljust(widths[0]) for cell in columns[0]]
    head, *lines = ("  ".join(row).rstrip() for row in zip(*aligned, strict=True))
    say(head, console, style="bold")
    for begin in range(0, len(lines), _LINES_AT_ONCE):
        say("\n".join(lines[begin : begin + _LINES_AT_ONCE]), console)
    return names[n:]


def cell_text(value: Any) -> str:
    """A value as it stands in a table; nothing for NaN."""
    if hasattr(value, "dtype") and value.dtype.kind == "f":
        if value != value:
            return ""
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"  # 13000, not 1.3e+04
    return str(value)


class _Rate(ProgressColumn):
    """Circuits per second since the start of this run."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else _rate_text(speed), style="progress.data.speed")


def _rate_text(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


class ShowProgress(Protocol):
    """Takes what is done and what there is in all; `what` tells a second bar from the first."""

    def __call__(self, done: int, total: int, what: str | None = None) -> None: ...


@contextmanager
def progress_bar(unit: str, count: ProgressColumn | None = None) -> Iterator[ShowProgress]:
    """A progress bar with rate and time left; a line now and then where there is no terminal.

    `count` shows how many are done, as numbers of the unit where it is not given.
    """
    if not err.is_terminal:
        yield _lines(unit)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), count or MofNCompleteColumn(), _Rate(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as bar:
        tasks = {unit: bar.add_task(unit, total=None)}

        def report(done: int, total: int, what: str | None = None) -> None:
            if what is not None and what not in tasks:
                tasks[what] = bar.add_task(what, total=None)
            bar.update(tasks[what or unit], completed=done, total=total)

        yield report


def _lines(unit: str) -> ShowProgress:
    last = time.monotonic()
    earlier: dict[str, int] = {}  # done before this run
    firsts: dict[str, tuple[float, int]] = {}  # when the first were finished, and done by then

    def report(done: int, total: int, what: str | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        name = what or unit
        # not from the start, which holds starting workers and compiling
        if done > earlier.setdefault(name, done):
            firsts.setdefault(name, (now, done))
        if now - last < LINE_S:
            return
        last = now
        line = f"{done:,} of {total:,} {name}"
        began, at_first = firsts.get(name, (now, done))
        if done > at_first and now > began:
            rate = (done - at_first) / (now - began)
            line += f", {_rate_text(rate)}"
            if done - at_first >= LEFT_SHARE * (total - at_first) or now - began >= LEFT_S:
                line += f", {timedelta(seconds=round((total - done) / rate))} left"
        if sys.stderr is not None:
            with suppress(OSError, ValueError):  # a log that takes no more ends no build
                print(line, file=sys.stderr, flush=True)

    return report
