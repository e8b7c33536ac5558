"""Clusters: who listens where, who speaks in clear, and what becomes of workers that hang."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import distributed
import psutil
import pytest
from dask.utils import key_split
from distributed import Client, LocalCluster

import pyloric_db as pyl
from pyloric_db.errors import ClusterError, ConfigError, DatabaseError
from pyloric_db.pipeline import cluster
from pyloric_db.pipeline.cluster import (
    Crew,
    Prepare,
    local_client,
    open_crew,
    profile_of,
)
from pyloric_db.pipeline.coordinate import Coordinator
from pyloric_db.pipeline.profile import load_profile, n_workers, visible_gpus
from pyloric_db.store.ledger import Failure

COMMAND = Path(sys.executable).parent / "pyloric-db"


def listeners(pids):
    """Addresses on which processes listen."""
    return {
        c.laddr.ip
        for pid in pids
        for c in psutil.Process(pid).net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }


def test_a_local_cluster_listens_on_loopback_only(client):
    pids = [os.getpid(), *client.run(os.getpid).values()]
    assert listeners(pids) == {"127.0.0.1"}


def test_no_worker_is_started_for_want_of_a_shard():
    assert n_workers(profile_of(None, 1000, 3)) == n_workers(profile_of("local", 3, 7)) == 3
    assert n_workers(profile_of(None, None, 1)) == 1


def test_a_system_that_allows_no_more_open_files_ends_no_build(monkeypatch):
    """macOS names no limit, and refuses what is beyond another one."""

    def refuse(*_):
        raise ValueError("current limit exceeds maximum limit")

    unlimited = cluster.resource.RLIM_INFINITY
    monkeypatch.setattr(cluster.resource, "getrlimit", lambda _: (256, unlimited))
    monkeypatch.setattr(cluster.resource, "setrlimit", refuse)
    with local_client(1) as client:
        assert client.submit(int, 7).result() == 7


def test_certificates_are_asked_for(tmp_path):
    """A scheduler with TLS takes those who have its certificates, and nobody else."""
    from distributed import Client, LocalCluster
    from distributed.security import Security

    pytest.importorskip("cryptography")
    security = Security.temporary()
    files = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        (tmp_path / name).write_text(getattr(security, name))
        files[name] = str(tmp_path / name)
    options = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(protocol="tls://", security=security, host="127.0.0.1", **options) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://127.0.0.1:")
        profile = load_profile({"kind": "scheduler", "address": address, **files})
        with open_crew(None, profile) as crew:
            assert crew.client.submit(sum, [1, 2]).result() == 3
        with pytest.raises((OSError, TypeError)):
            Client(address, security=Security.temporary(), timeout=3)


def test_no_scheduler_at_the_address():
    with pytest.raises(ClusterError, match="no Dask scheduler at tcp://127.0.0.1:9"):
        import dask

        with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
            with open_crew(
                None, load_profile({"kind": "scheduler", "address": "tcp://127.0.0.1:9"})
            ):
                pass


def test_gpus(monkeypatch):
    profile = load_profile("local-gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-8f6e")
    assert visible_gpus(profile) == ("2", "GPU-8f6e") and n_workers(profile) == 2
    for none in ("", "-1", "-1,0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        with pytest.raises(ConfigError, match="no GPU is visible"):
            profile_of("local-gpu", None, 4)
    assert visible_gpus(load_profile({"kind": "local-gpu", "gpus": [1]})) == ("1",)
    shared = load_profile({"kind": "local-gpu", "gpus": [0, 1], "workers_per_gpu": 4})
    assert n_workers(shared) == 8


def environment():
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.slow
def test_each_gpu_has_workers_that_see_no_other():
    profile = {"kind": "local-gpu", "gpus": [0, 3], "workers_per_gpu": 2}
    with open_crew(None, load_profile(profile)) as crew:
        assert sorted(crew.client.run(environment).values()) == ["0", "0", "3", "3"]
        workers = crew.client.scheduler_info()["workers"].values()
        assert all(w["resources"] == {"GPU": 1} and w["nthreads"] == 1 for w in workers)
        # together they may have all memory, whatever the number of cores
        whole = sum(w["memory_limit"] for w in workers)
        assert whole == pytest.approx(distributed.system.MEMORY_LIMIT, rel=0.01)


# the coordinator


def echo(shard):
    return shard


def test_all_shards_are_done_once(client):
    done: list[int] = []
    coordinator = Coordinator(Crew(client, 60.0), lambda s: (echo, s), done.extend, aside=print)
    assert coordinator.run(range(40)) == []
    assert sorted(done) == list(range(40))


def test_the_scheduler_keeps_nothing_of_shards_that_are_done():
    """Otherwise its memory would grow with the length of a build."""
    with open_crew("local", profile_of("local", 1, 4)) as crew:
        scheduler = crew.client.cluster.scheduler
        run = Coordinator(crew, lambda s: (echo, s), lambda results: None, aside=print).run
        assert run(range(60)) == []
        assert key_split.cache_info().currsize <= 2
        spans = scheduler.extensions["spans"].spans.values()
        assert spans and all(len(span.metadata["collections"]) == 1 for span in spans)
        assert len(scheduler.tasks) <= 4  # those whose release is on its way


def sometimes(shard, folder):
    """Fails at the first two attempts, or always."""
    tries = os.path.join(folder, str(shard))
    with open(tries, "a") as f:
        f.write("x")
    if shard == 3 or (shard == 5 and os.path.getsize(tries) < 3):
        raise ValueError(f"no luck\nwith {shard}")
    if shard == 6:  # what a network disk may say; in Python it is a TimeoutError
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    return shard


def test_three_tries(client, tmp_path):
    done: list[int] = []
    failed: list[Failure] = []
    coordinator = Coordinator(
        Crew(client, 60.0), lambda s: (sometimes, s, str(tmp_path)), done.extend, failed.append
    )
    assert sorted(coordinator.run(range(8))) == [3, 6]
    assert sorted(done) == [0, 1, 2, 4, 5, 7]
    assert sorted(failed, key=lambda f: f.shard) == [
        Failure(3, "ValueError: no luck with 3", 3),
        Failure(6, "TimeoutError: [Errno 110] Connection timed out", 3),
    ]


def full_disk(shard):
    raise OSError(28, os.strerror(28), "part")


def test_a_full_disk_sets_no_shard_aside(client):
    failed: list[Failure] = []
    coordinator = Coordinator(Crew(client, 60.0), lambda s: (full_disk, s), print, failed.append)
    with pytest.raises(DatabaseError, match=r"No space left on device \(part\).*is kept"):
        coordinator.run(range(8))
    assert failed == []


def hang(shard, folder):
    """The first to try shard 2 stops for good."""
    try:
        os.mkdir(os.path.join(folder, str(shard)))
    except FileExistsError:
        return shard
    if shard == 2:
        time.sleep(3600)
    return shard


@pytest.mark.slow
def test_a_shard_that_hangs_is_tried_elsewhere(tmp_path):
    from pyloric_db.pipeline.cluster import local_client

    done: list[int] = []
    with local_client(2) as client:
        before = set(client.run(os.getpid).values())
        coordinator = Coordinator(
            Crew(client, 3.0), lambda s: (hang, s, str(tmp_path)), done.extend, aside=print
        )
        assert coordinator.run(range(6)) == []
        client.wait_for_workers(2)
        assert len(before & set(client.run(os.getpid).values())) == 1
    assert sorted(done) == list(range(6))


def stuck(shard):
    time.sleep(3600)


@pytest.mark.slow
def test_a_shard_that_always_hangs_is_set_aside():
    failed: list[Failure] = []
    with local_client(1) as client:
        coordinator = Coordinator(Crew(client, 1.0), lambda s: (stuck, s), print, failed.append)
        assert coordinator.run([4]) == [4]
    assert failed == [
        Failure(4, "TimeoutError: took longer than the shard limit of 0.0166667 min", 3)
    ]


@pytest.mark.slow
def test_a_worker_that_dies_twice_within_seconds_comes_back():
    """Left to itself, Dask gives up one that is away 15 s after it went."""
    with local_client(1) as client:
        begin = time.monotonic()
        for moment in (0.0, 14.2):
            pid = client.submit(os.getpid, pure=False).result(timeout=60)
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
        client.submit(sum, [1, 2]).result(timeout=60)
        time.sleep(max(0.0, begin + 17.0 - time.monotonic()))
        assert client.cluster.workers  # its nanny, which starts it again


def test_a_build_without_workers_ends(monkeypatch):
    monkeypatch.setattr(cluster, "NO_WORKERS_S", 0.0)
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        Client(empty) as client,
    ):
        crew = Crew(client, 60.0, cluster.keep_processes())
        coordinator = Coordinator(crew, lambda s: (stuck, s), print, print)
        with pytest.raises(ClusterError, match="there has been no worker process"):
            coordinator.run([4])


def test_a_worker_that_goes_as_a_build_begins_does_not_end_it(client, monkeypatch):
    """Dask closes the connection of whoever prepares the workers then."""
    from distributed import Client
    from distributed.comm import CommClosedError

    register = Client.register_plugin

    def closed(self, plugin):
        register(self, plugin)
        if isinstance(plugin, Prepare):
            raise CommClosedError("Stream is closed")

    monkeypatch.setattr(Client, "register_plugin", closed)
    with open_crew(client, None) as crew:
        assert crew.client.submit(sum, [1, 2]).result() == 3


def slow(shard):
    time.sleep(0.2)
    return shard


@pytest.mark.slow
def test_a_scheduler_that_goes_is_said():
    with local_client(1) as client:
        crew = Crew(client, 60.0, cluster.keep_processes())
        coordinator = Coordinator(crew, lambda s: (slow, s), print, aside=print)
        threading.Timer(1.0, client.cluster.close).start()
        with pytest.raises(ClusterError, match="scheduler at tcp://127.0.0.1:.* was lost"):
            coordinator.run(range(1000))


def test_a_scheduler_that_goes_just_before_a_shard_is_handed_out_is_said():
    with local_client(1) as client:

        def call(shard):
            client.close()
            return echo, shard

        coordinator = Coordinator(Crew(client, 60.0), call, print, aside=print)
        with pytest.raises(ClusterError, match="scheduler at tcp://127.0.0.1:.* was lost"):
            coordinator.run([0])


def test_a_finished_build_starts_no_workers(tiny, tiny_db):
    """Nor does it ask whether the profile's scheduler is there."""
    profile = {"kind": "scheduler", "address": "tcp://127.0.0.1:9"}
    assert pyl.build(tiny(), tiny_db, cluster=profile).complete


def test_sigterm_interrupts(tiny_toml, tmp_path):
    path = tmp_path / "db"
    build = subprocess.Popen(
        [COMMAND, "build", tiny_toml, "--out", path, "--workers", "1"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    build.send_signal(signal.SIGTERM)
    _, err = build.communicate(timeout=60)
    assert build.returncode == 130 and "interrupted; what is finished is kept" in err


def test_a_build_that_has_jobs_cancels_them_before_it_ends(
    inside, tiny_toml, tmp_path, monkeypatch
):
    said = []

    def build(*arguments, **options):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            said.append("jobs cancelled")

    def end(note):
        said.append("ended")
        raise SystemExit(130)

    monkeypatch.setattr("pyloric_db.pipeline.build.build", build)
    monkeypatch.setattr("pyloric_db.cli.building.end_interrupted", end)
    monkeypatch.setattr("multiprocessing.active_children", list)  # those of other tests live on
    monkeypatch.setenv("PYTHONWARNINGS", "")  # the command sets it
    done = inside("build", tiny_toml, "--out", tmp_path / "db", "--cluster", "slurm-cpu")
    assert done.returncode == 130 and said == ["jobs cancelled", "ended"]
