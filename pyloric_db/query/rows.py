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
        self._read_ids = read_ids
        self._ids: Ids | None = None
        self._order: Ids | None = None
        self.count: int = sum(row["n_circuits"] for row in self._shards)

    @property
    def ids(self) -> Ids:
        """Circuit ids of all rows, (rows,)."""
        if self._ids is None:
            # ids ascend in a shard, so that its ends say whether any is left out
            whole = all(r["last_id"] - r["first_id"] + 1 == r["n_circuits"] for r in self._shards)
            spans = [np.arange(r["first_id"], r["last_id"] + 1) for r in self._shards if whole]
            self._ids = (
                np.concatenate([np.empty(0, np.int64), *spans])
                if whole
                else (np.asarray(self._read_ids(), dtype=np.int64))
            )
            self._ids.flags.writeable = False
        return self._ids

    def find(self, ids: npt.ArrayLike) -> Ids:
        """Rows of the table of circuit ids, (n,), in the order given.

        Raises:
            QueryError: an id is not whole, or not in the database; the first is named.
        """
        wanted = np.atleast_1d(np.asarray(ids))
        if wanted.size == 0:
            return np.empty(0, np.int64)
        if wanted.ndim != 1 or wanted.dtype.kind not in "iu":
            raise QueryError(f"circuit ids must be a list of whole numbers, not {wanted.dtype}")
        order = self._ascending()
        known = self.ids if order is None else self.ids[order]
        places = np.searchsorted(known, wanted)
        found = places < len(known)
        found[found] = known[places[found]] == wanted[found]
        if not found.all():
            raise QueryError(
                f"circuit {wanted[~found][0]} is not in the database, which has "
                f"{self.count:,} circuits{self._range()}"
            )
        rows: Ids = places if order is None else order[places]
        return rows

    def in_states(self, rows: npt.ArrayLike) -> Ids:
        """Rows of the Zarr arrays of rows of the table."""
        sizes = [row["n_circuits"] for row in self._shards]
        ends = np.cumsum([0, *sizes])
        rows = np.asarray(rows, dtype=np.int64)
        place = np.searchsorted(ends, rows, side="right") - 1
        shards = np.array([row["shard"] for row in self._shards], dtype=np.int64)
        stored: Ids = shards[place] * self._manifest.shard_circuits + rows - ends[place]
        return stored

    def _ascending(self) -> Ids | None:
        """Order that sorts the ids; None if they ascend already."""
        if self._order is None and len(self.ids) and (np.diff(self.ids) <= 0).any():
            self._order = np.argsort(self.ids, kind="stable")
        return self._order

    def _range(self) -> str:
        return f" from {self.ids.min()} to {self.ids.max()}" if self.count else ""
