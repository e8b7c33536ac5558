"""Spike times of identified neurons from files: CSV, and NWB through pynwb (the `nwb` extra)."""

import csv
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pyloric_db.errors import ConfigError, first_line
from pyloric_db.rhythm.recordings import cell_names
from pyloric_db.vocabulary import CELL, CELLS, SPIKE, attributes, label

#: What else the pacemaker is called; AB and PD are one cell in the model of 2004.
_OTHER_NAMES = {"ab/pd": "abpd", "ab": "abpd", "pd": "abpd"}
#: One of several units of a cell: PD1, PD 2, PD_3, PD (unit 4).
_NUMBERED = re.compile(r"(.+?)[\s_-]*(\(?(unit\s*)?\d+\)?)")
MS_PER = {"s": 1000.0, "ms": 1.0}

#: What may stand between the fields of a CSV file; where it is no comma, decimals may have one.
_SEPARATORS = (",", ";", "\t")
_NO_COMMAS = "; decimals must have a point, not a comma"

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
    for each neuron; spikes before the recording's 0 are negative. Its fields are separated by
    commas, or by semicolons or tabs, and then decimals may have a comma. An NWB file (suffix
    `.nwb`) has them in its units table, whose column `neuron`, `neuron_name`, `unit_name`,
    `cell_name`, `cell_type`, `name` or `label` (the first in which the first cell is found) names
    the neuron.

    The names are those of the cells, in capitals or not, and for `abpd` AB/PD, AB or PD. A name
    with a number behind it (PY1, PY 2, PY (unit 3)) is one of several units of the cell, unless a
    cell has just that name. All neurons of one cell are pooled, equal times kept once; neurons of
    no cell are left out. A circuit of one cell takes the only neuron of a file, whatever its name.
    The first cell must have spikes, others need not.

    Args:
        path: the file.
        unit: of the times in a CSV file, `s` or `ms`. NWB has seconds.
        cells: names of the cells, as in `Manifest.cells` of a database.

    Returns:
        spike times (cell, spike) in ms, cells in their order, each row padded with NaN;
        `attrs["left_out"]` lists the names of other neurons, `attrs["pooled"]` says of which
        neurons cells have been pooled, such as `PY: PY1, PY2`.

    Raises:
        ConfigError: the file cannot be read, has not these columns, has a neuron without a name,
            no spikes of the first cell, or times that are no finite numbers or descend.
    """
    path, cells = Path(path), cell_names(cells)
    if unit not in MS_PER:
        raise ConfigError(f"the unit of a recording must be s or ms, not {unit!r}")
    if path.suffix.lower() == ".nwb":
        if unit != "s":
            raise ConfigError(f"the times of an NWB file are seconds, not {unit}")
        neurons = _nwb_neurons(path, cells)
    else:
        neurons = _csv_neurons(path)
    found, left_out = _by_cell(neurons, cells)
    for neuron in chain.from_iterable(found.values()):
        _check_times(path, neuron, unit)
    if cells[0] not in found:
        others = f" (other neurons: {', '.join(left_out)})" if left_out else ""
        raise ConfigError(
            f"{path} has no spikes of {label(cells[0])}{others}, whose bursts delimit the cycles"
        )
    times = [_merged(found.get(cell, []), MS_PER[unit]) for cell in cells]
    padded = np.full((len(cells), max(map(len, times))), np.nan)
    for row, of_cell in zip(padded, times, strict=True):
        row[: len(of_cell)] = of_cell
    pooled = [
        f"{label(cell)}: {', '.join(neuron.name for neuron in found[cell])}"
        for cell in cells
        if len(found.get(cell, [])) > 1
    ]
    attrs = attributes("ms", "spike time") | {"left_out": left_out, "pooled": pooled}
    return xr.DataArray(padded, dims=(CELL, SPIKE), coords={CELL: list(cells)}, attrs=attrs)


def _by_cell(
    neurons: list[_Neuron], cells: Sequence[str]
) -> tuple[dict[str, list[_Neuron]], list[str]]:
    """The neurons with spikes of every cell that has some, and the names of those of no cell."""
    found: dict[str, list[_Neuron]] = {}
    left_out = []
    for neuron in neurons:
        only = len(cells) == len(neurons) == 1
        cell = cells[0] if only else _cell_called(neuron.name, cells)
        if cell is None:
            left_out.append(neuron.name)
        elif neuron.times:
            found.setdefault(cell, []).append(neuron)
    return found, left_out


def _cell_called(name: str, cells: Sequence[str]) -> str | None:
    """The cell with this name, else the one of which this is a numbered unit."""
    cell_of = {other: cell for other, cell in _OTHER_NAMES.items() if cell in cells}
    cell_of |= {cell.lower(): cell for cell in cells}
    name = name.lower()
    while name not in cell_of and (numbered := _NUMBERED.fullmatch(name)):
        name = numbered[1]
    return cell_of.get(name)


def _merged(neurons: list[_Neuron], ms_per_unit: float) -> Any:
    """Times (spike,) of all of them in ms, ascending: spikes at the same time are one."""
    return np.unique(np.array([time for n in neurons for time in n.times]) * ms_per_unit)


def _check_times(path: Path, neuron: _Neuron, unit: str) -> None:
    before = -math.inf
    for time, place in zip(neuron.times, neuron.places, strict=True):
        if not math.isfinite(time):
            raise ConfigError(f"{path}, {place}: a time must be a finite number, not {time:g}")
        if time < before:
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
        for name, time, place in _rows(path, text.splitlines()):
            neuron = neurons.setdefault(name, _Neuron(name, [], []))
            neuron.times.append(time)
            neuron.places.append(place)
    except csv.Error as err:
        raise ConfigError(f"{path} is not a CSV file: {err}") from err
    return list(neurons.values())


def _rows(path: Path, lines: list[str]) -> Iterator[tuple[str, float, str]]:
    """The neuron, the time and the place of every spike."""
    separator, header = _header(path, lines)
    neuron, time = header.index("neuron"), header.index("time")
    reader = csv.reader(lines, delimiter=separator)
    next(reader)
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if not any(field.strip() for field in row):
            continue
        if len(row) <= max(neuron, time):
            raise ConfigError(f"{where}: there must be a neuron and a time")
        if len(row) > len(header):
            hint = _NO_COMMAS if separator == "," and "." not in row[time] else ""
            raise ConfigError(
                f"{where}: {len(row)} fields are more than the {len(header)} of the first row{hint}"
            )
        name = row[neuron].strip()
        if not name:
            raise ConfigError(
                f"{where}: the neuron has no name; it must stand in every row, as merged cells of "
                "a spreadsheet leave it only in the first of theirs"
            )
        yield name, _time(row[time], separator, where), f"line {reader.line_num}"


def _header(path: Path, lines: list[str]) -> tuple[str, list[str]]:
    """What separates the fields of a file, and the names of its columns."""
    for separator in _SEPARATORS:
        first: list[str] = next(csv.reader(lines[:1], delimiter=separator), [])
        names = [name.strip().lower() for name in first]
        if not {"neuron", "time"} <= set(names):
            continue
        for name in ("neuron", "time"):
            if names.count(name) > 1:
                raise ConfigError(f"{path} must have one column {name}, not {names.count(name)}")
        return separator, names
    raise ConfigError(
        f"{path} must begin with a row that names the columns neuron and time, separated by a "
        f"comma, a semicolon or a tab, not with {''.join(lines[:1])[:60]!r}"
    )


def _time(text: str, separator: str, where: str) -> float:
    number = text if separator == "," else text.replace(",", ".")
    try:
        if "_" in number:  # 3_76 is 376 to Python
            raise ValueError
        return float(number)
    except ValueError:
        hint = _NO_COMMAS if "," in number else ""
        raise ConfigError(f"{where}: {text!r} is not a time{hint}") from None


def _nwb_neurons(path: Path, cells: Sequence[str]) -> list[_Neuron]:
    try:
        import pynwb
    except ModuleNotFoundError:
        raise ConfigError("NWB files need pynwb: install pyloric-db with the extra 'nwb'") from None
    if not path.is_file():
        raise ConfigError(f"{path} cannot be read: there is no such file")
    try:
        with pynwb.NWBHDF5IO(path, mode="r") as io:
            units, columns = _units(io.read())
    except Exception as err:  # h5py and pynwb raise whatever they like on foreign files
        raise ConfigError(f"{path} cannot be read as NWB: {first_line(err)}") from err
    if not units:
        raise ConfigError(f"{path} has no units table with spike times")
    if len(units) > 1 and not columns:
        raise ConfigError(
            f"{path} does not name its neurons: its units table needs a column {_NWB_NAMES[0]}"
        )
    names = _names_with(cells[0], cells, columns) if columns else [""]
    return [
        _Neuron(
            _unit_name(names, number),
            [float(time) for time in times],
            [f"unit {number}"] * len(times),
        )
        for number, times in enumerate(units)
    ]


def _units(file: Any) -> tuple[list[Any], list[list[str]]]:
    """Spike times (s) of every unit, and the columns of their names, in the order of preference."""
    table = file.units
    if table is None or "spike_times" not in table.colnames:
        return [], []
    times = [np.asarray(table["spike_times"][i]) for i in range(len(table))]
    columns = [
        [str(value).strip() for value in table[name][:]]
        for name in _NWB_NAMES
        if name in table.colnames
    ]
    return times, columns


def _names_with(cell: str, cells: Sequence[str], columns: list[list[str]]) -> list[str]:
    """The first column that names this cell; the first of all where none does."""
    for names in columns:
        if any(_cell_called(name, cells) == cell for name in names):
            return names
    return columns[0]


def _unit_name(names: list[str], number: int) -> str:
    """A unit's name, with its number where others have the same."""
    name = names[number]
    if not name:
        return f"unit {number}"
    return name if names.count(name) == 1 else f"{name} (unit {number})"
