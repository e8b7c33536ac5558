"""The stored states of a database, as xarray."""

from collections.abc import Collection
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import LEDGER_FILE, STATES_DIR, Files, check_intact, check_sizes
from pyloric_db.store.ledger import LedgerRows, files_of
from pyloric_db.store.manifest import Manifest
from pyloric_db.store.template import CIRCUIT_ID, coordinates, read_metadata, shard_key, state_shape
from pyloric_db.vocabulary import CIRCUIT, STATE_VARIABLES, attributes


class States:
    """The Zarr arrays of the shards that a ledger lists; rows are theirs."""

    def __init__(self, files: Files, manifest: Manifest, ledger: LedgerRows) -> None:
        self._files = files
        self._manifest = manifest
        self._ledger = ledger

    def lazily(self, rows: npt.NDArray[np.int64]) -> xr.Dataset:
        """The states of the rows of all finished shards, read when they are needed.

        Raises:
            DatabaseError: a file is missing or not as long as it was.
        """
        self._check_shards(self._ledger.shards)
        whole = len(rows) == rows[-1] + 1 if len(rows) else False
        index: Any = slice(0, len(rows)) if whole else rows
        return self._opened.isel({CIRCUIT: index})

    def read(self, rows: npt.NDArray[np.int64]) -> xr.Dataset:
        """The states of some rows.

        Raises:
            DatabaseError: a file is damaged or missing.
        """
        self._check_shards(set((rows // self._manifest.shard_circuits).tolist()))
        opened = self._opened
        try:
            return opened.isel({CIRCUIT: rows}).load()
        except Exception as err:
            # codecs raise whatever they like on damaged bytes
            raise DatabaseError(
                f"{self._files.named(STATES_DIR)} cannot be read: verify the database, and "
                "build it again to mend it"
            ) from err

    @cached_property
    def _opened(self) -> xr.Dataset:
        if self._ledger.header:
            check_intact(self._files, files_of(self._ledger.header))
        read_metadata(self._files, self._manifest)
        labels = {dim: list(names) for dim, names in coordinates(self._manifest).items()}
        # chunks=None: plain lazy arrays, without Dask. Labels and attributes are the manifest's
        # and the vocabulary's, whatever stands in the files
        stored = xr.open_zarr(
            self._files.zarr_store(STATES_DIR),
            chunks=None,
            consolidated=True,
            zarr_format=3,
            decode_cf=False,
            drop_variables=[CIRCUIT_ID, *labels],
        )
        variables = {
            name: stored[name].drop_attrs().assign_attrs(attributes(unit, long_name))
            for name, (_, unit, long_name) in STATE_VARIABLES.items()
        }
        return xr.Dataset(variables, labels)

    def _check_shards(self, shards: Collection[int]) -> None:
        """A missing file would read as NaN without a word."""
        listed = []
        for shard in sorted(shards):
            files = files_of(self._ledger.shards[shard])
            for name in (CIRCUIT_ID, *STATE_VARIABLES):
                empty = name != CIRCUIT_ID and 0 in state_shape(self._manifest, name)
                key = f"{STATES_DIR}/{shard_key(self._manifest, name, shard)}"
                if not empty and key not in {f.path for f in files}:
                    raise DatabaseError(
                        f"{self._files}: the {LEDGER_FILE} row of shard {shard} is not valid"
                    )
            listed += files
        check_sizes(self._files, listed)
