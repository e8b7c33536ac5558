"""The circuits whose rhythm is nearest to a given one, in units of the features' SDs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyloric_db.errors import QueryError, nearest
from pyloric_db.query.expression import quote_name
from pyloric_db.vocabulary import CIRCUIT, attributes, default_features, published

if TYPE_CHECKING:
    import xarray as xr

    from pyloric_db.query.database import Database

DISTANCE = attributes("SD", "root mean square difference in standard deviations of the features")


class Scale(NamedTuple):
    """By what values of a feature are compared, in its unit."""

    mean: float
    sd: float


def scales(db: "Database", names: Sequence[str]) -> dict[str, Scale]:
    """Mean and SD of features: the published ones, or of a feature without them the database's.

    Without those that have none or only one value in the whole database, by which no circuit is
    nearer than another.
    """
    criteria = published(db.manifest.cells)
    found = {n: Scale(criteria[n].mean, criteria[n].sd) for n in names if n in criteria}
    own = [name for name in names if name not in criteria]
    if own:
        as_double = [f"CAST({quote_name(name)} AS DOUBLE)" for name in own]
        table = db._ask(", ".join(f"[avg({x}), stddev_pop({x})]" for x in as_double), "True")
        assert table is not None  # there are circuits
        for name, column in zip(own, table.columns, strict=True):
            mean, sd = column[0].as_py()
            if sd:
                # threads add up in any order, which changes the last bits
                found[name] = Scale(float(f"{mean:.9g}"), float(f"{sd:.9g}"))
    return found


def ranges(db: "Database", names: Sequence[str], where: str) -> dict[str, tuple[float, float]]:
    """The lowest and the highest value of features among the circuits for which `where` is true;
    without those that none of them has."""
    table = db._ask(", ".join(f"[min({x}), max({x})]" for x in map(quote_name, names)), where)
    found = (column[0].as_py() for column in table.columns) if table else ()
    return {
        name: (float(low), float(high))
        for name, (low, high) in zip(names, found, strict=False)
        if low is not None
    }


def find_nearest(
    db: "Database", features: "Mapping[str, Any] | xr.Dataset", k: int, where: str
) -> "xr.Dataset":
    """See `Database.nearest`."""
    wanted = _wanted_features(db, features)
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise QueryError(f"k must be a whole number from 1, not {k!r}")
    if not db.count(where):
        raise QueryError(f"there is no circuit for which {where!r} is true")
    scale = scales(db, list(wanted))
    wanted = {name: value for name, value in wanted.items() if name in scale}
    if not wanted:
        raise QueryError(
            f"the circuits of {db.path} do not differ in any of the features to be compared"
        )
    criteria = published(db.manifest.cells)
    off = []
    for name, value in wanted.items():
        x = f"(CAST({quote_name(name)} AS DOUBLE) - ({value!r}))"
        if name.startswith("phase_start_") and name not in criteria:
            x = f"({x} - round({x}))"  # just before a burst of the first cell is near just after
        off.append(f"({x} / {scale[name].sd!r})")
    squares = " + ".join(f"{x} * {x}" for x in off)
    names = list(db.manifest.by_name)
    ranked = db._ask(
        f"{', '.join(map(quote_name, names))}, sqrt(({squares}) / {len(wanted)}) AS distance",
        where,
        f"ORDER BY distance NULLS LAST, circuit_id LIMIT {min(int(k), 2**62)}",
    )
    assert ranked is not None  # there are circuits
    ranked = ranked.filter(ranked["distance"].is_valid())  # a circuit may lack a feature
    if not len(ranked):
        among = "" if where == "True" else f" of those for which {where!r} is true"
        raise QueryError(f"no circuit{among} has all the features {', '.join(wanted)}")
    found = db._dataset(names, ranked)
    found = found.assign(distance=(CIRCUIT, ranked["distance"].to_numpy(), DISTANCE))
    return found.assign_attrs(compared=list(wanted))


def _wanted_features(
    db: "Database", features: "Mapping[str, Any] | xr.Dataset"
) -> dict[str, float]:
    """Those of the features that have a value, in the order of the table.

    Raises:
        QueryError: these are no names with values, the circuits have no such feature, a value is
            no number or infinite, or there is none.
    """
    import xarray as xr

    if not hasattr(features, "items"):
        raise QueryError(f"features must be a dict or a Dataset, not {type(features).__name__}")
    usual = default_features(db.manifest.columns)
    measured = [c.name for c in db.manifest.columns if c.measured]
    given: Mapping[Any, Any] = features
    if isinstance(features, xr.Dataset):
        # what else the analysis finds is not compared
        given = {n: features[n].values for n in usual if n in features}
    values: dict[str, float] = {}
    for name, value in given.items():
        if name not in measured:
            raise QueryError(
                f"the circuits of {db.path} have no feature {name!r}"
                f"{nearest(str(name), measured)}; they have {', '.join(usual)}"
            )
        number = _number(name, value)
        if not math.isnan(number):
            values[name] = number
    if not values:
        raise QueryError("there is no feature to compare: all are missing")
    return {name: values[name] for name in measured if name in values}


def _number(name: str, value: Any) -> float:
    if value is None:
        return math.nan
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise QueryError(f"{name} must be one number, not {value!r}")
    number = float(array.reshape(-1)[0])
    if math.isinf(number):
        raise QueryError(f"{name} must be finite, not {number}")
    return number
