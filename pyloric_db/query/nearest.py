"""The circuits whose rhythm is nearest to a given one, in units of the published SDs."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.errors import QueryError, nearest
from pyloric_db.query.expression import quote_name, to_sql
from pyloric_db.vocabulary import CIRCUIT, CRITERIA, label

if TYPE_CHECKING:
    import xarray as xr

    from pyloric_db.query.database import Database

#: Rows that are fetched by one expression, which may not be too long for ids of 19 digits.
_AT_ONCE = 400

DISTANCE = {
    "units": "SD",
    "long_name": "root mean square difference in published standard deviations",
}


def find_nearest(
    db: "Database", features: "Mapping[str, Any] | xr.Dataset", k: int, where: str
) -> "xr.Dataset":
    """See `Database.nearest`."""
    import xarray as xr

    wanted = wanted_features(features)
    columns = db.manifest.by_name
    absent = [name for name in wanted if name not in columns]
    if absent:
        raise QueryError(
            f"the circuits of {db.path} have no {absent[0]}: the fifteen features are those of "
            f"AB/PD, LP and PY, and these circuits have {', '.join(map(label, db.manifest.cells))}"
        )
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise QueryError(f"k must be a whole number from 1, not {k!r}")
    to_sql(where, db.manifest)  # a mistake is said in the caller's words
    known = " and ".join(f"not isnull({name})" for name in wanted)
    sds = {c.column: c.sd for c in CRITERIA}
    off = [
        f"((CAST({quote_name(name)} AS DOUBLE) - ({value!r})) / {sds[name]!r})"
        for name, value in wanted.items()
    ]
    squares = " + ".join(f"{x} * {x}" for x in off)
    distance = f"sqrt(({squares}) / {len(wanted)}) AS distance"
    # the line break ends a comment that `where` may end with
    ranked = db._ask(
        f"circuit_id, {distance}", f"({where}\n) and {known}",
        f"ORDER BY distance, circuit_id LIMIT {int(k)}",
    )  # fmt: skip
    ids = np.empty(0, np.int64) if ranked is None else ranked["circuit_id"].to_numpy()
    distances = np.empty(0) if ranked is None else ranked["distance"].to_numpy()
    if not len(ids):
        if not db.count(where):
            raise QueryError(f"there is no circuit for which {where!r} is true")
        among = "" if where == "True" else f" of those for which {where!r} is true"
        raise QueryError(f"no circuit{among} has all the features {', '.join(wanted)}")
    parts = [
        db.query(f"circuit_id in {ids[i : i + _AT_ONCE].tolist()}")
        for i in range(0, len(ids), _AT_ONCE)
    ]
    rows = xr.concat(parts, CIRCUIT, data_vars="all") if len(parts) > 1 else parts[0]
    order = np.argsort(rows.circuit_id.values)
    places = order[np.searchsorted(rows.circuit_id.values, ids, sorter=order)]
    found: xr.Dataset = rows.isel({CIRCUIT: places})
    found = found.assign(distance=(CIRCUIT, distances, DISTANCE))
    return found.assign_attrs(compared=list(wanted))


def wanted_features(features: "Mapping[str, Any] | xr.Dataset") -> dict[str, float]:
    """Those of the fifteen features that have a value, in their order.

    Raises:
        QueryError: these are no names with values, a name is none of the fifteen, a value is
            no number or infinite, or there is none.
    """
    import xarray as xr

    if not hasattr(features, "items"):
        raise QueryError(f"features must be a dict or a Dataset, not {type(features).__name__}")
    criteria = [c.column for c in CRITERIA]
    given: Mapping[Any, Any] = features
    if isinstance(features, xr.Dataset):
        # what the analysis finds besides the fifteen is not compared
        given = {n: features[n].values for n in criteria if n in features}
    values: dict[str, float] = {}
    for name, value in given.items():
        if name not in criteria:
            raise QueryError(
                f"{name!r} is none of the fifteen features{nearest(str(name), criteria)}; "
                f"they are {', '.join(criteria)}"
            )
        number = _number(name, value)
        if not math.isnan(number):
            values[name] = number
    if not values:
        raise QueryError("there is no feature to compare: all are missing")
    return {name: values[name] for name in criteria if name in values}


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
