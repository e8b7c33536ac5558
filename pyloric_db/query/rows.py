"""Where the circuits of a database stand: circuit id, row of the table, row of the states."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.sealed import Row

Ids = npt.NDArray[np.int64]


class Rows:
    """Rows of the finished shards, in ascending order of shard."""

    def __init__(
        self,
        manifest: Manifest,
        shards: Mapping[int, Row],
        read_ids: Callable[[], npt.NDArray[Any]],
    ) -> None:
        self._manifest = manifest
        self._shards = [shards[s] for s in sorted(shards)]
        self._first = np.array([row["first_id"] for row in self._shards], dtype=np.int64)
        last = np.array([row["last_id"] for row in self._shards], dtype=np.int64)
        sizes = np.array([row["n_circuits"] for row in self._shards], dtype=np.int64)
        self._ends = np.concatenate([[0], np.cumsum(sizes)])
        #: Whether the ids of each shard come after those of all before it.
        self.ascending = bool((self._first[1:] > last[:-1]).all())
        # ids ascend in a shard, so that its ends say whether any is left out
        self._whole = self.ascending and bool((last - self._first + 1 == sizes).all())
        self._last_id = int(last[-1]) if len(last) else -1
        self._read_ids = read_ids
        self._ids: Ids | None = None
        self._order: Ids | None = None
        self.count = int(self._ends[-1])

    @property
    def ids(self) -> Ids:
        """Circuit ids of all rows, (rows,)."""
        if self._ids is None:
            if self._whole:
                spans = [np.arange(r["first_id"], r["last_id"] + 1) for r in self._shards]
                self._ids = np.concatenate([np.empty(0, np.int64), *spans])
            else:
                self._ids = np.array(self._read_ids(), dtype=np.int64)
            self._ids.flags.writeable = False
        return self._ids

    def are(self, size: int) -> bool:
        """Whether the rows are the circuits 0 ... size - 1, in this order."""
        return self._whole and self.count == size == self._last_id + 1

    def find(self, ids: npt.ArrayLike) -> Ids:
        """Rows of the table of circuit ids, (n,), in the order given.

        Raises:
            QueryError: an id is not whole, or not in the database; the first is named.
        """
        try:
            wanted = np.atleast_1d(np.asarray(ids))
        except TypeError as err:  # a Dataset, which is no array
            hint = ": pass its .circuit_id" if hasattr(ids, "circuit_id") else ""
            kind = type(ids).__name__
            raise QueryError(
                f"circuit ids must be a list of whole numbers, not a {kind}{hint}"
            ) from err
        except ValueError as err:  # lists in lists, of several lengths
            raise QueryError("circuit ids must be a list of whole numbers") from err
        if wanted.size == 0:
            return np.empty(0, np.int64)
        if wanted.ndim != 1:
            raise QueryError(
                "circuit ids must be a list of whole numbers, not an array of "
                f"{wanted.ndim} dimensions"
            )
        if wanted.dtype.kind not in "iu":
            raise QueryError(f"circuit ids must be a list of whole numbers, not {wanted.dtype}")
        rows, found = self._in_spans(wanted) if self._whole else self._among_ids(wanted)
        if not found.all():
            raise QueryError(
                f"circuit {wanted[~found][0]} is not in the database, which has "
                f"{self.count:,} circuits{self._range()}"
            )
        return rows

    def ids_at(self, rows: npt.ArrayLike) -> Ids:
        """Circuit ids of rows of the table."""
        if not self._whole:
            return self.ids[np.asarray(rows)]
        part, place = self.in_parts(rows)
        return self._first[part] + place if len(part) else place

    def shards_within(self, may_hold: Callable[[int, int], bool]) -> list[int]:
        """Which of the finished shards, counted from 0, may hold circuits: asked by their ids."""
        return [
            k for k, row in enumerate(self._shards) if may_hold(row["first_id"], row["last_id"])
        ]

    def in_parts(self, rows: npt.ArrayLike) -> tuple[Ids, Ids]:
        """Which finished shard rows of the table are in, counted from 0, and where in it."""
        rows = np.asarray(rows, dtype=np.int64)
        part = np.searchsorted(self._ends, rows, side="right") - 1
        return part, rows - self._ends[part]

    def in_states(self, rows: npt.ArrayLike) -> Ids:
        """Rows of the Zarr arrays of rows of the table."""
        part, place = self.in_parts(rows)
        shards = np.array([row["shard"] for row in self._shards], dtype=np.int64)
        stored: Ids = shards[part] * self._manifest.shard_circuits + place
        return stored

    def _in_spans(self, wanted: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Rows of ids, and which of them there are, where every shard holds a span of ids."""
        part = np.searchsorted(self._first, wanted, side="right") - 1
        there = (part >= 0) & (wanted <= np.iinfo(np.int64).max)
        rows = np.zeros(len(wanted), np.int64)
        place = wanted[there].astype(np.int64) - self._first[part[there]]
        rows[there] = self._ends[part[there]] + place
        there[there] = rows[there] < self._ends[part[there] + 1]
        return rows, there

    def _among_ids(self, wanted: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """The same where ids lie anywhere."""
        order = self._ascending()
        known = self.ids if order is None else self.ids[order]
        places = np.searchsorted(known, wanted)
        there = places < len(known)
        there[there] = known[places[there]] == wanted[there]
        return (places if order is None else order[np.where(there, places, 0)]), there

    def _ascending(self) -> Ids | None:
        """Order that sorts the ids; None if they ascend already."""
        if self._order is None and len(self.ids) and (np.diff(self.ids) <= 0).any():
            self._order = np.argsort(self.ids, kind="stable")
        return self._order

    def _range(self) -> str:
        return f" from {self.ids.min()} to {self.ids.max()}" if self.count else ""
