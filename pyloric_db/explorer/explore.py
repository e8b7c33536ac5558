"""`make_server`: the explorer of a database, ready to be served."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pyloric_db.errors import ConfigError, QueryError
from pyloric_db.query.database import Database

if TYPE_CHECKING:
    import xarray as xr
    from bokeh.document import Document

    from pyloric_db.explorer.server import LoopbackServer

#: What a page shows of a circuit; `simulate` brings at least as much.
SHOWN_MS = 3000.0


def make_server(
    db: Database,
    simulate: "Callable[[int], xr.Dataset]",
    *,
    port: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> "LoopbackServer":
    """The explorer on loopback; `run` serves it.

    Args:
        db: the database; the columns of the first page are read here.
        simulate: brings the traces of a circuit by its id, V (circuit, cell, time) in mV.
        port: 0 for one that is free.
        progress: called with the columns read so far and in all.

    Raises:
        ConfigError: bokeh is missing, or the port is in use.
        QueryError: no circuit is finished yet.
        DatabaseError: a column cannot be read.
    """
    if find_spec("bokeh") is None:
        raise ConfigError("the explorer needs bokeh: install pyloric-db with the extra 'explore'")
    from pyloric_db.explorer.bins import Bins
    from pyloric_db.explorer.page import Page, first_columns, first_pair
    from pyloric_db.explorer.server import LoopbackServer

    if not len(db):
        raise QueryError(f"{db.path} has no finished circuits yet")
    bins = Bins(db)

    def show(document: "Document") -> None:
        Page(document, db, bins, simulate, server.workers)

    server = LoopbackServer(show, port)
    names = dict.fromkeys((*first_columns(bins), *first_pair(bins)))
    try:
        for done, name in enumerate(names, start=1):
            bins.load(name)
            if progress:
                progress(done, len(names))
    except BaseException:
        server.close()
        raise
    return server
