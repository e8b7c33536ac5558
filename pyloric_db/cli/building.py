"""Commands that make databases and look after them."""

import json
import math
import multiprocessing
import os
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.progress import DownloadColumn

from pyloric_db.cli.console import (
    DB,
    OUTPUT,
    Json,
    end_interrupted,
    out,
    print_rows,
    progress_bar,
    say,
    say_other_model,
    table_of,
)
from pyloric_db.errors import ConfigError, nearest
from pyloric_db.vocabulary import state_shapes

if TYPE_CHECKING:
    from pyloric_db.pipeline.plan import Plan
    from pyloric_db.query.database import Database

#: Lengths of time of a plan: what people call them, and their unit in hours.
_TIMES = {"expected_hours": ("expected time", 1.0), "shard_minutes": ("time of a shard", 1 / 60)}
#: What a column takes at most in each Parquet file, besides its values.
PARQUET_BYTES = 500

Limit = Annotated[int | None, typer.Option(help="Only the first N circuits.")]
Sample = Annotated[int | None, typer.Option(help="Only N circuits, drawn at random.")]
Seed = Annotated[int | None, typer.Option(help="Seed of --sample; 0 if not given.")]
Ids = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="Only circuits from id A to before B; A:B,C:D,... for more."),
]
ClusterName = Annotated[
    str | None,
    typer.Option(metavar="PROFILE", help="Name of a packaged profile, or a TOML file."),
]
RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Name of a packaged recipe, or a TOML file.")
]


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A packaged recipe or cluster profile, to be printed as TOML."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the packaged recipes, or print one to copy: `pyloric-db recipes demo > mine.toml`."""
    from pyloric_db.pipeline.draw import select
    from pyloric_db.pipeline.profile import packaged_profiles
    from pyloric_db.pipeline.recipe import load_recipe, packaged_recipes

    if name is not None:
        texts = packaged_recipes() | packaged_profiles()
        if name not in texts:
            raise ConfigError(
                f"there is no packaged recipe or cluster profile {name!r}: give one of "
                f"{', '.join(texts)}{nearest(name, list(texts))}"
            )
        if as_json:
            print(json.dumps(tomllib.loads(texts[name]), indent=2))
        else:
            print(texts[name], end="")
        return
    found = [load_recipe(name) for name in packaged_recipes()]
    rows: list[dict[str, Any]] = [
        {"name": r.name, "circuits": select(r).count, "description": r.description} for r in found
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = table_of("recipe", "circuits", "what it holds")
    table.columns[-1].justify = "left"
    for row in rows:
        table.add_row(row["name"], f"{row['circuits']:,}", row["description"])
    out.print(table)
    say(f"\ncluster profiles: {', '.join(packaged_profiles())}")
    say("`pyloric-db recipes NAME` prints the TOML of either, to be copied and changed")


def plan(
    recipe: RecipeName,
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = None,
    ids: Ids = None,
    cluster: ClusterName = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Circuits per second of one worker, measured with `pyloric-db bench`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a build would do: circuits, shards, bytes, hours, job script. Changes nothing."""
    from pyloric_db.pipeline.expect import duration, expectation
    from pyloric_db.pipeline.plan import make_plan
    from pyloric_db.pipeline.ranges import parse_ranges

    ranges = None if ids is None else parse_ranges(ids)
    made = make_plan(recipe, limit=limit, sample=sample, seed=seed, ids=ranges)
    described = _describe(made)
    expected = expectation(made, cluster or "local", rate)
    script = expected.pop("job_script")
    described |= expected
    if as_json:
        described |= {} if script is None else {"job_script": script}
        print(json.dumps(described, indent=2))
        return
    table = table_of("", "")
    table.show_header = False
    for key, value in described.items():
        name, in_hours = _TIMES.get(key, (key, None))
        if in_hours is not None and value is not None:
            text = duration(value * in_hours)
        else:
            text = decimal(value) if "bytes" in key else _plain(value)
        table.add_row(name.replace("_", " "), text)
    out.print(table)
    if rate is None and described["expected_hours"] is not None:
        say(
            "Times are at the profile's rate, for prinz2004's circuits: cores without AVX-512 may "
            "take twice as long, with it half as long. `pyloric-db bench RECIPE` measures this "
            "machine and these circuits, and --rate takes what it says."
        )
    if script is not None:
        say(f"\nThe script of each job:\n\n{script}")
    say_other_model(made.manifest)


def _plain(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _describe(plan: "Plan") -> dict[str, Any]:
    """What a plan amounts to; bytes from the states and what a feature row takes compressed."""
    m = plan.manifest
    state = 4 * sum(map(math.prod, state_shapes(m.cells, m.sources, m.channels).values())) + 8
    rows = m.n_circuits * 4 + m.n_shards * PARQUET_BYTES
    return {
        "recipe": m.name,
        "circuits": m.n_circuits,
        "shards": m.n_shards,
        "circuits_per_shard": m.shard_circuits,
        "columns": len(m.columns),
        "state_bytes": m.n_shards * m.shard_circuits * state,
        "feature_bytes_at_most": rows * len(m.columns),
        "simulated_ms_per_circuit_at_most": plan.protocol.max_ms,
        "dt_ms": plan.protocol.dt_ms,
        "recipe_hash": m.recipe_hash,
    }


def build(
    recipe: RecipeName,
    out_dir: Annotated[
        str, typer.Option(*OUTPUT, metavar="DB", help="Where to build it: directory or s3:// URL.")
    ],
    limit: Limit = None,
    sample: Sample = None,
    seed: Seed = None,
    ids: Ids = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; one per core if not given.")
    ] = None,
    cluster: ClusterName = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try shards again that were set aside.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a database, or go on where a build stopped. Ctrl-C stops it without loss."""
    from pyloric_db.pipeline.build import build as build_database
    from pyloric_db.pipeline.profile import load_profile
    from pyloric_db.pipeline.ranges import parse_ranges

    profile = load_profile(cluster or "local")
    began = time.monotonic()
    with _interruptible(has_jobs=profile.kind == "slurm"):
        with progress_bar("circuits") as progress:
            db = build_database(
                recipe,
                out_dir,
                workers=workers,
                limit=limit,
                sample=sample,
                seed=seed,
                ids=None if ids is None else parse_ranges(ids),
                cluster=profile,
                retry_failed=retry_failed,
                progress=progress,
                checking=lambda done, total: progress(done, total, "earlier shards read"),
            )
        _print_built(db, time.monotonic() - began, as_json)


def _print_built(db: "Database", seconds: float, as_json: bool) -> None:
    if as_json:
        summary = {"path": str(db.path), "circuits": len(db), **_shares(db)}
        print(json.dumps({**summary, "seconds": round(seconds, 3)}, indent=2))
        return
    circuits = "circuit" if len(db) == 1 else "circuits"
    say(f"{len(db):,} {circuits} in {db.path} ({seconds:.0f} s)")
    _print_shares(db)
    _print_examples(db)


@contextmanager
def _interruptible(*, has_jobs: bool) -> Iterator[None]:
    """Ctrl-C, SIGTERM as batch systems send it, and the end of a terminal end the process at once.

    With code 130.

    A build survives being killed, and its workers die with it. Closing the cluster in good order
    would take seconds and be one more thing that can be interrupted. Only where it has jobs in
    a queue does it cancel them first; a second Ctrl-C does not wait for that.
    """
    ours = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup has it ignored
        ours.append(signal.SIGHUP)
    interrupted = False

    def stop(signum: int, frame: object) -> None:
        nonlocal interrupted
        if has_jobs and not interrupted:
            interrupted = True
            raise KeyboardInterrupt
        for number in ours:
            signal.signal(number, signal.SIG_IGN)
        for worker in multiprocessing.active_children():
            worker.kill()  # one that is just starting would complain of its parent's death
        end_interrupted("; what is finished is kept, and the same command goes on")

    # what Python says of semaphores that a killed process leaves; it removes them as it says so
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    before = {s: signal.signal(s, stop) for s in ours}
    try:
        yield
    except KeyboardInterrupt:
        stop(signal.SIGINT, None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    published = [f"{100 * s.published:.2f}%" for s in found if s.published is not None]
    intervals = [
        f"{100 * s.interval[0]:.2f} - {100 * s.interval[1]:.2f}%" for s in found if s.interval
    ]
    table = table_of(
        "share of circuits",
        *(["published (2004)"] if published else []),
        "measured",
        *(["95% interval"] if intervals else []),
        "circuits",
    )
    for i, s in enumerate(found):
        table.add_row(
            s.label,
            *published[i : i + 1],
            f"{100 * s.count / s.total:.2f}%",
            *intervals[i : i + 1],
            f"{s.count:,} of {s.total:,}",
        )
    out.print(table)


def _print_examples(db: "Database") -> None:
    """Name five pyloric circuits."""
    if not db.manifest.has_labels:
        return
    present = db.manifest.by_name
    wanted = ("netcode", "period_ms", "duty_cycle_abpd", "phase_start_lp")
    names = [n for n in wanted if n in present]
    found = db.query("pyloric", columns=names, limit=5)
    if found.sizes["circuit"]:
        out.print("Pyloric circuits among them, the first five:")
        print_rows(found, ["circuit_id", *names])


def status(db: DB, as_json: Json = False) -> None:
    """Show how far a build is, and what failed."""
    from dataclasses import asdict

    from pyloric_db.store.verify import status as status_of

    with progress_bar("rows") as progress:
        found = status_of(db, progress)
    if as_json:
        print(json.dumps({**asdict(found), "complete": found.complete}, indent=2))
        return
    if found.complete:
        state = "complete"
    elif found.builder:
        state = f"not complete: {found.builder} is building it"
    else:
        state = "not complete: `pyloric-db build` again does the rest"
    say(
        f"{found.name}: {found.circuits_done:,} of {found.n_circuits:,} circuits, "
        f"{found.shards_done:,} of {found.n_shards:,} shards, "
        f"{found.bytes / 1e6:,.1f} MB, {found.seconds:,.0f} s of work "
        f"({found.kernel_seconds:,.0f} s of it integrating); {state}"
    )
    for name, count in found.counts.items():
        say(f"  {name}: {count:,}")
    for failure in found.failures:
        say(f"  shard {failure.shard} failed {failure.attempts} times: {failure.error}", out, "red")


def verify(db: DB, as_json: Json = False) -> None:
    """Compare every file with its checksum. Exit code 1 if anything is damaged."""
    from pyloric_db.store.verify import verify as verify_database

    with progress_bar("bytes", DownloadColumn()) as progress:
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
            say(f"{damage.file}: {damage.what}", out, "red")
        for stray in report.strays:
            say(f"{stray}: not in the ledger, such as what a killed writer leaves; harmless")
        if report.good:
            done = "all" if report.complete else f"{report.shards_done} of {report.n_shards}"
            say(f"{db}: {done} shards are there, and every file is as it was written")
        else:
            say("`pyloric-db build` with the recipe makes the damaged files again")
    if not report.good:
        sys.exit(1)


COMMANDS = (recipes, plan, build, status, verify)
