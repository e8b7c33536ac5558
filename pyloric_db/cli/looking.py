"""Commands that show a database: figures, a report, a page to explore it in."""

import sys
import webbrowser
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import pyloric_db
from pyloric_db.cli.console import (
    DB,
    OUTPUT,
    check_output,
    condition,
    ends_at_once,
    err,
    names_in,
    open_to_ask,
    progress_bar,
    say,
)
from pyloric_db.cli.simulating import simulate_on
from pyloric_db.errors import ConfigError

if TYPE_CHECKING:
    import xarray as xr

    from pyloric_db.query.database import Database


class Kind(StrEnum):
    """Kinds of figure; voltage traces have the command `trace`."""

    rhythm = "rhythm"
    histograms = "histograms"
    marginals = "marginals"
    stack = "stack"


#: The options that each kind understands.
_OPTIONS = {
    Kind.rhythm: {"--where"},
    Kind.histograms: {"--where", "--columns"},
    Kind.marginals: {"--where"},
    Kind.stack: {"--columns", "--axes"},
}


def plot(
    db: DB,
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND",
            help="rhythm (bursts over the phase of the cycle), histograms (of features, with the "
            "published ranges), marginals (of the parameters) or stack (a feature over the grid).",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(*OUTPUT, help="Figure; by default KIND.png.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            help="Expression for a subset, such as 'period_ms > 1200'. By default 'pyloric' for "
            "rhythm and marginals, none for histograms; not for stack."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="For histograms and stack alone: names, separated by commas, by default the "
            "features; for stack one, by default 'pyloric'."
        ),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(
            help="For stack alone: axes of the grid, separated by commas; by default all, or "
            "those that say most where the grid is not complete."
        ),
    ] = None,
) -> None:
    """Draw a figure of a database as a PNG, SVG or PDF."""
    given = {"--where": where, "--columns": columns, "--axes": axes}
    for option, value in given.items():
        if value is not None and option not in _OPTIONS[kind]:
            allowed = " and ".join(sorted(_OPTIONS[kind]))
            raise ConfigError(f"{option} says nothing about {kind}, which takes {allowed}")
    from pyloric_db.plot.canvas import check_suffix, save

    target = output or Path(f"{kind}.png")
    check_suffix(target)
    opened = open_to_ask(db)
    check_output(target, db)
    names = None if columns is None else names_in(columns, "--columns")
    with err.status("counting and drawing"):
        with ends_at_once():
            figure = _figure(opened, kind, where, names, axes)
        save(figure, target)
    say(f"wrote {target}")


def _figure(
    opened: "Database", kind: Kind, where: str | None, names: list[str] | None, axes: str | None
) -> Any:
    """A figure of the kind that was asked for."""
    if kind is Kind.rhythm:
        from pyloric_db.plot.rhythm import rhythm_figure

        return rhythm_figure(opened, condition(where, opened))
    if kind is Kind.histograms:
        from pyloric_db.plot.histograms import histograms_figure

        return histograms_figure(opened, names, where)
    if kind is Kind.marginals:
        from pyloric_db.plot.marginals import marginals_figure

        return marginals_figure(opened, condition(where, opened))
    from pyloric_db.plot.stacking import stack_figure

    if names is not None and len(names) != 1:
        raise ConfigError(f"a stack shows one column, not {len(names)}")
    stacked = None if axes is None else names_in(axes, "--axes")
    column = condition(names[0] if names else None, opened, "--columns")
    return stack_figure(opened, column, stacked)


def report(
    db: DB,
    output: Annotated[Path, typer.Option(*OUTPUT, help="The page; one HTML file.")] = Path(
        "report.html"
    ),
) -> None:
    """Write a page on what was built, how long it took and what was found, with figures."""
    from pyloric_db.pipeline.jax_settings import set_up_jax
    from pyloric_db.report.page import check_suffix, write_report

    check_suffix(output)
    opened = pyloric_db.open(db)
    check_output(output, db)
    set_up_jax()  # a circuit is simulated for its traces
    with ends_at_once(), progress_bar("figures") as progress:
        write_report(opened, output, progress)
    say(f"wrote {output}")


def explore(
    db: DB,
    port: Annotated[int, typer.Option(help="Port of 127.0.0.1; 0 for a free one.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page on this machine to explore a database in: brush, select, simulate."""
    from pyloric_db.explorer.explore import SHOWN_MS, make_server

    opened = pyloric_db.open(db)

    def simulate(circuit: int) -> "xr.Dataset":
        return simulate_on(opened, [circuit], SHOWN_MS)

    with progress_bar("columns") as progress:
        server = make_server(opened, simulate, port=port, progress=progress)

    def announce() -> None:
        say(f"{server.address} shows {opened.manifest.name}; Ctrl-C ends it")
        sys.stdout.flush()
        if browser:
            webbrowser.open(server.address)

    with suppress(KeyboardInterrupt):
        server.run(announce)


COMMANDS = (plot, report, explore)
