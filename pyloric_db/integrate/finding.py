"""Spikes and voltage statistics, found inside the loop from samples of the voltage."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from pyloric_db.integrate.arithmetic import Arithmetic

#: Of an epoch: the spikes of (circuit, cell) pairs one after the other, ms from its start; their
#: number (batch, cell); and whether one was in a slot with another (batch,).
Spikes = tuple[np.ndarray, np.ndarray, np.ndarray]


#: Voltages are summed from here: a sum of ten thousand times -50 mV is rounded by as much as the
#: voltage of a cell at rest, always in the same direction.
OFFSET_mV = -50.0

#: What a second difference of V in float32 may be by rounding: a few units in the last place.
ROUNDING_mV = 2e-5


def start_finding(V_0: Any, V: Any) -> Any:
    """What `spike_finder` keeps, at the start of an epoch; V_0 is V one sample earlier."""
    return jnp.stack([V_0, V, V + jnp.inf, V - jnp.inf, V * 0, V * jnp.nan])


def spike_finder(
    arithmetic: Arithmetic, *, sample_ms: float, threshold_mV: float, samples: int
) -> Callable[[Any, Any, Any, Any], Any]:
    """The function (slot, sample, V, found) -> found that takes the next sample of V.

    `found` (6, cell, batch) is the last two samples, lowest, highest and summed V since the
    epoch's start, and the time of the slot's spike: NaN for none, +inf for more than one.
    """
    f = arithmetic.constant

    def look(j: Any, k: Any, V_2: Any, found: Any) -> Any:
        V_0, V_1, low, high, total, spike_ms = found
        spike_ms = jnp.where(k == 0, jnp.nan, spike_ms)
        spike, vertex = _find_maxima(f, V_0, V_1, V_2, threshold_mV)
        time = ((j * samples + k).astype(V_1.dtype) + vertex) * f(sample_ms)
        time = jnp.where(jnp.isnan(spike_ms), time, jnp.inf)
        return jnp.stack(
            [
                V_1,
                V_2,
                jnp.minimum(low, V_2),
                jnp.maximum(high, V_2),
                total + (V_2 - f(OFFSET_mV)),
                jnp.where(spike, time, spike_ms),
            ]
        )

    return look


def _find_maxima(
    f: Callable[[float], Any], V_0: Any, V_1: Any, V_2: Any, threshold_mV: float
) -> tuple[Any, Any]:
    """Whether the middle of three samples is a maximum above threshold, and its time.

    One that rises above its neighbours by no more than rounding is none: a cell may rest on a
    plateau above the threshold.

    Returns:
        mask, and the parabola's vertex in samples from the middle one (-1/2 ... 1/2).
    """
    curvature = V_0 - 2 * V_1 + V_2
    slope = 0.5 * (V_2 - V_0)
    is_maximum = (V_1 >= V_0) & (V_1 > V_2) & (-curvature > f(ROUNDING_mV))
    vertex = jnp.where(is_maximum, -slope / jnp.where(is_maximum, curvature, -1), 0)
    height = V_1 + 0.5 * slope * vertex
    return is_maximum & (height > f(threshold_mV)), vertex


def spikes_of_slots(slots: np.ndarray) -> Spikes:
    """The spikes in the slots (slot, cell, batch) of an epoch."""
    _, n_cells, n = slots.shape
    flat = slots.reshape(-1)
    at = np.flatnonzero(flat == flat)  # few are not NaN
    times = flat[at]
    cell, circuit = np.divmod(at % (n_cells * n), n)
    segment = circuit * n_cells + cell
    # they stand in the order of their slots; NumPy sorts numbers of 16 bits many times as fast
    narrow = segment.astype(np.uint16) if n_cells * n <= 2**16 else segment
    n_spikes = np.bincount(segment, minlength=n_cells * n).reshape(n, n_cells)
    crowded = np.zeros(n, bool)
    crowded[circuit[np.isinf(times)]] = True
    return times[np.argsort(narrow, kind="stable")], n_spikes, crowded
