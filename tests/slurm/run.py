"""Builds a database in the jobs of a real Slurm, which it installs and starts on loopback.

    PYTHONPATH=tests python -m slurm.run

One job is cancelled in the middle; the database has to come out as a local build makes it. Then a
build is interrupted, and has to leave no job behind. Needs root (or sudo) on Debian.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from contents import contents

import pyloric_db as pyl
from pyloric_db.pipeline.profile import packaged_profiles
from pyloric_db.store.verify import verify

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).parent / "pyloric-db"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

#: 400 circuits in 100 shards: a minute in two workers, so that a cancelled job is missed in time.
#: The small step makes a build long enough for a cancelled job to be missed and submitted again.
RECIPE = """
name = "slurm"
[circuit]
preset = "prinz2004"
[parameters.grid]
abpd = ["AB/PD 1", "AB/PD 2"]
lp = ["LP 1", "LP 2"]
py = ["PY 1", "PY 2"]
gsyn_ab_lp_nS = [0, 1, 3, 10, 30]
gsyn_lp_py_nS = [0, 1, 2, 3, 5, 10, 15, 20, 30, 50]
[protocol]
dt_ms = 0.001
transient_ms = 1000
min_ms = 2000
max_ms = 6000
thermal_max_ms = 10000
[store]
shard_circuits = 4
"""


def install() -> None:
    """Slurm and Munge from Debian's packages, if they are missing."""
    if all(_which(name) for name in NEEDED):
        return
    apt = ["apt-get", "install", "--yes", "--quiet", "slurm-wlm", "munge"]
    if os.geteuid() != 0:
        apt.insert(0, "sudo")
    print("installing slurm-wlm and munge")
    done = subprocess.run(apt, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode != 0 or not all(_which(name) for name in NEEDED):
        sys.exit("Slurm cannot run here: slurm-wlm and munge could not be installed")


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A Slurm of one node, and the environment in which its commands find it."""
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    ports = _free_ports(2)
    text = "\n".join(
        line for line in (HERE / "slurm.conf").read_text().splitlines() if line[:1] != "#"
    )
    conf.write_text(
        text.format(
            host=socket.gethostname().split(".")[0],
            folder=folder,
            controller_port=ports[0],
            node_port=ports[1],
        )
        + "\n"
    )
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    daemons = [
        [
            "munged", "--foreground", "--force", "--key-file", str(key),
            "--socket", f"{folder}/munge.socket", "--pid-file", f"{folder}/munged.pid",
            "--log-file", f"{folder}/munged.log", "--seed-file", f"{folder}/munged.seed",
        ],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    try:
        for daemon in daemons:
            path = _which(daemon[0])
            assert path is not None
            with (folder / f"{daemon[0]}.out").open("wb") as log:
                started.append(
                    subprocess.Popen([path, *daemon[1:]], stdout=log, stderr=log, env=environment)
                )
            if daemon[0] == "munged":
                _wait("munge", lambda: (folder / "munge.socket").exists(), 20)
        _wait("an idle node", lambda: "idle" in _say(["sinfo", "-h", "-o", "%t"], environment), 60)
        yield environment
    except TimeoutError as err:
        logs = [folder / name for name in ("munged.out", "slurmctld.log", "slurmd.log")]
        tails = "\n".join(f"{p.name}:\n{p.read_text()[-1500:]}" for p in logs if p.exists())
        sys.exit(f"Slurm cannot run here: {err}\n{tails}")
    finally:
        subprocess.run(["scancel", "--user", "root"], env=environment, capture_output=True)
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _say(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def _wait(what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited for {what} in vain")
        time.sleep(0.1)


def profile(folder: Path, partition: str = "test") -> Path:
    """The packaged profile, cut to the size of this machine."""
    content = tomllib.loads(packaged_profiles()["slurm-cpu"])
    content |= {
        "jobs": 2, "workers_per_job": 1, "walltime_minutes_per_job": 60.0, "partition": partition,
        "interface": "lo", "shared_directory": str(folder), "log_directory": f"{folder}/logs",
        "local_directory": f"{folder}/scratch",
    }  # fmt: skip
    file = folder / "slurm.toml"
    quoted = {k: f'"{v}"' if isinstance(v, str) else v for k, v in content.items()}
    file.write_text("".join(f"{k} = {v}\n" for k, v in quoted.items()))
    return file


def rows(path: Path) -> int:
    ledger = path / "ledger.jsonl"
    return ledger.read_bytes().count(b'"kind":"shard"') if ledger.exists() else 0


def jobs(environment: dict[str, str], state: str = "PENDING,RUNNING,COMPLETING") -> list[str]:
    return _say(["squeue", "-h", "-o", "%A", "-t", state], environment).split()


def start(
    folder: Path, path: Path, environment: dict[str, str], partition: str = "test"
) -> "subprocess.Popen[str]":
    cluster = profile(folder, partition)
    return subprocess.Popen(
        [COMMAND, "build", folder / "recipe.toml", "--out", path, "--cluster", cluster],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(build: "subprocess.Popen[str]", code: int, timeout_s: float = 400) -> str:
    try:
        out, err = build.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        build.kill()
        raise
    assert build.returncode == code, f"exit code {build.returncode}:\n{out}\n{err}"
    assert "Traceback" not in err, err
    return err


def listening_elsewhere(pid: int) -> list[str]:
    """Addresses off loopback on which a process or a child of it listens."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = []
    for process in family:
        for c in process.net_connections("tcp"):
            if c.status == psutil.CONN_LISTEN and c.laddr.ip not in ("127.0.0.1", "::1"):
                found.append(f"{c.laddr.ip}:{c.laddr.port}")
    return found


def cancelled_in_the_middle(folder: Path, environment: dict[str, str]) -> None:
    path = folder / "db"
    build = start(folder, path, environment)
    _wait("shards", lambda: rows(path) >= 5 or build.poll() is not None, 240)
    assert build.poll() is None, finish(build, 0)
    first = set(jobs(environment))
    assert len(first) == 2, f"jobs {first}"
    assert listening_elsewhere(build.pid) == []
    keys = list(folder.glob(".dask-jobqueue.worker.key.*"))
    assert keys and all(k.stat().st_mode & 0o077 == 0 for k in keys), "keys that others may read"
    (victim, *_) = jobs(environment, "RUNNING")
    done = rows(path)
    subprocess.run(["scancel", victim], env=environment, check=True)
    print(f"cancelled job {victim} after {done} of 100 shards")
    finish(build, 0)
    report = verify(path)
    assert report.good and report.complete and not report.strays, report
    logs = sorted((folder / "logs").glob("*.err"))
    assert len(logs) >= 3, f"the cancelled job was not submitted again: {logs}"
    assert all("tls://" in p.read_text() or not p.read_text() for p in logs)
    _wait("jobs to go", lambda: not jobs(environment), 60)
    print(f"complete, from {len(logs)} jobs")
    local = folder / "local"
    pyl.build(folder / "recipe.toml", local, workers=2)
    assert contents(path) == contents(local), "differs from a local build"
    print("the same bytes as a local build")


def interrupted(folder: Path, environment: dict[str, str]) -> None:
    path = folder / "interrupted"
    build = start(folder, path, environment)
    _wait("shards", lambda: rows(path) >= 3 or build.poll() is not None, 240)
    assert build.poll() is None, finish(build, 130)
    build.send_signal(signal.SIGINT)
    err = finish(build, 130, timeout_s=60)
    assert "interrupted; what is finished is kept" in err, err
    _wait("jobs to go", lambda: not jobs(environment), 30)
    assert verify(path).good
    assert not list(folder.glob(".dask-jobqueue.worker.*")), "keys that stay"
    print("interrupted: exit code 130, and no job or key is left")


def refused(folder: Path, environment: dict[str, str]) -> None:
    path = folder / "refused"
    err = finish(start(folder, path, environment, partition="nromal"), 2, timeout_s=60)
    assert "Slurm does not take the jobs" in err and "partition" in err, err
    assert not path.exists()
    print(f"refused: {err.strip()}")


def main() -> None:
    install()
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    (folder / "recipe.toml").write_text(RECIPE)
    try:
        with slurm(folder) as environment:
            cancelled_in_the_middle(folder, environment)
            interrupted(folder, environment)
            refused(folder, environment)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
