import numpy as np
import pytest
import synthetic

from pyloric_db.errors import QueryError
from pyloric_db.ml.arrays import filled
from pyloric_db.ml.split import place_of
from pyloric_db.query import database
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.parameters import parameter_columns
from pyloric_db.store.shards import write_shard
from pyloric_db.vocabulary import CELLS, CRITERIA, SYNAPSES, feature_columns, run_columns

ONE = {"inputs": ["gsyn_ab_lp_nS", "pyloric"], "targets": ["period_ms", "n_criteria_met"]}


def test_parameters_and_features_with_names_and_units(db):
    arrays = db.to_arrays(missing="mask")
    parameters = db.parameters(arrays.circuit_id)
    n = len(db)
    assert arrays.inputs.values.shape == (n, 31) and arrays.targets.values.shape == (n, 15)
    assert arrays.inputs.values.dtype == arrays.targets.values.dtype == np.float32
    assert arrays.inputs.names[:2] == ("gbar_abpd_Na", "gbar_abpd_CaT")
    assert arrays.inputs.names[-1] == "gsyn_py_lp_nS"
    assert set(arrays.inputs.units) == {"mS/cm2", "nS"}
    assert arrays.targets.names == tuple(c.column for c in CRITERIA)
    assert arrays.targets.units[0] == "ms" and arrays.targets.units[-1] == "1"
    gbar, gsyn = parameters.gbar.values, parameters.gsyn.values
    wanted = np.concatenate([gbar.reshape(n, 24), gsyn], axis=1).astype(np.float32)
    assert np.array_equal(arrays.inputs.values, wanted)
    assert np.array_equal(arrays.place, place_of(gbar, gsyn))
    assert (np.diff(arrays.circuit_id) > 0).all()


def test_groups_and_columns_in_one_list(db):
    arrays = db.to_arrays(
        inputs=["pyloric", "parameters", "gbar_lp_Kd", "pyloric"],
        targets=["features", "n_criteria_met", "period_ms"],
        missing="mask",
    )
    groups = db.to_arrays(missing="mask")
    assert arrays.inputs.names == ("pyloric", *groups.inputs.names)
    assert arrays.targets.names == (*groups.targets.names, "n_criteria_met")
    assert np.array_equal(arrays.inputs.values[:, 1:], groups.inputs.values)
    assert np.array_equal(arrays.targets.values[:, :-1], groups.targets.values)


def test_the_features_of_other_cells(tmp_path):
    synthetic.build(tmp_path / "db", synthetic.other_cells())
    arrays = database.open(tmp_path / "db").to_arrays(missing="mask")
    assert arrays.targets.names == (
        "period_ms", "burst_duration_a_ms", "burst_duration_b_ms", "duty_cycle_a",
        "duty_cycle_b", "phase_start_b",
    )  # fmt: skip


def test_missing_values_by_policy(db):
    ok = "lp >= 1 and status == 'ok'"
    rows = db.query(ok, columns=["gsyn_ab_lp_nS", "pyloric", "period_ms", "n_criteria_met"])
    targets = np.stack([rows.period_ms, rows.n_criteria_met], axis=1)
    there = ~np.isnan(targets)
    drop, mask, fill = (
        db.to_arrays(**ONE, where=ok, missing=policy) for policy in ("drop", "mask", "fill")
    )
    whole = there.all(axis=1)
    assert 0 < whole.sum() < len(whole)
    assert drop.circuit_id.tolist() == rows.circuit_id.values[whole].tolist()
    assert np.array_equal(drop.targets.values, targets[whole]) and drop.targets.present.all()
    assert np.array_equal(mask.targets.present, there)
    assert np.array_equal(mask.targets.values, np.where(there, targets, 0))
    mean = np.nanmean(targets.astype(float), axis=0).astype(np.float32)
    np.testing.assert_allclose(fill.targets.values, np.where(there, targets, mean), rtol=1e-6)
    assert np.array_equal(fill.targets.present, there)
    assert np.array_equal(mask.inputs.values[:, 1], rows.pyloric.values.astype(np.float32))


def test_what_is_missing_nowhere_needs_nothing_to_fill_it(db):
    """One part of a split may have all values of a column, and that of the means none."""
    nothing = np.array([np.nan])
    arrays = db.to_arrays("gsyn_ab_lp_nS", "period_ms", where="period_ms > 0", missing="mask")
    got = filled(arrays, nothing, nothing)
    assert np.array_equal(got.targets.values, arrays.targets.values)
    some = db.to_arrays("gsyn_ab_lp_nS", "period_ms", missing="mask")
    with pytest.raises(QueryError, match="period_ms has no value in any circuit"):
        filled(some, nothing, nothing)


def test_failed_runs_are_no_negatives(db):
    """Their flags are False since nothing was measured."""
    rows = db.query("True", columns=["status", "pyloric", "pyloric_like", "n_criteria_met"])
    ok = rows.status.values == "ok"
    assert 0 < ok.sum() < 48
    targets = ["pyloric", "pyloric_like", "n_criteria_met", "t_simulated_ms"]
    drop, mask, fill = (
        db.to_arrays("gsyn_ab_lp_nS", targets, missing=policy)
        for policy in ("drop", "mask", "fill")
    )
    known = ok & ~np.isnan(rows.n_criteria_met.values)
    assert drop.circuit_id.tolist() == rows.circuit_id.values[known].tolist()
    assert np.array_equal(mask.targets.present, np.stack([ok, ok, known, np.ones(48, bool)], 1))
    assert not mask.targets.values[~ok, :3].any() and mask.inputs.present.all()
    share = rows.pyloric.values[ok].mean()
    assert fill.targets.values[~ok, 0].tolist() == pytest.approx([share] * (~ok).sum())
    flags = db.to_arrays("gsyn_ab_lp_nS", targets[:2])  # which are never null in a table
    assert flags.circuit_id.tolist() == rows.circuit_id.values[ok].tolist()
    as_inputs = db.to_arrays(["pyloric", "gsyn_ab_lp_index"], "t_simulated_ms", missing="mask")
    assert np.array_equal(as_inputs.inputs.present, np.stack([ok, np.ones(48, bool)], 1))


def test_a_circuit_has_its_place_in_every_database(db, tmp_path):
    """The same conductances as columns of a table, in float32, in another order."""
    known = db.to_arrays(missing="mask")
    order = np.random.default_rng(5).permutation(len(known.circuit_id))[:30]
    columns = (
        synthetic.ID,
        *parameter_columns(None, CELLS, SYNAPSES),
        *feature_columns(CELLS),
        *run_columns(CELLS),
    )
    manifest = synthetic.make_manifest(axes=None, n_circuits=30, shard_circuits=30, columns=columns)
    create(Ledger(tmp_path / "db"), manifest)
    ids, table, states = synthetic.shard_data(manifest, 0)
    table |= {n: known.inputs.values[order, i] for i, n in enumerate(known.inputs.names)}
    Ledger(tmp_path / "db").record(write_shard(tmp_path / "db", manifest, 0, ids, table, states))
    other = database.open(tmp_path / "db").to_arrays(missing="mask")
    assert np.array_equal(other.inputs.values, known.inputs.values[order])
    assert np.array_equal(other.place, known.place[order])
    parameters = database.open(tmp_path / "db").parameters([7, 3])
    wanted = known.inputs.values[order[[7, 3]]]
    assert np.array_equal(parameters.gsyn.values.astype(np.float32), wanted[:, 24:])


def test_blocks_do_not_show(db, monkeypatch):
    import pyloric_db.ml.arrays as module

    whole = db.to_arrays(missing="mask")
    monkeypatch.setattr(module, "_BLOCK", 5)
    blocks = db.to_arrays(missing="mask")
    assert np.array_equal(whole.inputs.values, blocks.inputs.values)
    assert np.array_equal(whole.place, blocks.place)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"inputs": ["gsyn_ab_lp"]}, "unknown column 'gsyn_ab_lp'; did you mean 'gsyn_ab_lp_nS'"),
        ({"inputs": "parameter"}, "unknown column 'parameter'; did you mean 'parameters'"),
        ({"inputs": []}, "at least one column"),
        ({"targets": ["activity_lp"]}, "activity_lp is text"),
        ({"targets": ["netcode"]}, "netcode is text"),
        ({"inputs": "circuit_id"}, "circuit_id only numbers the circuits"),
        ({"targets": ["period_ms", "circuit_id"]}, "circuit_id only numbers the circuits"),
        ({"inputs": ["period_ms"], "targets": ["period_ms"]}, "an input or a target, not both"),
        ({"inputs": ["parameters"], "targets": ["gbar_lp_Kd"]}, "gbar_lp_Kd must be .* not both"),
        ({"inputs": 5}, "inputs and targets must be names of columns, not 5"),
        ({"targets": [["period_ms"]]}, r"must be names of columns, not \['period_ms'\]"),
        ({"where": "lp = 3"}, "not an expression"),
        ({"where": "lp > 77"}, "no circuit for which 'lp > 77' is true"),
        ({"where": "isnull(period_ms)"}, "no circuit .* has a value in every column: let "),
        ({"where": "isnull(period_ms)", "missing": "fill"}, "period_ms has no value"),
        ({"missing": "impute"}, "missing must be one of drop, mask, fill, not 'impute'"),
    ],
)
def test_bad_arguments(db, arguments, message):
    with pytest.raises(QueryError, match=message):
        db.to_arrays(**arguments)
