import numpy as np
import pytest
import synthetic

from pyloric_db.errors import QueryError
from pyloric_db.query import database
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger
from pyloric_db.vocabulary import CRITERIA, default_features

NAMES = [c.column for c in CRITERIA]
MEANS = {c.column: c.mean for c in CRITERIA}


@pytest.fixture(scope="module")
def db(pristine):
    return database.open(pristine[0])


@pytest.fixture(scope="module")
def table(pristine):
    return synthetic.expected(pristine[1])


def ranked(table, features, mask=True):
    """Ids and distances by plain NumPy."""
    sds = {c.column: c.sd for c in CRITERIA}
    off = [(table[n].astype(float) - v) / sds[n] for n, v in features.items()]
    distance = np.sqrt(np.mean(np.square(off), axis=0))
    distance[~np.broadcast_to(mask, distance.shape)] = np.nan
    ids = np.lexsort((table["circuit_id"], distance))[: np.isfinite(distance).sum()]
    return ids, distance[ids]


@pytest.mark.parametrize("names", [NAMES[:1], NAMES[:3], NAMES[11:13], NAMES[13:]])
def test_distance_is_the_rms_in_published_sds(db, table, names):
    features = {n: MEANS[n] for n in names}
    ids, distances = ranked(table, features)
    found = db.nearest(features, k=7)
    assert found.circuit_id.values.tolist() == ids[:7].tolist()
    np.testing.assert_allclose(found.distance, distances[:7], rtol=1e-12)
    assert found.attrs["compared"] == names and found.distance.attrs["units"] == "SD"
    assert found.period_ms.attrs["units"] == "ms"
    assert np.array_equal(found.lp.values, table["lp"][ids[:7]])
    assert {str(v) for v in found.data_vars} == {c.name for c in db.manifest.columns[1:]} | {
        "distance"
    }


def test_a_circuit_is_nearest_to_itself(db, table):
    complete = np.flatnonzero(~np.isnan([table[n] for n in NAMES[:5]]).any(axis=0))
    row = db.query(f"circuit_id == {complete[0]}")[NAMES[:5]]
    found = db.nearest(row, k=1)
    assert (found.circuit_id.item(), found.distance.item()) == (complete[0], 0)


def test_missing_features_are_not_compared(db):
    features = {NAMES[0]: 1500.0, NAMES[1]: np.nan, NAMES[2]: None}
    found = db.nearest(features, k=5)
    assert found.attrs["compared"] == [NAMES[0]]
    assert found.identical(db.nearest({NAMES[0]: 1500}, k=5))


def test_where_and_k(db, table):
    features = {NAMES[0]: 1000.0}
    ids, _ = ranked(table, features, table["lp"] == 2)
    found = db.nearest(features, k=1000, where="lp == 2  # of three")
    assert found.circuit_id.values.tolist() == ids.tolist()


def test_any_number_of_circuits_may_be_asked_for(db, table):
    ids, _ = ranked(table, {NAMES[0]: 1000.0})
    found = db.nearest({NAMES[0]: 1000.0}, k=2**70)
    assert found.circuit_id.values.tolist() == ids.tolist()


def test_a_condition_may_be_as_long_as_in_a_query(db):
    where = "lp == 2" + " or lp == 2" * 900
    assert db.nearest({NAMES[0]: 1000.0}, k=9, where=where).sizes["circuit"] == 9
    assert len(where) > 9_900


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"features": {"perid_ms": 3}}, "have no feature 'perid_ms'; did you mean 'period_ms'"),
        ({"features": {}}, "all are missing"),
        ({"features": {NAMES[0]: np.nan}}, "all are missing"),
        ({"features": {NAMES[0]: np.inf}}, "must be finite"),
        ({"features": {NAMES[0]: "3"}}, "must be one number"),
        ({"features": {NAMES[0]: [1, 2]}}, "must be one number"),
        ({"k": 0}, "k must be a whole number from 1, not 0"),
        ({"k": 2.5}, "k must be"),
        ({"k": True}, "k must be"),
        ({"where": "perid_ms > 3"}, "unknown column 'perid_ms'"),
        ({"where": "period_ms"}, "must be a condition"),
        ({"where": "lp > 77"}, "there is no circuit for which 'lp > 77' is true"),
        (
            {"where": "isnull(period_ms)"},
            "of those for which 'isnull.* has all the features",
        ),
        ({"features": 5}, "features must be a dict or a Dataset, not int"),
    ],
)
def test_bad_arguments(db, arguments, message):
    with pytest.raises(QueryError, match=message):
        db.nearest(**{"features": {NAMES[0]: 1500.0}, **arguments})


def test_other_features_are_compared_in_sds_of_the_database(db, table):
    features = {"spikes_per_burst_lp": 900.0, NAMES[0]: MEANS[NAMES[0]]}
    spikes = table["spikes_per_burst_lp"].astype(float)
    sds = {"spikes_per_burst_lp": np.nanstd(spikes), NAMES[0]: CRITERIA[0].sd}
    off = [(table[n].astype(float) - v) / sds[n] for n, v in features.items()]
    distance = np.sqrt(np.mean(np.square(off), axis=0))
    found = db.nearest(features, k=3)
    assert found.circuit_id.values.tolist() == np.argsort(distance)[:3].tolist()
    np.testing.assert_allclose(found.distance, np.sort(distance)[:3], rtol=1e-9)


def test_other_circuits_are_compared_by_what_they_have(tmp_path):
    manifest = synthetic.build(tmp_path / "other", synthetic.other_cells())
    table = synthetic.expected(manifest)
    other = database.open(tmp_path / "other")
    usual = [n for n in default_features(manifest.columns) if "_b" in n]
    row = int(np.flatnonzero(~np.isnan([table[n] for n in usual]).any(axis=0))[0])
    rhythm = other.query(f"circuit_id == {row}")
    assert other.nearest(rhythm[usual], k=1).circuit_id.item() == row
    assert set(other.nearest(rhythm, k=1).attrs["compared"]) >= set(usual)
    features = {"period_ms": 1000.0, "phase_start_b": 0.98}
    off = [(table[n].astype(float) - v) for n, v in features.items()]
    off[1] -= np.round(off[1])  # as far as to -0.02
    assert np.nanmax(np.abs(off[1])) > 0.1
    off = [x / np.nanstd(table[n].astype(float)) for x, n in zip(off, features, strict=True)]
    distance = np.sqrt(np.mean(np.square(off), axis=0))
    found = other.nearest(features, k=12)
    np.testing.assert_allclose(found.distance, np.sort(distance[~np.isnan(distance)]), rtol=1e-9)
    with pytest.raises(QueryError, match="have no feature 'phase_start_py'.*; they have period_ms"):
        other.nearest({"phase_start_py": 0.7})


def test_features_in_which_the_circuits_do_not_differ_are_not_compared(tmp_path, monkeypatch):
    made = synthetic.shard_data

    def alike(manifest, shard, ids=None):
        ids, columns, states = made(manifest, shard, ids)
        return ids, columns | {"duty_cycle_a": np.full(len(ids), np.float32(0.25))}, states

    monkeypatch.setattr(synthetic, "shard_data", alike)
    synthetic.build(tmp_path / "other", synthetic.other_cells())
    other = database.open(tmp_path / "other")
    found = other.nearest({"duty_cycle_a": 0.3, "period_ms": 1000.0}, k=1)
    assert found.attrs["compared"] == ["period_ms"]
    with pytest.raises(QueryError, match="do not differ in any of the features"):
        other.nearest({"duty_cycle_a": 0.3})


def test_a_database_without_circuits(tmp_path):
    create(Ledger(tmp_path / "empty"), synthetic.make_manifest())
    with pytest.raises(QueryError, match="no circuit for which 'True' is true"):
        database.open(tmp_path / "empty").nearest({"phase_start_py": 0.7})
