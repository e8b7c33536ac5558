"""A directory of training data: the parts of a split, constants, and a README about both."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pyloric_db.errors import ConfigError, QueryError
from pyloric_db.ml.arrays import (
    FEATURES,
    PARAMETERS,
    Arrays,
    Matrix,
    Missing,
    check_policy,
    filled,
    may_lack,
    means,
    read_arrays,
    without_missing,
)
from pyloric_db.ml.priors import LOG_UNIFORM, in_words, prior_of
from pyloric_db.ml.split import PARTS, part_of, read_shares
from pyloric_db.query.database import Database, check_opened
from pyloric_db.query.save import SUFFIXES, save_rows
from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import CIRCUIT, attributes
from pyloric_db.whole import written_whole

FORMATS = ("parquet", "npz", "csv", "netcdf", "zarr")
CONSTANTS_FILE = "standardisation.json"
README_FILE = "README.md"
SOURCE_FILE = "source.json"
#: The expression that is true for every circuit.
EVERYTHING = "True"

_POLICY = {
    "drop": "{left_out:,} circuits that lack a value of a column were left out.",
    "mask": "Where a circuit lacks a value there is 0, and the column `NAME_present` beside it\n"
    "(npz: the arrays `inputs_present` and `targets_present`) is false. This 0 is no value: leave\n"
    "it out of means, losses and scores, and give a network that reads the column the mask too.",
    "fill": "Where a circuit lacks a value there is the mean of the column over the\n"
    "training part. It is no measurement: leave it out of losses and scores (npz says in\n"
    "`targets_present` where it stands; the other formats do with `--missing mask`).",
}


def export(
    db: Database,
    directory: str | Path,
    *,
    file_format: str = "parquet",
    inputs: str | Sequence[str] = PARAMETERS,
    targets: str | Sequence[str] = FEATURES,
    where: str = EVERYTHING,
    missing: Missing = "drop",
    split: str = "0.8/0.1/0.1",
) -> dict[str, int]:
    """Writes inputs and targets of circuits, split by a hash of their parameters.

    The directory gets one file for each part (`train`, `validation`, `test`), the prior of each
    column and the constants for its standardisation (of the training part alone; the files hold
    plain values in their units), what the database says of itself, and a README that describes
    every column. It appears when all of it is written.

    Args:
        db: the database.
        directory: must not exist, or be empty.
        file_format: `parquet`, `npz`, `csv`, `netcdf` or `zarr`.
        inputs, targets, where: as in `to_arrays`.
        missing: as in `to_arrays`; `"fill"` takes the mean of the training part.
        split: shares of the parts; see `pyloric_db.ml.split`.

    Returns:
        circuits of each part.

    Raises:
        ConfigError: the format or the split is not valid, the directory is not empty or cannot be
            written, or `db` is no Database.
        QueryError: as `to_arrays`, or a part gets no circuit.
    """
    if file_format not in FORMATS:
        raise ConfigError(f"the format must be one of {', '.join(FORMATS)}, not {file_format!r}")
    check_opened(db)
    check_policy(missing)
    shares = read_shares(split)
    target = Path(directory)
    _check_target(target)
    arrays = read_arrays(db, inputs, targets, where)
    parts = _parts(arrays, shares, missing)
    constants = _constants(parts["train"], db.manifest)
    if missing == "fill":
        means_of = [means(m) for m in (parts["train"].inputs, parts["train"].targets)]
        parts = {name: filled(part, *means_of) for name, part in parts.items()}
    counts = {name: len(part.circuit_id) for name, part in parts.items()}
    with written_whole(target, new=True) as work:
        work.mkdir()
        for name, part in parts.items():
            _write(part, work, name, file_format, missing)
        (work / CONSTANTS_FILE).write_text(json.dumps(constants, indent=2) + "\n")
        text = _readme(
            db, len(arrays.circuit_id), parts, constants, file_format, where, missing, shares
        )
        (work / README_FILE).write_text(text, encoding="utf-8")
        (work / SOURCE_FILE).write_text(db.manifest.to_json(), encoding="utf-8")
    return counts


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is not a directory")
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(f"{target} is not empty: choose another directory")
    if not target.name:
        raise ConfigError(f"{target} must be a directory with a name, which is made anew")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{target} cannot be made: {target.parent} is no directory")


def _parts(arrays: Arrays, shares: Sequence[float], missing: Missing) -> dict[str, Arrays]:
    if missing == "drop":
        arrays = without_missing(arrays)
    number = part_of(arrays.place, shares)
    parts = {}
    for k, name in enumerate(PARTS[len(shares)]):
        parts[name] = arrays.take(number == k)
        if not len(parts[name].circuit_id):
            raise QueryError(
                f"the part {name} gets none of the {len(arrays.circuit_id):,} circuits: ask for "
                "more circuits, or for fewer parts"
            )
    return parts


def _constants(train: Arrays, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Prior of each column, and mean and SD over the circuits of the training part that have it.

    The SD is 1 where there is no spread. Of a column that a prior drew log-uniformly (its `scale`
    is `log`) both are of natural logarithms.
    """
    found = {}
    for matrix, role in ((train.inputs, "input"), (train.targets, "target")):
        for i, column in enumerate(matrix.columns):
            prior = prior_of(column.name, manifest)
            values = matrix.values[matrix.present[:, i], i].astype(np.float64)
            # a draw may be so small that it is 0 in float32
            log = prior is not None and LOG_UNIFORM in prior and bool((values > 0).all())
            if log:
                values = np.log(values)
            sd = values.std() if values.size else 0.0
            found[column.name] = {
                "role": role,
                "units": column.unit,
                "prior": prior,
                "scale": "log" if log else "linear",
                "mean": float(values.mean()) if values.size else None,
                "sd": float(sd) if sd > 0 else 1.0,
                "constant": not sd > 0,
            }
    return found


def _write(part: Arrays, directory: Path, name: str, file_format: str, missing: Missing) -> None:
    if file_format == "npz":
        arrays: dict[str, Any] = {"circuit_id": part.circuit_id}
        for role, m in (("inputs", part.inputs), ("targets", part.targets)):
            arrays[role], arrays[f"{role}_present"] = m.values, m.present
            arrays[f"{role}_names"] = np.array(m.names)
            arrays[f"{role}_units"] = np.array(m.units)
        np.savez(directory / f"{name}.npz", **arrays)
        return
    variables: dict[str, Any] = {}
    for matrix in (part.inputs, part.targets):
        variables |= _variables(matrix, missing == "mask")
    coords = {"circuit_id": (CIRCUIT, part.circuit_id, attributes("1", "circuit id"))}
    save_rows(xr.Dataset(variables, coords), directory / f"{name}{SUFFIXES[file_format]}")


def _variables(matrix: Matrix, masks: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i, c in enumerate(matrix.columns):
        found[c.name] = (CIRCUIT, matrix.values[:, i], c.attrs)
        if masks and may_lack(c):
            said = attributes("1", f"whether there is a value of {c.name}")
            found[f"{c.name}_present"] = (CIRCUIT, matrix.present[:, i], said)
    return found


def _readme(
    db: Database,
    asked: int,
    parts: dict[str, Arrays],
    constants: dict[str, dict[str, Any]],
    file_format: str,
    where: str,
    missing: Missing,
    shares: Sequence[float],
) -> str:
    suffix = ".npz" if file_format == "npz" else SUFFIXES[file_format]
    total = sum(len(p.circuit_id) for p in parts.values())
    files = "\n".join(
        f"| `{name}{suffix}` | {len(part.circuit_id):,} | {share:g} |"
        for (name, part), share in zip(parts.items(), shares, strict=True)
    )
    rows = []
    for role in ("inputs", "targets"):
        matrices: list[Matrix] = [getattr(p, role) for p in parts.values()]
        for i, column in enumerate(matrices[0].columns):
            lacking = sum(int((~m.present[:, i]).sum()) for m in matrices)
            known = constants[column.name]
            mean = "" if known["mean"] is None else f"{known['mean']:.6g}"
            sd = "constant" if known["constant"] else f"{known['sd']:.6g}"
            rows.append(
                f"| `{column.name}` | {role[:-1]} | {column.unit} | {column.long_name} "
                f"| {in_words(known['prior'])} | {known['scale']} | {mean} | {sd} | {lacking:,} |"
            )
    asked_for = f" for which `{where}` is true" if where != EVERYTHING else ""
    arrays = (
        "\nEach file holds `inputs` and `targets` (circuit, column) float32, `inputs_names`, "
        "`inputs_units` and the same of the targets, `inputs_present`, `targets_present` "
        "(whether a value was there) and `circuit_id`. Columns are in the order of the table.\n"
        if file_format == "npz"
        else "\nEach file holds `circuit_id` and the columns below, float32, with their units.\n"
    )
    return f"""# Training data from the database {db.manifest.name}

{total:,} of the {asked:,} circuits{asked_for}, exported by pyloric-db from the
database with recipe hash `{db.manifest.recipe_hash}`.{_unfinished(db)}{_other_model(db)}
`{SOURCE_FILE}` is what that says of itself: the recipe, with the prior or grid that the circuits
were drawn from, the protocol (its `settings` are the fields of `pyloric_db.Protocol`, with which
`pyloric_db.classify` measures further circuits alike), and all versions.

| file | circuits | share asked |
|---|---|---|
{files}
{arrays}
A hash of a circuit's parameters decides which file it is in, so that the same circuit falls into
the same part in every database.

Missing values: {missing}. {_POLICY[missing].format(left_out=asked - total)}
None is missing by chance: a feature without a value has no meaning in its circuit, as a phase has
none where a cell does not burst once in every cycle.
{_failed(db, where)}
The values are in the units below, not standardised. `{CONSTANTS_FILE}` has, for programs, what
the table says of every column. `mean` and `sd` are over `train{suffix}` alone, over the circuits
that have a value: (v - mean) / sd is standardised, where v is the value, or its natural logarithm
where `scale` is `log` (what a prior drew log-uniformly). The `sd` of a column without spread is
given as 1.

`prior` is how a conductance was drawn for the database: `uniform` or `log_uniform` between two
ends, a `choice`, the levels of a `grid`, or `fixed`, in the column's unit. Columns are independent,
but for those of a cell with a name, which come together (`{SOURCE_FILE}` has the cells of a grid).
{_selected(db, total)}
| column | role | unit | what it is | prior | scale | mean in train | SD in train | missing |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

## The hash

{_split_rule()}
"""


def _other_model(db: Database) -> str:
    words = db.manifest.other_model
    return f"\nIts model is not the published one at 283 K, but with {words}." if words else ""


def _unfinished(db: Database) -> str:
    """How much of a database was there, and what that says of the rest."""
    if db.complete:
        return ""
    # shards follow the ids, and those of a grid its axes
    rest = "" if db.random_sample else ", and the rest may be unlike them"
    return (
        f" It was not complete: {len(db):,} of its {db.manifest.n_circuits:,} circuits were "
        f"finished{rest}."
    )


def _selected(db: Database, total: int) -> str:
    """What leaving circuits out did to the prior, in a paragraph of its own."""
    if total == len(db):
        return ""
    return (
        f"\nOnly {total:,} of the {len(db):,} circuits of the database are here, and these have\n"
        "another distribution. Where features alone decide which they are, a posterior learnt\n"
        "from them is still that of the prior; but test it on these circuits, not on fresh draws.\n"
    )


def _failed(db: Database, where: str) -> str:
    """How many of the circuits asked for have nothing measured, in a paragraph of its own."""
    n = db.count(f"({where}\n) and status != 'ok'")
    if not n:
        return ""
    return (
        f"\nThe runs of {n:,} of the circuits asked for failed (`status` is not `ok`): they have\n"
        "no features, and their flags and counts are missing values too.\n"
    )


def _split_rule() -> str:
    from pyloric_db.ml import split

    text = (split.__doc__ or "").partition("The hash, in full:\n\n")[2]
    return text.strip()
