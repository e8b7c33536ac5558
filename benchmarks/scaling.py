"""What a build costs per shard when the shards themselves cost nothing, and what it remembers.

    python benchmarks/scaling.py [--shards 100000] [--ledger-rows 1000000]

Drives trivial shards through the coordinator and real Dask workers, writes the ledger as a build
does, and measures how long a build of a million shards takes to go on. Writes docs/scaling.json
and draws docs/scaling.png; the numbers of docs/scaling.md are from there.
"""

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from pyloric_db.pipeline.cluster import open_crew, profile_of
from pyloric_db.pipeline.coordinate import Coordinator
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.plot.canvas import new_figure
from pyloric_db.store.create import check_target, create
from pyloric_db.store.files import LEDGER_FILE, FileSum
from pyloric_db.store.ledger import Ledger, Receipt

DOCS = Path(__file__).parents[1] / "docs"
MIB = 1 << 20
ARRAYS = ("circuit_id/c/{}", "V/c/{}/0", "Ca/c/{}/0", "m/c/{}/0/0", "h/c/{}/0/0", "s/c/{}/0")


def trivial_shard(shard: int, circuits: int) -> Receipt:
    """A receipt like that of a shard that was written: as many files, as long."""
    names = [f"features/part-{shard:06d}.parquet", *(f"states/{a.format(shard)}" for a in ARRAYS)]
    return Receipt(
        shard=shard,
        n_circuits=circuits,
        first_id=shard * circuits,
        last_id=(shard + 1) * circuits - 1,
        files=tuple(FileSum(name, 1_000_000 + shard, f"{shard:064x}") for name in names),
        counts={"ok": circuits, "pyloric_like": circuits // 5, "pyloric": circuits // 50},
        seconds=1.0,
    )


class Watch(threading.Thread):
    """Resident memory of processes, twice a second."""

    def __init__(self, pids: dict[str, int]):
        super().__init__(daemon=True)
        self.processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.samples: list[dict[str, float]] = []
        self.done = 0
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.5):
            memory = {n: p.memory_info().rss / MIB for n, p in self.processes.items()}
            self.samples.append({"shards": self.done, **memory})


def drive(folder: Path, shards: int, workers: int) -> dict[str, Any]:
    """Runs trivial shards; seconds per shard, and memory over shards done."""
    ledger = Ledger(folder)
    with open_crew("local", profile_of("local", workers, shards)) as crew:
        pids = {f"worker {i}": pid for i, pid in enumerate(crew.client.run(os.getpid).values())}
        # the scheduler of a local cluster lives in the coordinator's process
        watch = Watch({"coordinator and scheduler": os.getpid(), **pids})

        def done(receipts: Any) -> None:
            ledger.record(*receipts)
            watch.done += len(receipts)

        coordinator = Coordinator(
            crew,
            lambda shard: (trivial_shard, shard, 1000),
            done=done,
            aside=lambda failure: None,
        )
        watch.start()
        began, cpu = time.perf_counter(), time.process_time()
        failed = coordinator.run(range(shards))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        watch.stop.set()
        watch.join()
    assert not failed and len(ledger.done_shards()) == shards
    return {
        "shards": shards,
        "workers": workers,
        "ms_per_shard": 1000 * seconds / shards,
        "coordinator_cpu_ms_per_shard": 1000 * cpu / shards,
        "samples": watch.samples,
    }


def resume(folder: Path, rows: int) -> dict[str, Any]:
    """How long a build of so many shards takes from its start to its first shard, nearly done."""
    from pyloric_db.pipeline.build import todo_of

    recipe = {
        "name": "large",
        "circuit": {"preset": "prinz2004"},
        "parameters": {
            "prior": {
                "count": rows,
                "parameters": {
                    "abpd": "AB/PD 1", "lp": "LP 1", "py": "PY 1",
                    "gsyn_ab_lp_nS": {"uniform": [0, 100]},
                },
            }
        },
        "store": {"shard_circuits": 1},
    }  # fmt: skip
    plan = make_plan(recipe)
    path = folder / "large"
    ledger = Ledger(path)
    create(ledger, plan.manifest)
    for start in range(0, rows - 10, 50_000):
        stop = min(start + 50_000, rows - 10)
        ledger.record(*(trivial_shard(shard, 1) for shard in range(start, stop)))
    began = time.perf_counter()
    ledger = Ledger(path)
    check_target(ledger, plan.manifest)
    manifest = create(ledger, plan.manifest)
    _, _, todo = todo_of(ledger, manifest)
    seconds = time.perf_counter() - began
    assert len(todo) == 10
    peak = psutil.Process().memory_info().rss / MIB
    return {
        "ledger_rows": rows - 10,
        "ledger_MiB": ledger.files.size(LEDGER_FILE) / MIB,
        "resume_s": seconds,
        "memory_MiB": peak,
    }


def draw(found: dict[str, Any], file: Path) -> None:
    """Memory over shards done."""
    samples = found["drive"]["samples"]
    figure = new_figure(figsize=(7, 3.2))
    axes = figure.subplots()
    for name in [n for n in samples[0] if n != "shards"]:
        axes.plot([s["shards"] / 1000 for s in samples], [s[name] for s in samples], label=name)
    axes.set(xlabel="thousand shards done", ylabel="resident memory (MiB)", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--ledger-rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=DOCS)
    arguments = parser.parse_args()
    found: dict[str, Any] = {"machine": f"{psutil.cpu_count()} cores, {platform.machine()}"}
    with tempfile.TemporaryDirectory() as folder:
        found["drive"] = drive(Path(folder), arguments.shards, arguments.workers)
        told = {k: v for k, v in found["drive"].items() if k != "samples"}
        print(json.dumps(told, indent=2), flush=True)
        found["resume"] = resume(Path(folder), arguments.ledger_rows)  # last: a gigabyte stays
    print(json.dumps(found["resume"], indent=2))
    samples = found["drive"]["samples"]
    found["drive"]["samples"] = samples[:: max(1, len(samples) // 200)]
    (arguments.out / "scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, arguments.out / "scaling.png")


if __name__ == "__main__":
    main()
