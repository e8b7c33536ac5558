"""The polynomial exponential and logarithm against float64."""

import numpy as np
import pytest

from pyloric_db.integrate.arithmetic import Arithmetic, _power_of_two

FAST = Arithmetic("float32")
EXACT = Arithmetic("float64")


def relative(found, wanted):
    return np.max(np.abs(np.asarray(found, float) - wanted) / np.abs(wanted))


def test_power_of_two():
    y = np.random.default_rng(0).uniform(-125, 125, 200_000).astype(np.float32)
    n, q = (np.asarray(a, float) for a in _power_of_two(y))
    assert np.abs(y - n).max() <= 0.5
    assert relative(2.0**n * (1 + q), 2.0 ** y.astype(float)) < 4e-7
    n, q = _power_of_two(np.float32(0))
    assert int(n) == 0 and float(q) == 0.0


def test_boltzmann():
    # the exponent's own rounding (6e-8 of up to 40) adds to the polynomial's error
    V = np.linspace(-150, 75, 100_001).astype(np.float32)
    for V_half, slope in ((-25.5, -5.29), (-75.0, 5.5), (-120.0, -25.0), (-34.9, 3.6)):
        wanted = np.exp((V.astype(float) - V_half) / slope)
        exponent = np.abs(np.log(wanted)) + 50 / abs(slope)
        error = np.abs(np.asarray(FAST.boltzmann(V)(V_half, slope), float) / wanted - 1)
        assert np.max(error / (4e-7 + 1.5e-7 * exponent)) < 1


@pytest.mark.parametrize("V", [np.nan, np.inf])
def test_boltzmann_of_a_run_that_failed_is_not_finite(V):
    assert not np.isfinite(FAST.boltzmann(np.float32(V))(-25.5, 5.29))


def test_log():
    rng = np.random.default_rng(1)
    x = np.exp(rng.uniform(-10, 12, 200_000)).astype(np.float32)
    assert np.max(np.abs(np.asarray(FAST.log(x), float) - np.log(x.astype(float)))) < 2e-6
    near_one = (1 + rng.uniform(-1e-3, 1e-3, 10_000)).astype(np.float32)
    near_one = near_one[near_one != 1]
    assert relative(FAST.log(near_one), np.log(near_one.astype(float))) < 5e-7
    assert float(FAST.log(np.float32(1))) == 0.0


def test_one_minus_exp():
    x = np.exp(np.random.default_rng(2).uniform(np.log(1e-12), np.log(30), 200_000))
    x = x.astype(np.float32)
    assert relative(FAST.one_minus_exp(x), -np.expm1(-x.astype(float))) < 1.5e-6
    extremes = np.array([0.0, 60.0, 1e6, 1e30, np.inf], np.float32)
    np.testing.assert_array_equal(np.asarray(FAST.one_minus_exp(extremes)), [0, 1, 1, 1, 1])


@pytest.mark.parametrize("ops", [FAST, EXACT], ids=["float32", "float64"])
def test_constants_keep_the_type(ops):
    assert ops.constant(0.1).dtype == ops.dtype
