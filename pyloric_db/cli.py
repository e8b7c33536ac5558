"""The command line: parse, call, print. No science, and no JAX before a command needs it."""

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
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
from pyloric_db.errors import ConfigError, PyloricDBError, QueryError, ShardError

if TYPE_CHECKING:
    from pyloric_db.pipeline.plan import Plan
    from pyloric_db.query.database import Database

app = typer.Typer(
    help="Databases of pyloric circuit models, built and asked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Limit = Annotated[int | None, typer.Option(help="Only the first N circuits.")]
Sample = Annotated[int | None, typer.Option(help="Only N circuits, drawn at random.")]
Seed = Annotated[int, typer.Option(help="Seed of --sample.")]
DB = Annotated[Path, typer.Argument(metavar="DB", help="Directory of a database.")]
RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a packaged recipe, or a TOML file.")
]


def main() -> None:
    """Entry point: errors become one sentence and an exit code."""
    try:
        app()
    except ShardError as error:
        _complain(str(error))
        sys.exit(1)
    except PyloricDBError as error:
        _complain(str(error))
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()
            sys.exit(0)
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror}")
        sys.exit(2)


def _complain(sentence: str) -> None:
    err.print(f"pyloric-db: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(pyloric_db.__version__)
        raise typer.Exit


@app.command()
def recipes(as_json: Json = False) -> None:
    """List the packaged recipes."""
    from pyloric_db.pipeline.draw import select
    from pyloric_db.pipeline.recipe import load_recipe, packaged_recipes

    found = [load_recipe(name) for name in packaged_recipes()]
    rows: list[dict[str, Any]] = [
        {"name": r.name, "circuits": select(r).count, "description": r.description} for r in found
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = _table("recipe", "circuits", "what it holds")
    for row in rows:
        table.add_row(row["name"], f"{row['circuits']:,}", row["description"])
    out.print(table)


@app.command()
def plan(
    recipe: RecipeName,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Say what a build would do: circuits, shards, bytes. Changes nothing."""
    from pyloric_db.pipeline.plan import make_plan

    described = _describe(make_plan(recipe, limit=limit, sample=sample, seed=seed))
    if as_json:
        print(json.dumps(described, indent=2))
        return
    table = _table("", "")
    table.show_header = False
    for key, value in described.items():
        table.add_row(key.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    out.print(table)


def _describe(plan: "Plan") -> dict[str, Any]:
    """What a plan amounts to; bytes from the states and what a feature row takes compressed."""
    m = plan.manifest
    state = 4 * (len(m.cells) * (2 + 7 + 4) + len(m.sources)) + 8
    return {
        "recipe": m.name,
        "circuits": m.n_circuits,
        "shards": m.n_shards,
        "circuits_per_shard": m.shard_circuits,
        "columns": len(m.columns),
        "state_bytes": m.n_shards * m.shard_circuits * state,
        "feature_bytes_at_most": m.n_circuits * 4 * len(m.columns),
        "simulated_ms_per_circuit_at_most": plan.protocol.max_ms,
        "dt_ms": plan.protocol.dt_ms,
        "recipe_hash": m.recipe_hash,
    }


@app.command()
def build(
    recipe: RecipeName,
    out_dir: Annotated[Path, typer.Option("--out", metavar="DB", help="Where to build it.")],
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build a database, or go on where a build stopped. Ctrl-C stops it without loss."""
    from pyloric_db.pipeline.build import build as build_database

    began = time.monotonic()
    with _progress("circuits", MofNCompleteColumn()) as progress, _interruptible():
        db = build_database(
            recipe,
            out_dir,
            workers=workers,
            limit=limit,
            sample=sample,
            seed=seed,
            progress=progress,
        )
    if as_json:
        summary = {"path": str(db.path), "circuits": len(db), **_shares(db)}
        print(json.dumps({**summary, "seconds": round(time.monotonic() - began, 3)}, indent=2))
        return
    _say(f"{len(db):,} circuits in {out_dir} ({time.monotonic() - began:.0f} s)")
    _print_shares(db)
    _print_examples(db)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once.

    A build survives being killed, and its workers die with it. Closing the cluster in good order
    would take seconds and be one more thing that can be interrupted.
    """

    def stop(signum: int, frame: object) -> None:
        err.show_cursor()
        err.print(
            "\npyloric-db: interrupted; what is finished is kept, and the same command goes on",
            soft_wrap=True,
        )
        sys.stdout.flush()
        for worker in multiprocessing.active_children():
            worker.kill()  # one that is just starting would complain of its parent's death
        os._exit(130)

    # what Python says of semaphores that a killed process leaves; it removes them as it says so
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _shares(db: "Database") -> dict[str, Any]:
    from pyloric_db.summary import shares

    return {
        "shares": [
            {
                "label": s.label,
                "count": s.count,
                "share": s.count / s.total,
                "interval": s.interval,
                "published": s.published,
            }
            for s in shares(db)
        ]
    }


def _print_shares(db: "Database") -> None:
    from pyloric_db.summary import shares

    found = shares(db)
    if not found:
        return
    table = _table("share of circuits", "published (2004)", "measured", "95% interval", "circuits")
    for s in found:
        low, high = s.interval
        table.add_row(
            s.label,
            "" if s.published is None else f"{100 * s.published:.2f}%",
            f"{100 * s.count / s.total:.2f}%",
            f"{100 * low:.2f} - {100 * high:.2f}%",
            f"{s.count:,} of {s.total:,}",
        )
    out.print(table)


def _print_examples(db: "Database") -> None:
    """Name five pyloric circuits."""
    if "pyloric" not in {c.name for c in db.manifest.columns}:
        return
    present = {c.name for c in db.manifest.columns}
    wanted = ("netcode", "period_ms", "duty_cycle_abpd", "phase_start_lp")
    names = [n for n in wanted if n in present]
    found = db.query("pyloric", columns=names, limit=5)
    if found.sizes["circuit"]:
        out.print("Pyloric circuits among them, the first five:")
        out.print(_rows_table(found, ["circuit_id", *names]))


@app.command()
def status(db: DB, as_json: Json = False) -> None:
    """Show how far a build is, and what failed."""
    from dataclasses import asdict

    from pyloric_db.store.verify import status as status_of

    found = status_of(db)
    if as_json:
        print(json.dumps({**asdict(found), "complete": found.complete}, indent=2))
        return
    state = "complete" if found.complete else "not complete: `pyloric-db build` goes on"
    _say(
        f"{found.name}: {found.circuits_done:,} of {found.n_circuits:,} circuits, "
        f"{found.shards_done:,} of {found.n_shards:,} shards, "
        f"{found.bytes / 1e6:,.1f} MB, {found.seconds:,.0f} s of work; {state}"
    )
    for name, count in found.counts.items():
        _say(f"  {name}: {count:,}")
    for failure in found.failures:
        _say(
            f"  shard {failure.shard} failed {failure.attempts} times: {failure.error}", out, "red"
        )


@app.command()
def verify(db: DB, as_json: Json = False) -> None:
    """Compare every file with its checksum. Exit code 1 if anything is damaged."""
    from pyloric_db.store.verify import verify as verify_database

    with _progress("bytes", DownloadColumn()) as progress:
        report = verify_database(db, progress)
    if as_json:
        damages = [d._asdict() for d in report.damages]
        print(
            json.dumps(
                {
                    "good": report.good,
                    "complete": report.complete,
                    "shards_done": report.shards_done,
                    "n_shards": report.n_shards,
                    "damages": damages,
                    "strays": report.strays,
                },
                indent=2,
            )
        )
    else:
        for damage in report.damages:
            _say(f"{damage.file}: {damage.what}", out, "red")
        for stray in report.strays:
            _say(f"{stray}: left by a killed writer, harmless")
        if report.good:
            done = "all" if report.complete else f"{report.shards_done} of {report.n_shards}"
            _say(f"{db}: {done} shards are there, and every file is as it was written")
        else:
            _say("`pyloric-db build` with the recipe makes the damaged files again")
    if not report.good:
        sys.exit(1)


@app.command()
def query(
    db: DB,
    expr: Annotated[
        str, typer.Argument(metavar="EXPR", help="Such as 'pyloric and period_ms > 1200'.")
    ],
    columns: Annotated[str | None, typer.Option(help="Names, separated by commas.")] = None,
    order_by: Annotated[str | None, typer.Option(help="A column; '-name' for descending.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most N circuits.")] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="table, csv, json or parquet.")
    ] = "table",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write.")] = None,
) -> None:
    """Print the circuits for which an expression over the columns is true."""
    formats = ("table", "csv", "json", "parquet")
    if file_format not in formats:
        raise QueryError(f"--format must be one of {', '.join(formats)}, not {file_format!r}")
    if file_format == "parquet" and output is None:
        raise QueryError("--format parquet needs a file: -o FILE")
    names = None if columns is None else [c.strip() for c in columns.split(",") if c.strip()]
    shown = 20 if file_format == "table" and limit is None and output is None else limit
    opened = pyloric_db.open(db)
    found = opened.query(expr, columns=names, order_by=order_by, limit=shown)
    if names is None and file_format == "table":
        wanted = (
            "netcode",
            *("period_ms", "duty_cycle_abpd", "duty_cycle_lp", "duty_cycle_py"),
            *("phase_start_lp", "phase_start_py", "pyloric_like", "pyloric", "status"),
        )
        names = [n for n in wanted if n in found]
    order = list(dict.fromkeys(["circuit_id", *(names or [str(v) for v in found.data_vars])]))
    text = _formatted(found, order, file_format, output)
    if text is not None:
        if output is None:
            sys.stdout.write(text)
        else:
            _write(output, text)
    if file_format == "table" and shown == 20 and found.sizes["circuit"] == 20:
        _say("the first 20; --limit N shows more, --format csv all", err)


def _formatted(found: Any, order: list[str], file_format: str, output: Path | None) -> str | None:
    """The rows as text; None where they went to `output` as Parquet."""
    import pyarrow as pa

    if file_format == "table":
        console = Console(width=None if sys.stdout.isatty() and output is None else 200)
        with console.capture() as capture:
            console.print(_rows_table(found, order))
        return capture.get()
    arrays = [_arrow(found[name].values) for name in order]
    fields = [
        pa.field(n, a.type, metadata={k: str(v) for k, v in found[n].attrs.items()})
        for n, a in zip(order, arrays, strict=True)
    ]
    table = pa.table(arrays, schema=pa.schema(fields))
    if file_format == "json":
        return json.dumps(table.to_pylist(), indent=2) + "\n"
    if file_format == "csv":
        import io

        import pyarrow.csv

        sink = io.BytesIO()
        pyarrow.csv.write_csv(table, sink)
        return sink.getvalue().decode()
    import pyarrow.parquet

    try:
        pyarrow.parquet.write_table(table, output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error}") from error
    return None


def _arrow(values: Any) -> Any:
    """A column with null for NaN and for the empty string."""
    import numpy as np
    import pyarrow as pa

    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    if values.dtype == object:
        return pa.array([v or None for v in values], pa.string())
    return pa.array(values)


def _rows_table(found: Any, names: list[str]) -> Table:
    table = _table(*names)
    for i in range(found.sizes["circuit"]):
        table.add_row(*(_cell(found[n].values[i]) for n in names))
    return table


def _cell(value: Any) -> str:
    if hasattr(value, "dtype") and value.dtype.kind == "f":
        return "" if value != value else f"{value:.4g}"
    return str(value)


def _circuit(db: Path, circuit_id: str) -> tuple["Database", int]:
    """A database and an id given as a number or a netcode."""
    opened = pyloric_db.open(db)
    has_netcode = "netcode" in {c.name for c in opened.manifest.columns}
    if has_netcode and len(circuit_id) == 10 and circuit_id.isascii() and circuit_id.isdigit():
        found = opened.query(f"netcode == '{circuit_id}'", columns=["netcode"])
        if found.sizes["circuit"]:
            return opened, int(found["circuit_id"].values[0])
    if not (circuit_id.isascii() and circuit_id.isdigit()):
        raise QueryError(f"{circuit_id!r} is no circuit id: give a whole number or a netcode")
    if len(circuit_id) > 18:  # more than a database can hold
        raise QueryError(f"circuit {circuit_id} is not in {db}")
    opened.parameters([int(circuit_id)])  # QueryError where there is no such circuit
    return opened, int(circuit_id)


Id = Annotated[str, typer.Argument(metavar="ID", help="circuit_id, or a ten-digit netcode.")]


@app.command()
def show(db: DB, circuit_id: Id, as_json: Json = False) -> None:
    """Show one circuit: its conductances, features and labels."""
    opened, number = _circuit(db, circuit_id)
    parameters = opened.parameters([number]).isel(circuit=0)
    row = opened.query(f"circuit_id == {number}").isel(circuit=0)
    values = {n: _plain(row[n].values) for n in map(str, row.data_vars)}
    if as_json:
        print(
            json.dumps(
                {
                    "circuit_id": number,
                    **values,
                    "gbar_mS_per_cm2": {
                        str(c): {
                            str(k): float(parameters.gbar.sel(cell=c, channel=k))
                            for k in parameters.channel.values
                        }
                        for c in parameters.cell.values
                    },
                    "gsyn_nS": {
                        str(s): float(parameters.gsyn.sel(synapse=s))
                        for s in parameters.synapse.values
                    },
                },
                indent=2,
            )
        )
        return
    channels = [str(c) for c in parameters.channel.values]
    table = _table("gbar (mS/cm2)", *channels)
    for cell in parameters.cell.values:
        table.add_row(str(cell), *(f"{v:g}" for v in parameters.gbar.sel(cell=cell).values))
    _say(f"circuit {number}")
    out.print(table)
    if parameters.sizes["synapse"]:
        table = _table("synapse", "nS")
        for synapse in parameters.synapse.values:
            table.add_row(str(synapse), f"{float(parameters.gsyn.sel(synapse=synapse)):g}")
        out.print(table)
    table = _table("feature", "value", "unit")
    for name, value in values.items():
        unit = row[name].attrs.get("units", "1")
        shown = "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, "" if unit == "1" else unit)
    out.print(table)


def _plain(value: Any) -> Any:
    item = value.item()
    return None if item != item or item == "" else item


@app.command()
def trace(
    db: DB,
    circuit_id: Id,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Figure; by default circuit-ID.png.")
    ] = None,
    duration_s: Annotated[float, typer.Option(help="Seconds to simulate.")] = 5.0,
) -> None:
    """Simulate one circuit on from its stored state and draw its voltage traces."""
    from pyloric_db.plot import plot_traces

    if not 0 < duration_s <= 600:
        raise ConfigError(f"--duration-s must be above 0 and at most 600 s, not {duration_s:g}")
    opened, number = _circuit(db, circuit_id)
    row = opened.query(f"circuit_id == {number}").isel(circuit=0)
    opened.states([number])  # damage is said before JAX is loaded
    from pyloric_db.pipeline.compile_cache import use_compile_cache

    use_compile_cache()
    dt_ms = float(opened.manifest.settings["dt_ms"])
    simulation = opened.simulate([number], duration_ms=round(duration_s * 1000 / dt_ms) * dt_ms)
    words = [f"circuit {number}"]
    if "netcode" in row:
        words[0] += f" (netcode {row['netcode'].values})"
    if float(row["period_ms"].values) > 0:
        words.append(f"period {float(row['period_ms'].values):.0f} ms")
    if "pyloric" in row:
        labels = ("pyloric", "pyloric_like")
        words.append(next((n.replace("_", "-") for n in labels if row[n].values), "not pyloric"))
    target = output or Path(f"circuit-{number}.png")
    plot_traces(simulation, target, title=", ".join(words))
    _say(f"wrote {target}")


@app.command()
def bench(as_json: Json = False) -> None:
    """Measure circuit-steps per second on one core, in the kernel and end to end."""
    from pyloric_db.pipeline.bench import measure

    with err.status("measuring for about half a minute"):
        found = measure()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = _table("measured on one core", "")
    for name, value in found.items():
        shown = f"{value:,.3g}" if isinstance(value, float) else f"{value}"
        table.add_row(name.replace("_", " "), shown)
    out.print(table)


def _say(text: str, console: Console = out, style: str | None = None) -> None:
    """Prints text as it is, not broken into lines, so that programs can read names from it."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return table


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


class _Rate(ProgressColumn):
    """Circuits per second since the start of this run."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


@contextmanager
def _progress(unit: str, count: ProgressColumn) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with rate and time left; a line now and then where there is no terminal."""
    if not err.is_terminal:
        yield _lines(unit)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), count, _Rate(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(unit: str, every_s: float = 5.0) -> Callable[[int, int], None]:
    began = last = time.monotonic()
    at_start: int | None = None

    def report(done: int, total: int) -> None:
        nonlocal last, at_start
        now = time.monotonic()
        if at_start is None:
            at_start = done
        if now - last < every_s:
            return
        last = now
        rate = (done - at_start) / (now - began)
        left = f", {(total - done) / rate:,.0f} s left" if rate > 0 else ""
        print(f"{done:,} of {total:,} {unit}, {rate:,.0f}/s{left}", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    main()
