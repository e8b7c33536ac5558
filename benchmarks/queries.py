"""Times questions to a database, beside plain DuckDB, Polars and pyarrow on the same files.

Every engine runs in a process of its own and answers each question several times; the best run
counts, because others may use the machine too. Of `cube()` the first run is shown as well: it
reads the column. The engines have to agree on every answer.

    python benchmarks/queries.py /tmp/big --write docs/benchmarks.md
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ENGINES = ("pyloric-db", "duckdb", "polars", "pyarrow")
REPEATS = 5
#: a question that has taken so long is asked twice only
ENOUGH_S = 10.0
CIRCUIT = 12_345_678
#: period ranges, ms: in the first there is no pyloric circuit (no AB/PD cell is that fast)
EMPTY, BAND = (1200, 1400), (1500, 1600)

#: question -> what it may take at most, s; None where nothing is asked
QUESTIONS: dict[str, float | None] = {
    "import": 1.0,
    "open": 0.2,
    "count, pyloric and 1200 < period < 1400": 0.3,
    "count, pyloric and 1500 < period < 1600": 0.3,
    "10,000 rows of these, all columns": 0.5,
    "all rows of these, all columns": 1.0,
    "all pyloric rows, all columns": 1.0,
    "one circuit by id, all columns": 0.05,
    "mean period of two cells' circuits, first": 2.0,
    "mean period of two cells' circuits, then": 0.02,
}

Answers = dict[str, Callable[[], Any]]


def pyloric_db_answers(path: Path) -> Answers:
    import pyloric_db

    db = pyloric_db.open(path)

    def band(low: int, high: int) -> str:
        return f"pyloric and period_ms > {low} and period_ms < {high}"

    def mean() -> float:
        chosen = db.cube(["period_ms"]).period_ms.sel(abpd="AB/PD 2", lp="LP 1")
        return float(chosen.mean(dtype="float64"))

    return {
        "open": lambda: len(pyloric_db.open(path)),
        "count, pyloric and 1200 < period < 1400": lambda: db.count(band(*EMPTY)),
        "count, pyloric and 1500 < period < 1600": lambda: db.count(band(*BAND)),
        "10,000 rows of these, all columns": lambda: _size(db.query(band(*BAND), limit=10_000)),
        "all rows of these, all columns": lambda: _size(db.query(band(*BAND))),
        "all pyloric rows, all columns": lambda: _size(db.query("pyloric")),
        "one circuit by id, all columns": lambda: _size(db.query(f"circuit_id == {CIRCUIT}")),
        "mean period of two cells' circuits": mean,
    }


def _size(found: Any) -> list[int]:
    return [found.sizes["circuit"], int(found.circuit_id.values.sum())]


def duckdb_answers(path: Path) -> Answers:
    import duckdb

    files = f"read_parquet('{path}/features/*.parquet')"

    def band(low: int, high: int) -> str:
        return f"{files} WHERE pyloric AND period_ms > {low} AND period_ms < {high}"

    def answer(sql: str) -> Any:
        return duckdb.sql(sql)

    def count(of: tuple[int, int]) -> int:
        return int(answer(f"SELECT count(*) FROM {band(*of)}").fetchall()[0][0])

    def rows(sql: str) -> list[int]:
        return _rows(answer(f"SELECT * FROM {sql}").to_arrow_table())

    def mean() -> float:
        sql = f"SELECT avg(CAST(period_ms AS DOUBLE)) FROM {files} WHERE abpd = 1 AND lp = 0"
        return float(answer(sql).fetchall()[0][0])

    return {
        "open": lambda: answer(f"FROM {files}").columns,
        "count, pyloric and 1200 < period < 1400": lambda: count(EMPTY),
        "count, pyloric and 1500 < period < 1600": lambda: count(BAND),
        "10,000 rows of these, all columns": lambda: rows(
            f"{band(*BAND)} ORDER BY circuit_id LIMIT 10000"
        ),
        "all rows of these, all columns": lambda: rows(band(*BAND)),
        "all pyloric rows, all columns": lambda: rows(f"{files} WHERE pyloric"),
        "one circuit by id, all columns": lambda: rows(f"{files} WHERE circuit_id = {CIRCUIT}"),
        "mean period of two cells' circuits": mean,
    }


def _rows(table: Any) -> list[int]:
    import pyarrow.compute as pc

    return [table.num_rows, pc.call_function("sum", [table["circuit_id"]]).as_py()]


def polars_answers(path: Path) -> Answers:
    import polars as pl

    def scan() -> Any:
        return pl.scan_parquet(path / "features" / "*.parquet")

    def band(low: int, high: int) -> Any:
        return scan().filter(
            pl.col("pyloric") & (pl.col("period_ms") > low) & (pl.col("period_ms") < high)
        )

    def count(of: tuple[int, int]) -> int:
        return int(band(*of).select(pl.len()).collect().item())

    def rows(query: Any) -> list[int]:
        table = query.collect()
        return [table.height, int(table["circuit_id"].sum())]

    return {
        "open": lambda: scan().collect_schema().names(),
        "count, pyloric and 1200 < period < 1400": lambda: count(EMPTY),
        "count, pyloric and 1500 < period < 1600": lambda: count(BAND),
        "10,000 rows of these, all columns": lambda: rows(band(*BAND).head(10_000)),
        "all rows of these, all columns": lambda: rows(band(*BAND)),
        "all pyloric rows, all columns": lambda: rows(scan().filter(pl.col("pyloric"))),
        "one circuit by id, all columns": lambda: rows(
            scan().filter(pl.col("circuit_id") == CIRCUIT)
        ),
        "mean period of two cells' circuits": lambda: float(
            scan()
            .filter((pl.col("abpd") == 1) & (pl.col("lp") == 0))
            .select(pl.col("period_ms").cast(pl.Float64).mean())
            .collect()
            .item()
        ),
    }


def pyarrow_answers(path: Path) -> Answers:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    def dataset() -> Any:
        return ds.dataset(path / "features", format="parquet")

    def band(low: int, high: int) -> Any:
        return pc.field("pyloric") & (pc.field("period_ms") > low) & (pc.field("period_ms") < high)

    def mean() -> float:
        condition = (pc.field("abpd") == 1) & (pc.field("lp") == 0)
        values = dataset().to_table(columns=["period_ms"], filter=condition)["period_ms"]
        return float(pc.call_function("mean", [values.cast("float64")]).as_py())

    def one() -> list[int]:
        return _rows(dataset().to_table(filter=pc.field("circuit_id") == CIRCUIT))

    return {
        "open": lambda: dataset().schema.names,
        "count, pyloric and 1200 < period < 1400": lambda: dataset().count_rows(
            filter=band(*EMPTY)
        ),
        "count, pyloric and 1500 < period < 1600": lambda: dataset().count_rows(filter=band(*BAND)),
        "10,000 rows of these, all columns": lambda: _rows(
            dataset().head(10_000, filter=band(*BAND))
        ),
        "all rows of these, all columns": lambda: _rows(dataset().to_table(filter=band(*BAND))),
        "all pyloric rows, all columns": lambda: _rows(
            dataset().to_table(filter=pc.field("pyloric"))
        ),
        "one circuit by id, all columns": one,
        "mean period of two cells' circuits": mean,
    }


ANSWERS = {
    "pyloric-db": pyloric_db_answers,
    "duckdb": duckdb_answers,
    "polars": polars_answers,
    "pyarrow": pyarrow_answers,
}
MODULES = {"pyloric-db": "pyloric_db", "pyarrow": "pyarrow.dataset"}


def measure(engine: str, path: Path) -> dict[str, Any]:
    """Seconds and answers of one engine, in this process."""
    began = time.perf_counter()
    __import__(MODULES.get(engine, engine))
    seconds = {"import": time.perf_counter() - began}
    answers = {}
    for name, ask in ANSWERS[engine](path).items():
        times: list[float] = []
        while len(times) < 2 or (len(times) < REPEATS and sum(times) < ENOUGH_S):
            began = time.perf_counter()
            answer = ask()
            times.append(time.perf_counter() - began)
        if name.startswith("mean"):
            seconds[f"{name}, first"] = times[0]
            seconds[f"{name}, then"] = min(times[1:])
        else:
            seconds[name] = min(times[1:])
        if name != "open":
            answers[name] = answer
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    heavy = sorted({"jax", "jaxlib"} & set(sys.modules))
    return {"seconds": seconds, "answers": answers, "peak": peak, "heavy": heavy}


def compare(path: Path) -> str:
    """The section "Queries" of docs/benchmarks.md."""
    found = {}
    for engine in ENGINES:
        print(f"{engine} ...", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, __file__, str(path), "--engine", engine],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        found[engine] = json.loads(done.stdout)
    ours = found["pyloric-db"]
    for engine in ENGINES[1:]:
        for name, answer in found[engine]["answers"].items():
            if not _agree(answer, ours["answers"][name]):
                raise SystemExit(f"{engine} answers {answer} to {name!r}: {ours['answers'][name]}")
    assert not ours["heavy"], "a question loaded JAX"
    lines = [
        "| question | asked: at most | pyloric-db | DuckDB | Polars | pyarrow |",
        "|---|---|---|---|---|---|",
    ]
    for name, limit in QUESTIONS.items():
        seconds = [found[e]["seconds"][name] for e in ENGINES]
        cells = [_shown(seconds[0])]
        cells += [f"{_shown(s)} ({_ratio(s / seconds[0])})" for s in seconds[1:]]
        asked = "" if limit is None else _shown(limit)
        lines.append(_row([name, asked, *_least_in_bold(cells, seconds)]))
    peaks = [found[e]["peak"] for e in ENGINES]
    cells = _least_in_bold([f"{p / 1e9:.2f} GB" for p in peaks], peaks)
    lines.append(_row(["peak memory of all of it", "2 GB", *cells]))
    rows = ours["answers"]["all rows of these, all columns"][0]
    pyloric = ours["answers"]["all pyloric rows, all columns"][0]
    # not above: an engine's process measures how long its own import takes
    import pyloric_db
    from pyloric_db.pipeline.machine import processor

    size = len(pyloric_db.open(path))
    index = sum(p.stat().st_size for p in path.glob("derived/*.parquet"))
    parts = sum(p.stat().st_size for p in path.glob("features/*.parquet"))
    load = os.getloadavg()[0]
    versions = ", ".join(f"{m} {version(m)}" for m in ("duckdb", "polars", "pyarrow", "xarray"))
    return f"""## Queries

`make bench-query` writes this section: {size:,} circuits, {parts / 1e9:.2f} GB of features in
{len(list(path.glob("features/*.parquet"))):,} parts, and {index / 1e9:.2f} GB of index
(`pyloric-db index`). {rows:,} circuits are pyloric with a period between 1500 and 1600 ms,
{pyloric:,} are pyloric; between 1200 and 1400 ms there is none. The rows are drawn from a
database that was built (`benchmarks/make_database.py`), not simulated one by one. Times are the
best of up to {REPEATS - 1} warm runs on {os.cpu_count()} cores ({processor()}), each library in a
process of its own; in brackets, how many times longer it takes than pyloric-db, and in bold the
least of each row. The other libraries read the parts, as anybody would without this package; all
agree on every answer. The load of the machine was {load:.0f}: above {os.cpu_count()},
other work shared it, and all times are too long.

{chr(10).join(lines)}

Python {platform.python_version()}, {versions}.
"""


def _agree(a: Any, b: Any) -> bool:
    if isinstance(a, float):
        return abs(a - b) <= 1e-6 * abs(b)
    return bool(a == b)


def _shown(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def _ratio(value: float) -> str:
    """To two digits: 0.092x, 8.1x, 110x."""
    return f"{float(f'{value:.2g}'):,.6g}x"


def _least_in_bold(cells: list[str], values: list[float]) -> list[str]:
    least = values.index(min(values))
    return [f"**{cell}**" if i == least else cell for i, cell in enumerate(cells)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--engine", choices=ENGINES, help="measure one, print JSON")
    parser.add_argument("--write", type=Path, help="file whose section 'Queries' to replace")
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(measure(arguments.engine, arguments.database.resolve())))
        return
    section = compare(arguments.database.resolve())
    print(section)
    if arguments.write:
        from page import INTRO, replaced

        page = arguments.write.read_text(encoding="utf-8") if arguments.write.exists() else INTRO
        arguments.write.write_text(replaced(page, "Queries", section), encoding="utf-8")


if __name__ == "__main__":
    main()
