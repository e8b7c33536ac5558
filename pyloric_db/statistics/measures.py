"""Measures of dependence between columns, on many circuits at once."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from scipy.stats.contingency import association

Floats = npt.NDArray[np.float64]


def ranks(columns: npt.NDArray[np.floating]) -> Floats:
    """Ranks of the rows in each column (n, k), less their mean; ties have their mean rank."""
    found = np.empty(columns.shape)
    for i, column in enumerate(columns.T):
        found[:, i] = rankdata(column)
    return found - found.mean(axis=0)


def rank_correlations(a: Floats, b: Floats) -> Floats:
    """Spearman's rank correlation of columns with columns, by their `ranks` (n, k) and (n, m).

    The result is (k, m), NaN where a column is constant or there are fewer than two rows. There
    may be no column at all: cells have no order, and a grid may have no other axes.
    """
    spread = np.outer(*(np.sqrt(np.square(r).sum(axis=0)) for r in (a, b)))
    with np.errstate(invalid="ignore"):
        return np.asarray((a.T @ b) / spread)


def cramers_v(levels: npt.NDArray[np.integer]) -> Floats:
    """Cramér's V of every pair of columns of levels (n, k) -> (k, k): 0 independent, 1 the same.

    Freed of what chance adds, which is much where rows are few and levels many. Also for levels
    without an order, such as numbered cells. NaN where a column is constant, or has a level for
    every row.

    Source: Bergsma 2013, J Korean Stat Soc 42:323.
    """
    n, k = levels.shape
    compact = [np.unique(c, return_inverse=True) for c in levels.T]
    found = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(i + 1):
            a, b = len(compact[i][0]), len(compact[j][0])
            if min(a, b) < 2:
                continue
            cells = np.bincount(compact[i][1] * b + compact[j][1], minlength=a * b)
            found[i, j] = found[j, i] = _without_chance(
                association(cells.reshape(a, b), method="cramer"), n, a, b
            )
    return found


def _without_chance(v: float, n: int, a: int, b: int) -> float:
    """Cramér's V of n rows with a and b levels, less what it is of independent ones."""
    most = min(levels - 1 - (levels - 1) ** 2 / (n - 1) for levels in (a, b))
    squared = v**2 * (min(a, b) - 1) - (a - 1) * (b - 1) / (n - 1)
    return float(np.sqrt(max(0.0, squared) / most)) if most > 0 else float("nan")


def variance_explained(levels: npt.NDArray[np.integer], feature: npt.NDArray[np.floating]) -> float:
    """Share of a feature's variance between the groups of a parameter's levels: epsilon squared.

    (SS_between - (k - 1) MS_within) / SS_total, the correlation ratio freed of what chance adds
    with k groups, and not below 0. Rows where the feature is NaN are left out. NaN with fewer
    than two groups, no spread, or no more rows than groups. Levels are small whole numbers from 0.

    Source: Kelley 1935, PNAS 21:554.
    """
    known = ~np.isnan(feature)
    y = feature[known].astype(np.float64)
    group = levels[known]
    counts = np.bincount(group)
    there = counts > 0
    n, k = len(y), int(there.sum())
    if k < 2 or n <= k:
        return float("nan")
    y = y - y.mean()
    total = float(np.square(y).sum())
    if not total > 0:
        return float("nan")
    sums = np.bincount(group, weights=y)
    between = float((np.square(sums[there]) / counts[there]).sum())
    within = (total - between) / (n - k)
    return max(0.0, (between - (k - 1) * within) / total)
