"""Builds: what is stored is what `classify` gives, whatever the shards and the workers."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from contents import contents

import pyloric_db as pyl
from pyloric_db.errors import (
    ClusterError,
    ConfigError,
    DatabaseError,
    PyloricDBWarning,
    ShardError,
)
from pyloric_db.model.constants import ACETYLCHOLINE, GLUTAMATE
from pyloric_db.pipeline.coordinate import WINDOW
from pyloric_db.pipeline.plan import make_plan, versions
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger, failures
from pyloric_db.store.lock import build_lock
from pyloric_db.store.verify import status, verify


@pytest.fixture(scope="module")
def built(tiny_db):
    return pyl.open(tiny_db)


def columns_of(dataset):
    """Plain values by column, so that two datasets can be compared to the bit."""
    return {str(n): np.asarray(dataset[n].values) for n in dataset.data_vars}


def assert_same(a, b, names=None):
    for name in names or (set(a) | set(b)):
        assert a[name].dtype == b[name].dtype, name
        if a[name].dtype == object:
            assert a[name].tolist() == b[name].tolist(), name
        else:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_more_shards_than_fit_the_window_are_all_built(built, tiny_db):
    assert built.manifest.n_shards == 12 > 2 * WINDOW
    assert built.complete and len(built) == 24
    assert built.circuits.circuit_id.values.tolist() == list(range(24))
    assert (built.circuits.status.values == "ok").all()
    report = verify(tiny_db)
    assert report.good and report.complete and not report.strays
    assert not (tiny_db / "build.lock").exists() and not (tiny_db / "failed.jsonl").exists()


def test_the_numbers_are_those_of_classify(built, tiny):
    """To the bit, features and thermal start included."""
    parameters = built.parameters(built.circuits.circuit_id.values)
    found = pyl.classify(
        parameters.gbar.values, parameters.gsyn.values, protocol=load_recipe(tiny()).run_protocol()
    )
    names = [n for n in columns_of(found) if n in built.circuits]
    assert {"period_ms", "n_criteria_met", "v_max_py_mV", "status"} <= set(names)
    stored = columns_of(built.circuits)
    assert np.ptp(stored["v_mean_lp_mV"]) > 0  # not all the same circuit
    assert_same(stored, columns_of(found), names)


def test_one_worker_writes_the_same_bytes(tiny, tiny_db, tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        pyl.build(tiny(), tmp_path / "db", cluster=client)
    assert contents(tmp_path / "db") == contents(tiny_db)


@pytest.mark.parametrize("shard_circuits", [1, 5])
def test_the_size_of_shards_changes_no_number(client, tiny, built, tmp_path, shard_circuits):
    db = pyl.build(tiny({"store.shard_circuits": shard_circuits}), tmp_path, cluster=client)
    assert db.manifest.n_shards == -(-24 // shard_circuits)
    assert_same(columns_of(db.circuits), columns_of(built.circuits))
    assert_same(columns_of(db.states()), columns_of(built.states()))


def test_a_selection_has_the_numbers_of_the_whole(client, tiny, built, tmp_path):
    db = pyl.build(tiny(), tmp_path, cluster=client, sample=7, seed=2)
    ids = db.circuits.circuit_id.values
    assert len(ids) == 7 and ids[-1] > 7
    assert_same(columns_of(db.circuits), columns_of(built.circuits.isel(circuit=ids)))
    assert_same(columns_of(db.states(ids)), columns_of(built.states(ids)))


def test_simulate_goes_on_from_the_stored_state(built):
    state = built.states([5, 11])
    assert np.ptp(state.V.values) > 0 and state.V.dtype == np.float32
    traces = built.simulate([5, 11], duration_ms=20, record_every_ms=0.5)
    assert traces.V.shape == (2, 3, 40)
    np.testing.assert_allclose(traces.V.values[:, :, 0], state.V.values, atol=5)
    # in two pieces as in one
    parameters = built.parameters([5, 11])
    settings = {"dt_ms": 0.1, "return_state": True}
    _, halfway = built.simulate([5, 11], duration_ms=20, **settings)
    _, second = pyl.simulate(
        parameters.gbar.values, parameters.gsyn.values, duration_ms=20, initial=halfway, **settings
    )
    _, whole = built.simulate([5, 11], duration_ms=40, **settings)
    for name in ("V", "Ca", "m", "h", "s"):
        np.testing.assert_array_equal(second[name].values, whole[name].values)


def test_progress_rises_to_the_end(client, tiny, tmp_path):
    seen = []
    pyl.build(tiny(), tmp_path, cluster=client, progress=lambda *now: seen.append(now))
    done = [d for d, _ in seen]
    assert {total for _, total in seen} == {24}
    assert done == sorted(done) and done[0] == 0 and done[-1] == 24
    seen.clear()
    pyl.build(tiny(), tmp_path, cluster=client, progress=lambda *now: seen.append(now))
    assert all(now == (24, 24) for now in seen)  # nothing left to do


def test_a_finished_build_is_left_alone(tiny, tiny_db, tmp_path, snapshot):
    path = shutil.copytree(tiny_db, tmp_path / "db")
    before = {k: v[0] for k, v in snapshot(path).items()}
    assert pyl.build(tiny(), path).complete  # needs no cluster
    assert {k: v[0] for k, v in snapshot(path).items()} == before


# other recipes


def test_a_prior_is_built(client, tiny, tmp_path):
    prior = {
        "count": 10,
        "seed": 1,
        "parameters": {
            "abpd": {"choice": ["AB/PD 1", "AB/PD 2"]},
            "lp": "LP 1",
            "py": "PY 1",
            "gsyn_ab_lp_nS": {"log_uniform": [0.1, 100]},
        },
    }
    recipe = tiny({"parameters": {"prior": prior}, "store.shard_circuits": 3})
    db = pyl.build(recipe, tmp_path / "a", cluster=client)
    assert db.complete and len(db) == 10 and db.manifest.axes is None
    g = db.query("gsyn_ab_lp_nS > 1", columns=["gsyn_ab_lp_nS"]).gsyn_ab_lp_nS.values
    assert 0 < len(g) < 10 and (g > 1).all()
    few = pyl.build(recipe, tmp_path / "b", cluster=client, sample=4, seed=0)
    ids = few.circuits.circuit_id.values
    assert_same(columns_of(few.circuits), columns_of(db.circuits.isel(circuit=ids)))
    # thermal starts per shard give what classify gives for all at once
    parameters = db.parameters(np.arange(10))
    found = pyl.classify(
        parameters.gbar.values, parameters.gsyn.values, protocol=load_recipe(tiny()).run_protocol()
    )
    names = [n for n in columns_of(found) if n in db.circuits]
    assert_same(columns_of(db.circuits), columns_of(found), names)


def test_a_table_is_built(client, tiny, tmp_path):
    rows = ["gbar_abpd_Na,gbar_abpd_Kd,gbar_lp_Na,gbar_lp_Kd,gbar_py_Na,gbar_py_leak,gsyn_lp_py_nS"]
    rows += [f"{100 * k},100,100,{20 * k},200,0.03,{k}" for k in range(1, 6)]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    recipe = tiny(
        {"parameters": {"table": {"path": str(tmp_path / "t.csv")}}, "protocol.initial": "cold"}
    )
    db = pyl.build(recipe, tmp_path / "db", cluster=client)
    assert db.complete and len(db) == 5
    assert db.parameters([3]).gbar.sel(cell="lp", channel="Kd").values.tolist() == [80]
    assert (db.circuits.status.values == "ok").all()
    # rows that were changed are another recipe
    (tmp_path / "t.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(DatabaseError, match="another recipe"):
        pyl.build(recipe, tmp_path / "db", cluster=client)


@pytest.fixture(scope="module")
def pair_db(client, tiny, tmp_path_factory):
    """Two cells with a gap junction of several strengths, no synapses."""
    recipe = {
        "name": "pair",
        "circuit": {
            "cells": [{"name": "left"}, {"name": "right"}],
            "gap_junctions": [{"cells": ["left", "right"]}],
        },
        "parameters": {
            "grid": {
                "left": ["AB/PD 1"],
                "right": ["LP 1", {"Na": 100, "Kd": 75, "leak": 0.02}],
                "ggap_left_right_nS": [0, 5, 5000],
            }
        },
        "protocol": {**tiny()["protocol"], "initial": "cold"},
    }
    return pyl.build(recipe, tmp_path_factory.mktemp("pair") / "db", cluster=client)


def test_two_cells_with_a_gap_junction(pair_db):
    assert pair_db.complete and len(pair_db) == 6
    names = set(pair_db.circuits)
    assert {"period_ms", "activity_left", "v_mean_right_mV", "ggap_left_right_nS"} <= names
    assert not {"pyloric", "netcode", "triphasic"} & names
    # a strong junction pulls the two potentials together
    means = [pair_db.circuits[f"v_mean_{cell}_mV"].values for cell in ("left", "right")]
    apart = np.abs(means[0] - means[1])
    assert apart[2] < 1 < apart[0] / 5
    cube = pair_db.cube()
    assert cube.sizes == {"left": 1, "right": 2, "ggap_left_right_nS": 3}
    traces = pair_db.simulate([0, 5], duration_ms=10)
    assert traces.V.sizes["cell"] == 2 and np.isfinite(traces.V.values).all()


def test_a_directory_takes_another_recipe_after_it_was_emptied(client, tiny, tmp_path):
    """Workers must not remember the thermalised cells of what was there before."""
    first = pyl.build(tiny({"protocol.thermal_phase": 0.0}), tmp_path / "db", cluster=client)
    before = columns_of(first.cells())
    shutil.rmtree(tmp_path / "db")
    second = pyl.build(tiny({"protocol.thermal_max_ms": 1500}), tmp_path / "db", cluster=client)
    assert (columns_of(second.cells())["V"] != before["V"]).any()
    parameters = second.parameters(np.arange(24))
    protocol = load_recipe(tiny({"protocol.thermal_max_ms": 1500})).run_protocol()
    found = pyl.classify(parameters.gbar.values, parameters.gsyn.values, protocol=protocol)
    assert_same(columns_of(second.circuits), columns_of(found), ["v_mean_py_mV", "v_min_lp_mV"])


# refusals


def test_resume_off_refuses(tiny, tiny_db, snapshot):
    before = snapshot(tiny_db)
    with pytest.raises(DatabaseError, match="resume is off"):
        pyl.build(tiny(), tiny_db, resume=False)
    assert snapshot(tiny_db) == before


def test_no_workers_and_another_recipe(client, tiny, tiny_db, tmp_path, snapshot):
    for workers in (0, 1.5, "4"):
        with pytest.raises(ConfigError, match="workers must be a whole number from 1 on, not "):
            pyl.build(tiny(), tmp_path / "db", workers=workers)
    with pytest.raises(ConfigError, match="workers is for a local cluster"):
        pyl.build(tiny(), tmp_path / "db", workers=2, cluster=client)
    assert not (tmp_path / "db").exists()
    before = snapshot(tiny_db)
    for recipe, what in (
        (
            tiny({"name": "other"}),
            r"\(tiny, not other\): recipe.name is 'other', but",
        ),
        (tiny({"protocol.dt_ms": 0.05}), "recipe.protocol.dt_ms is 0.05, but there "),
    ):
        with pytest.raises(DatabaseError, match=f"another recipe.*{what}"):
            pyl.build(recipe, tiny_db)
    with pytest.raises(DatabaseError, match="lies inside the database"):
        pyl.build(tiny(), tiny_db / "states" / "db")
    with pytest.raises(DatabaseError, match=r"holds all circuits .* not 23 circuits \(limit 23\)"):
        pyl.build(tiny(), tiny_db, limit=23)
    assert snapshot(tiny_db) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"ids": "0:3"}, r"ids must be ranges, such as \[range\(0, 1000\)\], not '0:3'"),
        ({"ids": [[0, 3]]}, "ids must be ranges"),
        ({"limit": "3"}, "limit must be a whole number, not '3'"),
        ({"limit": True}, "limit must be a whole number, not True"),
        ({"sample": 2.0}, "sample must be a whole number, not 2.0"),
        ({"cluster": object()}, "cluster must be the name of a profile"),
        ({"cluster": {"kind": "scheduler", "address": "tcp://127.0.0.1:9"}}, "no Dask scheduler"),
        ({"recipe": None}, "a recipe must be a name, a TOML file or a dict, not None"),
        ({"path": None}, "None cannot be found"),
    ],
)
def test_arguments_that_make_no_sense(tiny, tmp_path, arguments, text):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises((ConfigError, DatabaseError, ClusterError), match=text),
    ):
        pyl.build(**{"recipe": tiny(), "path": tmp_path / "db"} | arguments)
    assert not (tmp_path / "db").exists() or not list((tmp_path / "db").iterdir())


def test_a_path_below_home(client, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pyl.build(tiny(), "~/db", cluster=client, limit=1).path == tmp_path / "db"


@pytest.mark.slow
def test_a_script_without_a_guard_builds_once(tiny_toml, tmp_path):
    """Python runs a script again in each process that it spawns."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import pyloric_db as pyl\n"
        "print('begun')\n"
        "print(len(pyl.build(sys.argv[1], sys.argv[2], limit=2, workers=1)))\n"
    )
    done = subprocess.run(
        [sys.executable, script, tiny_toml, tmp_path / "db"], capture_output=True, text=True
    )
    assert done.stdout.split() == ["begun", "2"], done.stderr
    assert done.stderr == ""


WARM = {
    "Q10_gbar": {"Kd": 1.5}, "Q10_gsyn": {"glutamate": 1.3}, "Q10_tau_m": 2.4, "tau_Ca": 150,
    "E_rev": {"glutamate": 0}, "k_minus": {"acetylcholine": 0.02},
}  # fmt: skip


def test_a_database_of_another_temperature(client, tiny, tiny_db, tmp_path):
    recipe = tiny({"protocol.temperature_K": 293, "constants": WARM})
    db = pyl.build(recipe, tmp_path / "db", cluster=client)
    constants, protocol = pyl.constants_of(db), pyl.Protocol(**db.manifest.settings)
    assert constants == pyl.Constants(
        Q10_gbar=(1, 1, 1, 1, 1, 1.5, 1, 1),
        Q10_gsyn={"glutamate": 1.3},
        Q10_tau_m=2.4,
        tau_Ca=150,
        transmitters=(replace(GLUTAMATE, E_rev=0.0), replace(ACETYLCHOLINE, k_minus=0.02)),
    )
    assert protocol.temperature_K == 293
    given = db.parameters(range(24))
    features = pyl.classify(given.gbar, given.gsyn, protocol=protocol, constants=constants)
    stored = db.query("circuit_id >= 0")
    for name, values in features.data_vars.items():
        np.testing.assert_array_equal(values.values, stored[name].values, err_msg=name)
    # cells are thermalised at that temperature, and simulations go on at it
    published = pyl.open(tiny_db)
    assert (db.cells().V.values != published.cells().V.values).all()
    on = db.simulate([3], duration_ms=100)
    same = pyl.simulate(
        given.gbar[[3]], given.gsyn[[3]], duration_ms=100, initial=db.states([3]), dt_ms=0.1,
        spike_threshold_mV=0.0, temperature_K=293, constants=constants,
    )  # fmt: skip
    np.testing.assert_array_equal(on.V.values, same.V.values)
    assert pyl.constants_of(published) == pyl.Constants()
    # and a reader is told
    assert published.manifest.other_model == ""
    for words in ("293.0 K", "Q10_gbar (Kd 1.5)", "Q10_gsyn (glutamate 1.3)", "tau_Ca 150.0"):
        assert words in db.manifest.other_model


def test_a_database_from_before_there_were_temperatures_is_gone_on_with(client, tiny, tmp_path):
    path = tmp_path / "db"
    pyl.build(tiny(), path, cluster=client)
    manifest = (path / "database.json").read_text()
    assert "temperature_K" not in manifest and '"constants"' not in manifest
    (path / "features" / "part-000005.parquet").unlink()
    assert pyl.build(tiny({"constants": {}}), path, cluster=client).complete
    assert (path / "database.json").read_text() == manifest
    assert verify(path).good


def test_to_go_on_with_other_versions_is_said(client, tiny, tmp_path, monkeypatch):
    path = tmp_path / "db"
    then = {**versions(), "jax": "0.1.0", "numpy": "1.0.0"}
    monkeypatch.setattr("pyloric_db.pipeline.plan.versions", lambda: then)
    create(Ledger(path), make_plan(tiny()).manifest)
    monkeypatch.undo()
    with pytest.warns(PyloricDBWarning, match=r"begun with jax 0\.1\.0 \(now .*\), numpy 1\.0\.0"):
        db = pyl.build(tiny(), path, cluster=client)
    assert db.complete and db.manifest.versions == then
    pyl.build(tiny(), path, cluster=client)  # nothing is built, nothing is said


def test_one_build_at_a_time(tiny, tiny_db, tmp_path):
    path = shutil.copytree(tiny_db, tmp_path / "db")
    code = (
        "import sys; from pyloric_db.store.lock import build_lock\n"
        "with build_lock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseError, match=f"being built by process {other.pid}"):
            pyl.build(tiny(), path)
        other.communicate()
    with build_lock(path):
        pass
    assert pyl.build(tiny(), path).complete


# failures


def test_a_shard_that_always_fails_is_set_aside(client, tiny, tiny_db, tmp_path):
    path = tmp_path / "db"
    obstacle = path / "features" / "part-000003.parquet"
    obstacle.mkdir(parents=True)
    (obstacle / "x").touch()
    # the obstacle has to be there before the first shard, and the database before the obstacle
    shutil.move(path / "features", tmp_path / "features")
    path.rmdir()
    create(Ledger(path), make_plan(tiny()).manifest)
    shutil.move(tmp_path / "features" / obstacle.name, obstacle)

    with pytest.raises(ShardError, match=r"1 of 12 shards failed 3 times .*\(3\).* status "):
        pyl.build(tiny(), path, cluster=client)
    found = status(path)
    assert found.shards_done == 11 and not found.complete
    assert [(f.shard, f.attempts) for f in found.failures] == [(3, 3)]
    assert found.failures[0].error and "\n" not in found.failures[0].error
    db = pyl.open(path)
    assert len(db) == 22 and not db.complete
    assert sorted(set(range(24)) - set(db.circuits.circuit_id.values)) == [6, 7]

    shutil.rmtree(obstacle)
    # another build leaves it aside, and says so, until it is told to try again
    (path / "features" / "part-000005.parquet").write_bytes(b"damaged")
    seen = []
    with pytest.raises(ShardError, match=r"1 of 12 shards .* set aside \(3\).* --retry-failed"):
        pyl.build(tiny(), path, cluster=client, progress=lambda *step: seen.append(step))
    assert seen[0] == (20, 24)  # neither what is made again is done, nor what is aside
    assert status(path).shards_done == 11
    assert pyl.build(tiny(), path, cluster=client, retry_failed=True).complete
    assert failures(path) == []
    assert contents(path) == contents(tiny_db)
    # of a database that is complete nothing is left of failures, not even a damaged line
    (path / "failed.jsonl").write_text("damaged\n")
    assert not verify(path).good
    pyl.build(tiny(), path)
    assert verify(path).good


@pytest.mark.slow
def test_a_worker_that_dies_costs_nothing(tiny, tiny_db, tmp_path):
    import signal

    from pyloric_db.pipeline.cluster import local_client

    killed = []

    def kill_one(done, total):
        if done and not killed:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)

    with local_client(2) as client:
        pids = list(client.run(os.getpid).values())
        db = pyl.build(tiny(), tmp_path / "db", cluster=client, progress=kill_one)
        assert pids[0] not in client.run(os.getpid).values()
    assert killed and db.complete
    assert contents(tmp_path / "db") == contents(tiny_db)
