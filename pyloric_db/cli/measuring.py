"""The command that measures how fast this machine builds."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from pyloric_db.cli.building import RecipeName
from pyloric_db.cli.console import Json, out, progress_bar, say, table_of

if TYPE_CHECKING:
    from pyloric_db.pipeline.bench import Bench


def bench(recipe: RecipeName = "prinz2004", as_json: Json = False) -> None:
    """Measure how fast this machine integrates and builds circuits of a recipe, on one process and
    on several, and how long all of them would take."""
    from pyloric_db.pipeline.bench import measure

    with progress_bar("measurements") as progress:
        found = measure(progress, recipe=recipe)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    say("; ".join(filter(None, (found.machine, found.gpu, found.versions))))
    _print_rates(found)
    _print_stages(found)
    text = (
        f"a circuit takes {found.simulated_s_per_circuit:.2f} simulated seconds; a process is "
        f"ready after {found.start_up_s:.1f} s and holds at most {found.peak_memory_MiB:,.0f} MiB"
    )
    if found.thermalise_s:
        text += f"; the cells of the grid are thermalised in {found.thermalise_s:.1f} s"
    say(text)
    say(f"{found.recipe}, {found.estimate()}")


def _print_rates(found: "Bench") -> None:
    table = table_of("million circuit-steps; processes:", *(f"{r.processes}" for r in found.rates))
    for text, name in (
        ("kernel, per second", "kernel_Mcs_per_s"),
        ("kernel, per second of processor time", "kernel_Mcs_per_cpu_s"),
        ("ids to files, per second", "end_to_end_Mcs_per_s"),
        ("ids to files, per second of processor time", "end_to_end_Mcs_per_cpu_s"),
    ):
        table.add_row(text, *(f"{getattr(r, name):.1f}" for r in found.rates))
    table.add_row("circuits per second", *(f"{r.circuits_per_s:.0f}" for r in found.rates))
    if len(found.rates) > 1:
        table.add_row("kernel, times one process", "1", f"{found.speedup_kernel:.2f}")
        table.add_row("ids to files, times one process", "1", f"{found.speedup_end_to_end:.2f}")
    out.print(table)


def _print_stages(found: "Bench") -> None:
    table = table_of("of a shard's time", "share")
    for name, share in found.stages.items():
        table.add_row(name, f"{100 * share:.1f}%")
    out.print(table)


COMMANDS = (bench,)
