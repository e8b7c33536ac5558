"""What torture needs over and over: workers that are warm, builders that start at once, checks.

A builder is the real command in a process of its own, forked from a server that has imported
everything. It hands its shards to a scheduler and workers that are real processes too and are
started again only when a fault has taken them.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from contents import contents
from distributed import Client

import pyloric_db as pyl
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.verify import Report, verify

#: 24 circuits in 12 shards, run for three quarters of a second.
RECIPE = """
name = "tiny"
[circuit]
preset = "prinz2004"
[parameters.grid]
abpd = ["AB/PD 1", "AB/PD 2"]
lp = ["LP 1", "LP 2"]
py = ["PY 1", "PY 2"]
gsyn_ab_lp_nS = [0, 3, 10]
[protocol]
dt_ms = 0.1
transient_ms = 250
epoch_ms = 250
min_ms = 500
max_ms = 750
thermal_max_ms = 2000
[store]
shard_circuits = 2
"""
SHARDS = 12
#: Longer than any shard here takes, also on a busy machine.
SHARD_LIMIT_S = 60.0
TIMEOUT_S = 120.0

# the server that forks has to find what it imports beforehand
os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torture.child"])


class Wrong(AssertionError):
    """The end state is not what it has to be."""


@dataclass
class Builder:
    """`pyloric-db build` that runs, in a session of its own."""

    process: Any
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.is_alive()

    def signal(self, number: int) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def signal_all(self, number: int) -> None:
        """As from a terminal, to the processes that it started too."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has not come to open its session
            self.signal(number)

    def wait(self) -> int:
        self.process.join(TIMEOUT_S)
        if self.process.is_alive():
            self.signal(signal.SIGKILL)
            raise Wrong(f"the build stood still: {self.log.read_text()}")
        text = self.log.read_text()
        if "Traceback" in text:
            raise Wrong(f"a traceback: {text}")
        return self.process.exitcode

    @property
    def text(self) -> str:
        return self.log.read_text()


@dataclass
class Rig:
    """Scheduler, workers and builders below one folder."""

    folder: Path
    workers: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    _scheduler: subprocess.Popen[bytes] | None = None
    _nannies: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _n: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.recipe = self.folder / "tiny.toml"
        self.recipe.write_text(RECIPE)
        self.profile = self.folder / "cluster.toml"

    # scheduler and workers

    @property
    def address_file(self) -> Path:
        return self.folder / "scheduler.json"

    def start(self) -> None:
        """Makes sure that there are a scheduler and all workers."""
        if self._scheduler is None or self._scheduler.poll() is not None:
            self._stop_nannies()
            self.address_file.unlink(missing_ok=True)
            self._scheduler = self._dask(
                "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(self.address_file),
            )  # fmt: skip
            until(lambda: self.address_file.exists() and self.address_file.stat().st_size > 0)
            self._write_profile(SHARD_LIMIT_S)
        self._nannies = [n for n in self._nannies if n.poll() is None]
        address = json.loads(self.address_file.read_text())["address"]
        while len(self._nannies) < self.workers:
            self._nannies.append(
                self._dask(
                    "worker", address, "--nthreads", "1", "--host", "127.0.0.1",
                    "--no-dashboard", "--dashboard-address", "127.0.0.1:0",
                    "--local-directory", str(self.folder / "scratch"), "--death-timeout", "20",
                )
            )  # fmt: skip

    def ready(self) -> None:
        """Waits until all workers are there and at rest."""

        def all_there() -> bool:
            self.start()  # a nanny gives up if its worker is not there in time
            info = client.scheduler_info(n_workers=-1)["workers"].values()
            # Dask cannot kill a worker that is stopped before it runs
            running = [w for w in info if w["status"] == "running"]
            return len(self.worker_pids()) == self.workers == len(running)

        self.start()
        with Client(str(json.loads(self.address_file.read_text())["address"])) as client:
            until(all_there)

    def on_a_worker(self, function: Callable[[], None], rng: random.Random) -> None:
        """Runs a function in one of the workers."""
        with Client(str(json.loads(self.address_file.read_text())["address"])) as client:
            # one that an earlier fault stopped may still be listed
            answering = sorted(client.run(os.getpid, on_error="ignore"))
            client.run(function, workers=[rng.choice(answering)])

    def idle(self) -> None:
        """Waits until no worker runs a shard of a builder that is gone."""
        self.start()
        with Client(str(json.loads(self.address_file.read_text())["address"])) as client:
            until(lambda: not any(client.processing().values()))

    def stop(self) -> None:
        for process in [self._scheduler, *self._nannies]:
            if process is not None:
                _kill_tree(process.pid)
                process.wait()
        self._scheduler, self._nannies = None, []

    def _stop_nannies(self) -> None:
        for nanny in self._nannies:
            _kill_tree(nanny.pid)
            nanny.wait()
        self._nannies = []

    def _dask(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "dask.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **DASK_ENVIRONMENT, **self.environment},
                start_new_session=True,
            )

    @property
    def scheduler_pid(self) -> int:
        assert self._scheduler is not None
        return self._scheduler.pid

    @property
    def nanny_pids(self) -> list[int]:
        return [n.pid for n in self._nannies if n.poll() is None]

    def worker_pids(self) -> list[int]:
        """Processes that run shards, one below each nanny."""
        found = []
        for nanny in self.nanny_pids:
            try:
                for child in psutil.Process(nanny).children():
                    if "spawn_main" in " ".join(child.cmdline()):
                        found.append(child.pid)
            except psutil.Error:
                pass
        return found

    # builders

    def path(self, name: str = "db") -> Path:
        """A directory for a database that does not exist yet."""
        self._n += 1
        return self.folder / f"{name}-{self._n}"

    def build(
        self,
        path: Path,
        *arguments: str,
        local: bool = False,
        shard_limit_s: float = SHARD_LIMIT_S,
    ) -> Builder:
        """Starts a build; `local` gives it a cluster of its own."""
        from torture.child import command

        if not local:
            self.start()
            self._write_profile(shard_limit_s)
            arguments = ("--cluster", str(self.profile), *arguments)
        else:
            arguments = ("--workers", "1", *arguments)
        self._n += 1
        log = self.folder / f"build-{self._n}.log"
        log.touch()
        argv = ["build", str(self.recipe), "--out", str(path), *arguments]
        process = _FORKS.Process(target=command, args=(argv, str(log)))
        process.start()
        return Builder(process, log)

    def resume(self, path: Path) -> None:
        """Builds to the end, from this process."""
        self.start()
        self._write_profile(SHARD_LIMIT_S)  # an earlier builder may have had a shorter limit
        pyl.build(self.recipe, path, cluster=self.profile)

    def _write_profile(self, shard_limit_s: float) -> None:
        address = json.loads(self.address_file.read_text())["address"]
        self.profile.write_text(
            f'kind = "scheduler"\naddress = "{address}"\n'
            f"shard_limit_minutes = {shard_limit_s / 60}\n"
        )


#: As `pyloric_db.pipeline.cluster` sets it for clusters of its own, with a shorter time to live.
DASK_ENVIRONMENT = {
    "DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8s",
}


def until(condition: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise Wrong("waited in vain")
        time.sleep(0.01)


def _kill_tree(pid: int) -> None:
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return
    for process in family:
        try:
            process.kill()
        except psutil.Error:
            pass


# what has to hold


def ledger_lines(path: Path) -> dict[int, bytes]:
    """The rows of finished shards, times included."""
    return dict(Ledger(path).read().shards.lines)


def check_stopped(path: Path) -> dict[int, bytes]:
    """After a fault: whatever is reported as written is written. Returns the ledger's rows."""
    if not (path / "database.json").exists():
        return {}
    report: Report = verify(path)
    if not report.good:
        raise Wrong(f"reported as written, but damaged: {report.damages}")
    return ledger_lines(path)


def check_end(path: Path, reference: dict[str, Any], before: dict[int, bytes]) -> None:
    """At the end: the bytes of an undisturbed build, and nothing was done twice."""
    report = verify(path)
    if not (report.good and report.complete and not report.strays):
        raise Wrong(f"not good, complete and tidy: {report}")
    found = contents(path)
    if found != reference:
        names = {k for k in found.keys() | reference.keys() if found.get(k) != reference.get(k)}
        raise Wrong(f"differs from an undisturbed build: {sorted(names)}")
    after = ledger_lines(path)
    again = [shard for shard, line in before.items() if after[shard] != line]
    if again:
        raise Wrong(f"finished shards were made again: {again}")


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A tmpfs at `folder`, into which what is there is copied; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-kept")))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "torture", folder], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        shutil.rmtree(kept)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> bool:
    """Changes a mounted file system; False while it is busy."""
    command = ["mount", "-o", f"remount,{options}", folder]
    return subprocess.run(command, capture_output=True).returncode == 0
