"""A recording beside the model circuit that plays its rhythm."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.plot.canvas import new_figure
from pyloric_db.plot.traces import draw_bursts, draw_voltage, simulated_bursts
from pyloric_db.protocol import Protocol
from pyloric_db.query.nearest import Scale
from pyloric_db.rhythm.bursts import Bursts
from pyloric_db.rhythm.features import bursts_where
from pyloric_db.rhythm.reasons import recorded_bursts
from pyloric_db.vocabulary import colour_of, label, published

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

#: Cycles of the recording that are shown.
CYCLES = 3


def match_figure(
    recording: "xr.DataArray",
    features: "xr.Dataset",
    circuit: "xr.Dataset",
    simulation: "xr.Dataset",
    scale: Mapping[str, Scale],
    *,
    protocol: Protocol = Protocol(),
    recording_protocol: Protocol | None = None,
) -> "Figure":
    """Spikes of a recording, voltages of a model circuit, and the features of both.

    Recording and model begin at the start of a burst of the first cell and have the same scale of
    time.

    Args:
        recording: spike times (cell, spike) in ms, as `read_recording` gives them.
        features: the recording's, as `features_from_spikes` gives them.
        circuit: one row of `Database.nearest`, dim `circuit` of length 1.
        simulation: what `Database.simulate` gave for it.
        scale: the features to show, in this order, see `query.nearest.scales`.
        protocol: how bursts are found, `Database.protocol`.
        recording_protocol: how those of the recording are, where it has been measured otherwise.

    Raises:
        ConfigError: matplotlib is missing.
    """
    periods = (features, circuit)
    span_ms = CYCLES * max(float(p["period_ms"].values.reshape(-1)[0]) for p in periods)
    cells = [str(c) for c in recording["cell"].values]
    figure = new_figure(figsize=(11.5, max(5.2, 1.2 * len(cells), 1.2 + 0.24 * len(scale))))
    grid = figure.add_gridspec(len(cells), 3, width_ratios=(1, 1, 0.9))
    left, right = (
        [figure.add_subplot(grid[i, side]) for i in range(len(cells))] for side in (0, 1)
    )
    for ax, cell in zip((*left, *right), cells * 2, strict=True):
        ax.set_xlim(0, span_ms / 1000)
        ax.set_ylabel(label(cell), rotation=0, ha="right", va="center", fontsize=12)
        ax.spines[["top", "right"]].set_visible(False)
        if cell != cells[-1]:
            ax.set_xticklabels([])
    onset = _recording(left, recording, span_ms, recording_protocol or protocol)
    _model(right, simulation, span_ms, protocol)
    left[0].set_title(f"recording from {onset / 1000:.2f} s on", fontsize=11)
    number = int(circuit["circuit_id"].values[0])
    distance = float(circuit["distance"].values[0])
    compared = f"{len(circuit.attrs['compared'])} of {len(scale)} features"
    right[0].set_title(f"circuit {number}, {distance:.2f} SD away\n({compared})", fontsize=11)
    for ax in (left[-1], right[-1]):
        ax.set_xlabel("time (s)")
    lobsters = set(scale) & set(published(cells))
    of = "database's" if not lobsters else "published"
    if lobsters and lobsters != set(scale):
        of = "published or database's"
    _features(figure.add_subplot(grid[:, 2]), features, circuit, scale, of)
    return figure


def _onset(bursts: Bursts, stop_ms: float, span_ms: float) -> float:
    """Start of an early burst of the first cell with `span_ms` after it.

    The second where there is one: the first may have been cut by the begin of the record.
    """
    starts = bursts.start_ms[: bursts.offsets[1]]
    early = starts[starts + span_ms <= stop_ms]
    if len(early) == 0:
        early = starts[:1]
    return float(early[min(1, len(early) - 1)]) if len(early) else 0.0


def _recording(
    axes: list[Any], recording: "xr.DataArray", span_ms: float, protocol: Protocol
) -> float:
    """Draws what is shown of it, an hour being too much for a file, and says where that begins."""
    times = recording.values
    bursts, stop = recorded_bursts(recording, protocol)
    onset = _onset(bursts, stop, span_ms)
    bursts = bursts_where(bursts, (bursts.end_ms >= onset) & (bursts.start_ms <= onset + span_ms))
    for i, ax in enumerate(axes):
        shown = times[i][(times[i] >= onset) & (times[i] <= onset + span_ms)]
        ax.vlines((shown - onset) / 1000, 0, 1, color=colour_of(i), linewidth=0.7)
        draw_bursts(ax, bursts, i, 1.2, colour_of(i), onset)
        ax.set_ylim(-0.1, 1.35)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    return onset


def _model(axes: list[Any], simulation: "xr.Dataset", span_ms: float, protocol: Protocol) -> None:
    bursts = simulated_bursts(simulation, protocol)
    onset = _onset(bursts, float(simulation["time"].values[-1]), span_ms)
    for i, ax in enumerate(axes):
        draw_voltage(ax, simulation, bursts, i, onset)
    axes[0].text(-0.02, 1.04, "mV", transform=axes[0].transAxes, ha="right", fontsize=9)


def _features(
    ax: Any, features: "xr.Dataset", circuit: "xr.Dataset", scale: Mapping[str, Scale], of: str
) -> None:
    """Every feature of both as its distance from the mean in SD."""
    rows = np.arange(len(scale))
    ax.axvspan(-2, 2, color="0.92", zorder=0)
    ax.axvline(0, color="0.75", linewidth=0.8, zorder=0)
    marks = ((features, "recording", "o", "none"), (circuit, "model", "x", "black"))
    for source, name, marker, face in marks:
        values = [
            (float(source[n].values.reshape(-1)[0]) - s.mean) / s.sd for n, s in scale.items()
        ]
        colours = {"facecolors": face, "edgecolors": "black"} if marker == "o" else {"color": face}
        ax.scatter(values, rows, marker=marker, s=36, label=name, linewidths=1.2, **colours)
    ax.set_yticks(rows, [features[n].attrs["long_name"] for n in scale], fontsize=7)
    ax.yaxis.tick_right()
    ax.invert_yaxis()
    ax.set_xlabel(f"SD from the {of} mean")
    ax.set_title(f"features, {of} range grey", fontsize=11)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8, frameon=False)
    ax.spines[["top", "left"]].set_visible(False)
