"""The report as one HTML page that needs nothing else: no file, no network, no script."""

from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from pyloric_db.errors import ConfigError
from pyloric_db.query.database import Database
from pyloric_db.report.facts import collect
from pyloric_db.report.figures import Picture, pictures
from pyloric_db.vocabulary import ACTIVITIES, STATUSES
from pyloric_db.whole import written_whole

#: Figures that `pictures` gives, for the progress.
N_PICTURES = 5


def check_suffix(path: str | Path) -> None:
    """ConfigError where a file's suffix is not that of a page."""
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path} must end in .html or .htm: a report is a page")


def check_libraries() -> None:
    """ConfigError where a library is missing: there is no report then, whatever it is of."""
    for library in ("jinja2", "matplotlib"):
        if find_spec(library) is None:
            raise ConfigError(
                f"a report needs {library}: install pyloric-db with the extra 'report'"
            )


def report_html(db: Database, progress: Callable[[int, int], None] | None = None) -> str:
    """The page. All text from the database is escaped.

    Args:
        db: an opened database; one that is not finished says so.
        progress: called with the figures drawn so far and in all.

    Raises:
        ConfigError: jinja2 or matplotlib is missing.
        DatabaseError: a file of the database is damaged.
    """
    check_libraries()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        (files("pyloric_db.report") / "page.html.j2").read_text(encoding="utf-8")
    )
    facts = collect(db)
    drawn: list[Picture] = []
    for picture in pictures(db):
        drawn.append(picture)
        if progress:
            progress(len(drawn), N_PICTURES)
    return template.render(facts=facts, pictures=drawn, activities=ACTIVITIES, statuses=STATUSES)


def write_report(
    db: Database, path: str | Path, progress: Callable[[int, int], None] | None = None
) -> None:
    """`report_html` as a file.

    Raises:
        ConfigError: as `report_html` does, `path` does not end in .html or .htm, or the file
            cannot be written.
    """
    check_suffix(path)
    with written_whole(path) as work:
        work.write_text(report_html(db, progress), encoding="utf-8")
