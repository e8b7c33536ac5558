"""Features to labels: periodic, triphasic, pyloric-like, pyloric."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.spikes import Bools, Floats
from pyloric_db.vocabulary import CRITERIA


def periodic(period_cv: Floats, protocol: Protocol) -> Bools:
    """The first cell bursts with a period that repeats; all (circuit,).

    Its coefficient of variation is at most `protocol.period_cv`. A cell that is not bursting, or
    has fewer than two cycles, has no period, its `period_cv` is NaN, and it is not periodic.
    """
    return np.asarray(period_cv <= protocol.period_cv)


def in_pyloric_order(features: Mapping[str, NDArray[np.float64]]) -> Bools:
    """LP starts before PY starts and ends before PY ends, AB/PD ends before LP starts.

    On means over cycles; False where one of them is null.
    """
    return np.asarray(
        (features["delay_abpd_lp_ms"] < features["delay_abpd_py_ms"])
        & (features["phase_end_lp"] < features["phase_end_py"])
        & (features["gap_abpd_lp_ms"] > 0)
    )


def criteria_met(features: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float32]:
    """How many of the fifteen features are within mean ± 2 SD (circuit,).

    A null feature is not met. NaN where there is no period: without a cycle nothing can be asked.
    """
    met = sum(
        ((features[c.column] >= c.low) & (features[c.column] <= c.high)).astype(np.float32)
        for c in CRITERIA
    )
    return np.where(np.isnan(features["period_ms"]), np.float32(np.nan), met)
