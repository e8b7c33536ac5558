"""Circuits at other temperatures: rates grow, and with them what a step of 0.05 ms costs."""

import numpy as np
from batches import grid_circuits
from checks import Setting
from report import Section, percent, table

from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.run import Columns, run_circuits
from pyloric_db.pipeline.thermalise import distinct_cells, initial_states, thermalise
from pyloric_db.protocol import Protocol

#: The factors of docs/examples.md.
WARM = Constants(
    Q10_gbar=(1.5,) * 8,
    Q10_gsyn={"glutamate": 1.5, "acetylcholine": 1.5},
    Q10_tau_m=2.4,
    Q10_tau_h=2.8,
    Q10_tau_Ca=2.0,
    Q10_tau_s={"glutamate": 1.7, "acetylcholine": 1.7},
)
TEMPERATURES_K = (283.0, 293.0, 298.0)
STEPS_MS = (0.05, 0.025, 0.0125)
FINE_MS = 0.00625


def other_temperatures(at: Setting) -> Section:
    """Labels and periods of random grid circuits at several steps, against a fine one."""
    n = at.n_circuits // 8
    circuits = grid_circuits(np.sort(np.random.default_rng(293).integers(0, 20_250_000, n)))
    section = Section(
        "Other temperatures",
        f"{n:,} random circuits of the grid with the Q10 factors of [examples.md](examples.md), "
        f"default protocol but for the step, against a step of {FINE_MS:g} ms. Many circuits have "
        "several rhythms, or sit at the edge of one: some differ between any two runs.",
    )

    def run(temperature_K: float, dt_ms: float) -> Columns:
        at.say(f"{n} circuits at {temperature_K:g} K, dt {dt_ms:g} ms")
        protocol = Protocol(temperature_K=temperature_K, dt_ms=dt_ms)
        cells = thermalise(distinct_cells(circuits.gbar)[0], protocol, WARM)
        states = initial_states(circuits.gbar, cells, PRINZ2004)
        return run_circuits(
            circuits.gbar, circuits.gsyn, states,
            circuit=PRINZ2004, protocol=protocol, constants=WARM,
        )[0]  # fmt: skip

    rows = []
    for temperature_K in TEMPERATURES_K:
        fine = run(temperature_K, FINE_MS)
        for dt_ms in STEPS_MS:
            found = run(temperature_K, dt_ms)
            both = found["periodic"] & fine["periodic"]
            change = np.abs(found["period_ms"][both] / fine["period_ms"][both] - 1)
            like = found["pyloric_like"], fine["pyloric_like"]
            rows.append(
                [
                    f"{temperature_K:g} K", f"{dt_ms:g} ms",
                    percent((like[0] == like[1]).mean(), 1),
                    f"{like[0].sum()} / {like[1].sum()}",
                    percent(np.median(change)), percent((change > 0.02).mean(), 1),
                ]
            )  # fmt: skip
    head = ["", "step", "the same pyloric-like flag", "pyloric-like here / at the fine step",
            "median difference of periods", "more than 2% apart"]  # fmt: skip
    section.extra.append(table(head, rows))
    return section
