"""Voltage traces of a circuit."""

from typing import TYPE_CHECKING

import numpy as np

from pyloric_db.plot.canvas import new_figure
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.bursts import Bursts, find_bursts
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import colour_of, label

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: To be simulated beyond what is drawn: where a cell bursts is seen from several of its bursts.
BEYOND_MS = 5000.0


def traces_figure(
    simulation: "xr.Dataset",
    *,
    title: str = "",
    protocol: Protocol = Protocol(),
    shown_ms: float | None = None,
) -> "Figure":
    """Voltage traces of one simulated circuit, its bursts marked by bars above them.

    Args:
        simulation: what `simulate` returned for one circuit: V (circuit, cell, time) in mV and
            spike_time_ms (circuit, cell, spike).
        title: printed on top.
        protocol: how bursts are found; of a circuit of a database, `Database.protocol`.
        shown_ms: how much is drawn, from the start; bursts are found in all of it.

    Raises:
        ConfigError: matplotlib is missing.
    """
    cells = [str(c) for c in simulation["cell"].values]
    bursts = simulated_bursts(simulation, protocol)
    figure = new_figure(figsize=(9, 1.5 * len(cells) + 1.2))
    axes = figure.subplots(len(cells), 1, sharex=True, sharey=True, squeeze=False)
    for i, (cell, ax) in enumerate(zip(cells, axes[:, 0], strict=True)):
        draw_voltage(ax, simulation, bursts, i)
        ax.set_ylabel(label(cell), rotation=0, ha="right", va="center", fontsize=12)
        ax.spines[["top", "right"]].set_visible(False)
        ax.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axes[-1, 0].set_xlabel("time (s)")
    time_ms = simulation["time"].values
    axes[-1, 0].set_xlim(time_ms[0] / 1000, (shown_ms or time_ms[-1]) / 1000)
    figure.supylabel("membrane potential (mV)", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def simulated_bursts(simulation: "xr.Dataset", protocol: Protocol) -> Bursts:
    """The bursts of the first circuit that was simulated, in the time that was recorded."""
    cells = [str(c) for c in simulation["cell"].values]
    trains = SpikeTrains.from_padded(simulation["spike_time_ms"].values[:1], cells)
    return find_bursts(trains, 0.0, float(simulation["time"].values[-1]), protocol)


def draw_voltage(
    ax: "Axes", simulation: "xr.Dataset", bursts: Bursts, cell: int, onset_ms: float = 0.0
) -> None:
    """One cell's voltage in mV and its bursts above, over time in s, which is 0 at `onset_ms`."""
    time_s = (simulation["time"].values - onset_ms) / 1000
    ax.plot(time_s, simulation["V"].values[0, cell], color=colour_of(cell), linewidth=0.7)
    draw_bursts(ax, bursts, cell, 62, colour_of(cell), onset_ms)
    ax.set_ylim(-90, 70)
    ax.set_yticks([-60, 0])


def draw_bursts(
    ax: "Axes", bursts: Bursts, cell: int, height: float, colour: str, onset_ms: float
) -> None:
    """The bursts of one circuit's cell as bars over time in s, which is 0 at `onset_ms`."""
    for k in range(bursts.offsets[cell], bursts.offsets[cell + 1]):
        ends = (np.array([bursts.start_ms[k], bursts.end_ms[k]]) - onset_ms) / 1000
        ax.plot(ends, [height, height], color=colour, linewidth=4, solid_capstyle="butt")
