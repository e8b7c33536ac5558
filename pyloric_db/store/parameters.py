"""How the parameters of a circuit are laid out in columns, on a grid and off it."""

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pyloric_db.store.manifest import Axis, Manifest
from pyloric_db.vocabulary import CHANNELS, Column, label

Array = npt.NDArray[np.generic]

_UNIT = re.compile(r"_(nS|mV|ms|Hz)\Z")


def gbar_column(cell: str, channel: str) -> str:
    """Column of a maximal conductance in mS/cm2."""
    return f"gbar_{cell}_{channel}"


def synapse_column(synapse: str) -> str:
    """Column of a synapse's maximal conductance in nS; gap junctions are named `gap_...`."""
    if synapse.startswith("gap_"):
        return f"ggap_{synapse.removeprefix('gap_')}_nS"
    return f"gsyn_{synapse}_nS"


def index_column(axis: Axis) -> str:
    """Column of the zero-based index along a grid axis.

    That is the axis itself for a cell axis, and for a value axis the name with its unit
    replaced: engines disagree on equality of float32, never on that of small integers.
    """
    return axis.name if axis.kind == "cell" else f"{_UNIT.sub('', axis.name)}_index"


def parameter_columns(
    axes: tuple[Axis, ...] | None,
    cells: tuple[str, ...],
    synapses: tuple[str, ...],
    channels: tuple[str, ...] = CHANNELS,
) -> tuple[Column, ...]:
    """The parameter columns of the feature table, in their order.

    On a grid: per cell axis its index; per value axis the value and its index. Off a grid:
    every `gbar_<cell>_<channel>` and every synapse as a float32.
    """
    columns = []
    for axis in axes or ():
        kind = "uint8" if len(axis) <= 256 else "uint16"
        if axis.kind == "value":
            long_name, unit = _describe(axis.name, cells, synapses, channels)
            columns.append(Column(axis.name, "float32", unit, long_name))
            columns.append(Column(index_column(axis), kind, "1", f"grid index of {axis.name}"))
        else:
            columns.append(
                Column(axis.name, kind, "1", f"grid index of the {label(axis.name)} cell")
            )
    if axes is None:
        names = [gbar_column(c, channel) for c in cells for channel in channels]
        names += [synapse_column(s) for s in synapses]
        for name in names:
            long_name, unit = _describe(name, cells, synapses, channels)
            columns.append(Column(name, "float32", unit, long_name))
    return tuple(columns)


def _describe(
    name: str, cells: tuple[str, ...], synapses: tuple[str, ...], channels: tuple[str, ...]
) -> tuple[str, str]:
    """Long name and unit of a parameter column."""
    for cell in cells:
        for channel in channels:
            if name == gbar_column(cell, channel):
                return f"{label(cell)} maximal conductance of {channel}", "mS/cm2"
    for synapse in synapses:
        if name == synapse_column(synapse):
            kind = "gap junction" if synapse.startswith("gap_") else "synapse"
            return f"maximal conductance of {kind} {synapse.removeprefix('gap_')}", "nS"
    raise ValueError(f"{name!r} is no parameter of this circuit")


def decode_grid(axes: tuple[Axis, ...], ids: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], ...]:
    """Indices along each axis of circuit ids, which count the grid in C order.

    Raises:
        ValueError: an id lies outside the grid.
    """
    shape = tuple(map(len, axes))
    indices = np.unravel_index(np.asarray(ids, dtype=np.int64), shape)
    return tuple(np.asarray(i, dtype=np.int64) for i in indices)


def grid_columns(axes: tuple[Axis, ...], ids: npt.ArrayLike) -> dict[str, Array]:
    """The parameter columns of circuits of a grid, each of shape (n,)."""
    columns: dict[str, Array] = {}
    for axis, index in zip(axes, decode_grid(axes, ids), strict=True):
        if axis.kind == "value":
            columns[axis.name] = np.asarray(axis.values, dtype=np.float32)[index]
        columns[index_column(axis)] = index.astype(np.uint8 if len(axis) <= 256 else np.uint16)
    return columns


def parameters_from_columns(
    manifest: Manifest, columns: Mapping[str, npt.ArrayLike]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Conductances of circuits from their parameter columns, each of shape (n,).

    On a grid only the index columns are looked at, and values come from the manifest in full
    precision; what is on no axis is 0.

    Returns:
        gbar (n, cell, channel) in mS/cm2 and gsyn (n, synapse) in nS, in the manifest's order.
    """
    values: Mapping[str, npt.ArrayLike] = columns
    if manifest.axes is not None:
        values = grid_values(manifest.axes, columns)
    n = len(np.asarray(columns["circuit_id"]))
    return conductances(values, manifest.cells, manifest.synapses, manifest.channels.all, n)


def grid_values(
    axes: tuple[Axis, ...], columns: Mapping[str, npt.ArrayLike]
) -> dict[str, npt.NDArray[np.float64]]:
    """What circuits have on each axis, from their index columns (n,), in full precision.

    By axis: gbar (n, channel) on a cell axis, values (n,) on another.
    """
    return {
        axis.name: np.asarray(axis.gbar if axis.kind == "cell" else axis.values, dtype=np.float64)[
            np.asarray(columns[index_column(axis)], dtype=np.int64)
        ]
        for axis in axes
    }


def conductances(
    values: Mapping[str, npt.ArrayLike],
    cells: tuple[str, ...],
    synapses: tuple[str, ...],
    channels: tuple[str, ...],
    n: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """gbar (n, cell, channel) in mS/cm2 and gsyn (n, synapse) in nS from their parts by name.

    A part is a whole cell (n, channel) or a column (n,), which counts more; what is not given is 0.
    """
    gbar = np.zeros((n, len(cells), len(channels)))
    gsyn = np.zeros((n, len(synapses)))
    for i, cell in enumerate(cells):
        if cell in values:
            gbar[:, i] = values[cell]
        for j, channel in enumerate(channels):
            if gbar_column(cell, channel) in values:
                gbar[:, i, j] = values[gbar_column(cell, channel)]
    for k, synapse in enumerate(synapses):
        if synapse_column(synapse) in values:
            gsyn[:, k] = values[synapse_column(synapse)]
    return gbar, gsyn


def needed_columns(manifest: Manifest) -> tuple[str, ...]:
    """The columns that `parameters_from_columns` looks at, besides `circuit_id`."""
    if manifest.axes is not None:
        return tuple(map(index_column, manifest.axes))
    return tuple(c.name for c in all_parameters(manifest))


def all_parameters(manifest: Manifest) -> tuple[Column, ...]:
    """Every conductance of a database's circuits as a column, on a grid, too."""
    return parameter_columns(None, manifest.cells, manifest.synapses, manifest.channels.all)
