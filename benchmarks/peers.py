"""The same circuits at the same dt in Jaxley, Brian2 and this package, in one run.

    python benchmarks/peers.py [--quick] [--write-docs]

First every engine must give the spikes and periods of this package's engine: a benchmark of
another model is worth nothing. Then the engines are timed in turns. Each runs in a process of its
own with one thread. Exit code 1 if an engine computes something else.
"""

import importlib
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing import get_context
from statistics import median
from typing import Any

import numpy as np
import xarray as xr
from page import arguments, publish, setting, table
from problem import Problem, Run, Spikes, random_circuits

from pyloric_db.rhythm.recordings import features_from_spikes

DT_MS = 0.05
CIRCUITS = 512
REPETITIONS = 5
#: Compared are so many pyloric-like circuits of the first so many: a rhythm on a stable limit cycle
#: is the same for every scheme that is fine enough, and all three cells and seven synapses count.
CHECK_CIRCUITS = 6
CHECK_CANDIDATES = 64
CHECK_MS = 4000.0
FINE_DT_MS = 0.0125
#: Tolerances of the check: spikes of a cell in 4 s, and the period of AB/PD.
SPIKES_APART = 2
PERIOD_APART = 0.01


@dataclass(frozen=True)
class Engine:
    """An engine, and what its spikes are compared with.

    `check_dt_ms` is the step of the check: dt itself for an engine that has our scheme; for
    one with a scheme of its own a step that is fine enough for both to have nearly converged.
    """

    name: str
    module: str
    kind: str
    epoch_ms: float  # of a timed run: about a second
    options: dict[str, str] = field(default_factory=dict)
    check_dt_ms: float | None = None
    check_scheme: str = "gates_first"


ENGINES = (
    Engine("pyloric-db", "peer_pyloric_db", "PyloricDB", 1000.0),
    Engine(
        "pyloric-db, the literature's scheme", "peer_pyloric_db", "PyloricDB", 200.0,
        {"scheme": "old_state", "dtype": "float64"},
    ),
    Engine("Jaxley", "peer_jaxley", "Jaxley", 100.0, {"dtype": "float32"}, FINE_DT_MS),
    Engine("Jaxley, float64", "peer_jaxley", "Jaxley", 50.0, {"dtype": "float64"}, FINE_DT_MS),
    Engine("Brian2", "peer_brian2", "Brian2", 50.0, {}, DT_MS, "old_state"),
)  # fmt: skip
NEEDS = {"peer_jaxley": "jaxley", "peer_brian2": "brian2"}


class Process:
    """An engine in a process of its own."""

    def __init__(self, engine: Engine, problem: Problem, stack: ExitStack):
        self.engine = engine
        self._pool = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        self.version = self._pool.submit(_make, engine, problem).result()

    def spikes(self, problem: Problem, dt_ms: float) -> Spikes:
        return self._pool.submit(_ask, "spikes", problem, CHECK_MS, dt_ms).result()

    def run(self) -> Run:
        return self._pool.submit(_ask, "run").result()


_here: Any = None


def _make(engine: Engine, problem: Problem) -> str:
    global _here
    kind = getattr(importlib.import_module(engine.module), engine.kind)
    _here = kind(problem, DT_MS, engine.epoch_ms, **engine.options)
    return _here.version


def _ask(what: str, *arguments: Any) -> Any:
    return getattr(_here, what)(*arguments)


@dataclass(frozen=True)
class Check:
    """How far an engine is from ours: largest difference of a cell's number of spikes, and largest
    relative difference of AB/PD periods."""

    spikes: int
    of: int  # the most spikes of a cell
    period: float
    periods: int

    @property
    def good(self) -> bool:
        return self.spikes <= SPIKES_APART and self.period <= PERIOD_APART and self.periods > 0

    def __str__(self) -> str:
        return (
            f"at most {self.spikes} spikes of a cell (of up to {self.of}) and "
            f"{100 * self.period:.2f}% of a period apart ({self.periods} periods)"
        )


def rhythms(spikes: Spikes) -> xr.Dataset:
    return features_from_spikes(spikes, window_ms=(0, CHECK_MS))


def compare(theirs: Spikes, ours: Spikes) -> Check:
    pairs = [(a, b) for x, y in zip(theirs, ours, strict=True) for a, b in zip(x, y, strict=True)]
    a, b = (rhythms(spikes)["period_ms"].values for spikes in (theirs, ours))
    apart = np.abs(a / b - 1)[~np.isnan(b)]
    return Check(
        spikes=max(abs(len(a) - len(b)) for a, b in pairs),
        of=max(len(b) for _, b in pairs),
        period=float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)),
        periods=len(apart),
    )


def check_all(
    processes: list[Process], problem: Problem, say: Callable[[str], None]
) -> tuple[list[Process], list[str]]:
    """The engines that compute our circuits, and a line on each comparison."""
    ours = {p.engine.options.get("scheme", "gates_first"): p for p in processes[:2]}
    say("choosing circuits to compare")
    candidates = problem.take(list(range(min(CHECK_CANDIDATES, len(problem)))))
    rhythm = rhythms(processes[0].spikes(candidates, DT_MS))
    chosen = np.flatnonzero(rhythm["pyloric_like"].values)[:CHECK_CIRCUITS]
    few = candidates.take(list(chosen))
    exact: dict[tuple[str, float], Spikes] = {}
    kept, lines = [], []
    for process in processes:
        engine = process.engine
        if engine.check_dt_ms is not None:
            key = (engine.check_scheme, engine.check_dt_ms)
            say(f"checking {engine.name} at dt {engine.check_dt_ms} ms")
            if key not in exact:
                exact[key] = ours[key[0]].spikes(few, key[1])
            check = compare(process.spikes(few, key[1]), exact[key])
            verdict = "" if check.good else " **Another model: not timed.**"
            against = f"our `{key[0]}`, both at dt {key[1]} ms"
            lines.append(f"- {engine.name}, against {against}: {check}.{verdict}")
            if not check.good:
                continue
        kept.append(process)
    return kept, lines


def report(runs: dict[str, list[Run]], versions: dict[str, str]) -> str:
    ours = next(iter(runs.values()))
    rows = []
    for name, found in runs.items():
        pairs = list(zip(found, ours, strict=True))
        rate = median(r.Mcs / r.wall_s for r in found)
        cpu = median(r.Mcs / r.cpu_s for r in found)
        ratio = median((o.Mcs / o.wall_s) / (r.Mcs / r.wall_s) for r, o in pairs)
        cpu_ratio = median((o.Mcs / o.cpu_s) / (r.Mcs / r.cpu_s) for r, o in pairs)
        rows.append(
            [name, versions[name], f"{rate:.2f}", f"{cpu:.2f}", f"{ratio:.1f}", f"{cpu_ratio:.1f}"]
        )
    return table(
        ["", "how", "Mcs per second and core", "Mcs per second of processor time",
         "pyloric-db is faster by", "by processor time"],
        rows,
    )  # fmt: skip


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="64 circuits, two repetitions")
    args = parser.parse_args()
    n, repetitions = (64, 2) if args.quick else (CIRCUITS, REPETITIONS)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    os.environ["NPROC"] = "1"  # one thread for XLA in every process
    missing = {need for need in NEEDS.values() if find_spec(need) is None}
    problem = random_circuits(n)
    runs: dict[str, list[Run]] = {}
    with ExitStack() as stack:
        processes = []
        for engine in ENGINES:
            if NEEDS.get(engine.module) not in missing:
                say(f"starting {engine.name}")
                processes.append(Process(engine, problem, stack))
        kept, checks = check_all(processes, problem, say)
        for process in kept:
            say(f"warming up {process.engine.name}")
            process.run()
        for k in range(repetitions):
            for process in kept:
                runs.setdefault(process.engine.name, []).append(process.run())
            say(f"repetition {k + 1} of {repetitions}")
    left_out = [f"{m} is not installed here (extra `bench`), and was left out." for m in missing]
    publish(
        "Peers",
        setting("python benchmarks/peers.py", "jax", "jaxley", "brian2", "numpy"),
        f"{n} random circuits of the 2004 grid from their thermal start at dt {DT_MS} ms, in "
        "one process per engine with one thread, engines in turns, spikes found by all; medians of "
        f"{repetitions} repetitions after a warm-up, compiling not counted. The channels are made "
        "from this package's tables of constants in every engine.",
        f"Spikes and periods of {CHECK_CIRCUITS} pyloric-like circuits over "
        f"{CHECK_MS / 1000:.0f} s were compared first; allowed are {SPIKES_APART} spikes of a cell "
        f"and {100 * PERIOD_APART:g}% of a period. An engine with a scheme of its own is compared "
        "at a fine step:",
        "\n".join(checks),
        report(runs, {p.engine.name: p.version for p in kept}),
        *left_out,
        write=args.write_docs,
    )
    return 0 if len(kept) == len(processes) else 1


if __name__ == "__main__":
    sys.exit(main())
