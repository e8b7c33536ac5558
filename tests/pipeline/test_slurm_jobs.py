"""Jobs that end are submitted again, and Slurm is asked for them now and then."""

import asyncio
import sys
import time
from types import SimpleNamespace

import pytest

from pyloric_db.errors import ClusterError, ConfigError
from pyloric_db.pipeline import slurm
from pyloric_db.pipeline.profile import load_profile
from pyloric_db.pipeline.slurm import keep_jobs

PROFILE = load_profile(
    {
        "kind": "slurm",
        "jobs": 1,
        "workers_per_job": 2,
        "memory_per_worker_gib": 1,
        "walltime_minutes_per_job": 90,
        "log_directory": "logs of jobs",
    }
)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)  # cannot be found
    with pytest.raises(ConfigError, match="needs dask_jobqueue: .* with the extra 'slurm'$"):
        slurm.job_script(PROFILE)


class Jobs:
    """What `keep_jobs` needs of dask-jobqueue's cluster: one job at a time, numbered from 1."""

    def __init__(self):
        self.workers, self.worker_spec, self.submitted = {}, {}, 0
        self.scale(jobs=1)

    def scale(self, jobs):
        assert not self.workers
        self.submitted += 1
        self.workers[f"job-{self.submitted}"] = SimpleNamespace(job_id=str(self.submitted))

    def sync(self, function, *arguments):
        asyncio.run(function(*arguments))


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Puts a squeue on the path that notes each call and then runs a line."""

    def install(line):
        command = tmp_path / "squeue"
        command.write_text(f"#!/bin/sh\necho >> {tmp_path}/calls\n{line}\n")
        command.chmod(0o755)
        return lambda: len((tmp_path / "calls").read_text())

    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return install


def test_slurm_is_asked_now_and_then(squeue):
    calls = squeue("echo 1")
    keep = keep_jobs(Jobs(), PROFILE)
    for _ in range(10):
        keep({})
    assert calls() == 1


def test_jobs_that_end_are_submitted_again_until_it_is_in_vain(squeue, monkeypatch):
    monkeypatch.setattr(slurm, "ASK_S", 0.0)
    squeue("")  # each job has ended as soon as it is asked for
    jobs = Jobs()
    keep = keep_jobs(jobs, PROFILE)
    keep({})
    keep({})
    assert jobs.submitted == 3
    keep({"tls://10.0.0.1:1": {"name": "job-3-1"}})  # this one had a worker: counted anew
    for _ in range(slurm.VAIN_JOBS - 1):
        keep({})
    with pytest.raises(ClusterError, match="3 Slurm jobs in a row ended.*: see logs of jobs"):
        keep({})


def test_a_worker_that_reports_between_two_questions_counts(squeue, monkeypatch):
    monkeypatch.setattr(slurm, "ASK_S", 0.1)
    squeue("")
    jobs = Jobs()
    keep = keep_jobs(jobs, PROFILE)
    keep({})
    for _ in range(slurm.VAIN_JOBS):
        keep({"tls://10.0.0.1:1": {"name": f"job-{jobs.submitted}-0"}})
        time.sleep(0.12)  # and is gone when Slurm is asked again
        keep({})
    assert jobs.submitted > slurm.VAIN_JOBS


@pytest.mark.parametrize("line", ["exec sleep 60", "exit 1"])
def test_a_slurm_that_does_not_answer_says_nothing_of_jobs(squeue, monkeypatch, line):
    monkeypatch.setattr(slurm, "ANSWER_S", 0.2)
    monkeypatch.setattr(slurm, "ASK_S", 0.0)
    calls = squeue(line)
    jobs = Jobs()
    keep = keep_jobs(jobs, PROFILE)
    for _ in range(slurm.VAIN_JOBS + 1):
        keep({})
    assert calls() == slurm.VAIN_JOBS + 1 and jobs.submitted == 1
