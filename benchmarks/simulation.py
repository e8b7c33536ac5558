"""`pyloric-db bench` as a section of docs/benchmarks.md.

python benchmarks/simulation.py [--write-docs]
"""

import sys

from page import arguments, publish, setting, table

from pyloric_db.pipeline.bench import Bench, measure


def report(b: Bench) -> str:
    rows = [
        [text, *(f"{getattr(r, name):.1f}" for r in b.rates)]
        for text, name in (
            ("kernel, Mcs per second", "kernel_Mcs_per_s"),
            ("kernel, Mcs per second of processor time", "kernel_Mcs_per_cpu_s"),
            ("from ids to files, Mcs per second", "end_to_end_Mcs_per_s"),
            ("from ids to files, Mcs per second of processor time", "end_to_end_Mcs_per_cpu_s"),
            ("from ids to files, circuits per second", "circuits_per_s"),
        )
    ]
    if len(b.rates) > 1:
        rows.append(["kernel, times one process", "1", f"{b.speedup_kernel:.2f}"])
        rows.append(["from ids to files, times one process", "1", f"{b.speedup_end_to_end:.2f}"])
    more = [
        ["simulated per circuit", f"{b.simulated_s_per_circuit:.2f} s"],
        ["a process is ready after", f"{b.start_up_s:.1f} s"],
        ["the sixteen cells are thermalised in", f"{b.thermalise_s:.1f} s"],
        ["peak memory of a process", f"{b.peak_memory_MiB:.0f} MiB"],
        b.estimate().split(": "),
    ]
    counts = [f"{r.processes} process" + ("es" if r.processes > 1 else "") for r in b.rates]
    stages = [[name, f"{100 * share:.1f}%"] for name, share in b.stages.items()]
    return "\n\n".join(
        [
            table(["", *counts], rows),
            f"Where the time of a shard of {b.shard_circuits:,} circuits goes, on one process:",
            table(["stage", "share"], stages),
            table(["", ""], more),
        ]
    )


def main() -> None:
    args = arguments(__doc__).parse_args()

    def progress(done: int, total: int) -> None:
        print(f"{done} of {total} measurements", file=sys.stderr, flush=True)

    publish(
        "Simulation",
        setting("pyloric-db bench", "jax", "jaxlib", "numpy", "cupy-cuda13x")
        + " The kernel is an epoch of a full batch with spike finding on. All rates are medians "
        "over repetitions, of all processes together; those of processor time are per process. One "
        "process and several take turns.",
        report(measure(progress)),
        write=args.write_docs,
    )


if __name__ == "__main__":
    main()
