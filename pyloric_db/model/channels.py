"""Membrane channels as tables: steady states and time constants of every gate.

Every gate relaxes to a sigmoid of the membrane potential with a time constant of one of three
shapes. Both are kept as tables of constants whose methods take one function, `e`, that gives
exp((V - V_half) / slope) at the present voltage. The plain equations pass NumPy's exponential;
the engine passes its own and stacks the tables of like-shaped gates into arrays, so no
equation is written twice. Each time constant is a ratio of two linear functions of one
quantity, which lets the engine fold constants.

Source: kinetics of Liu, Golowasch, Marder & Abbott 1998, J Neurosci 18:2309, as modified by
Prinz, Billimoria & Marder 2003, J Neurophysiol 90:3998, table 1. Units: mV, ms.
"""

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass
from numbers import Real
from typing import Any

import numpy as np

#: Voltages between which a gate must be computable, mV: cells stay within them.
LIVED_mV = (-150.0, 100.0)
#: exp((V - V_half) / slope) at the present V; arrays or tracers of V's shape.
Boltzmann = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Rate:
    """1/tau = (over[0] + over[1] * E) / (under[0] + under[1] * E), per ms."""

    E: Any
    over: tuple[Any, Any]
    under: tuple[Any, Any]


@dataclass(frozen=True)
class Sigmoid:
    """1 / (1 + exp((V - V_half) / slope)); an activation has a negative slope. Units: mV."""

    V_half: Any
    slope: Any

    def denominator(self, e: Boltzmann) -> Any:
        """1 / (steady state), dimensionless."""
        return 1 + e(self.V_half, self.slope)


@dataclass(frozen=True)
class SigmoidTau:
    """tau = base - drop / (1 + exp((V - V_half) / slope)), ms."""

    base: Any
    drop: Any
    V_half: Any
    slope: Any

    def rate(self, e: Boltzmann) -> Rate:
        E = e(self.V_half, self.slope)
        return Rate(E, (1, 1), (self.base - self.drop, self.base))


@dataclass(frozen=True)
class BellTau:
    """tau = base + scale / (exp((V - V_1) / slope_1) + exp((V - V_2) / slope_2)), ms."""

    base: Any
    scale: Any
    V_1: Any
    slope_1: Any
    V_2: Any
    slope_2: Any

    def rate(self, e: Boltzmann) -> Rate:
        E = e(self.V_1, self.slope_1) + e(self.V_2, self.slope_2)
        return Rate(E, (0, 1), (self.scale, self.base))


@dataclass(frozen=True)
class ProductTau:
    """A product of two sigmoids, ms.

    tau = scale / (1 + exp((V - V_1) / slope_1)) * (offset + 1 / (1 + exp((V - V_2) / slope_2)))
    """

    scale: Any
    V_1: Any
    slope_1: Any
    offset: Any
    V_2: Any
    slope_2: Any

    def rate(self, e: Boltzmann) -> Rate:
        # the inner division stays: the product of both exponentials would overflow float32
        inner = self.offset + 1 / (1 + e(self.V_2, self.slope_2))
        return Rate(e(self.V_1, self.slope_1), (1 / self.scale, 1 / self.scale), (inner, 0))


Tau = SigmoidTau | BellTau | ProductTau


@dataclass(frozen=True)
class Gate:
    """One gating variable x: dx/dt = (x_inf - x) / tau.

    With `half_Ca_uM`, x_inf is multiplied by [Ca] / ([Ca] + half_Ca_uM).
    """

    inf: Sigmoid
    tau: Tau
    half_Ca_uM: float | None = None

    def problem(self) -> str | None:
        """Why it cannot be integrated in float32, as the end of a sentence; None if it can."""
        if not isinstance(self.inf, Sigmoid) or not isinstance(self.tau, Tau):
            return "must be a Gate of a Sigmoid and a SigmoidTau, BellTau or ProductTau"
        half_Ca = 1.0 if self.half_Ca_uM is None else self.half_Ca_uM
        for x in (*astuple(self.inf), *astuple(self.tau), half_Ca):
            if isinstance(x, bool) or not isinstance(x, Real) or not math.isfinite(x):
                return f"must have finite numbers, not {x!r}"
        if not 0 < half_Ca < 1e30:
            return f"must have a half_Ca_uM above 0 and below 1e30, not {half_Ca!r}"
        shape = type(self.tau)
        divisors = [x for t in (self.inf, self.tau) for k, x in vars(t).items() if "slope" in k]
        if isinstance(self.tau, ProductTau):
            divisors.append(self.tau.scale)
        if 0 in divisors:
            return "must have no slope, and in a product of sigmoids no scale, of 0"
        V = np.linspace(*LIVED_mV, 401)
        with np.errstate(all="ignore"):

            def e(V_half: float, slope: float) -> Any:
                return np.exp((V - V_half) / np.float64(slope))

            rate = shape(*map(np.float64, astuple(self.tau))).rate(e)
            over, under = (a + b * rate.E for a, b in (rate.over, rate.under))
            tau, largest = under / over, self.inf.denominator(e) * (over + under) ** 2
        wrong = ~((tau >= 0) & (tau < 1e9))
        if wrong.any():
            i = int(np.argmax(wrong))
            return (
                f"has a time constant of {tau[i]:.3g} ms at {V[i]:g} mV; it must be from 0, which "
                "follows the voltage at once, to 1e9"
            )
        # what a step multiplies, see `integrate.step`
        if not (largest < 1e37).all():
            return (
                f"is too steep: between {LIVED_mV[0]:g} and {LIVED_mV[1]:g} mV no exponent may "
                "go far beyond 40: make its slopes larger"
            )
        return None


@dataclass(frozen=True)
class Channel:
    """A membrane current g * m^power * h * (V - E_rev).

    `E_rev` is in mV; None stands for the calcium reversal potential, which is computed, and says
    that the current is calcium and fills the cell with it: a calcium channel with a number here
    carries charge alone. A channel without gates is a leak.
    """

    name: str
    E_rev: float | None
    power: int = 1
    m: Gate | None = None
    h: Gate | None = None


#: P03 table 1, in the order of `vocabulary.CHANNELS`.
PRINZ_CHANNELS = (
    Channel(
        "Na", 50.0, 3,
        m=Gate(Sigmoid(-25.5, -5.29), SigmoidTau(2.64, 2.52, -120.0, -25.0)),
        h=Gate(Sigmoid(-48.9, 5.18), ProductTau(1.34, -62.9, -10.0, 1.5, -34.9, 3.6)),
    ),
    Channel(
        "CaT", None, 3,
        m=Gate(Sigmoid(-27.1, -7.2), SigmoidTau(43.4, 42.6, -68.1, -20.5)),
        h=Gate(Sigmoid(-32.1, 5.5), SigmoidTau(210.0, 179.6, -55.0, -16.9)),
    ),
    Channel(
        "CaS", None, 3,
        m=Gate(Sigmoid(-33.0, -8.1), BellTau(2.8, 14.0, -27.0, 10.0, -70.0, -13.0)),
        h=Gate(Sigmoid(-60.0, 6.2), BellTau(120.0, 300.0, -55.0, 9.0, -65.0, -16.0)),
    ),
    Channel(
        "A", -80.0, 3,
        m=Gate(Sigmoid(-27.2, -8.7), SigmoidTau(23.2, 20.8, -32.9, -15.2)),
        h=Gate(Sigmoid(-56.9, 4.9), SigmoidTau(77.2, 58.4, -38.9, -26.5)),
    ),
    Channel(
        "KCa", -80.0, 4,
        m=Gate(Sigmoid(-28.3, -12.6), SigmoidTau(180.6, 150.2, -46.0, -22.7), half_Ca_uM=3.0),
    ),
    # tau_m of Kd is 14.4 - 12.8/(...) in P03 but 7.2 - 6.4/(...) in L98
    Channel(
        "Kd", -80.0, 4,
        m=Gate(Sigmoid(-12.3, -11.8), SigmoidTau(14.4, 12.8, -28.3, -19.2)),
    ),
    Channel(
        "H", -20.0, 1,
        m=Gate(Sigmoid(-75.0, 5.5), BellTau(0.0, 2.0, -169.7, -11.6, 26.7, 14.3)),
    ),
    Channel("leak", -50.0),
)  # fmt: skip
