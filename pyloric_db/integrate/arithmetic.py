"""Exponentials and logarithms for the inner loop.

XLA's float32 exponential is exact to the last bit or so and takes a third of a step. Ours is
a degree-5 polynomial on [-1/2, 1/2] times a power of two made by integer arithmetic, with a
relative error of 4e-7, and it gives 1 - exp(-x) without cancellation. (Degree 4, an error of 3e-6,
would be 8% faster, but moves spikes by 0.1 ms within a second.) The logarithm is a polynomial
too, so that XLA fuses it into its users instead of giving it a loop of its own. A test holds
both to their errors. float64 uses XLA's own functions.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

LOG2_E = 1.4426950408889634


# 2**f - 1 = f * (c_1 + c_2 f + ... + c_5 f**4) on [-1/2, 1/2], fitted for the least relative
# error at Chebyshev points; the constant term is exactly 1, so that 2**0 is exactly 1.
_POINTS = 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
_COEFFICIENTS = np.linalg.lstsq(
    np.stack([_POINTS**k for k in range(1, 6)], axis=1) / (2**_POINTS)[:, None],
    (2**_POINTS - 1) / 2**_POINTS,
    rcond=None,
)[0].astype(np.float32)
#: Added to y, it leaves the nearest whole number in the low bits: 1.5 * 2**23.
_ROUND = np.float32(12582912.0)

# log(1 + f) = f * (1 + c_1 f + ... + c_8 f**8) on [sqrt(1/2) - 1, sqrt(2) - 1]
_F = (2**0.5 - 2**-0.5) / 2 * np.cos(np.pi * (np.arange(400) + 0.5) / 400) + (
    (2**0.5 + 2**-0.5) / 2 - 1
)
_LOG_COEFFICIENTS = np.linalg.lstsq(
    np.stack([_F**k for k in range(1, 9)], axis=1), np.log1p(_F) / _F - 1, rcond=None
)[0]


def _power_of_two(y: Any) -> tuple[Any, Any]:
    """2**y as (n, q) with 2**y = 2**n * (1 + q), n the nearest whole number; |y| < 126."""
    # quicker than to round and convert. XLA must not know the constant: it would merge it with
    # one that was added before, and so round that one, too
    rounded = y + lax.optimization_barrier(_ROUND)
    n = lax.bitcast_convert_type(rounded, jnp.int32) - _ROUND.view(np.int32)
    f = y - n.astype(jnp.float32)
    q: Any = _COEFFICIENTS[-1]
    for c in _COEFFICIENTS[-2::-1]:
        q = q * f + c
    return n, q * f


def _natural_log(x: Any) -> Any:
    """log(x) of a normal positive float32."""
    # move the mantissa's split from 1 to sqrt(1/2), so that log(x) near x = 1 does not cancel
    bits = lax.bitcast_convert_type(x, jnp.int32) - np.float32(2**-0.5).view(np.int32)
    n = bits >> 23
    mantissa = (bits & 0x7FFFFF) + np.float32(2**-0.5).view(np.int32)
    f = lax.bitcast_convert_type(mantissa, jnp.float32) - 1
    p: Any = np.float32(_LOG_COEFFICIENTS[-1])
    for c in _LOG_COEFFICIENTS[-2::-1]:
        p = p * f + np.float32(c)
    return n.astype(jnp.float32) * np.float32(1 / LOG2_E) + (f + f * (p * f))


class Arithmetic:
    """exp, log and 1 - exp(-x) in one floating-point type.

    Args:
        dtype: float32 (fast polynomial) or float64 (XLA's functions).
    """

    def __init__(self, dtype: str):
        self.dtype = np.dtype(dtype)
        self._fast = self.dtype == np.float32

    def constant(self, value: Any) -> np.ndarray:
        """A constant of the computation, in its floating-point type."""
        return np.asarray(value, self.dtype)

    def boltzmann(self, V: Any) -> Any:
        """The function (V_half, slope) -> exp((V - V_half) / slope) at this V.

        Finite in float32 from -250 to 140 mV, beyond every reversal potential of the model.
        """

        def e(V_half: Any, slope: Any) -> Any:
            scale = 1 / np.asarray(slope, float)
            if self._fast:
                scale = scale * LOG2_E
            offset = -np.asarray(V_half, float) * scale
            x = V * self.constant(scale) + self.constant(offset)
            return self._exp2(x) if self._fast else jnp.exp(x)

        return e

    def _exp2(self, x: Any) -> Any:
        n, q = _power_of_two(x)
        bits = lax.bitcast_convert_type(1 + q, jnp.int32) + (n << 23)
        return lax.bitcast_convert_type(bits, jnp.float32)

    def log(self, x: Any) -> Any:
        """Natural logarithm of x > 0."""
        return _natural_log(x) if self._fast else jnp.log(x)

    def one_minus_exp(self, x: Any) -> Any:
        """1 - exp(-x) for x >= 0, to full relative precision at small x."""
        if not self._fast:
            return -jnp.expm1(-x)
        n, q = _power_of_two(jnp.maximum(x * np.float32(-LOG2_E), np.float32(-60.0)))
        power = lax.bitcast_convert_type((n + 127) << 23, jnp.float32)
        return (1 - power) - power * q


class GpuArithmetic(Arithmetic):
    """float32 by a GPU's special function units: 2**x and log are one instruction each.

    ex2.approx has a relative error of 2e-7, half that of the polynomial. 1 - exp(-x) stays a
    polynomial: 1 - ex2(-x) would cancel.
    """

    def __init__(self) -> None:
        super().__init__("float32")

    def log(self, x: Any) -> Any:
        return jnp.log(x)

    def _exp2(self, x: Any) -> Any:
        return jnp.exp2(x)
