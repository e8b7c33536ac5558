"""The faults: each is brought about once, at a random moment, and the end state is checked.

A fault takes the rig and a source of randomness, and returns whether it struck while a build was
at work. It raises `Wrong` where the outcome is not what it has to be.
"""

import csv
import os
import random
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from contents import contents

import pyloric_db as pyl
from pyloric_db.errors import ShardError
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.verify import status, verify
from torture.rig import (
    SHARDS,
    Builder,
    Rig,
    Wrong,
    check_end,
    check_stopped,
    mounted,
    remount,
    until,
)

Random = random.Random


def undisturbed(rig: Rig) -> Path:
    """The database as it has to be, built once. Not to be changed."""
    path = rig.folder / "undisturbed"
    if not path.exists():
        rig.resume(path)
    return path


def expected(rig: Rig) -> dict[str, Any]:
    return contents(undisturbed(rig))


def _rows(path: Path) -> int:
    try:
        return (path / "ledger.jsonl").read_bytes().count(b'"kind":"shard"')
    except OSError:
        return 0


def _moment(builder: Builder, path: Path, rng: Random) -> bool:
    """Waits for a random moment of a build; False if it was over before."""
    rows = rng.randrange(-3, SHARDS)
    if rows < 0:  # somewhere before the first shard is there
        time.sleep(rng.uniform(0, 0.8))
    else:
        until(lambda: _rows(path) >= rows or not builder.running())
        time.sleep(rng.uniform(0, 0.05))
    return builder.running()


def _expect(builder: Builder, *codes: int, text: str = "") -> int:
    code = builder.wait()
    if code not in codes:
        raise Wrong(f"exit code {code}, not one of {codes}: {builder.text}")
    if code not in (0, -signal.SIGKILL) and text not in builder.text:
        raise Wrong(f"does not say {text!r}: {builder.text}")
    return code


def _go_on(rig: Rig, path: Path) -> None:
    """What is there is true; the rest is built, and nothing twice."""
    before = check_stopped(path)
    rig.resume(path)
    check_end(path, expected(rig), before)
    shutil.rmtree(path)


# processes


def _kill_coordinator(rig: Rig, rng: Random, *, local: bool = False) -> bool:
    path = rig.path()
    builder = rig.build(path, local=local)
    hit = _moment(builder, path, rng)
    if local:  # a whole session, as when a terminal or a batch job goes
        builder.signal_all(signal.SIGKILL)
    else:
        builder.signal(signal.SIGKILL)
    _expect(builder, 0, -signal.SIGKILL)
    _go_on(rig, path)
    return hit


def _interrupt(rig: Rig, rng: Random, *, signals: tuple[int, ...], local: bool = False) -> bool:
    path = rig.path()
    builder = rig.build(path, local=local)
    until(lambda: path.exists() or not builder.running())  # the command has begun to build
    hit = _moment(builder, path, rng)
    for number in signals:
        if builder.running():
            builder.signal_all(number)  # as a terminal or Slurm sends it: to all
        time.sleep(rng.uniform(0, 0.02))
    _expect(builder, 0, 130, text="interrupted; what is finished is kept")
    _go_on(rig, path)
    return hit


def _kill_worker(rig: Rig, rng: Random) -> bool:
    return _kill_one(rig, rng, rig.worker_pids, "worker")


def _kill_nanny(rig: Rig, rng: Random) -> bool:
    return _kill_one(rig, rng, lambda: rig.nanny_pids, "nanny")


def _kill_one(rig: Rig, rng: Random, pids: Callable[[], list[int]], what: str) -> bool:
    """The build itself goes on to the end."""
    rig.ready()
    path = rig.path()
    builder = rig.build(path)
    hit = _moment(builder, path, rng)
    os.kill(rng.choice(pids()), signal.SIGKILL)
    _expect(builder, 0)
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return hit


def _kill_scheduler(rig: Rig, rng: Random) -> bool:
    rig.ready()
    path = rig.path()
    builder = rig.build(path)
    hit = _moment(builder, path, rng)
    os.kill(rig.scheduler_pid, signal.SIGKILL)
    _expect(builder, 0, 2, text="scheduler")
    _go_on(rig, path)
    return hit


#: A shard limit that a worker which starts on a busy machine keeps to, compiling included.
HANGS_S = 10.0


def _hang(rig: Rig, rng: Random) -> bool:
    """A worker stops, or its disk does: in one of them no write to a disk ever returns."""
    rig.ready()
    path = rig.path()
    if rng.random() < 0.5:
        rig.on_a_worker(_stop_its_disk, rng)
        builder = rig.build(path, shard_limit_s=HANGS_S)
        hit = True
    else:
        builder = rig.build(path, shard_limit_s=HANGS_S)
        hit = _moment(builder, path, rng)
        os.kill(rng.choice(rig.worker_pids()), signal.SIGSTOP)
    _expect(builder, 0)
    rig.resume(path)  # which tidies up behind what was killed
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return hit


def _stop_its_disk() -> None:
    """In a worker, as on a file server that is gone: what is written never gets there."""
    os.fsync = lambda fd: threading.Event().wait()


def _two_builders(rig: Rig, rng: Random) -> bool:
    path = rig.path()
    if rng.random() < 0.5:  # a lock that a dead process left
        path.mkdir()
        (path / "build.lock").write_text("process 4194303 on elsewhere\n")
    first = rig.build(path)
    time.sleep(rng.choice([0, rng.uniform(0, 0.8)]))
    second = rig.build(path)
    codes = [_expect(b, 0, 2, text="is being built by") for b in (first, second)]
    if 0 not in codes:
        raise Wrong(f"neither won: {first.text} {second.text}")
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return 2 in codes


def _clock(rig: Rig, rng: Random) -> bool:
    """The time of day of all processes is set back."""
    set_clock(0)
    path = rig.path()
    builder = rig.build(path)
    hit = _moment(builder, path, rng)
    set_clock(-rng.choice([10, 3_600, 86_400 * 400]))
    _expect(builder, 0)
    rig.resume(path)
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return hit


def set_clock(seconds: int) -> None:
    """Moves the time of day of processes that have `clock.c` preloaded."""
    with open(os.environ["CLOCK_OFFSET"], "r+b") as f:
        f.write(seconds.to_bytes(8, "little", signed=True))


# disks


def _truncate_last(rig: Rig, rng: Random) -> bool:
    """A kill, and then the files that were written last are cut short or have lost their bytes."""
    path = rig.path()
    builder = rig.build(path)
    hit = _moment(builder, path, rng)
    builder.signal(signal.SIGKILL)
    _expect(builder, 0, -signal.SIGKILL)
    rig.idle()
    if path.exists():
        files = sorted((p for p in path.rglob("*") if p.is_file()), key=_changed)
        for file in rng.sample(files[-8:], k=min(len(files), rng.randrange(1, 5))):
            with suppress(FileNotFoundError):  # a worker's that was being written till now
                size = file.stat().st_size
                os.truncate(file, rng.randrange(size + 1))
                if rng.random() < 0.3:
                    os.truncate(file, size)  # zeros
    rig.resume(path)
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return hit


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns


def _full_disk(rig: Rig, rng: Random) -> bool:
    """The disk of the database has room for some of its shards and a part of the next."""
    path = rig.path()
    create(Ledger(path), make_plan(rig.recipe).manifest)
    with mounted(path):
        used = os.statvfs(path)
        taken_kib = (used.f_blocks - used.f_bavail) * used.f_frsize // 1024
        remount(path, f"size={taken_kib + rng.randrange(16, 700, 4)}k")
        builder = rig.build(path)
        hit = _expect(builder, 0, 2, text="No space left") == 2
        before = check_stopped(path)
        remount(path, "size=64m")
        rig.resume(path)
        check_end(path, expected(rig), before)
    shutil.rmtree(path)
    return hit


def _full_ledger(rig: Rig, rng: Random) -> bool:
    """The ledger alone is on a disk that is full after some of its rows."""
    path = rig.path()
    create(Ledger(path), make_plan(rig.recipe).manifest)
    ledger = path / "ledger.jsonl"
    small = rig.folder / f"{path.name}-ledger"
    with mounted(small):
        shutil.copy(ledger, small)
        remount(small, f"size={rng.choice([4, 8])}k")
        subprocess.run(["mount", "--bind", small / ledger.name, ledger], check=True)
        try:
            builder = rig.build(path)
            _expect(builder, 2, text="No space left")
            before = check_stopped(path)
        finally:
            subprocess.run(["umount", "--lazy", ledger], check=True)
        shutil.copy(small / ledger.name, ledger)
    rig.resume(path)
    check_end(path, expected(rig), before)
    shutil.rmtree(path)
    shutil.rmtree(small)
    return True


def _read_only(rig: Rig, rng: Random) -> bool:
    path = rig.path()
    with mounted(path):
        builder = rig.build(path)
        hit = _moment(builder, path, rng)
        until(lambda: remount(path, "ro"))
        code = _expect(builder, 0, 2)
        if code == 2 and not ("Read-only" in builder.text or "writable" in builder.text):
            raise Wrong(f"does not say why: {builder.text}")
        before = check_stopped(path)
        remount(path, "rw")
        rig.idle()
        rig.resume(path)
        check_end(path, expected(rig), before)
    shutil.rmtree(path)
    return hit


def _damaged(rig: Rig, rng: Random, damage: Callable[[Path, Random], None]) -> bool:
    path = Path(shutil.copytree(undisturbed(rig), rig.path()))
    file = rng.choice(sorted(p for p in path.rglob("*") if p.is_file()))
    damage(file, rng)
    if verify(path).good:
        raise Wrong(f"verify does not see the damage to {file}")
    rig.resume(path)
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return True


def _flip(file: Path, rng: Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _delete(file: Path, rng: Random) -> None:
    file.unlink()


def _temporary_files(rig: Rig, rng: Random) -> bool:
    """Temporary files of killed writers beside the files of a build that was half done."""
    path = Path(shutil.copytree(undisturbed(rig), rig.path()))
    lines = (path / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (path / "ledger.jsonl").write_bytes(b"".join(lines[: rng.randrange(len(lines) + 1)]))
    files = sorted(p for p in path.rglob("*") if p.is_file())
    for file in rng.sample(files, k=rng.randrange(1, 6)):
        name = rng.choice([str(rng.randrange(1, 99999)), f"{rng.getrandbits(128):032x}"])
        data = file.read_bytes()
        stale = file.with_name(f"{file.name}.{name}.partial")
        stale.write_bytes(data[: rng.choice([0, len(data), rng.randrange(len(data))])])
        if rng.random() < 0.3:  # and never renamed
            file.unlink()
    rig.resume(path)
    check_end(path, expected(rig), {})
    shutil.rmtree(path)
    return True


# circuits and shards


def _bad_circuit(rig: Rig, rng: Random) -> bool:
    """Some circuits of a table are beyond all bounds; the others do not notice."""
    sane = [_sane_row(rng) for _ in range(12)]
    mad = list(sane)
    where = sorted(rng.sample(range(12), k=rng.randrange(1, 4)))
    for i in where:
        mad[i] = rng.choice([_overflowing_row, _infinite_row])()
    found = []
    for rows in (sane, mad):
        path = rig.path()
        table = rig.folder / f"{path.name}.csv"
        with table.open("w", newline="") as f:
            writer = csv.DictWriter(f, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        content = tomllib.loads(rig.recipe.read_text())
        content["parameters"] = {"table": {"path": str(table)}}
        content["protocol"]["initial"] = "cold"
        rig.start()
        db = pyl.build(content, path, cluster=rig.profile)
        found.append((db.circuits.load(), db.states().load()))
        if not verify(path).good:
            raise Wrong("not good")
        shutil.rmtree(path)
    (circuits, states), (mad_circuits, mad_states) = found
    failed = np.flatnonzero(mad_circuits.status.values != "ok").tolist()
    if failed != where or (circuits.status.values != "ok").any():
        raise Wrong(f"circuits {failed} failed, not {where}: {mad_circuits.status.values}")
    others = np.setdiff1d(np.arange(12), where)
    for a, b in ((circuits, mad_circuits), (states, mad_states)):
        if not a.isel(circuit=others).identical(b.isel(circuit=others)):
            raise Wrong(f"the neighbours of {where} differ")
    return True


def _row(cells: dict[str, dict[str, float]]) -> dict[str, float]:
    channels = ("Na", "CaT", "CaS", "A", "KCa", "Kd", "H", "leak")
    return {f"gbar_{cell}_{c}": cells[cell].get(c, 0.0) for cell in cells for c in channels}


def _sane_row(rng: Random) -> dict[str, float]:
    cell = {"Na": 100.0, "Kd": 75.0, "CaS": 4.0, "leak": 0.02}
    return _row({c: {k: v * rng.uniform(0.5, 1.5) for k, v in cell.items()} for c in pyl_cells})


def _overflowing_row() -> dict[str, float]:
    """AB/PD rests so far above 0 mV that its rounding in float32 makes more maxima than fit."""
    return _row({"abpd": {"CaS": 1e5, "A": 0.04}, "lp": {"leak": 1.0}, "py": {"leak": 1.0}})


def _infinite_row() -> dict[str, float]:
    return _row({c: {"CaT": 1e30} for c in pyl_cells})


pyl_cells = ("abpd", "lp", "py")


def _failing_shard(rig: Rig, rng: Random) -> bool:
    """A directory where its file should be: the shard fails every time."""
    path = rig.path()
    create(Ledger(path), make_plan(rig.recipe).manifest)
    shard = rng.randrange(SHARDS)
    obstacle = path / "features" / f"part-{shard:06d}.parquet"
    obstacle.mkdir(parents=True)
    (obstacle / "x").touch()
    _expect(rig.build(path), 1, text=f"1 of {SHARDS} shards failed 3 times")
    found = status(path)
    if [(f.shard, f.attempts) for f in found.failures] != [(shard, 3)]:
        raise Wrong(f"status shows {found.failures}")
    if found.shards_done != SHARDS - 1:
        raise Wrong(f"only {found.shards_done} shards are done")
    before = check_stopped(path)
    shutil.rmtree(obstacle)
    try:
        rig.resume(path)
        raise Wrong("a shard that was set aside was tried without being told to")
    except ShardError:
        pass
    _expect(rig.build(path, "--retry-failed"), 0)
    check_end(path, expected(rig), before)
    shutil.rmtree(path)
    return True


class Fault(NamedTuple):
    """What it is called in the table, how to bring it about, and what that needs."""

    name: str
    strike: Callable[[Rig, Random], bool]
    needs_root: bool = False
    fake_clock: bool = False


SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM
#: Those that take longest come first, so that lanes end together.
FAULTS = {
    "scheduler": Fault("SIGKILL of the scheduler", _kill_scheduler),
    "hang": Fault("a worker that hangs or is stopped", _hang),
    "nanny": Fault("SIGKILL of a nanny", _kill_nanny),
    "worker": Fault("SIGKILL of a worker", _kill_worker),
    "session": Fault(
        "SIGKILL of the coordinator and a cluster of its own, at once",
        partial(_kill_coordinator, local=True),
    ),
    "coordinator": Fault("SIGKILL of the coordinator", _kill_coordinator),
    "ctrl-c-local": Fault(
        "Ctrl-C in a terminal, which workers get too",
        partial(_interrupt, signals=(SIGINT,), local=True),
    ),
    "ctrl-c": Fault("Ctrl-C", partial(_interrupt, signals=(SIGINT,))),
    "ctrl-c-twice": Fault("Ctrl-C twice", partial(_interrupt, signals=(SIGINT, SIGINT))),
    "sigterm": Fault("SIGTERM to the build", partial(_interrupt, signals=(SIGTERM,))),
    "truncation": Fault("last written files cut short or zeroed after a kill", _truncate_last),
    "full-disk": Fault(
        "full disk while features and states are written", _full_disk, needs_root=True
    ),
    "full-ledger": Fault("full disk while the ledger is written", _full_ledger, needs_root=True),
    "read-only": Fault("file system becomes read-only", _read_only, needs_root=True),
    "bit-flip": Fault("a bit flipped anywhere", partial(_damaged, damage=_flip)),
    "deleted": Fault("a file deleted", partial(_damaged, damage=_delete)),
    "temporary": Fault("stale and duplicated temporary files", _temporary_files),
    "two-builders": Fault("two builders at once, or a dead one's lock", _two_builders),
    "clock": Fault("the clock goes back", _clock, fake_clock=True),
    "bad-circuit": Fault("circuits that give NaN or overflow their spike buffer", _bad_circuit),
    "failing-shard": Fault("a shard that fails every time", _failing_shard),
}  # fmt: skip


def mounts_left(folder: Path) -> list[str]:
    """Mounts below a folder, of a torture that was itself killed."""
    listed = subprocess.run(["findmnt", "-rno", "TARGET"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if line.startswith(str(folder))]
