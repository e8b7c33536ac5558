"""`[store] events = "last_periods"`: the last spikes of every circuit, beside its features."""

import numpy as np
import pytest
from contents import contents

import pyloric_db as pyl
from pyloric_db.errors import DatabaseError, QueryError
from pyloric_db.pipeline.last_periods import LastPeriods
from pyloric_db.pipeline.ranges import parse_ranges
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.store.verify import verify
from pyloric_db.vocabulary import CELLS

KEEP = {"store.events": "last_periods"}


@pytest.fixture(scope="module")
def with_events(client, tiny, tmp_path_factory):
    """The tiny database with events, which is not to be changed."""
    path = tmp_path_factory.mktemp("events") / "db"
    pyl.build(tiny(KEEP), path, cluster=client)
    return path


def test_every_spike_of_a_circuit_without_a_period_is_there(with_events):
    db = pyl.open(with_events)
    ids = db.circuits.circuit_id.values[::-1][:7]  # in any order
    spikes = db.events(ids)
    assert spikes.dims == ("circuit", "cell", "spike")
    assert spikes.circuit_id.values.tolist() == ids.tolist()
    rows = db.circuits.set_xindex("circuit_id").sel(circuit_id=ids)
    assert rows.period_ms.isnull().all()
    counts = spikes.notnull().sum("spike")
    for cell in CELLS:
        window_s = (rows.t_simulated_ms.values - 250) / 1000
        expected = rows[f"spike_rate_{cell}_Hz"].values * window_s
        np.testing.assert_allclose(counts.sel(cell=cell), expected, atol=1e-3)
    assert counts.sum() > 20
    assert (
        float(spikes.min()) >= 250 and (spikes.max(("cell", "spike")) < rows.t_simulated_ms).all()
    )


def test_they_are_the_last_periods(client, tmp_path):
    """Of a pyloric circuit: the analysis finds its rhythm again in them."""
    recipe = {
        "name": "one",
        "circuit": {"preset": "prinz2004"},
        "parameters": {"grid": {
            "abpd": ["AB/PD 1"], "lp": ["LP 1"], "py": ["PY 1"],
            "gsyn_ab_lp_nS": [10], "gsyn_pd_lp_nS": [3], "gsyn_ab_py_nS": [0],
            "gsyn_pd_py_nS": [10], "gsyn_lp_abpd_nS": [3], "gsyn_lp_py_nS": [0],
            "gsyn_py_lp_nS": [30],
        }},
        "store": {"events": "last_periods"},
    }  # fmt: skip
    db = pyl.build(recipe, tmp_path / "db", cluster=client)
    row = db.circuits.isel(circuit=0)
    period, end = float(row.period_ms), float(row.t_simulated_ms)
    spikes = db.events([0]).isel(circuit=0)
    assert max(1000, end - 5 * period) <= float(spikes.min()) < end - 3 * period
    again = pyl.features_from_spikes(db.events([0])).isel(circuit=0)
    assert bool(row.pyloric) and bool(again.pyloric) and again.circuit_id == 0
    for name in ("burst_duration_lp_ms", "burst_duration_py_ms", "duty_cycle_lp"):
        assert float(again[name]) == pytest.approx(float(row[name]), rel=0.05)


def test_merged_and_with_one_worker_they_are_the_same_bytes(with_events, client, tiny, tmp_path):
    pyl.build(tiny(KEEP), tmp_path / "one", workers=1)
    assert contents(tmp_path / "one") == contents(with_events)
    for name, ids in (("a", "0:7"), ("b", "7:24")):
        pyl.build(tiny(KEEP), tmp_path / name, cluster=client, ids=parse_ranges(ids))
    pyl.merge([tmp_path / "b", tmp_path / "a"], tmp_path / "both")
    assert contents(tmp_path / "both") == contents(with_events)
    assert "events/part-000000.parquet" in contents(with_events)


def test_a_damaged_file_of_events_is_named_and_mended(client, tiny, tmp_path):
    path = tmp_path / "db"
    db = pyl.build(tiny(KEEP), path, cluster=client)
    file = path / "events" / "part-000003.parquet"
    good = file.read_bytes()
    ids = db.circuits.circuit_id.values
    for bad in (good[:-9], b"", good[:40] + bytes([good[40] ^ 4]) + good[41:]):
        file.write_bytes(bad)
        assert [d.file for d in verify(path).damages] == ["events/part-000003.parquet"]
    file.write_bytes(good[:-9])
    with pytest.raises(DatabaseError, match=r"part-000003.parquet cannot be read"):
        db.events(ids)
    pyl.build(tiny(KEEP), path, cluster=client)
    assert file.read_bytes() == good and verify(path).good


def test_a_database_without_them_says_so(tiny_db):
    with pytest.raises(QueryError, match="keeps no spikes"):
        pyl.open(tiny_db).events([0])


def test_nothing_is_kept_of_a_failed_run():
    trains = SpikeTrains.from_lists([[[10.0, 20.0], [], [5.0]]] * 2, CELLS)
    kept = LastPeriods(CELLS, Protocol())
    kept.add(
        np.array([1, 0]), trains, np.array([3.5, np.nan]), np.array([25.0, 25.0]),
        np.array([False, True]),
    )  # fmt: skip
    found = kept.table().to_pylist()
    assert found[0] == {f"spikes_{cell}_ms": [] for cell in CELLS}
    assert found[1] == {"spikes_abpd_ms": [10.0, 20.0], "spikes_lp_ms": [], "spikes_py_ms": []}
