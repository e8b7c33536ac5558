"""How fast a brush of the explorer moves over a table of twenty million circuits.

    python benchmarks/explorer.py DB [--rows 20250000]

The table is made up from a database that was really built: its rows are drawn again and again,
and features are spread by 2% so that no two rows agree. Prints seconds for binning a column (once),
for the first touch of another histogram (one pass over the rows per view), and for each further
move of the brush: counting, and all that the server does, up to the message to the browser.
"""

import argparse
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.protocol import Protocol

import pyloric_db
from pyloric_db.explorer.bins import Binned, Bins, _binned, _counted
from pyloric_db.explorer.page import Page


class Enlarged(Bins):
    """The columns of a database with many more rows than it has."""

    def __init__(self, db: pyloric_db.Database, n_rows: int) -> None:
        super().__init__(db)
        self.db, self.rows = db, n_rows
        self.drawn = np.random.default_rng(0).integers(0, len(db), n_rows)
        self.large: dict[str, Binned] = {}

    def load(self, name: str) -> Binned:
        if name not in self.large:
            small = super().load(name)
            if small.names:
                began = time.perf_counter()
                codes = small.codes[self.drawn]
                self.large[name] = _counted(name, small.title, codes, small.edges, small.names)
            else:
                rng = np.random.default_rng(len(self.large))
                values = self.db.circuits[name].values[self.drawn]
                values *= rng.normal(1, 0.02, self.rows).astype(np.float32)
                began = time.perf_counter()
                self.large[name] = _binned(name, small.title, values, small.edges, ())
            print(f"binning  {name:20s} {time.perf_counter() - began:8.3f} s")
        return self.large[name]


def no_traces(circuit: int) -> Any:
    """In place of simulating."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("db")
    parser.add_argument("--rows", type=int, default=20_250_000)
    arguments = parser.parse_args()
    bins = Enlarged(pyloric_db.open(arguments.db), arguments.rows)
    document, events, protocol = Document(), list[Any](), Protocol()
    with ThreadPoolExecutor(1) as workers:
        page = Page(document, bins.db, bins, no_traces, workers)
        document.callbacks.on_change(events.append)
        firsts, counting, moves = [], [], []
        for panel in page.panels:
            name, n = panel.binned.name, panel.binned.n
            began = time.perf_counter()
            page.cross.activate(name)
            firsts.append(time.perf_counter() - began)
            for last in range(1, n + 1):
                began = time.perf_counter()
                page.cross.brush(name, (last // 2, last))
                counting.append(time.perf_counter() - began)
                page.cross.brushes.pop(name)
                events.clear()
                began = time.perf_counter()
                page._brush(panel, (last // 2, last), final=False)
                message = protocol.create("PATCH-DOC", list(events))
                moves.append(time.perf_counter() - began)
            # a brush stands here while those of the other histograms move
            page._brush(panel, (n // 4, max(n // 4 + 1, 3 * n // 4)), final=False)
            print(f"touching {name:20s} {firsts[-1]:8.3f} s")
        began = time.perf_counter()
        page.cross.first_rows(50)
        print(f"list of those selected {time.perf_counter() - began:14.3f} s")
    size = len(message.content_json) + sum(len(b.to_bytes()) for b in message.buffers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{arguments.rows:,} rows, {len(page.panels)} histograms and a density\n"
        f"first touch of a histogram: {np.median(firsts):.2f} s median, "
        f"{max(firsts):.2f} s at most\n"
        f"a move, counting: {1000 * np.median(counting):.2f} ms median, "
        f"{1000 * max(counting):.2f} ms at most\n"
        f"a move, all of it in the server: {1000 * np.median(moves):.1f} ms median, "
        f"{1000 * np.quantile(moves, 0.99):.1f} ms for 99% of moves; message of {size:,} bytes\n"
        f"peak memory with making the table up: {peak:.1f} GB"
    )


if __name__ == "__main__":
    main()
