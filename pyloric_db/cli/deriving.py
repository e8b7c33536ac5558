"""Commands that make something of whole databases: one of several, a derived table."""

import json
import time
from typing import Annotated

import typer

from pyloric_db.cli.console import DB, OUTPUT, Json, progress_bar, say


def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DB...",
            help="Complete databases of disjoint ids: built with --ids, or draws of a prior.",
        ),
    ],
    out_dir: Annotated[str, typer.Option(*OUTPUT, metavar="DB", help="Where to put the whole.")],
    as_json: Json = False,
) -> None:
    """Join databases of disjoint ids of one recipe, such as two machines have built."""
    from pyloric_db.pipeline.merge import merge as merge_databases

    began = time.monotonic()
    with progress_bar("circuits") as progress:
        db = merge_databases(sources, out_dir, progress=progress)
    seconds = time.monotonic() - began
    if as_json:
        found = {"path": str(db.path), "circuits": len(db), "seconds": round(seconds, 3)}
        print(json.dumps(found, indent=2))
        return
    say(f"{len(db):,} circuits in {out_dir} ({seconds:.0f} s)")


def index(db: DB) -> None:
    """Make the table that answers questions about pyloric and pyloric-like circuits faster.

    Answers are the same without it. Builds of 200,000 circuits and more make it by themselves.
    """
    import pyloric_db
    from pyloric_db.query.index import make_index

    pyloric_db.open(db)  # says what is wrong with the directory
    began = time.monotonic()
    with progress_bar("circuits") as progress:
        file = make_index(db, progress)
    say(f"{file.path} is ready ({file.size / 1e6:,.1f} MB, {time.monotonic() - began:.0f} s)")


COMMANDS = (merge, index)
