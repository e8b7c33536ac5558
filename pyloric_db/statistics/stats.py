"""The statistics of a set of circuits, all in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from pyloric_db.errors import QueryError
from pyloric_db.query.columns import numpy_column
from pyloric_db.query.database import Database
from pyloric_db.query.expression import quote_name, to_sql
from pyloric_db.statistics.connected import components
from pyloric_db.statistics.levels import Levels, levels_of
from pyloric_db.statistics.measures import (
    cramers_v,
    rank_correlations,
    ranks,
    variance_explained,
)
from pyloric_db.store.manifest import Axis
from pyloric_db.store.parameters import index_column, needed_columns
from pyloric_db.vocabulary import default_features

#: Circuits from which measures of dependence are taken: they are good to 0.001 or so.
SAMPLED = 1_000_000


@dataclass(frozen=True)
class Statistics:
    """What `stats` found about the circuits for which `where` is true.

    `cells`: circuits of every combination of cells, over the cell axes of the grid; None off
    a grid. `synapses`: circuits of every combination of synapses that are there (above 0),
    dim `combination` with coordinates (one flag for each synapse), the most frequent first;
    only those that occur; None where no synapse is a parameter.

    `marginals`: for each parameter, over its levels: `selected` and `all`, numbers of circuits.
    The levels are the values on the grid, and off it where these are at most ten; otherwise the
    deciles among all circuits, named by their lower and upper ends (`levels.levels_of`).

    `rank_correlation` (parameter, parameter): Spearman's, within the set, of parameters that have
    an order. `rank_correlation_of_all`: the same of all circuits; a prior that chooses among cells
    ties their conductances to each other. None on a grid, whose axes are independent. `cramers_v`
    (parameter, parameter): also for numbered cells.

    `component_sizes`: as `connected.components`, on a grid; None off it. If the database does
    not hold the whole grid (`whole_grid` is False), circuits are missing between those that are
    there: the components are those of the sample, and far more and smaller than the region's.

    `sensitivity` (feature, parameter): share of the feature's variance within the set that is
    between these levels of the parameter (`measures.variance_explained`), from 0 to 1. It is what
    knowing this parameter alone tells; interactions do not count. `direction` (feature,
    parameter): Spearman's correlation of the two, NaN for numbered cells.

    Correlations, V and sensitivity are taken from `SAMPLED` circuits where there are more, chosen
    by a hash of their ids; what is counted is counted in all.
    """

    where: str
    n_selected: int
    n_circuits: int
    whole_grid: bool
    cells: xr.DataArray | None
    synapses: xr.DataArray | None
    marginals: dict[str, xr.Dataset]
    rank_correlation: xr.DataArray
    rank_correlation_of_all: xr.DataArray | None
    cramers_v: xr.DataArray
    component_sizes: np.ndarray | None
    sensitivity: xr.DataArray
    direction: xr.DataArray

    def __repr__(self) -> str:
        names = ", ".join(self.marginals)
        return (
            f"<Statistics of {self.n_selected:,} of {self.n_circuits:,} circuits ({self.where}), "
            f"over {names}>"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as plain numbers, texts, lists and dicts; null for NaN."""
        cells = None
        if self.cells is not None:
            stacked = self.cells.stack(combination=self.cells.dims)
            cells = {
                "possible": int(stacked.size),
                "occurring": int((stacked > 0).sum()),
                "counts": [
                    {"cells": list(map(str, labels)), "circuits": int(count)}
                    for labels, count in zip(
                        stacked["combination"].values, stacked.values, strict=True
                    )
                ],
            }
        synapses = None
        if self.synapses is not None:
            names = [str(c) for c in self.synapses.coords]
            synapses = [
                {
                    "present": [n for n in names if bool(self.synapses[n].values[i])],
                    "circuits": int(count),
                }
                for i, count in enumerate(self.synapses.values)
            ]
        sizes = self.component_sizes
        return {
            "where": self.where,
            "circuits": self.n_selected,
            "of": self.n_circuits,
            "whole_grid": self.whole_grid,
            "cells": cells,
            "synapses": synapses,
            "marginals": {
                name: {str(k): v.values.tolist() for k, v in found.variables.items()}
                for name, found in self.marginals.items()
            },
            "rank_correlation": _matrix(self.rank_correlation),
            "rank_correlation_of_all": None
            if self.rank_correlation_of_all is None
            else _matrix(self.rank_correlation_of_all),
            "cramers_v": _matrix(self.cramers_v),
            "components": None
            if sizes is None
            else {"number": len(sizes), "sizes": sizes.tolist()},
            "sensitivity": _matrix(self.sensitivity),
            "direction": _matrix(self.direction),
        }


def stats(db: Database, where: str = "pyloric") -> Statistics:
    """Statistics of the circuits for which an expression is true.

    Args:
        db: the database.
        where: the expression.

    Raises:
        QueryError: the expression is not valid, or true for no circuit.
    """
    manifest = db.manifest
    features = default_features(manifest.columns)
    parameters = list(needed_columns(manifest))
    rows = db.query(where, columns=parameters)
    n = rows.sizes["circuit"]
    if n == 0:
        raise QueryError(f"there is no circuit for which {where!r} is true")
    axes = manifest.axes
    some = _sampled(db, [*parameters, *features], n, to_sql(where, manifest))
    found: dict[str, Levels] = {}
    if axes is None:
        names, ordered = parameters, parameters
        found = {p: levels_of(db, p) for p in parameters}
        levels = {p: found[p].of(some[p]) for p in parameters}
    else:
        names = [a.name for a in axes]
        ordered = [a.name for a in axes if a.kind == "value"]
        levels = some = some | {a.name: some[index_column(a)] for a in axes}
        rows = rows.rename({index_column(a): a.name for a in axes if a.kind == "value"})
    values = {name: rows[name].values for name in names}
    table = np.stack([levels[p] for p in names], axis=1).astype(np.int64)
    ranked = ranks(_stacked(some, ordered))
    dims = {"parameter": names, "other": names}
    of_all = None
    if axes is None:
        everything = _sampled(db, ordered, len(db))
        of_all = _correlation(ranks(_stacked(everything, ordered)), ordered)
    sensitivity, direction = _sensitivity(some, features, names, levels, ordered, ranked)
    return Statistics(
        where=where,
        n_selected=n,
        n_circuits=len(db),
        whole_grid=db.whole_grid,
        cells=_cells(axes, values),
        synapses=_synapses(axes, values),
        marginals=_marginals(db, where, axes, found),
        rank_correlation=_correlation(ranked, ordered).reindex(dims),
        rank_correlation_of_all=of_all,
        cramers_v=xr.DataArray(cramers_v(table), dims=tuple(dims), coords=dims),
        component_sizes=None if axes is None else components(axes, rows["circuit_id"].values),
        sensitivity=sensitivity,
        direction=direction,
    )


def _sampled(
    db: Database, names: Sequence[str], n: int, condition: str = "TRUE"
) -> dict[str, np.ndarray]:
    """Columns of the n circuits for which SQL is true, or of about `SAMPLED` of them."""
    # by a hash: the rows of a table may be in any order
    one_in = -(-n // SAMPLED)
    table = db.sql(
        f"SELECT {', '.join(map(quote_name, names))} FROM circuits "
        f"WHERE ({condition}) AND hash(circuit_id) % {one_in} = 0"
    )
    return {name: numpy_column(db.manifest.by_name[name], table[name]) for name in names}


def _stacked(columns: dict[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Columns side by side, (n, name)."""
    n = len(next(iter(columns.values())))
    return np.stack([columns[p] for p in names], axis=1) if names else np.empty((n, 0))


def _correlation(ranked: np.ndarray, names: Sequence[str]) -> xr.DataArray:
    return xr.DataArray(
        rank_correlations(ranked, ranked),
        dims=("parameter", "other"),
        coords={"parameter": list(names), "other": list(names)},
        attrs={"units": "1"},
    )


def _cells(axes: Sequence[Axis] | None, index: dict[str, np.ndarray]) -> xr.DataArray | None:
    of_cells = [a for a in axes or () if a.kind == "cell"]
    if not of_cells:
        return None
    shape = tuple(map(len, of_cells))
    places = np.ravel_multi_index(tuple(index[a.name].astype(int) for a in of_cells), shape)
    counts = np.bincount(places, minlength=int(np.prod(shape))).reshape(shape)
    labels = {a.name: list(a.labels) for a in of_cells}
    return xr.DataArray(counts, dims=[a.name for a in of_cells], coords=labels, name="circuits")


def _synapses(axes: Sequence[Axis] | None, values: dict[str, np.ndarray]) -> xr.DataArray | None:
    names = [p for p in values if p.startswith(("gsyn_", "ggap_"))]
    if not names:
        return None
    here = {n: values[n] for n in names}
    for axis in axes or ():
        if axis.name in here:
            here[axis.name] = np.asarray(axis.values)[here[axis.name].astype(int)]
    present = np.stack([v > 0 for v in here.values()], axis=1)
    # a bit for each synapse, and each row of bits one text, which is compared far faster
    bits = np.packbits(present[:, ::-1], axis=1)
    code = bits.view(f"S{bits.shape[1]}")
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    flags = present[first[order]]
    coords = {name: ("combination", flags[:, i]) for i, name in enumerate(names)}
    return xr.DataArray(counts[order], dims="combination", coords=coords, name="circuits")


def _marginals(
    db: Database, where: str, axes: Sequence[Axis] | None, found: dict[str, Levels]
) -> dict[str, xr.Dataset]:
    """Over the axes of a grid, or the levels that were found off it."""
    if axes is None:
        asked = {name: (levels.sql(name), *_named(name, levels)) for name, levels in found.items()}
    else:
        asked = {
            a.name: (quote_name(index_column(a)), len(a), {a.name: list(a.levels)}) for a in axes
        }
    condition = to_sql(where, db.manifest)
    marginals = {}
    for name, (level, length, coords) in asked.items():
        # the condition may be null: such a circuit is not selected
        table = db.sql(
            f"SELECT {level} AS level, count(*) AS n, "
            f"count(*) FILTER (WHERE {condition}) AS selected FROM circuits GROUP BY 1"
        )
        at = table["level"].to_numpy().astype(int)
        counts = {"selected": np.zeros(length, np.int64), "all": np.zeros(length, np.int64)}
        counts["selected"][at] = table["selected"].to_numpy()
        counts["all"][at] = table["n"].to_numpy()
        marginals[name] = xr.Dataset({c: (name, v) for c, v in counts.items()}, coords)
    return marginals


def _named(name: str, levels: Levels) -> tuple[int, dict[str, Any]]:
    """How many levels a parameter has, and the coordinates that name them."""
    if levels.are_values:
        return len(levels), {name: levels.lower}
    return len(levels), {"lower": (name, levels.lower), "upper": (name, levels.upper)}


def _sensitivity(
    values: dict[str, np.ndarray],
    features: Sequence[str],
    names: Sequence[str],
    levels: dict[str, np.ndarray],
    ordered: Sequence[str],
    ranked: np.ndarray,
) -> tuple[xr.DataArray, xr.DataArray]:
    explained = np.full((len(features), len(names)), np.nan)
    direction = np.full((len(features), len(names)), np.nan)
    for i, feature in enumerate(features):
        y = values[feature]
        known = ~np.isnan(y)
        for j, name in enumerate(names):
            explained[i, j] = variance_explained(levels[name], y)
        if known.any():
            against = ranked if known.all() else ranks(_stacked(values, ordered)[known])
            places = [names.index(p) for p in ordered]
            direction[i, places] = rank_correlations(ranks(y[known, None]), against)[0]
    coords = {"feature": list(features), "parameter": list(names)}
    arrays = [
        xr.DataArray(a, dims=("feature", "parameter"), coords=coords, attrs={"units": "1"})
        for a in (explained, direction)
    ]
    return arrays[0], arrays[1]


def _matrix(array: xr.DataArray) -> dict[str, dict[str, float | None]]:
    rows, columns = array.dims
    return {
        str(r): {
            str(c): None if np.isnan(v) else float(v)
            for c, v in zip(array[columns].values, line, strict=True)
        }
        for r, line in zip(array[rows].values, array.values, strict=True)
    }
