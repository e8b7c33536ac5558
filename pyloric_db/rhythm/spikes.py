"""Spike trains of many circuits, laid out flat.

A rhythm analysis of a million circuits is a few passes over one long array of spike times.
Cells differ in their number of spikes by a factor of hundreds, so a padded array would be
mostly padding: the times of all cells stand one after the other, and `offsets` says where each
cell's begin. A *segment* is one cell of one circuit; segment `circuit * n_cells + cell`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyloric_db.errors import ConfigError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Circuits looked at together: their spikes and all intermediate arrays stay in the cache.
BLOCK_CIRCUITS = 2048


def offsets_of(counts: NDArray[Any]) -> Integers:
    """Where each segment begins and, last, where all end: shape (segment + 1,)."""
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts.ravel(), out=offsets[1:])
    return offsets


def segment_reduce(
    ufunc: np.ufunc, values: NDArray[Any], offsets: Integers, empty: float
) -> Floats:
    """`ufunc` over the values of every segment; `empty` for a segment without values.

    Every segment is reduced by itself, so its result does not depend on its neighbours to the
    last bit, as a difference of running sums would.
    """
    out = np.full(offsets.size - 1, empty, dtype=np.float64)
    filled = offsets[1:] > offsets[:-1]
    # reduceat gives an empty segment the next segment's first value: leave the empty ones out
    if filled.any():
        out[filled] = ufunc.reduceat(values, offsets[:-1][filled])
    return out


def segment_count(marks: Bools, offsets: Integers) -> Integers:
    """How many of every segment's `marks` are set."""
    return np.diff(offsets_of(marks)[offsets])


@dataclass(frozen=True)
class SpikeTrains:
    """Spike times of `n_cells` cells in each of `n_circuits` circuits.

    `times` (spike,) float64, ms, strictly ascending within a segment; `offsets`
    (n_circuits * n_cells + 1,) int64: segment s has `times[offsets[s]:offsets[s + 1]]`. A cell
    without spikes is an empty segment. Calling the class trusts its arguments; `from_padded` and
    `from_lists` check theirs.
    """

    times: Floats
    offsets: Integers
    n_circuits: int
    n_cells: int

    @classmethod
    def from_padded(cls, padded: ArrayLike, cells: Sequence[str]) -> "SpikeTrains":
        """Spike times (circuit, cell, spike) in ms, each row padded with NaN at its end.

        Raises:
            ConfigError: the shape does not fit `cells`, a NaN stands before a time, a time is
                infinite, or the times of a cell do not ascend.
            TypeError: these are no numbers.
        """
        array = _numbers(padded)
        if array.ndim != 3:
            raise ConfigError(
                f"spike times must have the dimensions (circuit, cell, spike), not {array.shape}"
            )
        n_circuits, n_cells, slots = array.shape
        _check_cell_count(n_cells, cells)
        used = ~np.isnan(array)
        counts = used.sum(axis=2)
        hole = (used != (np.arange(slots) < counts[..., None])).any(axis=2)
        if hole.any():
            circuit, cell = np.argwhere(hole)[0]
            raise ConfigError(
                f"NaN may pad spike times only at the end: circuit {circuit}, cell "
                f"{cells[cell]} has a time after a NaN"
            )
        trains = cls(array[used], offsets_of(counts), n_circuits, n_cells)
        _check_times(trains, cells)
        return trains

    @classmethod
    def from_lists(
        cls, nested: Sequence[Sequence[ArrayLike]], cells: Sequence[str]
    ) -> "SpikeTrains":
        """Spike times in ms as one sequence per cell, a sequence of cells per circuit.

        Raises:
            ConfigError: a circuit has not as many cells as `cells`, a time is not finite, or
                the times of a cell do not ascend.
            TypeError: these are no numbers.
        """
        rows: list[Floats] = []
        for circuit in nested:
            _check_cell_count(len(circuit), cells)
            rows += [_numbers(row).reshape(-1) for row in circuit]
        counts = np.array([row.size for row in rows], dtype=np.int64)
        times = np.concatenate(rows) if rows else np.zeros(0)
        trains = cls(times, offsets_of(counts), len(nested), len(cells))
        _check_times(trains, cells)
        return trains

    @property
    def counts(self) -> Integers:
        """Number of spikes (circuit, cell)."""
        return np.diff(self.offsets).reshape(self.n_circuits, self.n_cells)

    @property
    def _per_circuit(self) -> Integers:
        """Number of spikes (circuit,) of all cells."""
        return np.diff(self.offsets[:: self.n_cells])

    def select(self, circuits: NDArray[Any]) -> "SpikeTrains":
        """The circuits of a boolean mask (circuit,) or of an integer index, in its order."""
        index = np.flatnonzero(circuits) if circuits.dtype == np.bool_ else circuits
        ascending = (np.diff(index) > 0).all()
        if ascending and index.size == self.n_circuits:
            return self
        offsets = offsets_of(self.counts[index])
        if ascending:
            kept = np.zeros(self.n_circuits, dtype=bool)
            kept[index] = True
            times = self.times[np.repeat(kept, self._per_circuit)]
        else:  # the cells of a circuit stand together: a circuit is copied as one run
            first = self.offsets[: -1 : self.n_cells][index]
            shift = np.repeat(first - offsets[: -1 : self.n_cells], self._per_circuit[index])
            times = self.times[shift + np.arange(offsets[-1])]
        return SpikeTrains(times, offsets, index.size, self.n_cells)

    def join(self, other: "SpikeTrains") -> "SpikeTrains":
        """These circuits, and behind them those of `other`, which have as many cells."""
        return SpikeTrains(
            np.concatenate([self.times, other.times]),
            np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
            self.n_circuits + other.n_circuits,
            self.n_cells,
        )

    def block(self, start: int, stop: int) -> "SpikeTrains":
        """The circuits `start` up to, not with, `stop`; the times are not copied."""
        offsets = self.offsets[start * self.n_cells : stop * self.n_cells + 1]
        times = self.times[offsets[0] : offsets[-1]]
        return SpikeTrains(times, offsets - offsets[0], stop - start, self.n_cells)

    def blocks(self) -> Iterator[tuple[slice, "SpikeTrains"]]:
        """All circuits, `BLOCK_CIRCUITS` at a time, and which they are; one block if none."""
        for start in range(0, max(self.n_circuits, 1), BLOCK_CIRCUITS):
            stop = min(start + BLOCK_CIRCUITS, self.n_circuits)
            yield slice(start, stop), self.block(start, stop)

    def window(self, start_ms: ArrayLike, stop_ms: ArrayLike) -> "SpikeTrains":
        """The spikes with start <= time < stop; both in ms, scalar or (circuit,)."""
        start, stop = (
            edge if edge.ndim == 0 else np.repeat(edge, self._per_circuit)
            for edge in (np.asarray(start_ms), np.asarray(stop_ms))
        )
        return self._where((self.times >= start) & (self.times < stop))

    def since(self, start_ms: Floats) -> "SpikeTrains":
        """The spikes from `start_ms` on, which is per segment (circuit * cell,)."""
        return self._where(self.times >= np.repeat(start_ms, np.diff(self.offsets)))

    def _where(self, kept: Bools) -> "SpikeTrains":
        if kept.all():
            return self
        counts = segment_count(kept, self.offsets)
        return SpikeTrains(self.times[kept], offsets_of(counts), self.n_circuits, self.n_cells)

    def append(self, later: "SpikeTrains") -> "SpikeTrains":
        """The same circuits with the spikes of a later epoch after these."""
        if self.times.size == 0:
            return later
        offsets = self.offsets + later.offsets
        counts = np.stack([np.diff(self.offsets), np.diff(later.offsets)], axis=1).ravel()
        new = np.repeat(np.tile([False, True], self.offsets.size - 1), counts)
        times = np.empty(offsets[-1])
        times[new] = later.times
        times[~new] = self.times
        return SpikeTrains(times, offsets, self.n_circuits, self.n_cells)


def _numbers(values: ArrayLike) -> Floats:
    """As float64; TypeError for dates, lengths of time with a unit of their own, and the like."""
    array = np.asarray(values)
    if array.dtype.kind not in "iufO":
        raise TypeError(f"not {array.dtype}")
    return np.asarray(array, dtype=np.float64)


def _check_cell_count(n_cells: int, cells: Sequence[str]) -> None:
    if n_cells != len(cells):
        raise ConfigError(
            f"every circuit must have {len(cells)} cells ({', '.join(cells)}), not {n_cells}"
        )


def _check_times(trains: SpikeTrains, cells: Sequence[str]) -> None:
    def refuse(spike: int, text: str) -> NoReturn:
        segment = int(np.searchsorted(trains.offsets, spike, side="right")) - 1
        circuit, cell = divmod(segment, trains.n_cells)
        raise ConfigError(f"{text}: circuit {circuit}, cell {cells[cell]}")

    bad = np.flatnonzero(~np.isfinite(trains.times))
    if bad.size:
        refuse(int(bad[0]), f"spike times must be finite, not {trains.times[bad[0]]:g}")
    falls = np.diff(trains.times) <= 0
    ends = trains.offsets[1:-1] - 1  # from the last spike of one segment to the next one's first
    falls[ends[(ends >= 0) & (ends < falls.size)]] = False
    bad = np.flatnonzero(falls)
    if bad.size:
        before, after = trains.times[bad[0] : bad[0] + 2]
        refuse(int(bad[0]), f"spike times must ascend, but {after:g} ms comes after {before:g} ms")
