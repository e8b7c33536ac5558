"""docs/definitions.md once more, in plain loops: the code and this agree on any spike trains."""

from itertools import pairwise
from math import inf, nan
from statistics import fmean, pstdev

import numpy as np
import pandas as pd
import pytest

from pyloric_db.rhythm.recordings import features_from_spikes
from pyloric_db.vocabulary import CELLS, CRITERIA

GAP_MS = 500.0


def steps(times):
    return [b - a for a, b in pairwise(times)]


def mean(values):
    return fmean(values) if values else nan


def spread(values):
    return pstdev(values) / fmean(values) if len(values) >= 2 else nan


def regular(times):
    isi = steps(times)
    return len(isi) >= 2 and max(isi) - min(isi) < 0.05 * mean(isi)


def bursts(times, start, stop):
    """First and last spike, number of spikes, and whether the start and the end were seen."""
    isi = steps(times)
    limit = max(isi) / 2 if isi and max(isi) > 2 * mean(isi) else mean(isi)
    if not isi or regular(times):
        limit = max(isi) / 2 if isi and mean(isi) >= GAP_MS else GAP_MS
    gaps = [b - a > min(limit, GAP_MS) for a, b in pairwise([start, *times, stop])]
    breaks = [0, *(i for i in range(1, len(times)) if gaps[i]), len(times)]
    return [(times[a], times[b - 1], b - a, gaps[a], gaps[b]) for a, b in pairwise(breaks) if b]


def activity(times, start, stop):
    late = [t for t in times if t >= stop - 10 * GAP_MS]
    if regular(late) and (len(late) + 1) * GAP_MS > min(stop - start, 10 * GAP_MS):
        if mean(steps(late)) < GAP_MS and stop - late[-1] <= 2 * max(steps(late)):
            return "tonic"
    found = bursts(times, start, stop)
    seen = [b for b in found if b[3]]
    cycles = steps([b[0] for b in seen])
    several = any(b[2] >= 2 for b in seen) or (len(found) >= 3 and mean(cycles) >= GAP_MS)
    repeats = len(cycles) < 2 or spread(cycles) <= 0.25
    for k in (2, 3):
        sums = [b[0] - a[0] for a, b in zip(seen, seen[k:], strict=False)]
        repeats |= len(cycles) >= 2 * k and spread(sums) <= 0.05
    stopped = stop - found[-1][0] > 2 * max(steps([b[0] for b in found]), default=0)
    return "bursting" if len(found) >= 2 and several and repeats and not stopped else "irregular"


def rhythm(cells, start, stop):
    f, found = {}, {}
    for name, t in zip(CELLS, cells, strict=True):
        f[f"activity_{name}"] = kind = activity(t, start, stop) if t else "silent"
        found[name] = bursts(t, start, stop) if kind == "bursting" else []
        whole = [b for b in found[name] if b[3] and b[4]]
        f[f"burst_duration_{name}_ms"] = mean([b[1] - b[0] for b in whole])
        f[f"spikes_per_burst_{name}"] = mean([b[2] for b in whole])
        f[f"spike_rate_{name}_Hz"] = 1000 * len(t) / (stop - start)
    ab = [b for b in found["abpd"] if b[3]]
    cycles = steps([b[0] for b in ab])
    f["period_cv"] = spread(cycles)
    f["period_ms"] = period = mean(cycles) if len(cycles) >= 2 else nan
    f["periodic"] = f["period_cv"] <= 0.05
    for name in CELLS:
        duty = f[f"burst_duration_{name}_ms"] / period
        f[f"duty_cycle_{name}"] = duty if duty <= 1 else nan
    cut = max((b[0] for name in ("lp", "py") for b in found[name] if not b[3]), default=-inf)
    rows = []
    for a, b in pairwise(b for b in ab if b[0] > cut):
        here = [[x for x in found[name] if a[0] <= x[0] < b[0]] for name in ("lp", "py")]
        rows.append((a, *(x[0] for x in here)) if [len(x) for x in here] == [1, 1] else None)
    f["triphasic"] = len(rows) >= 2 and None not in rows
    rows = rows if f["triphasic"] else []
    for i, (one, other) in enumerate((("abpd", "lp"), ("lp", "py"))):
        gap = mean([row[i + 1][0] - row[i][1] for row in rows if row[i][4]])
        f[f"gap_{one}_{other}_ms"], f[f"phase_gap_{one}_{other}"] = gap, gap / period
        delay = mean([row[i + 1][0] - row[0][0] for row in rows])
        f[f"delay_abpd_{other}_ms"], f[f"phase_start_{other}"] = delay, delay / period
        f[f"phase_end_{other}"] = (delay + f[f"burst_duration_{other}_ms"]) / period
    order = f["phase_start_lp"] < f["phase_start_py"] and f["phase_end_lp"] < f["phase_end_py"]
    f["pyloric_like"] = f["periodic"] and f["triphasic"] and order and f["gap_abpd_lp_ms"] > 0
    met = sum(c.low <= f[c.column] <= c.high for c in CRITERIA)
    f["pyloric"] = f["pyloric_like"] and met == len(CRITERIA)
    return f | {"n_criteria_met": met if period > 0 else nan}


def circuit(rng, stop):
    """Bursts, doublets and single spikes, most with the same period; jittered, some cut short."""
    cells, period = [], rng.choice([*rng.uniform(30, [500, 2500]), *rng.normal(1500, 200, 2)])
    for phase, duty in ((0.4, 0.4), (0.93, 0.28), (1.16, 0.37)):
        period = rng.choice([period] * 7 + [rng.uniform(30, 600)])
        n, jitter = rng.choice([1, 2, 3, 7, 12]), rng.choice([0, 0, 0.002, 0.02, 0.1, 0.5])
        isi = np.full((int(2 * stop / period) + 1, n), duty * period / n)
        isi[:, -1] = period - isi[:, 1:].sum(axis=1)
        isi *= rng.normal(1, jitter, isi.shape).clip(0.05)
        t = np.cumsum(isi) - isi[0, 0] + (phase - 1 + rng.normal(0, 0.03)) * period
        cells.append(t[(t >= 0) & (t < stop * rng.choice([1, 1, 1, 1, rng.random()]))].tolist())
    return cells


@pytest.mark.parametrize("stop", [3000.0, 5000.0, 10_000.0])
def test_both_agree(stop):
    rng = np.random.default_rng(int(stop))
    circuits = [circuit(rng, stop) for _ in range(400)]
    expected = pd.DataFrame([rhythm(cells, 0.0, stop) for cells in circuits])
    got = features_from_spikes(circuits, window_ms=(0, stop)).to_dataframe()[[*expected]]
    pd.testing.assert_frame_equal(got, expected, False, check_names=False, rtol=1e-5, atol=1e-3)
