"""Commands that make something of a whole database: derived tables."""

import time

from rich.progress import MofNCompleteColumn

from pyloric_db.cli.console import DB, progress_bar, say


def index(db: DB) -> None:
    """Make the table that answers questions about pyloric and pyloric-like circuits faster.

    Answers are the same without it. Builds of 200,000 circuits and more make it by themselves.
    """
    import pyloric_db
    from pyloric_db.query.index import make_index

    pyloric_db.open(db)  # says what is wrong with the directory
    began = time.monotonic()
    with progress_bar("circuits", MofNCompleteColumn()) as progress:
        file = make_index(db, progress)
    say(f"{file.path} is ready ({file.size / 1e6:,.1f} MB, {time.monotonic() - began:.0f} s)")


COMMANDS = (index,)
