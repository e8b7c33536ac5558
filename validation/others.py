"""Circuits of other cells than AB/PD, LP and PY: the adaptive protocol against the fixed one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from checks import Setting
from report import Section, percent, table

from pyloric_db.pipeline.draw import parameters, select
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.run import Columns, run_circuits
from pyloric_db.pipeline.simulate import thermal_cells
from pyloric_db.pipeline.thermalise import thermal_start

CIRCUITS = Path(__file__).parent / "circuits"
#: Phases that differ by more are another rhythm's.
SAME_PHASE = 0.01


def other_circuits(at: Setting) -> Section:
    """Two cells that inhibit each other, and seven with gap junctions."""
    section = Section(
        "Circuits of other cells",
        "The default protocol against 13 s for all, from thermalised cells. `half-centre` is a "
        "grid of two cells that inhibit each other, from different phases of their cycles, "
        "`seven-cells` are draws of AB, two PDs coupled to it by gap "
        "junctions, LP and three PYs (validation/circuits). Phases are those of all cells but the "
        f"first, in circuits where both runs give one; alike is within {SAME_PHASE}. The last "
        "column compares with the adaptive protocol at a quarter of the step, from the same start: "
        "a circuit that has several rhythms may fall into another one.",
    )
    rows = []
    for path in sorted(CIRCUITS.glob("*.toml")):
        recipe = load_recipe(path)
        circuit, adaptive = recipe.circuit.circuit(), recipe.run_protocol()
        n = min(at.n_circuits, select(recipe).count)
        _, gbar, gsyn = parameters(recipe, np.arange(n))
        start = thermal_start(gbar, circuit, adaptive, thermal_cells)
        found = []
        for what, protocol in (
            ("adaptive", adaptive),
            ("13 s for all", replace(adaptive, min_ms=adaptive.max_ms)),
            ("a quarter of the step", replace(adaptive, dt_ms=adaptive.dt_ms / 4)),
        ):
            at.say(f"{n} circuits of {recipe.name}: {what}")
            columns, _ = run_circuits(gbar, gsyn, start, circuit=circuit, protocol=protocol)
            found.append(columns)
        ours, whole, fine = found
        phases = [f"phase_start_{cell}" for cell in circuit.cells[1:]]
        here, there = (np.stack([c[name] for name in phases]) for c in (ours, whole))
        off = np.abs(here - there)[~np.isnan(here) & ~np.isnan(there)]
        rows.append(
            [
                f"`{recipe.name}`",
                f"{n:,}",
                f"{ours['t_simulated_ms'].mean() / 1000:.2f} s",
                percent((ours["periodic"] == whole["periodic"]).mean()),
                _same_period(ours, whole, 0.01),
                percent((np.isnan(here) == np.isnan(there)).mean()),
                percent((off <= SAME_PHASE).mean()),
                _same_period(ours, fine, 0.02),
            ]
        )
    head = ["", "circuits", "mean time", "same periodic flag", "period within 1%",
            "same phases null", "phases alike",
            "period within 2% at a quarter of the step"]  # fmt: skip
    section.extra.append(table(head, rows))
    return section


def _same_period(a: Columns, b: Columns, within: float) -> str:
    """Of the circuits that are periodic in both, the share whose periods differ by no more."""
    both = a["periodic"] & b["periodic"]
    change = np.abs(a["period_ms"][both] / b["period_ms"][both] - 1)
    return percent((change <= within).mean())
