"""Columns of a database as float32 matrices with names and units."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError, nearest
from pyloric_db.ml.split import place_of
from pyloric_db.query.database import Database
from pyloric_db.store.parameters import (
    all_parameters,
    needed_columns,
    parameters_from_columns,
)
from pyloric_db.vocabulary import Column, default_features

Missing = Literal["drop", "mask", "fill"]
POLICIES = ("drop", "mask", "fill")

#: A name that stands for all conductances, and one for the `default_features`.
PARAMETERS, FEATURES = "parameters", "features"

#: Kinds of flags and counts, which are False and 0 where a run failed and nothing was measured.
_COUNTED = ("bool", "int8")

#: Circuits whose conductances are worked out at a time.
_BLOCK = 1 << 17

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Matrix:
    """Columns side by side.

    `values` (circuit, column) float32; `present` (circuit, column) False where a value was
    missing. `columns` say name, unit and long name of each.
    """

    values: Floats
    present: Flags
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(c.unit for c in self.columns)

    def take(self, rows: npt.NDArray[np.generic]) -> "Matrix":
        """Some circuits, by a mask or an index."""
        return Matrix(self.values[rows], self.present[rows], self.columns)


@dataclass(frozen=True)
class Arrays:
    """What `to_arrays` returns: circuits in ascending `circuit_id`.

    `place` (circuit,) is uniform in [0, 1) and the same for a circuit in every database: split
    by it (`pyloric_db.ml.split`).
    """

    inputs: Matrix
    targets: Matrix
    circuit_id: npt.NDArray[np.int64]
    place: npt.NDArray[np.float64]

    def __repr__(self) -> str:
        n, inputs = self.inputs.values.shape
        return (
            f"<Arrays of {n:,} circuits: {inputs} inputs, {self.targets.values.shape[1]} targets>"
        )

    def take(self, rows: npt.NDArray[np.generic]) -> "Arrays":
        """Some circuits, by a mask or an index."""
        return Arrays(
            self.inputs.take(rows),
            self.targets.take(rows),
            self.circuit_id[rows],
            self.place[rows],
        )


def to_arrays(
    db: Database,
    inputs: str | Sequence[str] = PARAMETERS,
    targets: str | Sequence[str] = FEATURES,
    where: str = "True",
    missing: Missing = "drop",
) -> Arrays:
    """Inputs and targets of circuits as float32 matrices.

    Args:
        db: the database.
        inputs: names of columns, or `"parameters"`: every gbar_* in mS/cm2 and gsyn_* in nS of
            the circuits, also where the grid is one of numbered cells. Flags are 0 and 1.
            What is named twice is there once.
        targets: as `inputs`, or `"features"`: the fifteen, or as many as the circuits have, and
            burst duration, duty cycle and phase of other cells than AB/PD, LP and PY.
        where: only circuits for which this expression is true.
        missing: what becomes of missing values, which flags of circuits whose run failed
            (`status` is not `ok`) are too. `"drop"` leaves out circuits that lack one,
            `"mask"` puts 0 in their places, `"fill"` the mean of the column over the circuits
            that have it; `present` says in each case where values were.

    Raises:
        QueryError: a column is unknown, is text or `circuit_id`, or is an input and a target;
            the expression is not valid; no circuit is left; or, with `"fill"`, a column has no
            value at all.
    """
    check_policy(missing)
    arrays = read_arrays(db, inputs, targets, where)
    if missing == "drop":
        arrays = without_missing(arrays)
    elif missing == "fill":
        arrays = filled(arrays, means(arrays.inputs), means(arrays.targets))
    return arrays


def check_policy(missing: str) -> None:
    """QueryError for what is no policy for missing values."""
    if missing not in POLICIES:
        raise QueryError(f"missing must be one of {', '.join(POLICIES)}, not {missing!r}")


def read_arrays(
    db: Database, inputs: str | Sequence[str], targets: str | Sequence[str], where: str
) -> Arrays:
    """The matrices with 0 for what is missing."""
    chosen = [_columns(db, names) for names in (inputs, targets)]
    if not all(chosen):
        raise QueryError("inputs and targets must name at least one column each")
    names = [c.name for columns in chosen for c in columns]
    both = [n for n in names if names.count(n) > 1]
    if both:
        raise QueryError(f"{both[0]} must be an input or a target, not both")
    stored = db.manifest.by_name
    needed = needed_columns(db.manifest)
    rows = db.query(where, columns=["status", *needed, *(n for n in names if n in stored)])
    if not rows.sizes["circuit"]:
        raise QueryError(f"there is no circuit for which {where!r} is true")
    ids = rows["circuit_id"].values
    failed = rows["status"].values != "ok"
    manifest = db.manifest
    # in the order of `place_of`; taken from the grid's axes in full precision and rounded once
    parameters = all_parameters(manifest)
    own = {c.name: i for i, c in enumerate(parameters)}
    matrices = []
    for columns in chosen:
        values = np.empty((len(ids), len(columns)), dtype=np.float32)
        for i, c in enumerate(columns):
            if c.name not in own:
                values[:, i] = rows[c.name].values
            if c.kind in _COUNTED:
                values[failed, i] = np.nan
        matrices.append(Matrix(values, np.empty(0, dtype=np.bool_), tuple(columns)))
    place = np.empty(len(ids))
    for start in range(0, len(ids), _BLOCK):
        block = slice(start, start + _BLOCK)
        part = {n: rows[n].values[block] for n in ("circuit_id", *needed)}
        gbar, gsyn = parameters_from_columns(db.manifest, part)
        place[block] = place_of(gbar, gsyn, db.manifest.channels.all)
        conductances = np.concatenate([gbar.reshape(len(gbar), -1), gsyn], axis=1)
        for matrix in matrices:
            for i, name in enumerate(matrix.names):
                if name in own:
                    matrix.values[block, i] = conductances[:, own[name]]
    return Arrays(_known(matrices[0]), _known(matrices[1]), ids, place)


def may_lack(column: Column) -> bool:
    """Whether a circuit may lack a value of a column."""
    return column.nullable or column.kind in _COUNTED


def _known(matrix: Matrix) -> Matrix:
    """With 0 and a note for NaN."""
    present = ~np.isnan(matrix.values)
    matrix.values[~present] = 0
    return Matrix(matrix.values, present, matrix.columns)


def without_missing(arrays: Arrays) -> Arrays:
    """The circuits that lack nothing; QueryError where there is none."""
    both = (arrays.inputs.present, arrays.targets.present)
    whole: Flags = np.all(np.concatenate(both, axis=1), axis=1)
    if not whole.any():
        raise QueryError(
            "no circuit that was asked for has a value in every column: let missing be mask or "
            "fill, or ask for circuits that have them all"
        )
    return arrays.take(whole)


def means(matrix: Matrix) -> npt.NDArray[np.float64]:
    """Mean of each column over the circuits that have it; NaN where none has."""
    n = matrix.present.sum(axis=0)
    total = matrix.values.sum(axis=0, dtype=np.float64, where=matrix.present)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def filled(
    arrays: Arrays,
    inputs: npt.NDArray[np.float64],
    targets: npt.NDArray[np.float64],
) -> Arrays:
    """The same with these values, one for each column, where a circuit has none."""
    return Arrays(
        _filled(arrays.inputs, inputs),
        _filled(arrays.targets, targets),
        arrays.circuit_id,
        arrays.place,
    )


def _filled(matrix: Matrix, fill: npt.NDArray[np.float64]) -> Matrix:
    unknown = np.isnan(fill) & ~matrix.present.all(axis=0)
    if unknown.any():
        name = matrix.names[int(np.flatnonzero(unknown)[0])]
        raise QueryError(f"{name} has no value in any circuit: nothing can fill its places")
    values = np.where(matrix.present, matrix.values, fill.astype(np.float32))
    return Matrix(values, matrix.present, matrix.columns)


def _columns(db: Database, names: str | Sequence[str]) -> tuple[Column, ...]:
    manifest = db.manifest
    parameters = all_parameters(manifest)
    known = manifest.by_name | {c.name: c for c in parameters}
    groups = {
        PARAMETERS: [c.name for c in parameters],
        FEATURES: default_features(manifest.columns),
    }
    given = list(names) if isinstance(names, Iterable) and not isinstance(names, str) else [names]
    for name in given:
        if not isinstance(name, str):
            raise QueryError(f"inputs and targets must be names of columns, not {name!r}")
    if FEATURES in given and not groups[FEATURES]:
        raise QueryError(f"the circuits of {manifest.name} have no features")
    # each once, in the order in which they are named first
    chosen = dict.fromkeys(n for name in given for n in groups.get(name, [name]))
    for name in chosen:
        if name not in known:
            hint = nearest(name, [*known, *groups])
            raise QueryError(f"unknown column {name!r}{hint}")
        if name == "circuit_id":
            raise QueryError("circuit_id only numbers the circuits: it is no input and no target")
        if known[name].kind in ("string", "category"):
            raise QueryError(f"{name} is text, which no matrix of numbers can hold")
    return tuple(known[name] for name in chosen)
