import json
from dataclasses import replace

import numpy as np
import pytest
import synthetic

from pyloric_db.cli.statistics import _pairs
from pyloric_db.errors import QueryError
from pyloric_db.query import database
from pyloric_db.statistics.connected import components
from pyloric_db.statistics.levels import Levels
from pyloric_db.statistics.measures import variance_explained
from pyloric_db.statistics.stats import _synapses
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.manifest import Axis
from pyloric_db.store.parameters import parameter_columns
from pyloric_db.store.shards import write_shard
from pyloric_db.vocabulary import CELLS, CRITERIA, SYNAPSES, feature_columns, run_columns


@pytest.fixture(scope="module")
def table(db):
    return synthetic.expected(db.manifest)


@pytest.fixture(scope="module")
def found(db):
    return db.stats("pyloric")


def test_combinations(found, table):
    chosen = table["pyloric"]
    counts = np.zeros((2, 3), int)
    np.add.at(counts, (table["abpd"][chosen], table["lp"][chosen]), 1)
    assert found.cells.dims == ("abpd", "lp") and np.array_equal(found.cells, counts)
    assert found.cells.lp.values.tolist() == ["LP 1", "LP 2", "LP 3"]
    for i, n in enumerate(found.synapses.values):
        flags = [bool(found.synapses[s].values[i]) for s in ("gsyn_ab_lp_nS", "gsyn_lp_py_nS")]
        same = chosen.copy()
        for name, flag in zip(("gsyn_ab_lp_nS", "gsyn_lp_py_nS"), flags, strict=True):
            same &= (table[name] > 0) == flag
        assert n == same.sum() > 0
    assert found.synapses.sum() == chosen.sum() == found.n_selected
    assert (np.diff(found.synapses.values) <= 0).all()


def test_more_synapses_than_an_integer_has_bits():
    names = [f"gsyn_{k}_nS" for k in range(70)]
    rows = np.eye(70)[[0, 69, 69, 64, 3]]
    found = _synapses(None, dict(zip(names, rows.T, strict=True)))
    there = [[n for n in names if found[n].values[i]] for i in range(len(found))]
    assert there == [["gsyn_69_nS"], ["gsyn_0_nS"], ["gsyn_3_nS"], ["gsyn_64_nS"]]
    assert found.values.tolist() == [2, 1, 1, 1]


def test_marginals(found, table):
    assert list(found.marginals) == ["abpd", "lp", "gsyn_ab_lp_nS", "gsyn_lp_py_nS"]
    marginal = found.marginals["gsyn_ab_lp_nS"]
    assert marginal.gsyn_ab_lp_nS.values.tolist() == [0, 0.1, 3, 30]
    level = table["gsyn_ab_lp_index"]
    assert marginal["all"].values.tolist() == np.bincount(level).tolist()
    assert (
        marginal["selected"].values.tolist()
        == np.bincount(level[table["pyloric"]], minlength=4).tolist()
    )


def test_components_and_dependence(found, db, table):
    ids = table["circuit_id"][table["pyloric"]]
    assert np.array_equal(found.component_sizes, components(db.manifest.axes, ids))
    assert found.whole_grid and found.component_sizes.sum() == found.n_selected
    chosen = table["pyloric"]
    wanted = variance_explained(table["lp"][chosen], table["period_ms"][chosen])
    cell = {"feature": "period_ms", "parameter": "lp"}
    assert found.sensitivity.sel(cell).item() == pytest.approx(wanted)
    assert np.isnan(found.direction.sel(cell))
    assert np.isnan(found.rank_correlation.sel(parameter="lp", other="gsyn_ab_lp_nS"))
    itself = {"parameter": "gsyn_ab_lp_nS", "other": "gsyn_ab_lp_nS"}
    assert found.rank_correlation.sel(itself).item() == pytest.approx(1)
    assert found.cramers_v.sizes == {"parameter": 4, "other": 4}


def test_the_direction_is_spearmans_correlation(found, table):
    def ranked(values):
        """Mean ranks, by counting."""
        return [(values < v).sum() + (values <= v).sum() for v in values]

    for feature in ("period_ms", "duty_cycle_lp"):
        known = table["pyloric"] & ~np.isnan(table[feature])
        for name in ("gsyn_ab_lp_nS", "gsyn_lp_py_nS"):
            rho = np.corrcoef(ranked(table[feature][known]), ranked(table[name][known]))[0, 1]
            there = found.direction.sel(feature=feature, parameter=name).item()
            assert there == pytest.approx(rho) and abs(rho) > 0.01


def test_json_is_complete_and_plain(found):
    text = json.dumps(found.to_json(), allow_nan=False)
    back = json.loads(text)
    assert back["circuits"] == found.n_selected and back["of"] == 48 and back["whole_grid"]
    assert back["components"]["sizes"] == found.component_sizes.tolist()
    assert back["cells"]["possible"] == 6 and len(back["cells"]["counts"]) == 6
    assert sum(c["circuits"] for c in back["cells"]["counts"]) == found.n_selected
    assert back["marginals"]["lp"]["lp"] == ["LP 1", "LP 2", "LP 3"]
    assert set(back["sensitivity"]["period_ms"]) == set(found.marginals)


def test_cells_may_be_called_as_what_statistics_ask_for(tmp_path):
    synthetic.build(tmp_path / "db", synthetic.other_cells(("level", "n")))
    found = database.open(tmp_path / "db").stats("True")
    assert found.marginals["level"]["all"].sum() == 12


def test_a_sample_says_that_it_is_one(tmp_path):
    synthetic.build(tmp_path / "db", shards=[0])
    found = database.open(tmp_path / "db").stats("True")
    assert not found.whole_grid and found.n_circuits == found.n_selected == 20
    levels = found.marginals["abpd"]  # of the second none is there
    assert levels["all"].values.tolist() == levels["selected"].values.tolist() == [20, 0]


def test_components_of_one_circuit_are_not_listed(inside, pristine):
    alone = inside("stats", pristine[0], "--where", "circuit_id == 0 or circuit_id == 13").stdout
    assert "2 connected components under single steps, each of one circuit\n" in alone
    joined = inside("stats", pristine[0], "--where", "circuit_id < 2").stdout
    assert "1 connected component under single steps, the largest of 2 circuits (100.0%" in joined


def test_combinations_are_of_synapses_that_may_be_absent(inside, pristine, tmp_path):
    shown = inside("stats", pristine[0], "--where", "True").stdout
    assert "combinations of synapses that are there: 4 of 4 occur\n" in shown
    axes = (*synthetic.GRID[:2], Axis("gsyn_ab_lp_nS", "value", (3.0, 30.0)), synthetic.GRID[3])
    synthetic.build(tmp_path / "grid", synthetic.make_manifest(axes, 24))
    shown = inside("stats", tmp_path / "grid", "--where", "True").stdout
    assert "combinations of synapses that are there: 2 of 2 occur\n" in shown
    head = next(line for line in shown.splitlines() if "the most frequent" in line)
    assert "lp_py" in head and "ab_lp" not in head
    # no circuit of the set lacks it, but others do
    shown = inside("stats", tmp_path / "grid", "--where", "gsyn_lp_py_nS > 0").stdout
    assert "combinations of synapses that are there: 1 of 2 occur\n" in shown


def test_combinations_of_synapses_off_a_grid(inside, tmp_path):
    rng = np.random.default_rng(9)
    columns = {f"gsyn_{s}_nS": rng.uniform(0.01, 100, 400) for s in SYNAPSES}
    columns["gsyn_ab_lp_nS"] = np.zeros(400)
    off_grid(tmp_path / "always", **columns)
    shown = inside("stats", tmp_path / "always").stdout
    assert "combinations" not in shown and "the most frequent" not in shown
    columns["gsyn_pd_lp_nS"][:30] = 0
    off_grid(tmp_path / "some", **columns)
    shown = inside("stats", tmp_path / "some", "--where", "True").stdout
    assert "combinations of synapses that are there: 2 of 2 occur\n" in shown


def test_few_circuits_are_no_certainties(inside, tmp_path):
    rng = np.random.default_rng(10)
    ab_lp, py_lp = rng.uniform(0, 100, (2, 400))
    py_lp[:200] = 100 - ab_lp[:200]
    off_grid(tmp_path / "db", gsyn_ab_lp_nS=ab_lp, gsyn_py_lp_nS=py_lp)
    few = inside("stats", tmp_path / "db", "--where", "circuit_id < 2").stdout
    assert "strongest pairs" not in few and "1.000" not in few
    assert "may do: by up to 1.00 among 465 pairs in a set of 2\n" in few
    some = inside("stats", tmp_path / "db", "--where", "circuit_id < 90").stdout
    assert "these are shares within 90 circuits: some are due to chance\n" in some
    many = inside("stats", tmp_path / "db", "--where", "circuit_id < 200").stdout
    table = many[many.index("strongest pairs") :].splitlines()
    assert table[1].split()[:2] == ["gsyn_ab_lp_nS", "gsyn_py_lp_nS"]
    assert table[1].split()[-2] == "-1.000" and table[2].startswith(
        "left out are pairs that differ"
    )
    assert "by up to 0.27 among 465 pairs in a set of 200" in many and "due to" not in many


def test_a_grid_of_cells_alone(tmp_path):
    synthetic.build(tmp_path / "db", synthetic.make_manifest(synthetic.GRID[:2], 6, 6, 6))
    found = database.open(tmp_path / "db").stats("True")
    assert found.cells.sum() == 6 and found.synapses is None
    assert np.isnan(found.rank_correlation).all() and np.isnan(found.direction).all()
    assert found.rank_correlation.sizes == {"parameter": 2, "other": 2}
    json.dumps(found.to_json(), allow_nan=False)


def test_off_a_grid(tmp_path):
    columns = (
        synthetic.ID,
        *parameter_columns(None, CELLS, SYNAPSES),
        *feature_columns(CELLS),
        *run_columns(CELLS),
    )
    manifest = synthetic.make_manifest(
        axes=None, n_circuits=300, shard_circuits=300, columns=columns
    )
    create(Ledger(tmp_path / "db"), manifest)
    Ledger(tmp_path / "db").record(synthetic.write(tmp_path / "db", manifest, 0))
    db = database.open(tmp_path / "db")
    found = db.stats("pyloric")
    assert found.cells is None and found.component_sizes is None and not found.whole_grid
    values = db.circuits.gbar_lp_Kd.values
    chosen = db.circuits.pyloric.values
    marginal = found.marginals["gbar_lp_Kd"]
    assert marginal.sizes == {"gbar_lp_Kd": 10} and marginal["all"].sum() == 300
    for i in range(10):
        low, high = marginal.lower.values[i], marginal.upper.values[i]
        inside = (values >= np.float32(low)) & ((values < np.float32(high)) | (i == 9))
        assert marginal["all"].values[i] == inside.sum()
        assert marginal["selected"].values[i] == (inside & chosen).sum()
    json.dumps(found.to_json(), allow_nan=False)


def off_grid(path, n=400, **columns):
    """A database of n circuits off a grid, with these values of some columns."""
    manifest = synthetic.make_manifest(axes=None, n_circuits=n, shard_circuits=n)
    create(Ledger(path), manifest)
    ids, known, states = synthetic.shard_data(manifest, 0)
    given = {name: np.asarray(v, known[name].dtype) for name, v in columns.items()}
    Ledger(path).record(write_shard(path, manifest, 0, ids, known | given, states))
    return database.open(path)


def test_a_rare_level_tells_what_it_tells(tmp_path):
    """One circuit in twenty has the synapse, which is no decile."""
    rng = np.random.default_rng(6)
    strong = rng.random(400) < 0.05
    period = rng.normal(1000, 100, 400) + 1000 * strong
    db = off_grid(
        tmp_path / "db",
        gsyn_ab_lp_nS=np.where(strong, 100, 0),
        gsyn_py_lp_nS=np.where(strong, 3, 0),
        period_ms=period,
    )
    found = db.stats("circuit_id >= 0")
    levels = found.marginals["gsyn_ab_lp_nS"]
    assert levels["all"].values.tolist() == [400 - strong.sum(), strong.sum()]
    share = found.sensitivity.sel(feature="period_ms", parameter="gsyn_ab_lp_nS").item()
    assert share == pytest.approx(variance_explained(strong.astype(int), period)) and share > 0.5
    pair = {"parameter": "gsyn_ab_lp_nS", "other": "gsyn_py_lp_nS"}
    assert found.cramers_v.sel(pair).item() == pytest.approx(1)


def test_levels_of_unequal_frequency_are_not_merged(tmp_path):
    rng = np.random.default_rng(7)
    level = rng.choice(10, 400, p=[0.55, *[0.05] * 9])
    period = np.arange(10)[level] * 100 + rng.normal(0, 50, 400)
    db = off_grid(tmp_path / "db", gsyn_ab_lp_nS=level, period_ms=period)
    found = db.stats("circuit_id >= 0")
    share = found.sensitivity.sel(feature="period_ms", parameter="gsyn_ab_lp_nS").item()
    assert share == pytest.approx(variance_explained(level, period.astype(np.float32)))


@pytest.mark.parametrize("tie", [0.0, 0.7, 5.0])
def test_a_value_of_many_circuits_is_a_level_of_its_own(tmp_path, tie):
    """Half of the circuits have one value, the least, one amidst the others or the greatest."""
    rng = np.random.default_rng(8)
    values = np.where(rng.random(400) < 0.5, tie, rng.uniform(0.01, 3, 400)).astype(np.float32)
    period = rng.normal(0, 1, 400) + 10 * (values == np.float32(tie))
    db = off_grid(tmp_path / "db", gsyn_ab_lp_nS=values, period_ms=period)
    found = db.stats("circuit_id >= 0")
    marginal = found.marginals["gsyn_ab_lp_nS"]
    own = int(np.flatnonzero(marginal.lower.values == np.float32(tie))[0])
    assert marginal.lower.values[own] == marginal.upper.values[own]
    assert marginal["all"].values[own] == (values == np.float32(tie)).sum()
    assert marginal["all"].sum() == 400 and 5 <= marginal.sizes["gsyn_ab_lp_nS"] <= 10
    others = np.delete(marginal["all"].values, own)
    assert others.max() < 60
    share = found.sensitivity.sel(feature="period_ms", parameter="gsyn_ab_lp_nS").item()
    assert share > 0.9
    begins = marginal.lower.values[1:].astype(np.float32)
    level = np.searchsorted(begins, values, side="right")  # of which the marginals are counts
    assert np.bincount(level).tolist() == marginal["all"].values.tolist()
    assert share == pytest.approx(variance_explained(level, period.astype(np.float32)))


def test_levels_count_from_the_lowest_and_hold_their_lower_ends():
    levels = Levels([0.1, 1.0, 5.0], [1.0, 5.0, 9.0])
    values = np.array([0.1, 0.5, 1.0, 4.9, 5.0, 9.0], np.float32)
    assert levels.of(values).tolist() == [0, 0, 1, 1, 2, 2]
    assert Levels([0.1], [0.1]).of(values[:1]).tolist() == [0]
    assert not levels.are_values and Levels([0.1, 3.0], [0.1, 3.0]).are_values


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """300 circuits off a grid, which have one of three LPs, and of whose PYs nothing varies."""
    path = tmp_path_factory.mktemp("tied") / "db"
    manifest = synthetic.make_manifest(axes=None, n_circuits=300, shard_circuits=300)
    create(Ledger(path), manifest)
    ids, columns, states = synthetic.shard_data(manifest, 0)
    for name in columns:
        if name.startswith("gbar_lp_"):
            columns[name] = np.array([6, 8, 10], np.float32)[ids % 3]
        if name.startswith("gbar_py_"):
            columns[name] = np.full(300, 0.1, np.float32)
    columns["gsyn_lp_py_nS"] = np.where(columns["pyloric"], 1, -1) * columns["gsyn_py_lp_nS"]
    Ledger(path).record(write_shard(path, manifest, 0, ids, columns, states))
    return path


def test_few_values_off_a_grid_are_levels(tied):
    found = database.open(tied).stats("pyloric")
    marginal = found.marginals["gbar_lp_Kd"]
    assert marginal["gbar_lp_Kd"].values.tolist() == [6, 8, 10] and "lower" not in marginal
    assert marginal["all"].values.tolist() == [100] * 3
    assert marginal["selected"].sum() == found.n_selected
    assert "lower" in found.marginals["gbar_abpd_Kd"]
    json.dumps(found.to_json(), allow_nan=False)


def test_pairs_that_the_prior_ties_together_say_nothing_of_a_set(tied, inside, monkeypatch):
    found = database.open(tied).stats("pyloric")
    pair = {"parameter": "gbar_lp_Kd", "other": "gbar_lp_Na"}
    for matrix in (found.rank_correlation, found.rank_correlation_of_all):
        assert matrix.sel(pair).item() == pytest.approx(1)
    shown = inside("stats", tied).stdout
    assert "\ngbar_py_" not in shown
    assert "left out are 8 of 31 parameters, which do not vary" in shown
    table = [line.split() for line in shown[shown.index("strongest pairs") :].splitlines()[:11]]
    assert table[0][-2:] == ["among", "all"]
    assert table[1][:2] == ["gsyn_lp_py_nS", "gsyn_py_lp_nS"] and table[1][-2] == "1.000"
    assert not [row for row in table if row and row[0].startswith("gbar_lp") and row[-2] == "1.000"]
    # what hardly ever varies has no correlation among all, and its pairs their place all the same
    of_all = found.rank_correlation_of_all.copy()
    of_all.loc[{"parameter": "gsyn_lp_py_nS"}] = np.nan
    of_all.loc[{"other": "gsyn_lp_py_nS"}] = np.nan
    pairs = sorted(_pairs(replace(found, rank_correlation_of_all=of_all)), reverse=True)
    assert pairs[0][0] == pytest.approx(1) and {*pairs[0][2:4]} == {
        "gsyn_lp_py_nS",
        "gsyn_py_lp_nS",
    }
    # of very many circuits some are enough
    monkeypatch.setattr("pyloric_db.statistics.stats.SAMPLED", 100)
    some = database.open(tied).stats("pyloric").rank_correlation_of_all
    whole = found.rank_correlation_of_all
    assert some.sel(pair).item() == pytest.approx(1)
    assert np.nanmax(abs(some - whole)) < 0.6 and not some.equals(whole)


def test_of_very_many_circuits_dependence_is_that_of_some_and_counts_of_all(db, found, monkeypatch):
    monkeypatch.setattr("pyloric_db.statistics.stats.SAMPLED", 12)
    some = db.stats("pyloric")
    assert some.n_selected == found.n_selected and some.cells.identical(found.cells)
    assert some.synapses.identical(found.synapses)
    assert np.array_equal(some.component_sizes, found.component_sizes)
    assert not some.sensitivity.identical(found.sensitivity)
    assert np.isfinite(some.sensitivity).any()


def test_there_is_no_correlation_of_one_circuit(tied, inside, pristine):
    for path in (tied, pristine[0]):
        shown = inside("stats", path, "--where", "circuit_id == 3").stdout
        assert shown.endswith(
            "no two parameters vary within this set of 1\n\n"
            "no feature can be told from a parameter within this set of 1\n"
        )


def test_the_features_of_other_cells(tmp_path):
    five = ("abpd", "lp", "py", "ic", "vd")
    for cells, n in ((("a", "b"), 6), (five, 21)):
        synthetic.build(tmp_path / cells[0], synthetic.other_cells(cells))
        found = database.open(tmp_path / cells[0]).stats("circuit_id >= 0")
        features = found.sensitivity["feature"].values.tolist()
        assert len(features) == n and set(features) >= {"period_ms", f"duty_cycle_{cells[-1]}"}
        assert (set(features) >= {c.column for c in CRITERIA}) == (cells == five)


@pytest.mark.parametrize(
    "where, message",
    [("lp > 77", "no circuit for which 'lp > 77' is true"), ("lp =", "not an expression"),
     ("period_ms", "must be a condition")],
)  # fmt: skip
def test_bad_questions(db, where, message):
    with pytest.raises(QueryError, match=message):
        db.stats(where)
