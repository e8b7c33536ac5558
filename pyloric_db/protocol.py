"""How a circuit is run and its rhythm analysed: one frozen, validated set of numbers."""

import math
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Literal, get_args

from pyloric_db.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Times, thresholds and tolerances of a run and of its analysis.

    A circuit runs in epochs of `epoch_ms`. From `min_ms` on, its spikes are looked at after every
    epoch, and it is done when its rhythm is settled (see `rhythm.settle`) or at `max_ms`.
    What comes before `transient_ms` is discarded, unless the rhythm settled from `early_ms` on.
    `min_ms = max_ms` gives a fixed protocol.

    Source: epochs of 1 s after 3 s are those of Prinz, Bucher & Marder 2004, Nat Neurosci
    7:1345; the decision rules are ours, and docs/validation.md says what each costs.
    """

    dt_ms: float = 0.05
    scheme: Literal["gates_first", "old_state"] = "gates_first"
    dtype: Literal["float32", "float64"] = "float32"
    temperature_K: float = 283.0  # scales by the Q10 factors of the constants
    initial: Literal["thermal", "cold"] = "thermal"
    transient_ms: float = 3_000.0
    early_ms: float = 1_000.0  # a rhythm that repeats from here on has no longer transient
    epoch_ms: float = 1_000.0
    min_ms: float = 2_000.0  # first decision, counted from the start of the run
    max_ms: float = 13_000.0  # end of the run, transient included
    silent_ms: float = 3_000.0  # a cell that has not fired for so long is silent for good
    rest_mV: float = 8.0  # and so is one whose voltage stays within this range (see `settled`) ...
    rest_ms: float = 1_000.0  # ... for so long
    settled_cv: float = 0.004  # spread of a cycle that is taken to repeat for good
    settled_cycles: int = 2
    spike_threshold_mV: float = 0.0
    max_burst_gap_ms: float = 500.0  # cap of the adaptive inter-burst threshold
    period_cv: float = 0.05  # spread of the period of a periodic rhythm
    #: where in its cycle a thermalised cell's state is taken; one for all, or one for each cell
    thermal_phase: float | tuple[float, ...] = 0.5
    thermal_max_ms: float = 120_000.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "thermal_phase":
                object.__setattr__(self, f.name, _phases(value))
            elif f.type is float:
                if isinstance(value, bool) or not isinstance(value, Real):
                    raise ConfigError(f"protocol {f.name} must be a number, not {value!r}")
                if not math.isfinite(value):
                    raise ConfigError(f"protocol {f.name} must be finite, not {value!r}")
                object.__setattr__(self, f.name, float(value))
            elif f.type is int:
                if isinstance(value, float) and value.is_integer():
                    value = int(value)  # a recipe's numbers are floats
                if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                    raise ConfigError(
                        f"protocol {f.name} must be a whole number from 2 on, not {value!r}"
                    )
                object.__setattr__(self, f.name, value)
            elif value not in get_args(f.type):
                raise ConfigError(
                    f"protocol {f.name} must be one of {', '.join(get_args(f.type))}, not {value!r}"
                )
        if not 0 < self.dt_ms <= 0.2:
            raise ConfigError(
                f"protocol dt_ms must be above 0 and at most 0.2 ms, not {self.dt_ms:g}"
            )
        if not 200 < self.temperature_K < 400:
            raise ConfigError(
                f"protocol temperature_K must be between 200 and 400 K, not {self.temperature_K:g}"
            )
        for name in (
            "epoch_ms",
            "silent_ms",
            "rest_mV",
            "rest_ms",
            "settled_cv",
            "period_cv",
            "max_burst_gap_ms",
            "thermal_max_ms",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"protocol {name} must be above 0, not {getattr(self, name):g}")
        for name in ("transient_ms", "early_ms"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"protocol {name} must not be negative, not {getattr(self, name):g}"
                )
        for name in ("transient_ms", "min_ms", "max_ms"):
            epochs = getattr(self, name) / self.epoch_ms
            if abs(epochs - round(epochs)) > 1e-9:
                raise ConfigError(
                    f"protocol {name} ({getattr(self, name):g}) must be a multiple of "
                    f"epoch_ms ({self.epoch_ms:g})"
                )
        if not 0 < self.min_ms <= self.max_ms:
            raise ConfigError(
                "protocol times must satisfy 0 < min_ms <= max_ms, not "
                f"{self.min_ms:g} and {self.max_ms:g}"
            )
        if not self.transient_ms < self.max_ms:
            raise ConfigError(
                "protocol times must satisfy transient_ms < max_ms, not "
                f"{self.transient_ms:g} and {self.max_ms:g}"
            )

    def check_cells(self, n_cells: int) -> None:
        """ConfigError where `thermal_phase` has a number per cell, but not so many."""
        if isinstance(self.thermal_phase, tuple) and len(self.thermal_phase) != n_cells:
            raise ConfigError(
                f"protocol thermal_phase must be one number, or one for each of the {n_cells} "
                f"cells, not {len(self.thermal_phase)}"
            )


def _phases(value: Any) -> float | tuple[float, ...]:
    """A user's phase, or phases of cells."""
    phases = value if isinstance(value, list | tuple) else [value]
    for phase in phases:
        if isinstance(phase, bool) or not isinstance(phase, Real) or not 0 <= float(phase) < 1:
            raise ConfigError(
                f"protocol thermal_phase must be from 0 up to (not with) 1, not {phase!r}"
            )
    found = tuple(float(phase) for phase in phases)
    return found if isinstance(value, list | tuple) else found[0]
