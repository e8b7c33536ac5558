"""Recipes: a TOML file that says which circuits a database holds and how they are run."""

import hashlib
import json
from dataclasses import fields
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pyloric_db.errors import ConfigError, DatabaseError, nearest
from pyloric_db.model.cells import PUBLISHED_CELLS, cell_gbar
from pyloric_db.model.circuit import PRINZ2004, Circuit, GapJunction, Source, Synapse
from pyloric_db.model.constants import Constants
from pyloric_db.pipeline.constants_spec import ConstantsSpec
from pyloric_db.pipeline.toml_files import Table, packaged_texts, read_toml, sentence
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import check_pacemaker
from pyloric_db.store.parameters import gbar_column, synapse_column
from pyloric_db.vocabulary import CHANNELS, CONDUCTANCES

if TYPE_CHECKING:
    from pyloric_db.query.database import Database
    from pyloric_db.store.manifest import Manifest

PRESETS = {"prinz2004": PRINZ2004}

#: Engines hold conductances in float32, which ends at 3.4e38.
MOST_CONDUCTANCE = 1e30
Conductance = Annotated[float, Field(ge=0, le=MOST_CONDUCTANCE, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


#: Columns of answers, and labels, beside which a cell of that name could not be told.
_TAKEN = (
    "selected", "all", "lower", "combination", "distance", "rhythm", "netcode",
    "pyloric", "pyloric_like", "triphasic",
)  # fmt: skip


class CellSpec(Table):
    name: Name


class SynapseSpec(Table):
    """A chemical synapse; `pre` and `post` are cells."""

    pre: Name
    post: Name
    transmitter: Literal["glutamate", "acetylcholine"]


class GapJunctionSpec(Table):
    cells: tuple[Name, Name] = Field(strict=False)


class CircuitSpec(Table):
    """A preset, or lists of cells, synapses and gap junctions."""

    preset: Literal["prinz2004"] | None = None
    cells: tuple[CellSpec, ...] = Field((), strict=False)
    synapses: tuple[SynapseSpec, ...] = Field((), strict=False)
    gap_junctions: tuple[GapJunctionSpec, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _one_of(self) -> "CircuitSpec":
        if (self.preset is None) == (not self.cells):
            raise ValueError("give either preset or [[circuit.cells]]")
        if self.preset is not None and (self.synapses or self.gap_junctions):
            raise ValueError(
                "a preset comes with its synapses: for others give [[circuit.cells]] in its place"
            )
        for cell in self.cells:
            if iskeyword(cell.name) or cell.name in _TAKEN or cell.name.startswith(CONDUCTANCES):
                raise ValueError(
                    f"a cell must not be called {cell.name!r}, which is a word of queries, "
                    "statistics or labels"
                )
        return self

    def circuit(self) -> Circuit:
        """The topology. A cell with two transmitters has two sources, `<cell>_<transmitter>`."""
        if self.preset is not None:
            return PRESETS[self.preset]
        released: dict[str, list[str]] = {}
        for s in self.synapses:
            if s.transmitter not in released.setdefault(s.pre, []):
                released[s.pre].append(s.transmitter)

        def source(pre: str, transmitter: str) -> str:
            return pre if len(released[pre]) == 1 else f"{pre}_{transmitter}"

        return Circuit(
            cells=tuple(c.name for c in self.cells),
            sources=tuple(
                Source(source(pre, t), pre, t) for pre, ts in released.items() for t in ts
            ),
            synapses=tuple(Synapse(source(s.pre, s.transmitter), s.post) for s in self.synapses),
            gap_junctions=tuple(GapJunction(*g.cells) for g in self.gap_junctions),
        )


#: A published cell by name, or its conductances by channel, mS/cm2 (a missing one is 0).
CellValue = str | dict[str, Conductance]
Choice = Annotated[tuple[Conductance | str, ...], Field(strict=False, min_length=1)]
Range = Annotated[tuple[Conductance, Conductance], Field(strict=False)]


class Distribution(Table):
    """Exactly one of: uniform = [low, high], log_uniform = [low, high], choice = [...]."""

    uniform: Range | None = None
    log_uniform: Range | None = None
    choice: Choice | None = None

    @field_validator("uniform", "log_uniform", mode="before")
    @classmethod
    def _two_ends(cls, ends: Any) -> Any:
        if isinstance(ends, list | tuple) and len(ends) != 2:
            raise ValueError(f"give two numbers, [low, high], not {list(ends)!r}")
        return ends

    @field_validator("choice", mode="before")
    @classmethod
    def _numbers_or_names(cls, options: Any) -> Any:
        for option in options if isinstance(options, list | tuple) else ():
            if isinstance(option, list | tuple | dict):
                raise ValueError(
                    f"list numbers, or names of published cells such as 'LP 1', not {option!r}"
                )
        return options

    @model_validator(mode="after")
    def _one_of(self) -> "Distribution":
        given = [k for k, v in self if v is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of uniform, log_uniform and choice")
        bounds = self.uniform or self.log_uniform
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"the low end must be below the high end, not {list(bounds)}")
        if self.log_uniform is not None and self.log_uniform[0] <= 0:
            raise ValueError("a log_uniform range must begin above 0")
        return self


class PriorSpec(Table):
    """Independent draws; `parameters` maps a column or cell to a distribution or a fixed value."""

    # ids are folded into the random key as 32 bits
    count: int = Field(ge=1, le=2**32)
    seed: int = Field(0, ge=0, lt=2**63)
    parameters: dict[str, Distribution | Conductance | str]


class TableSpec(Table):
    """A CSV or Parquet file with one row per circuit and parameter columns."""

    path: str
    sha256: str | None = None


class ParametersSpec(Table):
    grid: (
        dict[str, Annotated[tuple[Conductance | CellValue, ...], Field(strict=False, min_length=1)]]
        | None
    ) = None
    prior: PriorSpec | None = None
    table: TableSpec | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "ParametersSpec":
        if sum(v is not None for v in (self.grid, self.prior, self.table)) != 1:
            raise ValueError("give exactly one of [parameters.grid], .prior and .table")
        return self


class SampleSpec(Table):
    """Take `count` circuits at random, without replacement, in place of all."""

    count: int = Field(ge=1)
    seed: int = Field(0, ge=0)


class StoreSpec(Table):
    """`shard_circuits`: circuits per shard at most, which is what a kill can lose per worker.

    `events`: whether the spikes of each circuit's last five periods are kept, see
    `Database.events`.
    """

    shard_circuits: int = Field(default=20_000, ge=1, le=1_000_000)
    events: Literal["none", "last_periods"] = "none"


class Recipe(Table):
    """What a database holds and how its circuits are run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    description: str = ""
    circuit: CircuitSpec
    parameters: ParametersSpec
    sample: SampleSpec | None = None
    protocol: dict[str, float | str | Annotated[tuple[float, ...], Field(strict=False)]] = {}
    constants: ConstantsSpec | None = None
    store: StoreSpec = StoreSpec()

    def run_protocol(self) -> Protocol:
        """The protocol; settings that the recipe does not name have their defaults."""
        return Protocol(**self.protocol)  # type: ignore[arg-type]

    def run_constants(self) -> Constants:
        """The model's numbers; those that the recipe does not name are the published ones."""
        return (self.constants or ConstantsSpec()).constants()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of its cells' channels."""
        return self.run_constants().channel_names.all

    def in_shards_of(self, circuits: int) -> "Recipe":
        """The same in shards of at most so many circuits."""
        store = self.store.model_copy(update={"shard_circuits": circuits})
        return self.model_copy(update={"store": store})

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        circuit = self.circuit.circuit()
        check_pacemaker(circuit.cells)
        protocol = self.run_protocol()
        protocol.check_cells(len(circuit.cells))
        steps = protocol.epoch_ms / protocol.dt_ms
        if abs(steps - round(steps)) > 1e-6 * steps:
            raise ValueError(
                f"protocol epoch_ms ({protocol.epoch_ms:g}) must be a multiple of "
                f"dt_ms ({protocol.dt_ms:g})"
            )
        grid, prior = self.parameters.grid, self.parameters.prior
        if self.parameters.table is None:
            given: dict[str, Any] = grid or (prior.parameters if prior else {})
            _check_names(list(given), circuit, self.channels)
            _put_in_order(given, parameter_names(circuit, self.channels))
        for axis, values in (grid or {}).items():
            for channel in [c for value in values if isinstance(value, dict) for c in value]:
                if axis in circuit.cells and gbar_column(axis, channel) in (grid or {}):
                    raise ValueError(
                        f"{axis} has a cell with {channel} = ..., and {gbar_column(axis, channel)} "
                        "is an axis: give one of the two"
                    )
            _check_axis(axis, values, circuit, self.channels)
        for name, spec in (prior.parameters if prior else {}).items():
            choices = spec.choice if isinstance(spec, Distribution) else (spec,)
            if choices is not None:
                _check_choices(name, choices, circuit, self.channels)
            elif name in circuit.cells:
                raise ValueError(f"cell {name} needs a choice of published cells")
        return self


def parameter_names(circuit: Circuit, channels: tuple[str, ...] = CHANNELS) -> list[str]:
    """All names that a grid, prior or table may set: cells, gbar and synapse columns."""
    return [
        *circuit.cells,
        *(gbar_column(cell, channel) for cell in circuit.cells for channel in channels),
        *(synapse_column(s) for s in circuit.synapse_names),
    ]


def _put_in_order(given: dict[str, Any], names: list[str]) -> None:
    """The order in a file means nothing: tables of TOML and objects of JSON have none.

    That of the names decides which axis of a grid is the slowest, and which numbers a parameter of
    a prior is drawn by.
    """
    ordered = {name: given[name] for name in names if name in given}
    given.clear()
    given.update(ordered)


def _check_names(names: list[str], circuit: Circuit, channels: tuple[str, ...]) -> None:
    allowed = parameter_names(circuit, channels)
    for name in names:
        if name not in allowed:
            raise ValueError(f"{name!r} is no parameter of this circuit{nearest(name, allowed)}")
    for cell in circuit.cells:
        columns = [gbar_column(cell, channel) for channel in channels]
        if cell not in names and not any(c in names for c in columns):
            raise ValueError(f"cell {cell} has no conductances: give {cell} or {columns[0]} ...")


def _check_axis(
    name: str,
    values: tuple[Any, ...],
    circuit: Circuit,
    channels: tuple[str, ...],
    *,
    ordered: bool = True,
) -> None:
    if name in circuit.cells:
        for value in values:
            if isinstance(value, dict):
                for channel in value:
                    if channel not in channels:
                        raise ValueError(
                            f"{name} has an unknown channel {channel!r}{nearest(channel, channels)}"
                        )
            elif isinstance(value, str):
                cell_gbar(value)
            else:
                raise ValueError(f"{name} must list names of published cells, not {value!r}")
        if ordered and len(values) != len({cell_vector(value, channels) for value in values}):
            raise ValueError(f"{name} must list each cell once")
        return
    for value in values:
        if not isinstance(value, int | float):
            raise ValueError(f"{name} must list numbers, not {value!r}")
    if ordered and list(values) != sorted(set(values)):
        raise ValueError(f"{name} must list ascending numbers, each once")


def _check_choices(
    name: str, values: tuple[Any, ...], circuit: Circuit, channels: tuple[str, ...]
) -> None:
    """What a prior chooses from: a grid's axis, but in any order."""
    try:
        _check_axis(name, values, circuit, channels, ordered=False)
    except ValueError as err:
        raise ValueError(f"parameters.prior.parameters.{name}: {err}") from err


def cell_vector(value: CellValue, channels: tuple[str, ...]) -> tuple[str, tuple[float, ...]]:
    """Label and gbar (channel,) in mS/cm2 of a cell axis's value; others than the eight are 0."""
    if isinstance(value, str):
        gbar = PUBLISHED_CELLS[value]
        return value, (*gbar, *(0.0,) * (len(channels) - len(gbar)))
    gbar = tuple(value.get(channel, 0.0) + 0.0 for channel in channels)  # -0.0 is 0.0
    return ", ".join(f"{c} {g:g}" for c, g in zip(channels, gbar, strict=True) if g), gbar


def circuit_of(database: "Database | Manifest") -> Circuit:
    """The topology of a database's circuits, as `simulate` and `classify` take it.

    Raises:
        DatabaseError: its recipe does not describe one.
    """
    manifest: Any = getattr(database, "manifest", database)
    try:
        return CircuitSpec.model_validate_json(json.dumps(manifest.recipe["circuit"])).circuit()
    except (KeyError, ValueError) as err:
        raise DatabaseError(f"the recipe in {manifest.name} describes no circuit") from err


def packaged_recipes() -> dict[str, str]:
    """Names and texts of the recipes that come with the package."""
    return packaged_texts("pipelines")


def load_recipe(recipe: "str | Path | dict[str, Any] | Recipe") -> Recipe:
    """A recipe by packaged name, TOML file, parsed TOML, or as it is.

    Raises:
        ConfigError: there is none, it is not TOML, or it is not valid; one sentence.
    """
    if isinstance(recipe, Recipe):
        return _with_table(recipe, "recipe", Path())
    if not isinstance(recipe, str | Path | dict):
        raise ConfigError(f"a recipe must be a name, a TOML file or a dict, not {recipe!r}")
    content, where, folder = read_toml(recipe, "recipe", packaged_recipes())
    return _with_table(_validated(content, where), where, folder)


def _with_table(recipe: Recipe, where: str, folder: Path) -> Recipe:
    """The recipe with the checksum of its table, if it has one: its contents are part of it."""
    table = recipe.parameters.table
    if table is None:
        return recipe
    path = (folder / table.path).resolve()
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        raise ConfigError(
            f"{where}: parameters.table.path names {str(path)!r}, which cannot be read"
        ) from None
    if table.sha256 not in (None, digest):
        raise ConfigError(f"{where}: {path} has changed: its SHA-256 is {digest}")
    spec = TableSpec(path=str(path), sha256=digest)
    return recipe.model_copy(update={"parameters": ParametersSpec(table=spec)})


def _validated(content: dict[str, Any], where: str) -> Recipe:
    known = {f.name for f in fields(Protocol)}
    protocol = content.get("protocol")
    if isinstance(protocol, dict):
        for key in protocol:
            if key not in known:
                raise ConfigError(
                    f"{where}: unknown key protocol.{key}{nearest(key, sorted(known))}"
                )
    try:
        return Recipe.model_validate(content)
    except ValidationError as err:
        raise ConfigError(f"{where}: {sentence(err, _keys_at)}") from err


def _keys_at(place: list[str]) -> list[str]:
    """Keys allowed in the table at this place of a recipe."""
    model: type[BaseModel] = Recipe
    for part in place:
        if part in model.model_fields:
            model = _table_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """The table that an annotation is of, or that a list in it holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)
