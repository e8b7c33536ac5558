"""Workers of a running scheduler, which somebody else started: what they must have."""

import shutil
from contextlib import contextmanager

import pytest
from distributed import Client, LocalCluster

import pyloric_db as pyl
from pyloric_db.errors import ClusterError, ConfigError, PyloricDBWarning
from pyloric_db.pipeline import build, coordinate
from pyloric_db.pipeline import cluster as clusters
from pyloric_db.pipeline.cluster import LOOPBACK, without_main
from pyloric_db.store.files import MANIFEST_FILE, files_at
from pyloric_db.store.ledger import Ledger, Receipt, files_of

OLDER = "import pyloric_db; pyloric_db.__version__ = '0.0.1'"
WITHOUT = "import sys; sys.modules['pyloric_db'] = None"


@contextmanager
def scheduler(preload=None, workers=1):
    """A scheduler with workers that run a line before they begin; yields it and its profile."""
    with without_main(), LocalCluster(
        n_workers=workers, threads_per_worker=1, host=LOOPBACK, dashboard_address=f"{LOOPBACK}:0",
        worker_dashboard_address=f"{LOOPBACK}:0", preload=preload,
    ) as cluster:  # fmt: skip
        yield cluster, {"kind": "scheduler", "address": cluster.scheduler_address}


def test_workers_of_another_version_are_refused(tiny, tmp_path):
    path = tmp_path / "db"
    sentence = rf"worker at tcp://127.0.0.1:\d+ has pyloric-db 0.0.1 \(here {pyl.__version__}\)"
    with scheduler(OLDER) as (_, profile):
        for _ in range(2):  # nor does the scheduler remember that they were asked
            with pytest.raises(ClusterError, match=sentence):
                pyl.build(tiny(), path, cluster=profile)
            assert not (path / "database.json").exists()


def test_a_worker_of_another_version_that_joins_later_is_refused(tiny, tmp_path, monkeypatch):
    with scheduler(OLDER, 0) as (cluster, profile):
        look = coordinate.Coordinator._look_after_workers

        def join(self):
            cluster.scale(1)
            look(self)

        monkeypatch.setattr(coordinate.Coordinator, "_look_after_workers", join)
        with (
            pytest.warns(PyloricDBWarning, match="waiting for workers of tcp://"),
            pytest.raises(ClusterError, match="has pyloric-db 0.0.1"),
        ):
            pyl.build(tiny(), tmp_path / "db", cluster=profile)


def test_workers_without_the_package_are_refused(tiny, tmp_path):
    sentence = "worker at tcp://.* must have pyloric-db .* installed.*No module named"
    with scheduler(WITHOUT) as (_, profile):
        for _ in range(2):
            with pytest.raises(ClusterError, match=sentence):
                pyl.build(tiny(), tmp_path / "db", cluster=profile)


def test_a_scheduler_without_workers_is_waited_for_and_given_up(
    tiny_toml, tmp_path, inside, monkeypatch
):
    monkeypatch.setattr(clusters, "NO_WORKERS_S", 0.0)
    with scheduler(workers=0) as (_, profile):
        (tmp_path / "profile.toml").write_text(
            "".join(f"{k} = '{v}'\n" for k, v in profile.items())
        )
        done = inside(
            "build", tiny_toml, "--out", tmp_path / "db", "--cluster", tmp_path / "profile.toml"
        )
    waiting, end = done.stderr.splitlines()
    assert f"waiting for workers of {profile['address']}" in waiting
    assert done.returncode == 2 and "there has been no worker process for" in end


def test_a_cluster_without_workers_is_not_waited_for_for_ever(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "NO_WORKERS_S", 0.0)
    with LocalCluster(n_workers=0, dashboard_address=None) as none, Client(none) as client:
        with (
            pytest.warns(UserWarning, match="waiting for workers of tcp"),
            pytest.raises(ClusterError, match="there has been no worker process for 0 min"),
        ):
            pyl.build(tiny(), tmp_path / "db", cluster=client)
    with pytest.raises(ConfigError, match="must be running, not asynchronous; this one is closed"):
        pyl.build(tiny(), tmp_path / "other", cluster=client)
    assert not (tmp_path / "other").exists()


def test_workers_must_see_the_database_that_is_built(tiny_db, tmp_path):
    """Another machine may have nothing, or something else, at its path."""
    files = files_at(tiny_db)
    manifest = files.sum(MANIFEST_FILE).to_text()
    build._check_seen("tcp://here", files.address, manifest)
    with pytest.raises(ClusterError, match="worker at tcp://there does not see the database .*mis"):
        build._check_seen("tcp://there", str(tmp_path / "nowhere"), manifest)
    other = shutil.copytree(tiny_db, tmp_path / "other")
    (other / MANIFEST_FILE).write_text("{}")
    with pytest.raises(ClusterError, match="does not see the database .*bytes"):
        build._check_seen("tcp://there", str(other), manifest)


def test_a_shard_that_is_elsewhere_is_not_recorded(tiny_db, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "NOTICED_S", 0.0)
    files = files_at(shutil.copytree(tiny_db, tmp_path / "db"))
    row = Ledger(files).read().shards[1]
    receipt = Receipt(1, 5, 5, 9, tuple(files_of(row)), {})
    build._check_here(files, [receipt])
    (tmp_path / "db" / "features" / "part-000001.parquet").unlink()
    with pytest.raises(ClusterError, match="a shard that is not in .*workers must see the same"):
        build._check_here(files, [receipt])
