"""The single cells of the 2003 grid, without a circuit."""

from dataclasses import replace

import numpy as np
from checks import Setting
from report import Section, percent, share, table

from pyloric_db.model.cells import PRINZ2003_STEP, prinz2003_gbar
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.run import run_circuits
from pyloric_db.pipeline.states import cold_states
from pyloric_db.vocabulary import ACTIVITIES

#: Silent cells of 12,288 random ones, by an independent program: no maximum above 0 mV from 6 to
#: 20 s after the cold start.
SILENT, SILENT_OF = 0.198, 12_288
#: Of the fixed protocol, ms.
FROM_MS, TO_MS = 20_000.0, 60_000.0
#: A step that has converged; so many cells are run with it, and what a long burst is.
FINE_MS, MOST_FINE, LONG = 0.0125, 128, 0.3


def cells_of_2003(at: Setting) -> Section:
    """Activities of random cells of the 2003 grid, under the recipe's protocol and a fixed one."""
    recipe = load_recipe("prinz2003")
    circuit, adaptive = recipe.circuit.circuit(), recipe.run_protocol()
    fixed = replace(adaptive, min_ms=TO_MS, max_ms=TO_MS, transient_ms=FROM_MS)
    n = at.n_circuits
    numbers = np.random.default_rng(2003).integers(1, 6 ** len(PRINZ2003_STEP), n, endpoint=True)
    gbar = prinz2003_gbar(numbers)[:, None]
    found = []
    for what, protocol in (("the recipe's protocol", adaptive), ("60 s for all", fixed)):
        at.say(f"{n} cells of 2003: {what}")
        columns, _ = run_circuits(
            gbar, np.zeros((n, 0)), cold_states(n, circuit), circuit=circuit, protocol=protocol
        )
        found.append(columns)
    ours, long = found
    section = Section(
        "Cells of the 2003 grid",
        f"{n:,} random cells from the cold start: the recipe `prinz2003` (first decision at "
        f"{adaptive.min_ms / 1000:g} s, silent for {adaptive.silent_ms / 1000:g} s, end at "
        f"{adaptive.max_ms / 1000:g} s) against {TO_MS / 1000:g} s for all, analysed from "
        f"{FROM_MS / 1000:g} s on. Silent is a cell without a maximum above 0 mV, as in an "
        f"independent program that ran {SILENT_OF:,} others.",
    )
    same = ours["activity_cell"] == long["activity_cell"]
    section.add("cells with the same activity", percent(same.mean()), "≥ 99.3%",
                same.mean() >= 0.993)  # fmt: skip
    section.add("mean simulated time", f"{ours['t_simulated_ms'].mean() / 1000:.1f} s instead of "
                f"{TO_MS / 1000:g} s")  # fmt: skip
    silent = int((ours["activity_cell"] == "silent").sum())
    spread = (SILENT * (1 - SILENT) * (1 / n + 1 / SILENT_OF)) ** 0.5
    section.add("share silent", share(silent, n), f"{percent(SILENT, 1)}, within chance",
                abs(silent / n - SILENT) <= 3 * spread)  # fmt: skip
    both = (ours["activity_cell"] == "bursting") & (long["activity_cell"] == "bursting")
    change = np.abs(ours["period_ms"][both] / long["period_ms"][both] - 1)
    alike = (change <= 0.01).mean()
    section.add("bursting cells whose period is the same within 1%", percent(alike), "≥ 97%",
                alike >= 0.97)  # fmt: skip
    section.add("failed", f"{(ours['status'] != 'ok').sum()}")
    rows = [
        [activity, *(share(int((c["activity_cell"] == activity).sum()), n) for c in found)]
        for activity in ACTIVITIES
    ]
    section.extra.append(table(["activity", "the recipe", "60 s for all"], rows))
    bursting = np.flatnonzero(ours["activity_cell"] == "bursting")
    duty = ours["duty_cycle_cell"][bursting]
    groups = {"bursting": bursting, f"duty cycle above {LONG:g}": bursting[duty > LONG]}
    fine = replace(adaptive, dtype="float64", dt_ms=FINE_MS)
    rows = []
    for what, cells in groups.items():
        at.say(f"{what}, in float64 at dt {FINE_MS:g} ms")
        cells = cells[:MOST_FINE]
        columns, _ = run_circuits(
            gbar[cells], np.zeros((len(cells), 0)), cold_states(len(cells), circuit),
            circuit=circuit, protocol=fine,
        )  # fmt: skip
        change = ours["period_ms"][cells] / columns["period_ms"] - 1
        change = change[~np.isnan(change)]
        middle, most = np.percentile(np.abs(change), [50, 90])
        far = np.abs(change) > 0.02
        shorter = f"{(change < 0)[far].sum()} of {far.sum()}"
        rows.append([what, str(len(change)), percent(middle), percent(most),
                     percent(far.mean(), 0), shorter])  # fmt: skip
    section.extra.append(
        f"Periods against the same protocol in float64 at dt {FINE_MS:g} ms. Long bursts end by a "
        "slow passage, which the least noise cuts short, and float32's rounding is such a noise:"
    )
    head = ["cells", "with a period", "median difference", "90%", "more than 2% apart",
            "of these shorter"]  # fmt: skip
    section.extra.append(table(head, rows))
    return section
