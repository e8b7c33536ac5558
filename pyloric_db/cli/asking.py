"""Commands that ask a database."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

import pyloric_db
from pyloric_db.cli.console import (
    DB,
    OUTPUT,
    WIDEST,
    Json,
    ShowProgress,
    check_output,
    ends_at_once,
    err,
    names_in,
    open_to_ask,
    out,
    print_rows,
    progress_bar,
    say,
    say_other_model,
    table_of,
)
from pyloric_db.cli.simulating import simulate_on
from pyloric_db.errors import ConfigError, QueryError
from pyloric_db.vocabulary import LABELS, RHYTHMS, Column, Criterion, glance, published
from pyloric_db.whole import written_whole

if TYPE_CHECKING:
    import xarray as xr

    from pyloric_db.query.database import Database


#: Rows of a table on the screen, unless a limit is given.
_ON_SCREEN = 20
#: Rows that are Python's objects at a time.
_AT_ONCE = 1000


def query(
    db: DB,
    expr: Annotated[
        str,
        typer.Argument(
            metavar="EXPR",
            help="Such as 'pyloric and period_ms > 1200'. It may hold columns, which `pyloric-db "
            "show DB` lists, numbers, text in quotes, == != < <= > >=, in with a list, and, or, "
            "not, + - * / and isnull(...).",
        ),
    ],
    columns: Annotated[
        str | None,
        typer.Option(
            help="Names, separated by commas. By default a table has those that say most at a "
            "glance, and everything else has all."
        ),
    ] = None,
    order_by: Annotated[
        str | None, typer.Option(help="Columns, separated by commas; '-name' for descending.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most N circuits.")] = None,
    count: Annotated[
        bool, typer.Option("--count", help="Print only how many there are; with --format json too.")
    ] = False,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="table, csv, json, parquet, netcdf or zarr. By default what the suffix of -o says "
            "(.txt, .csv, .json, .parquet, .nc or .zarr), or a table.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(*OUTPUT, help="File to write.")] = None,
) -> None:
    """Print the circuits for which an expression over the columns is true."""
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be at least 1, not {limit}")
    if count:
        others = {"--columns": columns, "--order-by": order_by, "--limit": limit, "-o": output}
        _count(db, expr, file_format, [name for name, v in others.items() if v is not None])
        return
    chosen = _format(file_format, output)
    names = None if columns is None else names_in(columns, "--columns")
    order = None if order_by is None else names_in(order_by, "--order-by")
    opened = open_to_ask(db)
    if output is not None:
        check_output(output, db)
    on_screen = chosen == "table" and output is None
    most = _ON_SCREEN if on_screen and limit is None else limit
    if names is None and chosen == "table":
        names = [*glance(opened.manifest.columns, opened.manifest.cells), "status"]
    with ends_at_once(), err.status("looking through the circuits"):
        if chosen == "table" or order or most is not None:
            pieces = iter([opened.query(expr, columns=names, order_by=order, limit=most)])
        else:
            pieces = opened.batches(expr, columns=names)
        first = next(pieces)
        cut = most is not None and first.sizes["circuit"] == most
        # how many there are is asked for only where it is said and not known
        whole = opened.count(expr) if output or (on_screen and cut) else first.sizes["circuit"]
    if not first.sizes["circuit"]:
        say("no circuit satisfies this", err)
    if output is not None:
        written = whole if most is None else min(most, whole)
        with progress_bar("circuits") as progress:
            _write(opened, _counted(chain([first], pieces), written, progress), output, chosen)
        if output.is_file() or output.is_dir():  # through a pipe others read what is written
            circuits = "circuit" if whole == 1 else "circuits"
            say(f"wrote {output}: {_so_many(written, whole)} {circuits}")
    elif on_screen:
        _print_table(first)
        if whole > first.sizes["circuit"]:
            more = "; --limit N shows more, --format csv all" if limit is None else ""
            say(f"{_so_many(first.sizes['circuit'], whole)}{more}", err)
    else:
        _write_text(opened, chain([first], pieces), chosen, sys.stdout)


def _so_many(n: int, whole: int) -> str:
    return f"the first {n:,} of {whole:,}" if n < whole else f"{n:,}"


def _count(db: str, expr: str, file_format: str | None, others: list[str]) -> None:
    """Prints how many circuits satisfy an expression, and nothing else."""
    if others:
        raise ConfigError(f"--count prints a number alone: leave out {' and '.join(others)}")
    if file_format not in (None, "table", "json"):
        raise ConfigError(f"--count is a number or, with --format json, JSON: not {file_format}")
    opened = open_to_ask(db)
    with ends_at_once(), err.status("looking through the circuits"):
        found = opened.count(expr)
    print(json.dumps({"count": found}) if file_format == "json" else found)


def _print_table(found: "xr.Dataset") -> None:
    """The rows as a table on the screen, and which columns it has no room for."""
    left_out = print_rows(found, ["circuit_id", *map(str, found.data_vars)], out)
    if left_out:
        say(
            f"the screen is too narrow for {', '.join(left_out)}: --columns chooses columns, "
            "-o FILE writes all",
            err,
        )


def _format(file_format: str | None, output: Path | None) -> str:
    """The format of an answer, from what was said or from the name of the file."""
    from pyloric_db.query.save import SUFFIXES

    suffixes = {"table": ".txt", "csv": ".csv", "json": ".json"} | SUFFIXES
    if file_format is None:
        if output is None:
            return "table"
        for name, suffix in suffixes.items():
            if output.suffix.lower() == suffix:
                return name
        raise QueryError(
            f"{output} must end in one of {', '.join(suffixes.values())}, or --format must say "
            "what to write"
        )
    if file_format not in suffixes:
        raise QueryError(f"--format must be one of {', '.join(suffixes)}, not {file_format!r}")
    if output is None and file_format not in ("table", "csv", "json"):
        raise QueryError(f"--format {file_format} needs a file: -o FILE")
    return file_format


def _counted(
    pieces: Iterable["xr.Dataset"], whole: int, progress: ShowProgress
) -> Iterator["xr.Dataset"]:
    """The pieces; those that were taken are done."""
    done = 0
    for piece in pieces:
        yield piece
        done += piece.sizes["circuit"]
        progress(done, whole)


def _write(
    opened: "Database", pieces: Iterator["xr.Dataset"], output: Path, file_format: str
) -> None:
    """The rows as a file."""
    if file_format not in ("table", "json"):
        from pyloric_db.query.save import save_rows

        save_rows(pieces, output, file_format)
        return
    with written_whole(output) as work, work.open("w") as file:
        if file_format == "table":
            for found in pieces:  # one
                names = ["circuit_id", *map(str, found.data_vars)]
                print_rows(found, names, Console(file=file, width=WIDEST))
        else:
            _write_text(opened, pieces, file_format, file)


def _write_text(
    opened: "Database", pieces: Iterable["xr.Dataset"], file_format: str, file: TextIO
) -> None:
    """The rows as JSON or CSV, some at a time: as Python's objects they would fill the memory."""
    import pyarrow as pa

    from pyloric_db.query.save import arrow_table, csv_pieces

    tables = map(arrow_table, pieces)
    if file_format != "json":
        file.writelines(csv_pieces(tables))
        return
    whole = _whole_numbers(opened)
    before = "[\n  "
    for table in tables:
        fields = [f.with_type(pa.int64()) if f.name in whole else f for f in table.schema]
        for batch in table.cast(pa.schema(fields)).to_batches(max_chunksize=_AT_ONCE):
            for row in batch.to_pylist():
                file.write(before + json.dumps(row, indent=2).replace("\n", "\n  "))
                before = ",\n  "
    file.write("[]\n" if before.startswith("[") else "\n]\n")


def _whole_numbers(opened: "Database") -> set[str]:
    """Columns of whole numbers; xarray has those with nulls as floats."""
    return {c.name for c in opened.manifest.columns if "int" in c.kind}


def _circuit(db: str, name: str) -> tuple["Database", int]:
    """A database and the id of one of its circuits."""
    from pyloric_db.query.named import find_circuit

    opened = open_to_ask(db)
    return opened, find_circuit(opened, name)


_ID = typer.Argument(metavar="ID", help="circuit_id, or a ten-digit netcode.")


def show(db: DB, circuit_id: Annotated[str | None, _ID] = None, as_json: Json = False) -> None:
    """Show one circuit: its conductances, features and labels. Without an ID list the columns."""
    if circuit_id is None:
        _show_columns(db, as_json)
        return
    with err.status("looking for the circuit"):
        opened, number = _circuit(db, circuit_id)
        parameters = opened.parameters([number]).isel(circuit=0)
        row = opened.query(f"circuit_id == {number}").isel(circuit=0)
    whole = _whole_numbers(opened)
    values = {n: _plain(row[n].values, n in whole) for n in map(str, row.data_vars)}
    if as_json:
        print(
            json.dumps(
                {
                    "circuit_id": number,
                    **values,
                    "gbar_mS_per_cm2": parameters.gbar.to_pandas().T.to_dict(),
                    "gsyn_nS": parameters.gsyn.to_series().to_dict(),
                },
                indent=2,
            )
        )
        return
    channels = [str(c) for c in parameters.channel.values]
    table = table_of("gbar (mS/cm2)", *channels)
    for cell in parameters.cell.values:
        table.add_row(str(cell), *(f"{v:g}" for v in parameters.gbar.sel(cell=cell).values))
    say(f"circuit {number}")
    out.print(table)
    if parameters.sizes["synapse"]:
        table = table_of("synapse", "nS")
        for synapse in parameters.synapse.values:
            table.add_row(str(synapse), f"{float(parameters.gsyn.sel(synapse=synapse)):g}")
        out.print(table)
    table = table_of("feature", "value", "unit")
    cells = {a.name: a.labels for a in opened.manifest.axes or () if a.kind == "cell"}
    for name, value in values.items():
        unit = row[name].attrs.get("units", "1")
        shown = "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
        if name in cells:
            shown += f" ({cells[name][value]})"
        table.add_row(name, shown, "" if unit == "1" else unit)
    out.print(table)


def _show_columns(db: str, as_json: bool) -> None:
    manifest = pyloric_db.open(db).manifest
    columns = manifest.columns
    if as_json:
        criteria = published(manifest.cells)
        print(json.dumps([_described(c, criteria.get(c.name)) for c in columns], indent=2))
        return
    table = table_of("column", "unit", "meaning")
    for column in table.columns:
        column.justify = "left"
    for c in columns:
        values = f": {' | '.join(c.categories)}" if c.categories else ""
        table.add_row(c.name, "" if c.unit == "1" else c.unit, f"{c.long_name}{values}")
    out.print(table)
    say_other_model(manifest)


def _described(column: Column, criterion: Criterion | None) -> dict[str, Any]:
    """What there is to know of a column: which words it may hold, what was published of it."""
    described: dict[str, Any] = {
        "name": column.name,
        "unit": column.unit,
        "meaning": column.long_name,
    }
    if column.categories:
        described["values"] = column.categories
    if criterion is not None:
        named = ("mean", "sd", "low", "high")
        described["published"] = {n: float(f"{getattr(criterion, n):.6g}") for n in named}
    return described


def _plain(value: Any, whole: bool) -> Any:
    item = value.item()
    if item != item or item == "":
        return None
    return int(item) if whole else item


def trace(
    db: DB,
    circuit_id: Annotated[str, _ID],
    output: Annotated[
        Path | None, typer.Option(*OUTPUT, help="Figure; by default circuit-ID.png.")
    ] = None,
    duration_s: Annotated[float, typer.Option(help="Seconds to simulate.")] = 5.0,
) -> None:
    """Simulate one circuit on from its stored state and draw its voltage traces."""
    from pyloric_db.plot.canvas import check_suffix, save
    from pyloric_db.plot.traces import BEYOND_MS, traces_figure

    if not 0.01 <= duration_s <= 600:
        raise ConfigError(f"--duration-s must be from 0.01 to 600 s, not {duration_s:g}")
    with err.status("looking for the circuit"):
        opened, number = _circuit(db, circuit_id)
    target = output or Path(f"circuit-{number}.png")
    check_suffix(target)
    check_output(target, db)
    with err.status("simulating and drawing"):
        row = opened.query(f"circuit_id == {number}").isel(circuit=0)
        with ends_at_once():
            shown_ms = duration_s * 1000
            simulation = simulate_on(opened, [number], shown_ms + BEYOND_MS)
        figure = traces_figure(
            simulation, title=_title(number, row), protocol=opened.protocol, shown_ms=shown_ms
        )
        save(figure, target)
    say(f"wrote {target}")


def _title(number: int, row: Any) -> str:
    """What there is to say of a circuit in a line."""
    words = [f"circuit {number}"]
    if "netcode" in row:
        words[0] += f" (netcode {row['netcode'].values})"
    if float(row["period_ms"].values) > 0:
        words.append(f"period {float(row['period_ms'].values):.0f} ms")
    if "pyloric" in row:
        labels = (n.replace("_", "-") for n in RHYTHMS if n in LABELS and row[n].values)
        words.append(next(labels, "not pyloric"))
    return ", ".join(words)


COMMANDS = (query, show, trace)
