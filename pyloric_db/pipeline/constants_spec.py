"""The `[constants]` of a recipe: numbers of the model, and channels."""

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pyloric_db.errors import ConfigError, DatabaseError, nearest
from pyloric_db.model.channels import (
    PRINZ_CHANNELS,
    BellTau,
    Channel,
    Gate,
    ProductTau,
    Sigmoid,
    SigmoidTau,
)
from pyloric_db.model.constants import ACETYLCHOLINE, GLUTAMATE, TRANSMITTERS, Constants
from pyloric_db.pipeline.toml_files import Table
from pyloric_db.vocabulary import CHANNELS

if TYPE_CHECKING:
    from pyloric_db.query.database import Database
    from pyloric_db.store.manifest import Manifest

Factor = Annotated[float, Field(gt=0)]
_LOWEST_mV, _HIGHEST_mV = -200, 100
Potential = Annotated[float, Field(ge=_LOWEST_mV, le=_HIGHEST_mV)]

#: Shapes of time constants, told apart by their keys.
_TAUS = {frozenset(f.name for f in fields(t)): t for t in (SigmoidTau, BellTau, ProductTau)}


class GateSpec(Table):
    """A gate's steady state, 1 / (1 + exp((V - V_half) / slope)), mV, and its time constant, ms.

    `tau` is a number, or the constants of one of the shapes in `model.channels`. With `half_Ca_uM`
    the steady state is multiplied by [Ca] / ([Ca] + half_Ca_uM).
    """

    V_half: float
    slope: float
    tau: float | dict[str, float]
    half_Ca_uM: float | None = None

    @field_validator("tau")
    @classmethod
    def _shape(cls, tau: Any) -> Any:
        if isinstance(tau, dict) and frozenset(tau) not in _TAUS:
            shapes = (", ".join(f.name for f in fields(t)) for t in _TAUS.values())
            raise ValueError(f"give a number of ms, or the constants {'; or '.join(shapes)}")
        return tau

    def gate(self) -> Gate:
        if isinstance(self.tau, dict):
            tau = _TAUS[frozenset(self.tau)](**self.tau)
        else:
            tau = SigmoidTau(self.tau, 0.0, 0.0, 100.0)
        return Gate(Sigmoid(self.V_half, self.slope), tau, self.half_Ca_uM)


class ChannelSpec(Table):
    """A channel beside the eight, or kinetics in place of those of one of them.

    Its current is gbar m^power h (V - E_rev); with `E_rev = "Ca"` it is calcium's.
    """

    name: str
    E_rev: Potential | Literal["Ca"]
    power: int = 1
    m: GateSpec | None = None
    h: GateSpec | None = None

    @field_validator("E_rev", mode="before")
    @classmethod
    def _potential(cls, E_rev: Any) -> Any:
        number = isinstance(E_rev, int | float) and not isinstance(E_rev, bool)
        if E_rev != "Ca" and not (number and _LOWEST_mV <= E_rev <= _HIGHEST_mV):
            raise ValueError(
                f"give a number from {_LOWEST_mV} to {_HIGHEST_mV} mV, or 'Ca', not {E_rev!r}"
            )
        return E_rev

    @model_validator(mode="after")
    def _whole(self) -> "ChannelSpec":
        published = {c.name: c for c in PRINZ_CHANNELS}.get(self.name)
        for which in ("m", "h"):
            if getattr(published, which, None) is not None and getattr(self, which) is None:
                raise ValueError(
                    f"{self.name} has no gate {which}: what takes the place of one of the eight "
                    "must have all gates of it"
                )
        return self

    def channel(self) -> Channel:
        m, h = (None if gate is None else gate.gate() for gate in (self.m, self.h))
        return Channel(self.name, None if self.E_rev == "Ca" else self.E_rev, self.power, m, h)


class ConstantsSpec(Table):
    """Numbers of the model that are to differ from the published ones, see `Constants`.

    Q10 factors of conductances are by channel (`Q10_gbar`) and by transmitter (`Q10_gsyn`), those
    of synaptic rates by transmitter (`Q10_tau_s`); so are reversal potentials, mV (`E_rev`), and
    rates of unbinding, 1/ms (`k_minus`).
    """

    channels: Annotated[tuple[ChannelSpec, ...], Field(strict=False)] | None = None
    area_cm2: Factor | None = None
    C: Factor | None = None
    f: Factor | None = None
    Ca_rest: Factor | None = None
    Ca_out: Factor | None = None
    tau_Ca: Factor | None = None
    RT_2F: Factor | None = None
    E_rev: dict[str, Potential] | None = None
    k_minus: dict[str, Factor] | None = None
    Q10_gbar: dict[str, Factor] | None = None
    Q10_gsyn: dict[str, Factor] | None = None
    Q10_tau_m: Factor | None = None
    Q10_tau_h: Factor | None = None
    Q10_tau_Ca: Factor | None = None
    Q10_tau_s: dict[str, Factor] | None = None

    @field_validator("Q10_gbar", "Q10_gsyn", "Q10_tau_s", "E_rev", "k_minus")
    @classmethod
    def _known(cls, factors: dict[str, float] | None, info: ValidationInfo) -> Any:
        what, names = "transmitter", TRANSMITTERS
        if info.field_name == "Q10_gbar":
            others = info.data.get("channels") or ()
            what, names = "channel", (*CHANNELS, *(c.name for c in others))
        for name in factors or ():
            if name not in names:
                raise ValueError(f"{name!r} is no {what}{nearest(name, names)}")
        return factors

    @model_validator(mode="after")
    def _can_be(self) -> "ConstantsSpec":
        names = [c.name for c in self.channels or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the channel {name} is listed twice")
        self.constants()
        return self

    def constants(self) -> Constants:
        given = self.model_dump(exclude_none=True, exclude={"channels"})
        channels = {c.name: c for c in PRINZ_CHANNELS}
        channels |= {spec.name: spec.channel() for spec in self.channels or ()}
        by_channel = given.pop("Q10_gbar", {})
        E_rev, k_minus = given.pop("E_rev", {}), given.pop("k_minus", {})
        transmitters = tuple(
            replace(t, E_rev=E_rev.get(t.name, t.E_rev), k_minus=k_minus.get(t.name, t.k_minus))
            for t in (GLUTAMATE, ACETYLCHOLINE)
        )
        return Constants(
            channels=tuple(channels.values()),
            Q10_gbar=tuple(by_channel.get(c, 1.0) for c in channels),
            transmitters=transmitters,
            **given,
        )


def constants_of(database: "Database | Manifest") -> Constants:
    """The constants of a database's circuits, as `simulate` and `classify` take them.

    Raises:
        DatabaseError: its recipe has some that are not valid.
    """
    manifest: Any = getattr(database, "manifest", database)
    try:
        given = json.dumps(manifest.recipe.get("constants", {}))
        return ConstantsSpec.model_validate_json(given).constants()
    except (ConfigError, ValueError) as err:
        raise DatabaseError(f"the recipe in {manifest.name} has no valid constants") from err
