"""Workers in the jobs of a Slurm partition, through dask-jobqueue."""

import getpass
import logging
import math
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distributed.security import Security

from pyloric_db.errors import ClusterError, ConfigError
from pyloric_db.pipeline.coordinate import Workers
from pyloric_db.pipeline.profile import SlurmProfile

#: So many jobs in a row may end without a worker that reported for work.
VAIN_JOBS = 3
#: How often Slurm is asked for the jobs at most, s: it serves a whole cluster.
ASK_S = 30.0
#: It may be busy or restarting; an answer that takes longer is none, s.
ANSWER_S = 60.0
#: A worker that finds no scheduler for so long ends its job.
DEATH_TIMEOUT_S = 120


def check_slurm(profile: SlurmProfile) -> None:
    """Whether jobs can be submitted from here.

    Raises:
        ConfigError: Slurm's commands or the extra libraries are missing, or it refuses the jobs.
    """
    _jobqueue()
    for command in ("sbatch", "squeue", "scancel"):
        if shutil.which(command) is None:
            raise ConfigError(f"there is no Slurm here: the command {command} is not found")
    shared = _shared_directory(profile)
    if not shared.is_dir():
        raise ConfigError(f"shared_directory {profile.shared_directory!r} is not a directory")
    if re.search(r"\s", str(shared)):  # dask-jobqueue writes it into the job script as it is
        raise ConfigError(f"shared_directory must have no spaces, but is {str(shared)!r}")
    try:
        asked = subprocess.run(
            ["sbatch", "--test-only"],
            input=job_script(profile),
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"Slurm does not answer: sbatch took {ANSWER_S:g} s") from None
    if asked.returncode != 0:
        raise ConfigError(f"Slurm does not take the jobs: {' '.join(asked.stderr.split())}")


def _jobqueue() -> Any:
    for library in ("cryptography", "dask_jobqueue"):
        if find_spec(library) is None:
            raise ConfigError(
                f"a Slurm profile needs {library}: install pyloric-db with the extra 'slurm'"
            )
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    import dask_jobqueue

    for number, handler in handlers.items():  # being imported, it takes one for itself
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    return dask_jobqueue


def job_script(profile: SlurmProfile) -> str:
    """The job script of one job, with placeholders for what only a running build knows."""
    keys = {
        f"tls_{name}": str(_shared_directory(profile) / f"<{name} of this build>")
        for name in ("ca_file", "worker_cert", "worker_key")
    }
    job = _jobqueue().slurm.SLURMJob(
        "tls://<coordinator>:<port>",
        name="<name>",
        protocol="tls://",
        security=Security(require_encryption=True, **keys),
        **_job_options(profile),
    )
    text: str = job.job_script()
    return text


def _job_options(profile: SlurmProfile) -> dict[str, Any]:
    """What dask-jobqueue is told of a job, security excepted."""
    extra = [
        "--lifetime", f"{profile.lifetime_minutes:g}m",
        "--lifetime-stagger", f"{profile.lifetime_stagger_minutes:g}m",
        "--dashboard-address", "127.0.0.1:0",
    ]  # fmt: skip
    # not by its own option, which would make the directory for a plan too
    logs = [shlex.quote(f"{profile.log_directory}/%j.{kind}") for kind in ("err", "out")]
    directives = [f"-e {logs[0]}", f"-o {logs[1]}", *profile.directives]
    local = profile.local_directory
    if local is not None:  # it may name a variable of the node's shell: only spaces are escaped
        local = re.sub(r"\s", r"\\\g<0>", local)
    if profile.gpus_per_job:
        directives.insert(2, "--gres=gpu:1")
        extra += ["--resources", "GPU=1"]
    return {
        "job_name": "pyloric-db",
        "queue": profile.partition,
        "account": profile.account,
        "cores": profile.workers_per_job,
        "processes": profile.workers_per_job,
        "memory": f"{profile.memory_per_worker_gib * profile.workers_per_job:g} GiB",
        "walltime": _walltime(profile.walltime_minutes_per_job),
        "job_extra_directives": directives,
        "job_script_prologue": list(profile.prologue),
        "worker_extra_args": extra,
        "interface": profile.interface,
        "python": profile.python or shlex.quote(sys.executable),
        "local_directory": local,
        "death_timeout": DEATH_TIMEOUT_S,
    }


def _walltime(minutes: float) -> str:
    """Slurm's hours:minutes:seconds."""
    seconds = math.ceil(60 * minutes)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _shared_directory(profile: SlurmProfile) -> Path:
    return Path(profile.shared_directory).expanduser()


@contextmanager
def slurm_cluster(profile: SlurmProfile, dashboard: str) -> Iterator[Any]:
    """A scheduler in this process, and jobs that were submitted for its workers.

    Everything they say to each other is encrypted. The certificates are made for this cluster;
    nodes read them from files in the shared directory that only this user may read, and that
    go with the cluster.
    """
    try:
        Path(profile.log_directory).mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # of an interface's address, which dask looks up twice
            warnings.simplefilter("ignore")
            cluster = _jobqueue().SLURMCluster(
                security=Security.temporary(),
                protocol="tls://",
                shared_temp_directory=str(_shared_directory(profile)),
                scheduler_options={"dashboard_address": dashboard},
                silence_logs=logging.CRITICAL,
                **_job_options(profile),
            )
        cluster.scale(jobs=profile.jobs)
    except (OSError, RuntimeError, ValueError) as err:
        raise ClusterError(f"no cluster of Slurm jobs: {' '.join(str(err).split())}") from err
    try:
        with cluster:
            yield cluster
    finally:
        # certificates and key: an interrupted process ends before Python collects what holds them
        for name, value in vars(cluster).items():
            if name.startswith("_job_") and hasattr(value, "close"):
                value.close()


def keep_jobs(cluster: Any, profile: SlurmProfile) -> Callable[[Workers], None]:
    """What to call now and then: it submits jobs again that have ended, for whatever reason.

    dask-jobqueue does so only for workers that it saw leave one by one.
    """
    vain = 0
    ask_at = 0.0
    connected: set[str] = set()

    def keep(workers: Workers) -> None:
        nonlocal vain, ask_at
        names = {w["name"] for w in workers.values()}
        jobs = dict(cluster.workers)
        for name in jobs:
            if any(str(w) == str(name) or str(w).startswith(f"{name}-") for w in names):
                connected.add(name)
                vain = 0
        if time.monotonic() < ask_at:
            return
        queued = _queued_jobs()
        ask_at = time.monotonic() + ASK_S
        if queued is None:
            return
        ended = [n for n, job in jobs.items() if job.job_id and job.job_id not in queued]
        if not ended:
            return
        vain += sum(name not in connected for name in ended)
        if vain >= VAIN_JOBS:
            raise ClusterError(
                f"{vain} Slurm jobs in a row ended before a worker of theirs reported: see "
                f"{profile.log_directory}"
            )
        connected.difference_update(ended)
        cluster.sync(_replace, cluster, ended, profile.jobs)

    return keep


async def _replace(cluster: Any, ended: list[str], jobs: int) -> None:
    for name in ended:
        cluster.workers.pop(name, None)
        cluster.worker_spec.pop(name, None)
    cluster.scale(jobs=jobs)


def _queued_jobs() -> set[str] | None:
    """Numbers of this user's jobs that wait or run; None if Slurm does not say."""
    command = ["squeue", "--noheader", "--format=%A", "--user", getpass.getuser()]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        return None
    return set(asked.stdout.split()) if asked.returncode == 0 else None
