"""Recordings of a regular pyloric rhythm, for tests of what reads and matches them."""

from pathlib import Path

import numpy as np

PERIOD_S = 1.5

#: Begin and length of each neuron's burst in the cycle, spikes in it.
BURSTS = {"PD": (0.0, 0.58, 12), "LP": (0.8, 0.4, 9), "PY": (1.14, 0.5, 11)}


def pyloric_spikes(cycles: int = 12, neurons=tuple(BURSTS)) -> list[tuple[str, float]]:
    """(neuron, s) in the order of time."""
    rows = []
    for name in neurons:
        begin, length, n = BURSTS[name]
        for cycle in range(cycles):
            burst = 0.25 + cycle * PERIOD_S + begin + np.linspace(0, length, n)
            rows += [(name, round(float(t), 6)) for t in burst]
    return sorted(rows, key=lambda row: row[1])


def fast_spikes(
    without=(), pause_after: int | None = None, cycles: int = 100
) -> list[tuple[str, float]]:
    """The same at a period of 0.6 s: intervals between bursts of 0.37 s and more.

    Without the bursts (neuron, cycle) of `without`, and with a pause of 6 s of all neurons after a
    cycle.
    """
    rows = []
    for name, (begin, length, n) in BURSTS.items():
        for cycle in range(cycles):
            if (name, cycle) not in without:
                pause = 6 * (pause_after is not None and cycle > pause_after)
                burst = cycle + np.linspace(begin, begin + length, n) / PERIOD_S
                rows += [(name, round(float(t), 6)) for t in 0.6 * burst + pause]
    return sorted(rows, key=lambda row: row[1])


def write_csv(path: Path, rows, header="neuron,time", scale: float = 1) -> Path:
    path.write_text(header + "\n" + "".join(f"{n},{t * scale:.6f}\n" for n, t in rows))
    return path
