"""Voltage traces of a circuit."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.errors import ConfigError
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.bursts import find_bursts
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import label

if TYPE_CHECKING:
    import xarray as xr

#: One colour per cell (Okabe & Ito), of different lightness so that they differ in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def plot_traces(simulation: "xr.Dataset", path: str | Path, *, title: str = "") -> None:
    """Voltage traces of one simulated circuit, bursts marked, as a PNG, SVG or PDF.

    Args:
        simulation: what `simulate` returned for one circuit: V (circuit, cell, time) in mV and
            spike_time_ms (circuit, cell, spike).
        path: the file; its suffix says the format.
        title: printed on top.

    Raises:
        ConfigError: matplotlib is missing, or the suffix is not a format it knows.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ConfigError(
            "figures need matplotlib: install pyloric-db with the extra 'plot'"
        ) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    known = set(plt.gcf().canvas.get_supported_filetypes())
    plt.close()
    if Path(path).suffix.lstrip(".").lower() not in known:
        raise ConfigError(f"{path} must end in one of .png, .svg and .pdf")
    cells = [str(c) for c in simulation["cell"].values]
    time_s = simulation["time"].values / 1000
    trains = SpikeTrains.from_padded(simulation["spike_time_ms"].values[:1], cells)
    stop_ms = float(simulation["time"].values[-1])
    bursts = find_bursts(trains, 0.0, stop_ms, Protocol())
    figure, axes = plt.subplots(
        len(cells), 1, sharex=True, sharey=True, figsize=(9, 1.5 * len(cells) + 1.2),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for i, (cell, ax) in enumerate(zip(cells, axes[:, 0], strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(time_s, simulation["V"].values[0, i], color=colour, linewidth=0.7)
        for k in range(bursts.offsets[i], bursts.offsets[i + 1]):
            ends = np.array([bursts.start_ms[k], bursts.end_ms[k]]) / 1000
            ax.plot(ends, [62, 62], color=colour, linewidth=4, solid_capstyle="butt")
        ax.set_ylabel(label(cell), rotation=0, ha="right", va="center", fontsize=12)
        ax.set_ylim(-90, 70)
        ax.set_yticks([-60, 0])
        ax.spines[["top", "right"]].set_visible(False)
        ax.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    axes[-1, 0].set_xlabel("time (s)")
    axes[-1, 0].set_xlim(time_s[0], time_s[-1])
    figure.supylabel("membrane potential (mV)", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, path)
    plt.close(figure)


def save(figure: Any, path: str | Path) -> None:
    """Write a figure; ConfigError where the file cannot be written."""
    try:
        figure.savefig(path, dpi=150)
    except OSError as err:
        raise ConfigError(f"{path} cannot be written: {err.strerror}") from err
