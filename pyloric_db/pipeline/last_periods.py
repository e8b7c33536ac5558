"""The spikes of a circuit's last periods, gathered as the circuits of a shard finish."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.store.events import events_table

if TYPE_CHECKING:
    import pyarrow as pa

#: So many periods of the first cell are kept: of fewer, with bursts cut at both ends, the analysis
#: does not find the two whole cycles that it needs.
PERIODS = 5


class LastPeriods:
    """Spikes of the last `PERIODS` periods of each circuit.

    Of a circuit without a period, those of the last `silent_ms` of the protocol; none of a run
    that failed.
    """

    def __init__(self, cells: Sequence[str], protocol: Protocol) -> None:
        self._cells = cells
        self._without_period_ms = protocol.silent_ms
        self._index: list[np.ndarray] = []
        self._tables: list[pa.Table] = []

    def add(
        self,
        index: np.ndarray,
        trains: SpikeTrains,
        period_ms: np.ndarray,
        stop_ms: np.ndarray,
        failed: np.ndarray,
    ) -> None:
        """Circuits that are done; all but the spikes (circuit,): their places in the shard,
        periods (NaN where there is none), ends of their runs, and whether these failed."""
        none = np.isnan(period_ms)
        length = np.where(none, self._without_period_ms, PERIODS * period_ms.astype(float))
        last = trains.window(np.where(failed, np.inf, stop_ms - length), stop_ms)
        self._index.append(index)
        self._tables.append(events_table(self._cells, last.counts, last.times))

    def table(self) -> "pa.Table":
        """All of them in order; every circuit must have been added."""
        import pyarrow as pa

        return pa.concat_tables(self._tables).take(np.argsort(np.concatenate(self._index)))
