"""Brings every fault about at random moments and prints what came of it.

    PYTHONPATH=tests python -m torture.run [--repetitions 20] [--seed 1] [--lanes 3] [FAULT ...]

Lanes are processes that torture databases of their own at the same time. Exit code 1 if any end
state was not that of an undisturbed build.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from torture.faults import FAULTS, mounts_left
from torture.rig import Rig


def lane(folder: Path, faults: list[str], repetitions: int, seed: int) -> None:
    """Tortures in this process with faults that no other lane has; a line of JSON for each."""
    rig = Rig(folder)
    try:
        for name in faults:
            try:
                (folder.parent / f"{name}.taken").touch(exist_ok=False)
            except FileExistsError:
                continue
            began, hits, wrong = time.monotonic(), 0, []
            for repetition in range(repetitions):
                rng = random.Random(f"{seed} {name} {repetition}")
                try:
                    hits += FAULTS[name].strike(rig, rng)
                except Exception as error:  # whatever it is, this repetition is not as it should be
                    wrong.append(f"{repetition}: {type(error).__name__}: {str(error)[-1500:]}")
                    rig.stop()
            seconds = time.monotonic() - began
            row = {"fault": name, "hits": hits, "wrong": wrong, "seconds": round(seconds, 1)}
            print(json.dumps(row), flush=True)
            print(f"{FAULTS[name].name}: {seconds:.0f} s, {len(wrong)} wrong", file=sys.stderr)
    finally:
        rig.stop()
        for mount in sorted(mounts_left(folder), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)


def table(rows: list[dict], repetitions: int) -> str:
    """The table of docs/reliability.md."""
    lines = ["| fault | repetitions | while at work | as undisturbed |", "|---|---|---|---|"]
    for name, fault in FAULTS.items():
        for row in rows:
            if row["fault"] == name:
                good = repetitions - len(row["wrong"])
                lines.append(f"| {fault.name} | {repetitions} | {row['hits']} | {good} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faults", nargs="*", choices=[*FAULTS, []], metavar="FAULT")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lanes", type=int, default=3)
    parser.add_argument("--lane", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lane:
        lane(arguments.lane, arguments.faults, arguments.repetitions, arguments.seed)
        return 0
    names = arguments.faults or list(FAULTS)
    if os.geteuid() != 0:
        left_out = [n for n in names if FAULTS[n].needs_root]
        names = [n for n in names if n not in left_out]
        print(f"not root, so no file systems to mount: without {', '.join(left_out)}")
    # in memory where that can be: a kill is no power cut, and a real disk only makes it longer
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="torture-", dir=shm if shm.is_dir() else None))
    began = time.monotonic()
    try:
        rows = _in_lanes(folder, names, arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(rows, arguments.repetitions))
    print(f"\nseed {arguments.seed}, {time.monotonic() - began:.0f} s")
    wrong = [(row["fault"], text) for row in rows for text in row["wrong"]]
    for name, text in wrong:
        print(f"\n{name} {text}", file=sys.stderr)
    missing = set(names) - {row["fault"] for row in rows}
    if missing:
        print(f"not done: {', '.join(sorted(missing))}", file=sys.stderr)
    return 1 if wrong or missing else 0


def _in_lanes(folder: Path, names: list[str], arguments: argparse.Namespace) -> list[dict]:
    """Lanes take faults as they come to them; those with a false clock have one of their own."""
    clock = [n for n in names if FAULTS[n].fake_clock]
    others = [n for n in names if n not in clock]
    groups = [others] * min(arguments.lanes, len(others)) + [clock]
    lanes = []
    for number, faults in enumerate(g for g in groups if g):
        environment = dict(os.environ)
        if faults == clock:
            environment |= _fake_clock(folder)
        lanes.append(
            subprocess.Popen(
                [sys.executable, "-m", "torture.run", "--lane", str(folder / f"lane-{number}"),
                 "--repetitions", str(arguments.repetitions), "--seed", str(arguments.seed),
                 *faults],
                stdout=subprocess.PIPE, env=environment, text=True,
            )
        )  # fmt: skip
    rows = []
    for process in lanes:
        out, _ = process.communicate()
        rows += [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return rows


def _fake_clock(folder: Path) -> dict[str, str]:
    """An environment whose processes have a clock of their own."""
    library, offset = folder / "clock.so", folder / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    offset.write_bytes(bytes(8))
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}


if __name__ == "__main__":
    sys.exit(main())
