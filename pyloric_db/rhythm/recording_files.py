"""Spike times of identified neurons from files: CSV, and NWB through pynwb (the `nwb` extra)."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pyloric_db.errors import ConfigError, first_line
from pyloric_db.vocabulary import CELL, CELLS, SPIKE, label

#: How people write the names of the three cells; AB and PD are one cell in the model.
NAMES = {"ab/pd": "abpd", "abpd": "abpd", "ab": "abpd", "pd": "abpd", "lp": "lp", "py": "py"}
MS_PER = {"s": 1000.0, "ms": 1.0}

#: Columns of an NWB units table in which a neuron's name is looked for, in this order.
_NWB_NAMES = ("neuron", "neuron_name", "unit_name", "cell_name", "cell_type", "name", "label")

#: A spike: neuron as written, time as read, and where it stands for messages.
_Spike = tuple[str, float, str]


def read_recording(path: str | Path, *, unit: str = "s") -> xr.DataArray:
    """Spike times of AB/PD, LP and PY from a file, as `features_from_spikes` takes them.

    A CSV file has the columns `neuron` and `time`, one spike in each row, in the order of time
    for each neuron; spikes before the recording's 0 are negative. An NWB file (suffix `.nwb`) has
    them in its units table, whose column `neuron`, `neuron_name`, `unit_name`, `cell_name`,
    `cell_type`, `name` or `label` names the neuron. The names are AB/PD (or AB, or PD), LP and PY,
    in capitals or not; other neurons are left out.

    Args:
        path: the file.
        unit: of the times in a CSV file, `s` or `ms`. NWB has seconds.

    Returns:
        spike times (cell, spike) in ms, cells in the order AB/PD, LP, PY, each row padded with
        NaN; `attrs["left_out"]` lists the names of other neurons.

    Raises:
        ConfigError: the file cannot be read, has not these columns, lacks one of the three
            neurons, has two for one, or times that are no finite numbers or not ascending.
    """
    path = Path(path)
    if unit not in MS_PER:
        raise ConfigError(f"the unit of a recording must be s or ms, not {unit!r}")
    if path.suffix.lower() == ".nwb":
        if unit != "s":
            raise ConfigError(f"the times of an NWB file are seconds, not {unit}")
        spikes: Iterable[_Spike] = _nwb_spikes(path)
    else:
        spikes = _csv_spikes(path)
    times, left_out = _by_cell(path, spikes, unit)
    padded = np.full((len(CELLS), max(map(len, times.values()))), np.nan)
    for row, cell in zip(padded, CELLS, strict=True):
        row[: len(times[cell])] = times[cell]
    attrs = {"units": "ms", "long_name": "spike time", "left_out": left_out}
    return xr.DataArray(
        padded * MS_PER[unit], dims=(CELL, SPIKE), coords={CELL: list(CELLS)}, attrs=attrs
    )


def _by_cell(
    path: Path, spikes: Iterable[_Spike], unit: str
) -> tuple[dict[str, list[float]], list[str]]:
    times: dict[str, list[float]] = {cell: [] for cell in CELLS}
    written: dict[str, str] = {}
    left_out: dict[str, None] = {}
    for neuron, time, place in spikes:
        cell = NAMES.get(neuron.strip().lower())
        if cell is None:
            left_out[neuron.strip()] = None
            continue
        if written.setdefault(cell, neuron.strip()) != neuron.strip():
            raise ConfigError(
                f"{path} has spikes of {written[cell]} and of {neuron.strip()} ({place}), which "
                "are one cell here: leave one out"
            )
        if not math.isfinite(time):
            raise ConfigError(f"{path}, {place}: a time must be a finite number, not {time:g}")
        if times[cell] and time <= times[cell][-1]:
            raise ConfigError(
                f"{path}, {place}: the times of {neuron.strip()} must ascend, but {time:g} {unit} "
                f"comes after {times[cell][-1]:g} {unit}"
            )
        times[cell].append(time)
    missing = [label(cell) for cell in CELLS if not times[cell]]
    if missing:
        others = f" (other neurons: {', '.join(left_out)})" if left_out else ""
        raise ConfigError(
            f"{path} has no spikes of {', '.join(missing)}{others}: a rhythm is measured on "
            "AB/PD, LP and PY"
        )
    return times, list(left_out)


def _csv_spikes(path: Path) -> Iterable[_Spike]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as err:
        raise ConfigError(f"{path} cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not a CSV file: it is not text") from err
    try:
        yield from _rows(path, csv.reader(text.splitlines()))
    except csv.Error as err:
        raise ConfigError(f"{path} is not a CSV file: {err}") from err


def _rows(path: Path, reader: Any) -> Iterable[_Spike]:
    first: list[str] = next(reader, [])
    header = [name.strip().lower() for name in first]
    if not {"neuron", "time"} <= set(header):
        raise ConfigError(
            f"{path} must begin with a row that names the columns neuron and time, not with "
            f"{','.join(first)[:60]!r}"
        )
    neuron, time = header.index("neuron"), header.index("time")
    for row in reader:
        place = f"line {reader.line_num}"
        if not any(row):
            continue
        if len(row) <= max(neuron, time):
            raise ConfigError(f"{path}, {place}: there must be a neuron and a time")
        if len(row) > len(header):
            raise ConfigError(
                f"{path}, {place}: {len(row)} fields are more than the {len(header)} of the first "
                "row; decimals must have a point, not a comma"
            )
        try:
            value = float(row[time])
        except ValueError:
            raise ConfigError(f"{path}, {place}: {row[time]!r} is not a time") from None
        yield row[neuron], value, place


def _nwb_spikes(path: Path) -> Iterable[_Spike]:
    try:
        import pynwb
    except ModuleNotFoundError:
        raise ConfigError("NWB files need pynwb: install pyloric-db with the extra 'nwb'") from None
    if not path.is_file():
        raise ConfigError(f"{path} cannot be read: there is no such file")
    try:
        with pynwb.NWBHDF5IO(path, mode="r") as io:
            units = _units(io.read())
    except ConfigError:
        raise
    except Exception as err:  # h5py and pynwb raise whatever they like on foreign files
        raise ConfigError(f"{path} cannot be read as NWB: {first_line(err)}") from err
    if units is None:
        raise ConfigError(f"{path} has no units table with spike times")
    if not units:
        raise ConfigError(
            f"{path} does not name its neurons: its units table needs a column {_NWB_NAMES[0]}"
        )
    names = [name.strip() for name, _ in units]
    for name in names:
        if name.lower() in NAMES and names.count(name) > 1:
            raise ConfigError(
                f"{path} has {names.count(name)} units with the name {name}, which are one cell "
                "here: leave all but one out"
            )
    for number, (neuron, times) in enumerate(units):
        for time in times:
            yield neuron, float(time), f"unit {number}"


def _units(file: Any) -> Sequence[tuple[str, Any]] | None:
    """Name and spike times (s) of every unit; None without any, nothing without names."""
    table = file.units
    if table is None or "spike_times" not in table.colnames:
        return None
    known = [name for name in _NWB_NAMES if name in table.colnames]
    if not known:
        return []
    names = table[known[0]][:]
    return [(str(name), np.asarray(table["spike_times"][i])) for i, name in enumerate(names)]
