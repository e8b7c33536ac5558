"""Circuits of the prior of Goncalves et al. 2020: cells of their own, from the cold start."""

from dataclasses import replace

import numpy as np
from checks import Setting
from report import Section, percent, share

from pyloric_db.pipeline.draw import parameters
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.pipeline.run import run_circuits
from pyloric_db.pipeline.states import cold_states
from pyloric_db.vocabulary import CRITERIA


def prior_of_2020(at: Setting) -> Section:
    """The recipe's protocol against the fixed one, and what becomes of its circuits."""
    recipe = load_recipe("goncalves2020")
    circuit, adaptive = recipe.circuit.circuit(), recipe.run_protocol()
    fixed = replace(adaptive, min_ms=adaptive.max_ms)
    n = at.n_circuits
    _, gbar, gsyn = parameters(recipe, np.arange(n))
    found = []
    for what, protocol in (("the recipe's protocol", adaptive), ("the fixed one", fixed)):
        at.say(f"{n} circuits of the prior of 2020: {what}")
        columns, _ = run_circuits(
            gbar, gsyn, cold_states(n, circuit), circuit=circuit, protocol=protocol
        )
        found.append(columns)
    ours, whole = found
    section = Section(
        "Circuits of the prior of Goncalves et al. 2020",
        f"The first {n:,} circuits of the recipe `goncalves2020`, from the cold start: its "
        f"protocol (first decision at {adaptive.min_ms / 1000:g} s, rhythms looked at from "
        f"{adaptive.early_ms / 1000:g} s on) against {fixed.max_ms / 1000:g} s for all, of which "
        f"{fixed.transient_ms / 1000:g} s are discarded.",
    )
    same = np.logical_and.reduce([ours[c] == whole[c] for c in ("pyloric_like", "pyloric")]).mean()
    section.add("circuits with the same class", percent(same), "≥ 99.5%", same >= 0.995)
    for name in ("periodic", *(f"activity_{c}" for c in circuit.cells)):
        section.add(f"the same {name}", percent((ours[name] == whole[name]).mean()))
    both = ours["periodic"] & whole["periodic"]
    change = np.abs(ours["period_ms"][both] / whole["period_ms"][both] - 1)
    alike = (change <= 0.01).mean()
    section.add("periodic circuits whose period is the same within 1%", percent(alike), "≥ 98%",
                alike >= 0.98)  # fmt: skip
    section.add("mean simulated time", f"{ours['t_simulated_ms'].mean() / 1000:.2f} s instead of "
                f"{fixed.max_ms / 1000:g} s")  # fmt: skip
    section.add("runs that failed", str((ours["status"] != "ok").sum()), "0",
                (ours["status"] == "ok").all())  # fmt: skip
    all_features = np.all([~np.isnan(ours[c.column]) for c in CRITERIA], axis=0)
    for what, has in (
        ("with all fifteen features", all_features),
        ("pyloric-like", ours["pyloric_like"]),
        ("pyloric", ours["pyloric"]),
    ):
        section.add(f"share {what}", share(int(has.sum()), n))
    return section
