import numpy as np
import pytest
from scipy.stats import spearmanr

from pyloric_db.statistics.measures import (
    cramers_v,
    rank_correlations,
    ranks,
    variance_explained,
)


def test_rank_correlations_are_spearmans():
    rng = np.random.default_rng(1)
    columns = rng.integers(0, 5, (200, 3)).astype(float)
    columns[:, 2] = columns[:, 0] ** 3 + rng.normal(0, 20, 200)
    ranked = ranks(columns)
    found = rank_correlations(ranked, ranked)
    np.testing.assert_allclose(found, spearmanr(columns).statistic)
    np.testing.assert_allclose(rank_correlations(ranked[:, :1], ranked[:, 1:]), found[:1, 1:])
    columns[:, 1] = 7
    found = rank_correlations(ranks(columns), ranks(columns))
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all() and found[0, 0] == 1
    assert np.isnan(rank_correlations(*[ranks(columns[:1])] * 2)).all()
    assert rank_correlations(*[ranks(columns[:, :0])] * 2).shape == (0, 0)


def test_cramers_v():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, 500), rng.integers(0, 3, 500)
    c = np.where(rng.random(500) < 0.5, a, rng.integers(0, 4, 500))
    levels = np.stack([a, b, c, (a * 7) % 5, np.full(500, 3)], axis=1)
    found = cramers_v(levels)
    table = np.zeros((4, 4), int)
    np.add.at(table, (a, c), 1)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / 500
    chi2 = (np.square(table - expected) / expected).sum()
    # Bergsma's correction, for four levels each
    chance = 9 / 499
    assert found[0, 2] == pytest.approx(np.sqrt((chi2 / 500 - chance) / (3 - chance)))
    assert found[0, 3] == pytest.approx(1) and found[0, 1] < 0.1
    assert np.isnan(found[4]).all()
    assert np.array_equal(found, found.T, equal_nan=True)


def test_cramers_v_of_independent_columns_is_nothing_however_few_the_rows():
    rng = np.random.default_rng(4)
    pairs = [cramers_v(rng.integers(0, 6, (89, 2)))[0, 1] for _ in range(200)]
    assert np.median(pairs) == 0 and np.mean(pairs) < 0.06
    assert np.isnan(cramers_v(np.arange(8).reshape(4, 2))).all()


def test_variance_explained():
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 5, 20_000)
    noise = rng.normal(0, 1, 20_000)
    signal = np.array([3.0, -1, 0, 1, 5])[levels]
    share = signal.var() / (signal.var() + 1)
    assert variance_explained(levels, signal + noise) == pytest.approx(share, abs=0.01)
    assert variance_explained(levels, signal) == pytest.approx(1)
    assert variance_explained(levels, noise) < 0.001
    with_gaps = np.where(levels == 4, np.nan, signal + noise)
    known = levels != 4
    without = variance_explained(levels[known], (signal + noise)[known])
    assert variance_explained(levels, with_gaps) == without
    assert variance_explained(2 * levels, with_gaps) == without  # the levels between have no rows


def test_chance_is_not_taken_for_an_effect():
    """With few circuits in many groups the plain ratio is far from 0; this one is around it."""
    rng = np.random.default_rng(4)
    found = [variance_explained(rng.integers(0, 6, 40), rng.normal(0, 1, 40)) for _ in range(300)]
    assert np.mean(found) < 0.05  # the plain ratio has a mean of 5 / 39


@pytest.mark.parametrize(
    "levels, feature",
    [([0, 0, 0], [1, 2, 3]), ([0, 1, 2], [1, 2, 3]), ([0, 0, 1], [2, 2, 2]), ([], []),
     ([0, 1, 1], [np.nan] * 3)],
)  # fmt: skip
def test_nothing_to_explain_is_nan(levels, feature):
    assert np.isnan(variance_explained(np.array(levels, int), np.array(feature, float)))
