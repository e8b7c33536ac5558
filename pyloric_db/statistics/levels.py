"""Levels of a parameter that has none by itself: off a grid."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyloric_db.query.database import Database
from pyloric_db.query.expression import quote_name

#: Most levels of a parameter, and into how many groups of about equal size others are cut.
QUANTILES = 10


@dataclass(frozen=True)
class Levels:
    """Levels 0, 1, ... of a parameter, by the lower and upper ends of each.

    The two are the same where a level is one value. Others hold their lower ends, and the last
    its upper end too.
    """

    lower: list[float]
    upper: list[float]

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def are_values(self) -> bool:
        return self.lower == self.upper

    def of(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
        """The level of each value (n,)."""
        begins = np.array(self.lower[1:], values.dtype)
        return np.searchsorted(begins, values, side="right").astype(np.int64)

    def sql(self, name: str) -> str:
        """The level of a circuit's value in the column `name`, as SQL."""
        begins = enumerate(self.lower[1:])
        tests = "".join(
            f" WHEN {quote_name(name)} < CAST({low!r} AS FLOAT) THEN {i}" for i, low in begins
        )
        return f"CASE{tests} ELSE {len(self) - 1} END" if tests else "0"


def levels_of(db: Database, name: str) -> Levels:
    """The levels of a parameter among all circuits, whichever set of them is asked about.

    They are the values where these are at most ten, or else the deciles. A value of so many
    circuits that it fills whole deciles is a level of its own: circuits without a synapse are not
    to be taken together with those that have a weak one.
    """
    column = quote_name(name)
    # the limit stands inside: it ends the search for distinct values
    some = f"SELECT DISTINCT {column} AS v FROM circuits LIMIT {QUANTILES + 1}"
    values: list[float] = db.sql(f"SELECT v FROM ({some}) ORDER BY v")["v"].to_pylist()
    if len(values) <= QUANTILES:
        return Levels(values, values)
    shares = [i / QUANTILES for i in range(QUANTILES + 1)]
    text = f"SELECT quantile_disc({column}, {shares}) AS edges FROM circuits"
    edges: list[float] = db.sql(text)["edges"][0].as_py()
    alone = {low for low, high in zip(edges[:-1], edges[1:], strict=True) if low == high}
    begins = {*edges[:-1]}
    for value in alone - {edges[-1]}:
        above = f"SELECT min({column}) AS v FROM circuits WHERE {column} > CAST({value!r} AS FLOAT)"
        begins.add(db.sql(above)["v"][0].as_py())
    lower = sorted(begins)
    ends = zip(lower, [*lower[1:], edges[-1]], strict=True)
    return Levels(lower, [low if low in alone else high for low, high in ends])
