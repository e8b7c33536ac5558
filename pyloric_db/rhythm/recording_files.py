"""Spike times of identified neurons from files: CSV, and NWB through pynwb (the `nwb` extra)."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pyloric_db.errors import ConfigError, first_line
from pyloric_db.rhythm.recordings import cell_names
from pyloric_db.vocabulary import CELL, CELLS, SPIKE, attributes, has_pyloric_cells, label

#: What else the pacemaker is called; AB and PD are one cell in the model of 2004.
_OTHER_NAMES = {"ab/pd": "abpd", "ab": "abpd", "pd": "abpd"}
MS_PER = {"s": 1000.0, "ms": 1.0}

#: Columns of an NWB units table in which a neuron's name is looked for, in this order.
_NWB_NAMES = ("neuron", "neuron_name", "unit_name", "cell_name", "cell_type", "name", "label")


class _Neuron(NamedTuple):
    """A neuron as a file names it, its times as read, and where each stands for messages."""

    name: str
    times: list[float]
    places: list[str]


def read_recording(
    path: str | Path, *, unit: str = "s", cells: Sequence[str] = CELLS
) -> xr.DataArray:
    """Spike times of a circuit's cells from a file, as `features_from_spikes` takes them.

    A CSV file has the columns `neuron` and `time`, one spike in each row, in the order of time
    for each neuron; spikes before the recording's 0 are negative. An NWB file (suffix `.nwb`) has
    them in its units table, whose column `neuron`, `neuron_name`, `unit_name`, `cell_name`,
    `cell_type`, `name` or `label` names the neuron. The names are those of the cells, in capitals
    or not, and for `abpd` AB/PD, AB or PD; other neurons are left out. A circuit of one cell
    takes the only neuron of a file, whatever its name. The first cell must be there, and AB/PD, LP
    and PY in a circuit of these; other cells may have no spikes.

    Args:
        path: the file.
        unit: of the times in a CSV file, `s` or `ms`. NWB has seconds.
        cells: names of the cells, as in `Manifest.cells` of a database.

    Returns:
        spike times (cell, spike) in ms, cells in their order, each row padded with NaN;
        `attrs["left_out"]` lists the names of other neurons.

    Raises:
        ConfigError: the file cannot be read, has not these columns, lacks such a cell, has two
            neurons for one, or times that are no finite numbers or not ascending.
    """
    path, cells = Path(path), cell_names(cells)
    if unit not in MS_PER:
        raise ConfigError(f"the unit of a recording must be s or ms, not {unit!r}")
    if path.suffix.lower() == ".nwb":
        if unit != "s":
            raise ConfigError(f"the times of an NWB file are seconds, not {unit}")
        neurons = _nwb_neurons(path)
    else:
        neurons = _csv_neurons(path)
    times, left_out = _by_cell(path, neurons, unit, cells)
    padded = np.full((len(cells), max(map(len, times))), np.nan)
    for row, of_cell in zip(padded, times, strict=True):
        row[: len(of_cell)] = of_cell
    attrs = attributes("ms", "spike time") | {"left_out": left_out}
    return xr.DataArray(
        padded * MS_PER[unit], dims=(CELL, SPIKE), coords={CELL: list(cells)}, attrs=attrs
    )


def _by_cell(
    path: Path, neurons: list[_Neuron], unit: str, cells: Sequence[str]
) -> tuple[list[list[float]], list[str]]:
    """Times of every cell, and the names of neurons that are none."""
    cell_of = {name: cell for name, cell in _OTHER_NAMES.items() if cell in cells}
    cell_of |= {cell.lower(): cell for cell in cells}
    if len(cells) == len(neurons) == 1:
        cell_of = {neurons[0].name.lower(): cells[0]}
    found: dict[str, _Neuron] = {}
    left_out = []
    for neuron in neurons:
        cell = cell_of.get(neuron.name.lower())
        if cell is None:
            left_out.append(neuron.name)
        elif neuron.times:
            if cell in found:
                raise ConfigError(
                    f"{path} has spikes of {found[cell].name} and of {neuron.name} "
                    f"({neuron.places[0]}), which are one cell here: leave one out"
                )
            _check_times(path, neuron, unit)
            found[cell] = neuron
    needed = CELLS if has_pyloric_cells(cells) else cells[:1]
    missing = [label(cell) for cell in needed if cell not in found]
    if missing:
        others = f" (other neurons: {', '.join(left_out)})" if left_out else ""
        raise ConfigError(
            f"{path} has no spikes of {', '.join(missing)}{others}: a rhythm is measured on "
            f"{', '.join(map(label, needed))}"
        )
    times = [found[cell].times if cell in found else [] for cell in cells]
    return times, list(dict.fromkeys(left_out))


def _check_times(path: Path, neuron: _Neuron, unit: str) -> None:
    before = -math.inf
    for time, place in zip(neuron.times, neuron.places, strict=True):
        if not math.isfinite(time):
            raise ConfigError(f"{path}, {place}: a time must be a finite number, not {time:g}")
        if time <= before:
            raise ConfigError(
                f"{path}, {place}: the times of {neuron.name} must ascend, but {time:g} {unit} "
                f"comes after {before:g} {unit}"
            )
        before = time


def _csv_neurons(path: Path) -> list[_Neuron]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as err:
        raise ConfigError(f"{path} cannot be read: {err.strerror}") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path} is not a CSV file: it is not text") from err
    neurons: dict[str, _Neuron] = {}
    try:
        for name, time, place in _rows(path, csv.reader(text.splitlines())):
            neuron = neurons.setdefault(name, _Neuron(name, [], []))
            neuron.times.append(time)
            neuron.places.append(place)
    except csv.Error as err:
        raise ConfigError(f"{path} is not a CSV file: {err}") from err
    return list(neurons.values())


def _rows(path: Path, reader: Any) -> Iterator[tuple[str, float, str]]:
    """The neuron, the time and the place of every spike."""
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
        yield row[neuron].strip(), value, place


def _nwb_neurons(path: Path) -> list[_Neuron]:
    try:
        import pynwb
    except ModuleNotFoundError:
        raise ConfigError("NWB files need pynwb: install pyloric-db with the extra 'nwb'") from None
    if not path.is_file():
        raise ConfigError(f"{path} cannot be read: there is no such file")
    try:
        with pynwb.NWBHDF5IO(path, mode="r") as io:
            units = _units(io.read())
    except Exception as err:  # h5py and pynwb raise whatever they like on foreign files
        raise ConfigError(f"{path} cannot be read as NWB: {first_line(err)}") from err
    if not units:
        raise ConfigError(f"{path} has no units table with spike times")
    if len(units) > 1 and any(name is None for name, _ in units):
        raise ConfigError(
            f"{path} does not name its neurons: its units table needs a column {_NWB_NAMES[0]}"
        )
    return [
        _Neuron(
            (name or "unit 0").strip(),
            [float(time) for time in times],
            [f"unit {number}"] * len(times),
        )
        for number, (name, times) in enumerate(units)
    ]


def _units(file: Any) -> list[tuple[str | None, Any]]:
    """Name, where the table has some, and spike times (s) of every unit."""
    table = file.units
    if table is None or "spike_times" not in table.colnames:
        return []
    known = [name for name in _NWB_NAMES if name in table.colnames]
    names = map(str, table[known[0]][:]) if known else [None] * len(table)
    return [(name, np.asarray(table["spike_times"][i])) for i, name in enumerate(names)]
