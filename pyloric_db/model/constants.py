"""Biophysical constants of a cell and of its synapses, and how they depend on temperature."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from numbers import Integral, Real

from pyloric_db.errors import ConfigError, PyloricDBWarning
from pyloric_db.model.channels import PRINZ_CHANNELS, Channel, Gate, Sigmoid
from pyloric_db.vocabulary import CHANNELS, H_GATES, M_GATES, ChannelNames, check_channel_names

#: The temperature of the published conductances and time constants.
REFERENCE_TEMPERATURE_K = 283.0


@dataclass(frozen=True)
class Transmitter:
    """A chemical synapse's transmitter.

    s_inf = 1 / (1 + exp((V_pre - V_half) / slope)); tau_s = (1 - s_inf) / k_minus.

    Source: Abbott & Marder 1998; Prinz, Bucher & Marder 2004. k_minus is a rate, 1/ms.
    """

    name: str
    E_rev: float
    k_minus: float
    inf: Sigmoid = Sigmoid(-35.0, -5.0)


TRANSMITTERS = ("glutamate", "acetylcholine")
GLUTAMATE = Transmitter("glutamate", -70.0, 1 / 40)
ACETYLCHOLINE = Transmitter("acetylcholine", -80.0, 1 / 100)


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Every number of the model that is not a conductance.

    The Q10 factors scale a conductance, or speed up a time constant, by
    Q10 ** ((T - 283 K) / 10); at 283 K they have no effect. Their defaults of 1 leave
    everything but the calcium reversal potential unscaled.

    Attributes:
        area_cm2: membrane of a cell, cm2.
        C: capacitance, uF/cm2.
        f: calcium concentration per calcium current of the whole cell, uM/nA.
        Ca_rest: calcium that a cell without calcium current goes to, uM.
        Ca_out: calcium outside, uM.
        tau_Ca: time constant of the calcium buffer, ms.
        RT_2F: of the calcium reversal potential, RT_2F ln(Ca_out / Ca), at 283 K, mV.
        channels: those of `vocabulary.CHANNELS`, in order, and then any others
            (`model.channels.Channel`).
        transmitters: glutamate and acetylcholine (`Transmitter`).
        Q10_gbar: of the maximal conductances, one per channel; 1 for others than the eight where
            only those of the eight are given.
        Q10_gsyn: of the synapses' maximal conductances, by transmitter; 1 where not given.
        Q10_tau_m: of all activations.
        Q10_tau_h: of all inactivations.
        Q10_tau_Ca: of the calcium buffer.
        Q10_tau_s: of the synapses' k_minus, by transmitter; 1 where not given.

    Source: Prinz, Billimoria & Marder 2003 (cell); temperature as in Deistler, Macke &
    Goncalves 2022, PNAS 119:e2207632119.
    """

    area_cm2: float = 0.628e-3
    C: float = 1.0
    f: float = 14.96
    Ca_rest: float = 0.05
    Ca_out: float = 3000.0
    tau_Ca: float = 200.0
    RT_2F: float = 12.2
    channels: tuple[Channel, ...] = PRINZ_CHANNELS
    transmitters: tuple[Transmitter, ...] = (GLUTAMATE, ACETYLCHOLINE)
    Q10_gbar: tuple[float, ...] = (1.0,) * 8
    Q10_gsyn: dict[str, float] = field(default_factory=dict)
    Q10_tau_m: float = 1.0
    Q10_tau_h: float = 1.0
    Q10_tau_Ca: float = 1.0
    Q10_tau_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        positive: dict[str, object] = {
            f.name: getattr(self, f.name) for f in fields(self) if f.type is float
        }
        _check_channels(self.channels)
        # synapses name their transmitter
        if not isinstance(self.transmitters, tuple) or TRANSMITTERS != tuple(
            t.name if isinstance(t, Transmitter) else None for t in self.transmitters
        ):
            raise ConfigError(
                f"constant transmitters must be those of {', '.join(TRANSMITTERS)}, in order"
            )
        names = [t.name for t in self.transmitters]
        positive |= {f"k_minus of {t.name}": t.k_minus for t in self.transmitters}
        for name in ("Q10_gsyn", "Q10_tau_s"):
            factors = getattr(self, name)
            if not isinstance(factors, dict) or not set(factors) <= set(names):
                raise ConfigError(
                    f"constant {name} must map transmitters ({', '.join(names)}) to factors, "
                    f"not {factors!r}"
                )
            positive |= {f"{name}[{key!r}]": factor for key, factor in factors.items()}
        n = len(self.channels)
        if not isinstance(self.Q10_gbar, Sequence) or len(self.Q10_gbar) not in (n, len(CHANNELS)):
            raise ConfigError(
                f"constant Q10_gbar must have {n} factors, one per channel in their order, "
                f"not {self.Q10_gbar!r}"
            )
        positive |= {f"Q10_gbar[{i}]": factor for i, factor in enumerate(self.Q10_gbar)}
        for name, value in positive.items():
            if (
                isinstance(value, bool)
                or not isinstance(value, Real)
                or not 0 < float(value) < math.inf
            ):
                raise ConfigError(f"constant {name} must be a number above 0, not {value!r}")

    @property
    def Q10_of_channels(self) -> tuple[float, ...]:
        """The factor of each channel's maximal conductance."""
        return (*self.Q10_gbar, *(1.0,) * (len(self.channels) - len(self.Q10_gbar)))

    @cached_property
    def channel_names(self) -> ChannelNames:
        """Names of the channels, and of those among them that have an m and an h.

        The eight keep their places in a state, whichever gates a channel in their place has.
        """
        others = self.channels[len(CHANNELS) :]
        return ChannelNames(
            tuple(c.name for c in self.channels),
            M_GATES + tuple(c.name for c in others if c.m is not None),
            H_GATES + tuple(c.name for c in others if c.h is not None),
        )

    @property
    def know_temperature(self) -> bool:
        """Whether any Q10 factor scales anything."""
        single = {self.Q10_tau_m, self.Q10_tau_h, self.Q10_tau_Ca}
        return single.union(self.Q10_gbar, self.Q10_gsyn.values(), self.Q10_tau_s.values()) != {1}

    def __hash__(self) -> int:
        # the dicts are the only unhashable fields; equality still compares all fields
        return hash((self.area_cm2, self.C, self.f, self.tau_Ca, self.RT_2F, self.channels))


def _check_channels(channels: object) -> None:
    """ConfigError unless these are the eight in order, since conductances are taken by place, and
    others behind them, all of which can be integrated."""
    if (
        not isinstance(channels, tuple)
        or not all(isinstance(c, Channel) for c in channels)
        or tuple(c.name for c in channels[: len(CHANNELS)]) != CHANNELS
    ):
        raise ConfigError(
            f"constant channels must be a tuple that begins with {', '.join(CHANNELS)}, in order"
        )
    problem = check_channel_names([c.name for c in channels])
    if problem:
        raise ConfigError(f"channels: {problem}")
    for channel in channels:
        E_rev = channel.E_rev
        if E_rev is not None and (
            isinstance(E_rev, bool) or not isinstance(E_rev, Real) or not math.isfinite(E_rev)
        ):
            raise ConfigError(
                f"E_rev of channel {channel.name} must be a number of mV, or None for calcium's, "
                f"not {E_rev!r}"
            )
        if not isinstance(channel.power, Integral) or not 1 <= int(channel.power) <= 9:
            raise ConfigError(
                f"the power of channel {channel.name} must be a whole number from 1 "
                f"to 9, not {channel.power!r}"
            )
        for which, known in (("m", M_GATES), ("h", H_GATES)):
            gate = getattr(channel, which)
            if gate is None:
                continue
            if not isinstance(gate, Gate):
                raise ConfigError(f"{which} of channel {channel.name} must be a Gate, not {gate!r}")
            if channel.name in CHANNELS and channel.name not in known:
                raise ConfigError(
                    f"channel {channel.name} can have no gate {which}, which of the eight only "
                    f"{', '.join(known)} have"
                )
            problem = None if channel in PRINZ_CHANNELS else gate.problem()
            if problem:
                raise ConfigError(f"{which} of channel {channel.name} {problem}")


def warn_without_q10(constants: Constants, temperature_K: float) -> None:
    """Says it where a temperature changes next to nothing."""
    if temperature_K != REFERENCE_TEMPERATURE_K and not constants.know_temperature:
        warnings.warn(
            f"temperature_K {temperature_K:g} changes the calcium reversal potential alone, since "
            "all Q10 factors are 1: give yours among the constants",
            PyloricDBWarning,
            stacklevel=4,
        )


def q10(factor: float, temperature_K: float) -> float:
    """factor ** ((T - 283 K) / 10)."""
    return float(factor ** ((temperature_K - REFERENCE_TEMPERATURE_K) / 10))
