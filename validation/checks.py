"""The checks. Each takes the reference data and returns a section of the report."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from batches import Circuits, Pool, grid_circuits, states_of_cells, thermal_start
from report import Section, percent, share, table

from pyloric_db.model.cells import PUBLISHED_CELLS
from pyloric_db.model.channels import PRINZ_CHANNELS, BellTau
from pyloric_db.model.circuit import SINGLE_CELL
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.run import Columns
from pyloric_db.pipeline.simulate import classify, simulate
from pyloric_db.pipeline.states import States
from pyloric_db.pipeline.thermalise import thermalise
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.recordings import features_from_spikes
from pyloric_db.summary import wilson
from pyloric_db.vocabulary import CRITERIA

ABPD_PERIODS_S = (1.503, 1.496, 1.566, 1.625, 1.676)
PHASES = (0.0, 0.2, 0.4, 0.6, 0.8)
SAMPLE_CIRCUITS = 8192
PYLORIC_LIKE = 1 | 2 | 4 | 8
PYLORIC = PYLORIC_LIKE | 16


@dataclass(frozen=True)
class Setting:
    """Where the reference data lie, how many circuits to run, and on what."""

    reference: Path
    pool: Pool
    n_circuits: int  # of the 8,192
    n_per_phase: int
    say: Callable[[str], None]

    def load(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.reference / f"{name}.npz") as file:
            return dict(file)

    def spread(self, n: int) -> np.ndarray:
        """n of the sample's positions, evenly: the sample is in the order of circuit_id."""
        return np.arange(SAMPLE_CIRCUITS)[:: SAMPLE_CIRCUITS // n][:n]

    def run(
        self, what: str, circuits: Circuits, states: States, protocol: Protocol
    ) -> tuple[Columns, States]:
        return self.pool.run(
            circuits, states, protocol, lambda done, n: self.say(f"{what}: {done} of {n}")
        )


# ------------------------------------------------------------------ RK4


def _ragged(values: np.ndarray, offsets: np.ndarray, kept: np.ndarray) -> list[np.ndarray]:
    pairs = zip(offsets[:-1], offsets[1:], strict=True)
    return [values[a:b][kept[a:b]] for a, b in pairs]


def _initial(rk4: dict[str, np.ndarray]) -> xr.Dataset:
    dims = {
        "V": ("cell",),
        "Ca": ("cell",),
        "m": ("cell", "m_gate"),
        "h": ("cell", "h_gate"),
        "s": ("source",),
    }
    return xr.Dataset({k: (("circuit", *d), rk4[f"initial_{k}"]) for k, d in dims.items()})


def _simulate(gbar: np.ndarray, gsyn: np.ndarray, **options: Any) -> xr.Dataset:
    """Spike times only."""
    run = simulate(gbar, gsyn, variables=(), **options)
    assert isinstance(run, xr.Dataset)  # not a pair: no state is asked for
    return run


def _spikes(dataset: xr.Dataset) -> list[np.ndarray]:
    rows = dataset["spike_time_ms"].values
    return [r[~np.isnan(r)] for r in rows.reshape(-1, rows.shape[-1])]


def first_second(at: Setting) -> Section:
    """Spikes of the first second against RK4, at three steps."""
    rk4 = at.load("rk4_float64")
    exact = _ragged(
        rk4["first_second_time_ms"], rk4["first_second_offsets"], rk4["first_second_mV"] > 0
    )
    section = Section(
        "First second against RK4",
        "20 random circuits of the 2004 grid from a stored state, against float64 RK4 at "
        "0.0025 ms. Of every cell that fires, the largest difference between its spikes and the "
        "reference's, in order (infinite where their numbers differ); the median over cells.",
    )
    for dt_ms, target in ((0.05, 2.0), (0.025, 0.5), (0.0125, 0.15)):
        for dtype in ("float32", "float64"):
            at.say(f"RK4, first second: dt {dt_ms} ms, {dtype}")
            found = _spikes(
                _simulate(
                    rk4["gbar"], rk4["gsyn"], duration_ms=1000, dt_ms=dt_ms,
                    initial=_initial(rk4), dtype=dtype,
                )
            )  # fmt: skip
            worst = np.array(
                [
                    np.abs(a - b).max() if len(a) == len(b) else np.inf
                    for a, b in zip(found, exact, strict=True)
                    if len(a) or len(b)
                ]
            )
            median = float(np.median(worst))
            section.add(
                f"largest spike-time difference, dt {dt_ms} ms, {dtype}",
                f"{median:.3f} ms ({np.isinf(worst).sum()} of {len(worst)} cells differ in the "
                "number of spikes)",
                f"≤ {target} ms",
                median <= target,
            )
    return section


def periods(at: Setting) -> Section:
    """Periods of regular bursters over ten seconds against RK4."""
    rk4 = at.load("rk4_float64")
    exact = _ragged(rk4["maximum_time_ms"], rk4["offsets"], rk4["maximum_mV"] > 0)
    skip, duration = float(rk4["skip_ms"]), float(rk4["duration_ms"])
    section = Section(
        "Periods over ten seconds against RK4",
        "The same circuits over the recorded 10 s. A regular burster is a cell that bursts in the "
        "reference with two spikes or more per burst and a period that varies by at most 1%.",
    )
    theirs = features_from_spikes([[r] for r in exact], cells=("cell",), window_ms=(0, duration))
    regular = (
        (theirs["activity_cell"] == "bursting")
        & (theirs["spikes_per_burst_cell"] >= 2)
        & (theirs["period_cv"] <= 0.01)
    ).values
    for dt_ms in (0.05, 0.025):
        at.say(f"RK4, ten seconds: dt {dt_ms} ms")
        run = _simulate(
            rk4["gbar"], rk4["gsyn"], duration_ms=skip + duration, dt_ms=dt_ms,
            initial=_initial(rk4),
        )  # fmt: skip
        ours = features_from_spikes(
            [[r - skip] for r in _spikes(run)], cells=("cell",), window_ms=(0, duration)
        )
        error = np.abs(ours["period_ms"].values / theirs["period_ms"].values - 1)[regular]
        error = np.where(np.isnan(error), np.inf, error)
        median = float(np.median(error))
        section.add(
            f"median period error, dt {dt_ms} ms",
            f"{percent(median, 3)} ({(error <= 0.005).sum()} of {len(error)} cells within 0.5%, "
            f"{(error > 0.05).sum()} in another rhythm)",
            "≤ 0.2%",
            median <= 0.002,
        )
    return section


def abpd_alone(at: Setting) -> Section:
    """Periods of the five pacemakers alone."""
    at.say("AB/PD 1-5 alone")
    names = [f"AB/PD {i}" for i in range(1, 6)]
    cells = thermalise(np.array([PUBLISHED_CELLS[n] for n in names], float), Protocol())
    section = Section(
        "AB/PD 1-5 alone",
        "From the cold start until steady, default protocol (dt 0.05 ms, float32).",
    )
    for name, period_ms, exact in zip(names, cells.period_ms, ABPD_PERIODS_S, strict=True):
        error = period_ms / 1000 / exact - 1
        section.add(
            f"period of {name}",
            f"{period_ms / 1000:.4f} s ({100 * error:+.2f}%)",
            f"{exact} s ± 0.5%",
            abs(error) <= 0.005,
        )
    # what a build finds of circuits whose pacemaker runs alone
    gbar = np.array([PUBLISHED_CELLS[n] for n in names], float)[:, None]
    rows = []
    for dt_ms in (0.05, 0.025):
        found = classify(gbar, circuit=SINGLE_CELL, protocol=Protocol(dt_ms=dt_ms))
        for i, (name, exact) in enumerate(zip(names, ABPD_PERIODS_S, strict=True)):
            period_s = float(found["period_ms"][i]) / 1000
            rows.append(
                [
                    name, f"{dt_ms:g} ms", f"{period_s:.4f} s",
                    f"{100 * (period_s / exact - 1):+.2f}%", percent(float(found["period_cv"][i])),
                    f"{float(found['spikes_per_burst_cell'][i]):.2f}",
                ]
            )  # fmt: skip
    section.extra.append(
        "As builds find them, from the thermal start. A number of spikes per burst that is not "
        "whole is that of a cell at an edge: its cycles vary, and circuits whose pacemaker it is "
        "and runs alone have the period that stands here."
    )
    head = ["", "step", "period", "error", "its variation", "spikes per burst"]
    section.extra.append(table(head, rows))
    return section


# ------------------------------------------------------------------ another simulator


def mackelab_constants() -> Constants:
    """Constants of the Cython simulator `pyloric` of the mackelab."""
    # tau_m of H = 2 / (exp(-14.59 - 0.086 V) + exp(-1.87 + 0.0701 V)) as a BellTau
    tau = BellTau(0.0, 2.0, -14.59 / 0.086, -1 / 0.086, 1.87 / 0.0701, 1 / 0.0701)
    channels = tuple(
        replace(c, m=replace(c.m, tau=tau)) if c.name == "H" and c.m is not None else c
        for c in PRINZ_CHANNELS
    )
    return Constants(C=0.6283e-3 / 0.628e-3, f=14.961, RT_2F=12.1936, channels=channels)


def mackelab(at: Setting) -> Section:
    """Labels and periods of another program's circuits, with its scheme, constants and start."""
    at.say("mackelab simulator")
    theirs = at.load("mackelab_pyloric")
    params = theirs["params"]
    n = len(params)
    gbar, gsyn = params[:, :24].reshape(n, 3, 8), params[:, 24:]
    cold = {"V": -50.0, "Ca": 0.05, "m": 0.0, "h": 0.0, "s": 0.0}
    shapes = {
        "V": {"cell": 3},
        "Ca": {"cell": 3},
        "m": {"cell": 3, "m_gate": 7},
        "h": {"cell": 3, "h_gate": 4},
        "s": {"source": 4},
    }
    initial = xr.Dataset(
        {
            k: (("circuit", *s), np.full((n, *s.values()), cold[k]))
            for k, s in shapes.items()
        }
    )  # fmt: skip
    run = _simulate(
        gbar, gsyn, duration_ms=13_000, dt_ms=0.025, scheme="old_state", initial=initial,
        constants=mackelab_constants(),
    )  # fmt: skip
    window = (3000.0, 13_000.0)
    ours = features_from_spikes(run["spike_time_ms"], window_ms=window)
    peaks = _ragged(
        theirs["peak_t"], theirs["peak_t_offsets"], np.ones(len(theirs["peak_t"]), bool)
    )
    on_theirs = features_from_spikes(
        [peaks[i : i + 3] for i in range(0, 3 * n, 3)], window_ms=window
    )
    section = Section(
        "Another simulator (mackelab `pyloric`)",
        f"{n} circuits ({(theirs['source'] == 'prinz2004_grid').sum()} of the grid, the others "
        'from the prior of Goncalves et al. 2020) with its scheme (`scheme="old_state"`, dt '
        "0.025 ms), its constants and its start (cold with h = 0), 13 s, spikes from 3 s on.",
    )
    same = ours["pyloric_like"].values == theirs["pyloric_like"]
    section.add(
        "pyloric-like or not, as it says",
        f"{same.sum()} of {n} ({percent(same.mean(), 1)}); "
        f"{ours['pyloric_like'].values.sum()} pyloric-like here, "
        f"{theirs['pyloric_like'].sum()} there",
        "≥ 85%",
        same.mean() >= 0.85,
    )
    triphasic = ours["triphasic"].values == theirs["triphasic"]
    section.add("triphasic or not, as it says", f"{triphasic.sum()} of {n}")
    same = ours["pyloric_like"].values == on_theirs["pyloric_like"].values
    section.add(
        "pyloric-like or not, as our analysis says of its spikes",
        f"{same.sum()} of {n} ({percent(same.mean(), 1)})",
    )
    for what, period, target in (
        ("its own periods", theirs["period_ms"], 0.02),
        ("our analysis of its spikes", on_theirs["period_ms"].values, None),
    ):
        error = np.abs(ours["period_ms"].values / period - 1)
        error = error[~np.isnan(error)]
        median = float(np.median(error))
        section.add(
            f"median period difference of the bursters that both find, against {what}",
            f"{percent(median)} of {len(error)}",
            "≤ 2%" if target else "",
            median <= target if target else None,
        )
    return section


# ------------------------------------------------------------------ 8,192 circuits


def _agreement(ours: Columns, label: np.ndarray) -> tuple[float, float, float]:
    """Shares of circuits with the same class (of three), the same flag of each kind."""
    like = ours["pyloric_like"] == ((label & PYLORIC_LIKE) == PYLORIC_LIKE)
    pyloric = ours["pyloric"] == (label == PYLORIC)
    return float((like & pyloric).mean()), float(like.mean()), float(pyloric.mean())


def _shares(section: Section, columns: Columns, *, targets: bool) -> None:
    n = len(columns["status"])
    targets = targets and n == SAMPLE_CIRCUITS  # a smaller sample says too little
    for name, low, high in (("pyloric_like", 0.185, 0.21), ("pyloric", 0.019, 0.028)):
        k = int(columns[name].sum())
        section.add(
            f"share {name.replace('_', '-')}",
            share(k, n),
            f"{percent(low, 1)} to {percent(high, 1)}" if targets else "",
            (low <= k / n <= high) if targets else None,
        )


FIXED = replace(Protocol(), min_ms=13_000.0, max_ms=13_000.0)


def grid_sample(at: Setting) -> list[Section]:
    """Labels of another program for random circuits; the two protocols against each other."""
    sample = at.load("grid_sample_labels")
    which = at.spread(at.n_circuits)
    circuits, label = grid_circuits(sample["circuit_id"][which]), sample["label"][which]
    states = states_of_cells(at.load("thermalised_cells")["state"], circuits.cells)
    n = len(circuits)
    fixed, ends = at.run("fixed protocol", circuits, states, FIXED)
    section = Section(
        f"{n:,} random circuits of the grid",
        "Against the labels of an independent float32 program, from its states of the sixteen "
        "cells, with the fixed protocol (3 s discarded, 10 s analysed).",
    )
    same, like, pyloric = _agreement(fixed, label)
    section.add(
        "circuits with the same class (pyloric, else pyloric-like, else neither)",
        percent(same), "≥ 97%", same >= 0.97,
    )  # fmt: skip
    section.add("the same pyloric-like flag", percent(like))
    section.add("the same pyloric flag", percent(pyloric))
    theirs_like = (label & PYLORIC_LIKE) == PYLORIC_LIKE
    theirs_pyloric = label == PYLORIC
    for what, ours, theirs in (
        ("pyloric-like", fixed["pyloric_like"], theirs_like),
        ("pyloric", fixed["pyloric"], theirs_pyloric),
    ):
        section.add(
            f"{what} there, not here / here, not there",
            f"{(theirs & ~ours).sum()} / {(ours & ~theirs).sum()} of {theirs.sum()}",
        )
    _shares(section, fixed, targets=True)
    section.add("shares there", f"{percent(theirs_like.mean())}, {percent(theirs_pyloric.mean())}")
    section.add("runs that failed", str((fixed["status"] != "ok").sum()), "0",
                (fixed["status"] == "ok").all())  # fmt: skip
    later, _ = at.run(
        "window 13-23 s", circuits, ends,
        replace(Protocol(), transient_ms=0.0, min_ms=10_000.0, max_ms=10_000.0),
    )  # fmt: skip
    same, like, pyloric = _agreement(later, label)
    between = (later["pyloric_like"] == fixed["pyloric_like"]) & (
        later["pyloric"] == fixed["pyloric"]
    )
    section.extra.append(
        "The description that comes with the labels gives their window as 3-13 s after the "
        "switch-on, the note inside the file as 13-23 s. With the same runs analysed over 13-23 s "
        f"the class agrees for {percent(same)} (pyloric-like flag {percent(like)}, pyloric flag "
        f"{percent(pyloric)}), and shares are {percent(later['pyloric_like'].mean())} and "
        f"{percent(later['pyloric'].mean())}. Our own two windows agree with each other for "
        f"{percent(between.mean())}."
    )
    protocols = {
        "all rules": Protocol(),
        "no window before the transient's end": replace(Protocol(), early_ms=3_000.0),
        "no look at the voltage": replace(Protocol(), rest_ms=3_000.0),
        "no decision by a silent or tonic cell": replace(
            Protocol(), silent_ms=Protocol().max_ms, rest_ms=3_000.0
        ),
        "no look before 6 s": replace(Protocol(), min_ms=6_000.0),
    }
    runs = {what: at.run(what, circuits, states, p)[0] for what, p in protocols.items()}
    return [section, _protocols(fixed, later, runs)]


def _protocols(fixed: Columns, later: Columns, runs: dict[str, Columns]) -> Section:
    """What stopping early costs and saves, with all rules and without each.

    `later` goes on where `fixed` ended: what the fixed protocol's own next ten seconds change.
    """
    p = Protocol()
    adaptive = runs["all rules"]
    section = Section(
        "The adaptive protocol against the fixed one",
        f"The same {len(fixed['status']):,} circuits from the same start: the default protocol "
        f"(first decision at {p.min_ms / 1000:g} s, silent for {p.silent_ms / 1000:g} s or within "
        f"{p.rest_mV:g} mV for {p.rest_ms / 1000:g} s, settled to {p.settled_cv:g} over "
        f"{p.settled_cycles} cycles, end at {p.max_ms / 1000:g} s) against 13 s for all.",
    )
    same = _same_class(fixed, adaptive)
    section.add("circuits with the same class", percent(same), "≥ 99.5%", same >= 0.995)
    section.add("the same periodic flag", percent(_same(fixed, adaptive, "periodic")))
    for cell in ("abpd", "lp", "py"):
        what = f"activity_{cell}"
        section.add(f"the same {what}", percent(_same(fixed, adaptive, what)))
    mean_s = adaptive["t_simulated_ms"].mean() / 1000
    section.add("mean simulated time", f"{mean_s:.2f} s instead of 13 s", "≤ 6.5 s", mean_s <= 6.5)
    end = adaptive["t_simulated_ms"] >= p.max_ms
    section.add(
        "circuits that ran to the end",
        f"{percent(end.mean(), 1)}; they take {percent(end.mean() * p.max_ms / 1000 / mean_s, 0)}",
    )
    both = fixed["periodic"] & adaptive["periodic"]
    change = _relative_change(fixed, adaptive, "period_ms")[both]
    section.add(
        "periodic circuits whose period is the same within 1%",
        percent((change <= 0.01).mean()), "≥ 98%", (change <= 0.01).mean() >= 0.98,
    )  # fmt: skip
    # those that ran to the end are the same in both
    pyloric_like = fixed["pyloric_like"] & adaptive["pyloric_like"] & ~end
    changes = {
        c.column: _relative_change(fixed, adaptive, c.column)[pyloric_like] for c in CRITERIA
    }
    medians = {name: float(np.nanmedian(change)) for name, change in changes.items()}
    worst = max(medians, key=lambda name: medians[name])
    section.add(
        "largest median change of a feature of the pyloric-like circuits that ended early",
        f"{percent(medians[worst], 2)} ({worst})", "≤ 1%", medians[worst] <= 0.01,
    )  # fmt: skip
    _shares(section, adaptive, targets=False)
    section.extra.append("What each rule saves, and what it costs in labels:")
    rows = []
    for what, found in runs.items():
        flags = [(fixed[name], found[name]) for name in ("pyloric_like", "pyloric")]
        rows.append(
            [
                what,
                f"{found['t_simulated_ms'].mean() / 1000:.2f} s",
                percent(_same_class(fixed, found)),
                percent(_same(fixed, found, "periodic")),
                *(f"{(a & ~b).sum()} / {(b & ~a).sum()}" for a, b in flags),
            ]
        )
    section.extra.append(
        table(
            ["", "mean time", "same class", "same periodic flag",
             "pyl.-like missed / invented", "pyloric missed / invented"],
            rows,
        )
    )  # fmt: skip
    both = fixed["periodic"] & adaptive["periodic"] & ~end
    rows = []
    for name in (
        "period_ms", "burst_duration_abpd_ms", "burst_duration_lp_ms", "burst_duration_py_ms",
        "duty_cycle_abpd", "duty_cycle_lp", "duty_cycle_py", "phase_start_lp", "phase_start_py",
    ):  # fmt: skip
        difference = np.abs(adaptive[name] - fixed[name])[both]
        difference = difference[~np.isnan(difference)]
        if len(difference):
            cut = np.percentile(difference, [50, 90, 99])
            rows.append([f"`{name}`", str(len(difference)), *(f"{v:.4g}" for v in cut)])
    section.extra.append(
        f"Differences of the features of the {both.sum()} circuits that both find periodic and "
        "that ended early:"
    )
    section.extra.append(table(["", "circuits", "median", "90%", "99%"], rows))
    section.extra.append(
        f"Changes of the features of the {pyloric_like.sum()} pyloric-like circuits that ended "
        "early, and, of the same circuits, how much the fixed protocol's window of 3-13 s differs "
        "from the ten seconds that follow it. Periods have settled, but bursts of LP and PY may "
        "last longer in one cycle than in the next for ever: a run of ten seconds has their mean "
        "hardly more exactly."
    )
    nexts = {name: _relative_change(fixed, later, name)[pyloric_like] for name in changes}
    rows = [
        [f"`{name}`", *_spread(change), *_spread(nexts[name])] for name, change in changes.items()
    ]
    section.extra.append(
        table(
            ["", "ended early: median", "90%", "more than 5%",
             "next 10 s: median", "90%", "more than 5%"],
            rows,
        )
    )  # fmt: skip
    return section


def _spread(change: np.ndarray) -> list[str]:
    """Median, 90th percentile and share above 5% of relative changes."""
    known = change[~np.isnan(change)]
    return [
        *(percent(float(np.percentile(known, q)), 2) for q in (50, 90)),
        percent(float((known > 0.05).mean()), 1),
    ]


def _same(a: Columns, b: Columns, name: str) -> float:
    return float((a[name] == b[name]).mean())


def _same_class(a: Columns, b: Columns) -> float:
    return float(np.all([a[n] == b[n] for n in ("pyloric_like", "pyloric")], axis=0).mean())


def _relative_change(a: Columns, b: Columns, name: str) -> np.ndarray:
    return np.abs(b[name] / a[name] - 1)


class Shares(NamedTuple):
    """Circuits from one thermal phase, and how many of them are pyloric-like and pyloric."""

    phase: float
    n: int
    pyloric_like: int
    pyloric: int


def thermal_phases(at: Setting, figure: Path | None) -> Section:
    """Shares from the package's own thermal states at several phases."""
    sample = at.load("grid_sample_labels")
    some, many = (
        grid_circuits(sample["circuit_id"][at.spread(n)]) for n in (at.n_per_phase, at.n_circuits)
    )
    default = Protocol().thermal_phase
    assert isinstance(default, float)
    rows, points = [], []
    for phase in sorted({*PHASES, default}):
        protocol = replace(Protocol(), thermal_phase=phase)
        chosen = many if phase == default else some
        columns, _ = at.run(
            f"thermal phase {phase:g}", chosen, thermal_start(chosen, protocol), protocol
        )
        n, like, pyloric = len(chosen), columns["pyloric_like"], columns["pyloric"]
        failed = columns["status"] != "ok"
        rows.append(
            [
                f"{phase:g}" + (" (default)" if phase == default else ""),
                f"{n:,}",
                share(int(like.sum()), n),
                share(int(pyloric.sum()), n),
                str(failed.sum()),
            ]
        )
        points.append(Shares(phase, n, int(like.sum()), int(pyloric.sum())))
    rows.append(["known, seven starts", "", "18.3% to 25.9%", "2.05% to 3.0%", ""])
    rows.append(["published", "20,250,000", "19.99%", "2.235%", ""])
    section = Section(
        "Shares from the package's own thermal states",
        "Many circuits have more than one rhythm; which they fall into depends on where in their "
        "cycles the cells were when the synapses were switched on. Default protocol, "
        "`thermal_phase` as said, circuits of the same sample. 95% Wilson intervals.",
        extra=[table(["thermal phase", "circuits", "pyloric-like", "pyloric", "failed"], rows)],
    )
    if figure is not None and _draw(points, figure):
        section.extra.append(f"![Shares over the thermal phase]({figure.name})")
    return section


def _draw(points: list[Shares], path: Path) -> bool:
    """Shares over the thermal phase with their intervals, and the known spans."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for ax, title, counts, span, published in (
        (axes[0], "pyloric-like", [p.pyloric_like for p in points], (18.3, 25.9), 19.99),
        (axes[1], "pyloric", [p.pyloric for p in points], (2.05, 3.0), 2.235),
    ):
        ax.axhspan(*span, color="0.92", label="known span")
        ax.axhline(published, color="0.5", lw=1, ls="--", label="published")
        x = [p.phase for p in points]
        y = [100 * k / p.n for k, p in zip(counts, points, strict=True)]
        bars = [[100 * v for v in wilson(k, p.n)] for k, p in zip(counts, points, strict=True)]
        error = [
            [v - b[0] for v, b in zip(y, bars, strict=True)],
            [b[1] - v for v, b in zip(y, bars, strict=True)],
        ]
        ax.errorbar(x, y, error, fmt="o", color="C0", capsize=2, label="measured")
        ax.set(title=title, xlabel="thermal phase", ylabel="share of circuits (%)")
        ax.set_ylim(0, None)
    axes[0].legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True
