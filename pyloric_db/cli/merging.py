"""The command that joins databases."""

import json
import time
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn

from pyloric_db.cli.console import Json, progress_bar, say


def merge(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="DB...", help="Databases built with --ids, all complete."),
    ],
    out_dir: Annotated[str, typer.Option("--out", metavar="DB", help="Where to put the whole.")],
    as_json: Json = False,
) -> None:
    """Join databases of disjoint id ranges of one recipe, such as two machines have built."""
    from pyloric_db.pipeline.merge import merge as merge_databases

    began = time.monotonic()
    with progress_bar("circuits", MofNCompleteColumn()) as progress:
        db = merge_databases(sources, out_dir, progress=progress)
    seconds = time.monotonic() - began
    if as_json:
        found = {"path": str(db.path), "circuits": len(db), "seconds": round(seconds, 3)}
        print(json.dumps(found, indent=2))
        return
    say(f"{len(db):,} circuits in {out_dir} ({seconds:.0f} s)")


COMMANDS = (merge,)
