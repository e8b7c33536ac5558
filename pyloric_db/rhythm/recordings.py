"""The rhythm analysis for anybody's spike times."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pyloric_db.errors import ConfigError, PyloricDBWarning
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.spikes import Floats, SpikeTrains, segment_reduce
from pyloric_db.vocabulary import CELL, CELLS, CIRCUIT, SPIKE, feature_columns

#: Median intervals between spikes of a neuron beyond which times must be in another unit.
SHORTEST_MS, LONGEST_MS = 0.5, 10_000.0
#: Intervals from which on `features_from_spikes` asks about it.
ENOUGH = 10


def features_from_spikes(
    spike_times_ms: ArrayLike | xr.DataArray | Sequence[Any],
    *,
    cells: Sequence[str] = CELLS,
    window_ms: tuple[float, float] | None = None,
    protocol: Protocol = Protocol(),
) -> xr.Dataset:
    """Bursts, rhythm features and class of recorded or simulated spike times.

    Args:
        spike_times_ms: spike times in ms, ascending in each cell; for one circuit or many:
            an array (circuit, cell, spike) or (cell, spike), padded with NaN at the end of each
            row; an xr.DataArray with these dimensions, in any order (with cell names as a
            coordinate, the cells are taken by name); or nested sequences, one sequence of
            times per cell, a sequence of cells per circuit.
        cells: names of the cells. Bursts of the first delimit the cycles; the features between
            cells and the labels need `abpd`, `lp` and `py`.
        window_ms: (start, stop) of the recording, for all circuits; a spike at `stop` is
            outside. None: each circuit's recording extends from its first to its last
            spike of any cell, so that the bursts there count as cut by the edges.
        protocol: for `max_burst_gap_ms` and `period_cv`.

    Returns:
        The columns of `vocabulary.feature_columns(cells)` over the dimension `circuit`, with
        `units` and `long_name`, and the coordinates of the circuits; null is NaN. A spike rate is
        null where the extent of the recording is unknown, a single spike without `window_ms`.

    Raises:
        ConfigError: no circuit, no cell, a wrong number of cells, cell names twice, a dict
            instead of a sequence, times that are not numbers, not finite or not ascending, NaN
            before a time, a window that is empty or not finite, or a `protocol` that is none.

    Warns where spikes are so far apart, or so near, in the median that times are in no ms.

    Source: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345; see `rhythm.bursts`.
    """
    names = cell_names(cells)
    if not isinstance(protocol, Protocol):
        raise ConfigError(f"protocol must be a Protocol, not {protocol!r}")
    if isinstance(spike_times_ms, Mapping):
        raise ConfigError(f"spike times must be a list in the order {', '.join(names)}, not a dict")
    of_circuits: dict[Any, xr.DataArray] = {}
    if isinstance(spike_times_ms, xr.DataArray):
        spike_times_ms = _with_dims(spike_times_ms, names)
        coords = spike_times_ms.coords.items()
        of_circuits = {
            name: values
            for name, values in coords
            if values.dims == (CIRCUIT,) and name not in {c.name for c in feature_columns(names)}
        }
    trains = _trains(spike_times_ms, names)
    if trains.n_circuits == 0:
        raise ConfigError("spike times must hold at least one circuit, not none")

    _check_unit(trains)
    start, stop, known = span_of(trains) if window_ms is None else (*_window(window_ms), True)
    columns = analyse(trains, names, start, stop, protocol)
    for cell in names:
        rate = f"spike_rate_{cell}_Hz"
        columns[rate] = np.where(known, columns[rate], np.float32(np.nan))
    return xr.Dataset(
        {c.name: (CIRCUIT, columns[c.name], c.attrs) for c in feature_columns(names)},
        of_circuits,
    )


def _check_unit(trains: SpikeTrains) -> None:
    intervals = np.diff(trains.times)
    within = np.ones(len(trains.times), bool)
    within[trains.offsets[:-1][trains.counts.ravel() > 0]] = False  # the first spikes of cells
    intervals = intervals[within[1:]]
    if intervals.size < ENOUGH:
        return
    between = float(np.median(intervals))
    if not SHORTEST_MS <= between <= LONGEST_MS:
        warnings.warn(
            f"spikes of a cell are {between:.3g} apart in the median: are these times in ms?",
            PyloricDBWarning,
            stacklevel=3,
        )


def cell_names(cells: Sequence[str]) -> tuple[str, ...]:
    """A user's names of cells.

    Raises:
        ConfigError: they are no names, or none.
    """
    listed = isinstance(cells, Iterable) and not isinstance(cells, str)
    names = tuple(cells) if listed else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"cells must be names of one or more cells, not {cells!r}")
    return names


def _with_dims(array: xr.DataArray, cells: tuple[str, ...]) -> xr.DataArray:
    dims = set(array.dims)
    if not {CELL, SPIKE} <= dims <= {CIRCUIT, CELL, SPIKE}:
        raise ConfigError(
            f"spike times must have the dimensions circuit, cell and spike, not "
            f"{', '.join(str(d) for d in array.dims)}"
        )
    if CELL in array.coords:
        present = [str(name) for name in array[CELL].values]
        if len(set(present)) != len(present):
            raise ConfigError(f"the cells of the spike times must differ, not {', '.join(present)}")
        missing = [name for name in cells if name not in present]
        if missing:
            raise ConfigError(
                f"cell {missing[0]!r} is not among the cells of the spike times: "
                f"{', '.join(present)}"
            )
        array = array.sel({CELL: list(cells)})
    if CIRCUIT not in dims:
        array = array.expand_dims(CIRCUIT)
    return array.transpose(CIRCUIT, CELL, SPIKE)


def _trains(spike_times: Any, cells: tuple[str, ...]) -> SpikeTrains:
    try:
        if isinstance(spike_times, xr.DataArray):
            return SpikeTrains.from_padded(spike_times.values, cells)
        if isinstance(spike_times, np.ndarray) and spike_times.dtype != object:
            padded = spike_times[None] if spike_times.ndim == 2 else spike_times
            return SpikeTrains.from_padded(padded, cells)
        circuits = list(spike_times)
        if circuits and all(_is_row(item) for item in circuits):
            circuits = [circuits]  # one circuit, given as its cells
        return SpikeTrains.from_lists(circuits, cells)
    except ConfigError:
        raise
    except (TypeError, ValueError, LookupError) as err:
        raise ConfigError(
            "spike times must be numbers: an array (circuit, cell, spike) or, for each circuit "
            f"and cell, a sequence of times ({err})"
        ) from err


def _is_row(item: Any) -> bool:
    """A sequence of times, not of cells."""
    return len(item) == 0 or not hasattr(next(iter(item)), "__len__")


def _window(window_ms: tuple[float, float]) -> tuple[float, float]:
    try:
        start, stop = (float(edge) for edge in window_ms)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"window_ms must be (start, stop) in ms, not {window_ms!r}") from err
    if not (math.isfinite(start) and math.isfinite(stop)):
        raise ConfigError(f"window_ms must be finite, not {window_ms!r}")
    return start, stop


def span_of(trains: SpikeTrains) -> tuple[Floats, Floats, Any]:
    """First and just past the last spike (circuit,), and whether they are two."""
    offsets = trains.offsets[:: trains.n_cells]
    first = segment_reduce(np.minimum, trains.times, offsets, 0.0)
    last = segment_reduce(np.maximum, trains.times, offsets, 1.0)
    silent = offsets[1:] == offsets[:-1]
    return first, np.nextafter(last, np.inf), silent | (last > first)
