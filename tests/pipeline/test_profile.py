"""Cluster profiles: what is allowed, and what a plan makes of them."""

import json
import shutil
import subprocess

import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.pipeline.expect import expectation
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.profile import (
    LocalProfile,
    SchedulerProfile,
    is_loopback,
    load_profile,
    packaged_profiles,
)
from pyloric_db.pipeline.slurm import check_slurm, job_script

SLURM = {
    "kind": "slurm",
    "jobs": 3,
    "workers_per_job": 4,
    "memory_per_worker_gib": 1.5,
    "walltime_minutes_per_job": 90,
}


def test_the_packaged_profiles():
    names = ["local", "local-gpu", "scheduler", "slurm-cpu", "slurm-gpu"]
    assert sorted(packaged_profiles()) == names
    kinds = [load_profile(name).kind for name in names]
    assert kinds == ["local", "local-gpu", "scheduler", "slurm", "slurm"]


@pytest.mark.parametrize(
    "content, sentence",
    [
        ({}, "kind is missing, but must be one of local, local-gpu, slurm, scheduler"),
        ({"kind": "slrm"}, "kind is 'slrm', .*; did you mean 'slurm'?"),
        ({"kind": "local", "worker": 2}, "unknown key worker; did you mean 'workers'?"),
        ({"kind": "local", "workers": 0}, "workers is 0"),
        ({"kind": "local", "workers": "2"}, "workers is '2'"),
        ({"kind": "local", "shard_limit_minutes": 0}, "shard_limit_minutes is 0"),
        ({**SLURM, "memory_per_worker": 2}, "unknown key memory_per_worker; .*_gib'"),
        ({k: v for k, v in SLURM.items() if k != "jobs"}, "the key jobs is missing"),
        ({**SLURM, "walltime_minutes_per_job": 25}, "must be more than lifetime_margin_minutes"),
        ({**SLURM, "gpus_per_job": 2}, "gpus_per_job is 2"),
        ({**SLURM, "partition": "a\nrm -rf"}, "partition is"),
        ({"kind": "scheduler"}, "the key address is missing"),
        ({"kind": "scheduler", "address": "127.0.0.1"}, "address is '127.0.0.1'"),
        ({"kind": "scheduler", "address": "tcp://node1:8786"}, "not on loopback.* with TLS"),
        ({"kind": "scheduler", "address": "tls://node1:8786"}, "needs tls_ca_file"),
        (
            {"kind": "scheduler", "address": "tcp://[::1]:1", "tls_ca_file": "x"},
            "certificates need a tls:// address",
        ),
    ],
)  # fmt: skip
def test_a_bad_profile_is_refused_with_a_sentence(content, sentence):
    with pytest.raises(ConfigError, match=f"^cluster profile: .*{sentence}"):
        load_profile(content)


def test_no_such_profile(tmp_path):
    with pytest.raises(ConfigError, match="there is no cluster profile 'locale'.*mean 'local'"):
        load_profile("locale")
    (tmp_path / "x.toml").write_text("kind = ")
    with pytest.raises(ConfigError, match="x.toml is not TOML"):
        load_profile(tmp_path / "x.toml")


def test_certificates_lie_beside_the_profile(tmp_path):
    text = 'kind = "scheduler"\naddress = "tls://node1:8786"\n'
    names = ("tls_ca_file", "tls_client_cert", "tls_client_key")
    text += "".join(f'{name} = "{name}.pem"\n' for name in names)
    (tmp_path / "profile.toml").write_text(text)
    with pytest.raises(ConfigError, match="tls_ca_file names .*, which is no file"):
        load_profile(tmp_path / "profile.toml")
    for name in names:
        (tmp_path / f"{name}.pem").touch()
    profile = load_profile(tmp_path / "profile.toml")
    assert isinstance(profile, SchedulerProfile)
    assert profile.tls_client_key == str(tmp_path / "tls_client_key.pem")


@pytest.mark.parametrize(
    "address, there",
    [
        ("tcp://127.0.0.1:80", True),
        ("tcp://127.9.9.9:80", True),
        ("tcp://[::1]:80", True),
        ("tcp://localhost:80", True),
        ("tcp://10.0.0.1:80", False),
        ("tcp://localhost.example.org:80", False),
        ("tcp://0.0.0.0:80", False),
    ],
)
def test_loopback(address, there):
    assert is_loopback(address) == there


def test_the_job_script_of_cpu_nodes():
    profile = load_profile(
        {
            **SLURM,
            "partition": "normal",
            "account": "crabs",
            "interface": "lo",
            "directives": ["--exclude=node7"],
            "prologue": ["module load python", "source venv/bin/activate"],
            "python": "python3.12",
            "shared_directory": "/shared",
            "log_directory": "logs",
        }
    )
    script = job_script(profile).splitlines()
    assert script[0] == "#!/usr/bin/env bash"
    assert [line.removeprefix("#SBATCH ") for line in script if line.startswith("#SBATCH")] == [
        "-J pyloric-db",
        "-p normal",
        "-A crabs",
        "-n 1",
        "--cpus-per-task=4",
        "--mem=6G",
        "-t 1:30:00",
        "-e logs/%j.err",
        "-o logs/%j.out",
        "--exclude=node7",
    ]
    start = script.index("module load python")
    assert script[start + 1] == "source venv/bin/activate"
    (command,) = [line for line in script if line.startswith("python3.12")]
    for part in (
        "-m distributed.cli.dask_worker tls://",
        "--nworkers 4", "--nthreads 1", "--memory-limit 1.50GiB", "--nanny",
        "--lifetime 75m --lifetime-stagger 10m",
        "--interface lo", "--protocol tls://", "--tls-key /shared/", "--tls-cert /shared/",
        "--dashboard-address 127.0.0.1:0",
    ):  # fmt: skip
        assert part in command
    assert "GPU" not in command


def test_directories_with_spaces(tmp_path, monkeypatch):
    names = {"log_directory": "my logs", "local_directory": "$SCRATCH/my files"}
    script = job_script(load_profile({**SLURM, **names}))
    assert "#SBATCH -e 'my logs/%j.err'\n#SBATCH -o 'my logs/%j.out'\n" in script
    # as the node's shell reads it
    (line,) = [line for line in script.splitlines() if "--local-directory" in line]
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {line.replace('<', '').replace('>', '')}"],
        env={"SCRATCH": "/scratch"},
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert said[said.index("--local-directory") + 1] == "/scratch/my files"

    monkeypatch.setattr(shutil, "which", lambda name: name)
    (tmp_path / "my certificates").mkdir()
    profile = load_profile({**SLURM, "shared_directory": str(tmp_path / "my certificates")})
    with pytest.raises(ConfigError, match="shared_directory must have no spaces, but is '.*/my c"):
        check_slurm(profile)


def test_the_job_script_of_gpu_nodes():
    script = job_script(load_profile("slurm-gpu"))
    assert "#SBATCH --gres=gpu:1\n" in script
    assert "--resources GPU=1" in script and "--nworkers 8" in script


def test_jobs_that_slurm_refuses(tmp_path, monkeypatch):
    sentence = "sbatch: error: invalid partition specified: nromal"
    for command in ("sbatch", "squeue", "scancel"):
        (tmp_path / command).write_text(
            f"#!/bin/sh\ncat >/dev/null\necho '{sentence}' >&2\nexit 1\n"
        )
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    profile = load_profile({**SLURM, "shared_directory": str(tmp_path)})
    with pytest.raises(ConfigError, match=f"Slurm does not take the jobs: {sentence}"):
        check_slurm(profile)


def test_workers_leave_before_the_walltime_is_over():
    for walltime in (26.0, 90.0, 2880.0):
        profile = load_profile({**SLURM, "walltime_minutes_per_job": walltime})
        latest = profile.lifetime_minutes + profile.lifetime_stagger_minutes
        assert 0 < profile.lifetime_minutes and latest <= walltime - 5


def test_what_a_build_would_take(tiny):
    plan = make_plan(tiny())  # 24 circuits in 12 shards
    found = expectation(plan, {"kind": "local", "workers": 5}, rate=2.0)
    # one of five workers gets three shards of two circuits
    assert found["workers"] == 5 and found["expected_hours"] == pytest.approx(3 / 3600)
    found = expectation(plan, {**SLURM, "circuits_per_s_per_worker": 0.5})
    assert found["workers"] == 12 and found["expected_hours"] == pytest.approx(4 / 3600)
    assert found["job_script"].startswith("#!")
    found = expectation(plan, "scheduler", rate=2.0)
    assert found["workers"] is None and found["expected_hours"] is None
    with pytest.raises(ConfigError, match="rate must be above 0"):
        expectation(plan, "local", rate=0)


def test_plan_prints_it_and_changes_nothing(inside, tmp_path, snapshot):
    before = snapshot(tmp_path)
    done = inside("plan", "prinz2004", "--cluster", "slurm-cpu", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["workers"] == 64 and found["shards"] == 1000
    assert found["expected_hours"] > 0 and "#SBATCH" in found["job_script"]
    done = inside("plan", "demo", "--cluster", "slurm-gpu", cwd=tmp_path)
    assert done.returncode == 0 and "--gres=gpu:1" in done.stdout
    assert "unknown" in done.stdout  # no rate was measured
    assert inside("plan", "demo", "--cluster", "slrm", cwd=tmp_path).returncode == 2
    assert snapshot(tmp_path) == before


def test_workers_belong_to_a_local_cluster(tmp_path, inside):
    done = inside(
        "build", "demo", "--out", tmp_path / "db", "--cluster", "scheduler", "--workers", 2
    )
    assert done.returncode == 2 and "workers is for a local cluster" in done.stderr
    assert not (tmp_path / "db").exists()
    assert load_profile({"kind": "local"}) == LocalProfile(kind="local")
