"""Error against work, per scheme, step and floating-point type.

    python benchmarks/work_precision.py [--quick] [--write-docs]

The truth is validation/reference/rk4_float64.npz: 20 random circuits of the 2004 grid by classical
Runge-Kutta in float64 at dt 0.0025 ms, made with an independent program. Writes
docs/work_precision.png with --write-docs, else work_precision.png.
"""

import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from page import DOCS, arguments, publish, setting, table

from pyloric_db.pipeline.jax_settings import set_up_jax
from pyloric_db.pipeline.simulate import simulate
from pyloric_db.plot.canvas import new_figure
from pyloric_db.rhythm.recordings import features_from_spikes
from pyloric_db.vocabulary import STATE_VARIABLES, colour_of

REFERENCE = Path(__file__).parent.parent / "validation" / "reference" / "rk4_float64.npz"
SCHEMES: tuple[Literal["gates_first", "old_state"], ...] = ("gates_first", "old_state")
DTYPES: tuple[Literal["float32", "float64"], ...] = ("float32", "float64")
DTS_MS = (0.2, 0.1, 0.05, 0.025, 0.0125)
DEFAULT_DT_MS = 0.05
FIRST_MS = 1000.0


@dataclass(frozen=True)
class Truth:
    """Reference spikes per (circuit, cell), flattened: of the first second, and of the window."""

    gbar: np.ndarray
    gsyn: np.ndarray
    initial: xr.Dataset
    first: list[np.ndarray]  # ms from the start
    window: list[np.ndarray]  # ms from skip_ms
    skip_ms: float
    duration_ms: float

    @classmethod
    def load(cls) -> "Truth":
        with np.load(REFERENCE) as file:
            d = dict(file)

        def ragged(times: str, heights: str, offsets: str) -> list[np.ndarray]:
            parts = np.split(np.arange(len(d[times])), d[offsets][1:-1])
            return [d[times][p][d[heights][p] > 0] for p in parts]

        states = {
            k: (("circuit", *STATE_VARIABLES[k][0]), d[f"initial_{k}"]) for k in STATE_VARIABLES
        }
        return cls(
            d["gbar"],
            d["gsyn"],
            xr.Dataset(states),
            ragged("first_second_time_ms", "first_second_mV", "first_second_offsets"),
            ragged("maximum_time_ms", "maximum_mV", "offsets"),
            float(d["skip_ms"]),
            float(d["duration_ms"]),
        )

    def rhythm(self, spikes: list[np.ndarray]) -> Any:
        """Features of every cell as if it were alone."""
        return features_from_spikes(
            [[s] for s in spikes], cells=("cell",), window_ms=(0, self.duration_ms)
        )

    def regular(self) -> np.ndarray:
        """Cells that burst with two spikes or more at a period that varies by at most 1%."""
        found = self.rhythm(self.window)
        return (
            (found["activity_cell"] == "bursting")
            & (found["spikes_per_burst_cell"] >= 2)
            & (found["period_cv"] <= 0.01)
        ).values


@dataclass(frozen=True)
class Point:
    """Errors of one setting: medians over cells, and the share of periods within 0.5%."""

    scheme: str
    dtype: str
    dt_ms: float
    period: float  # relative
    within: float
    spike_ms: float  # the largest of each cell's first second

    @property
    def steps_per_s(self) -> float:
        return 1000 / self.dt_ms


def measure(truth: Truth, scheme: Any, dtype: Any, dt_ms: float) -> Point:
    found = simulate(
        truth.gbar, truth.gsyn, duration_ms=truth.skip_ms + truth.duration_ms, dt_ms=dt_ms,
        initial=truth.initial, scheme=scheme, dtype=dtype, variables=(),
        record_every_ms=dt_ms,
    )  # fmt: skip
    assert isinstance(found, xr.Dataset)
    rows = found["spike_time_ms"].values
    spikes = [r[~np.isnan(r)] for r in rows.reshape(-1, rows.shape[-1])]
    first = [s[s <= FIRST_MS] for s in spikes]
    apart = [
        float(np.abs(a - b).max()) if len(a) == len(b) else np.inf
        for a, b in zip(first, truth.first, strict=True)
        if len(a) or len(b)
    ]
    regular = truth.regular()
    period = truth.rhythm([s - truth.skip_ms for s in spikes])["period_ms"].values
    error = np.abs(period / truth.rhythm(truth.window)["period_ms"].values - 1)[regular]
    error = np.where(np.isnan(error), np.inf, error)
    return Point(
        scheme, dtype, dt_ms,
        float(np.median(error)), float((error <= 0.005).mean()), float(np.median(apart)),
    )  # fmt: skip


def draw(points: list[Point], file: Path) -> None:
    """Two panels: error of the period and of spike times against steps per simulated second."""
    colours = {scheme: colour_of(i) for i, scheme in enumerate(SCHEMES)}
    lines: dict[str, dict[str, Any]] = {
        "float32": {"linestyle": "-", "marker": "o", "markersize": 7},
        "float64": {"linestyle": "--", "marker": "x", "markersize": 7},
    }
    figure = new_figure(figsize=(9.5, 4.2))
    axes = figure.subplots(1, 2)
    for scheme, dtype in product(SCHEMES, DTYPES):
        some = [p for p in points if (p.scheme, p.dtype) == (scheme, dtype)]
        x = [p.steps_per_s for p in some]
        for axis, y in (
            (axes[0], [100 * p.period for p in some]),
            (axes[1], [p.spike_ms for p in some]),
        ):
            axis.plot(x, y, color=colours[scheme], label=f"{scheme}, {dtype}", **lines[dtype])
    for axis, title in (
        (axes[0], "median error of the burst period (%)"),
        (axes[1], "median of a cell's largest spike-time\nerror in the first second (ms)"),
    ):
        axis.set(xscale="log", yscale="log", ylabel=title)
        axis.set_xlabel("circuit-steps per simulated second (dt, ms)")
        axis.set_xticks([1000 / dt for dt in DTS_MS])
        axis.set_xticklabels([f"{1000 / dt:,.0f}\n({dt:g})" for dt in DTS_MS])
        axis.minorticks_off()
        axis.axvline(1000 / DEFAULT_DT_MS, color="0.8", zorder=0)
        axis.grid(axis="y", color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(file, dpi=150)


def report(points: list[Point]) -> str:
    rows = [
        [
            f"`{p.scheme}`", p.dtype, f"{p.dt_ms:g}", f"{p.steps_per_s:,.0f}",
            f"{100 * p.period:.3f}%", f"{100 * p.within:.0f}%",
            f"{p.spike_ms:.3f}" if np.isfinite(p.spike_ms) else "another number",
        ]
        for p in points
    ]  # fmt: skip
    return table(
        ["scheme", "type", "dt (ms)", "circuit-steps per simulated second",
         "median error of the period", "within 0.5%", "first second's spikes (ms)"],
        rows,
    )  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--quick", action="store_true", help="float32 at 0.1 and 0.05 ms only")
    args = parser.parse_args()
    set_up_jax()
    truth = Truth.load()
    settings = list(product(SCHEMES, DTYPES, DTS_MS))
    if args.quick:
        settings = [s for s in settings if s[1] == "float32" and s[2] in (0.1, 0.05)]
    points = []
    for scheme, dtype, dt_ms in settings:
        print(f"{scheme}, {dtype}, dt {dt_ms} ms", file=sys.stderr, flush=True)
        points.append(measure(truth, scheme, dtype, dt_ms))
    file = (DOCS if args.write_docs else Path()) / "work_precision.png"
    draw(points, file)
    publish(
        "Work and precision",
        setting("python benchmarks/work_precision.py", "jax", "numpy"),
        "20 random circuits of the 2004 grid against classical Runge-Kutta in float64 at dt 0.0025 "
        f"ms. Periods are those of the {truth.regular().sum()} cells that burst regularly there, "
        f"over {truth.duration_ms / 1000:.0f} s; of the spikes of a cell in the first second the "
        "largest error counts (infinite where their number differs, and not drawn where that is so "
        "for half of the cells); both are medians over cells. In one scheme and type a "
        "circuit-step costs the same at every dt, so work is their number. The default, at the "
        "grey line, is `gates_first`, float32, dt 0.05 ms. Medians of so few cells are uncertain: "
        "float32 and float64, which differ by rounding alone, show by how much.",
        "![error against work](work_precision.png)",
        report(points),
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
