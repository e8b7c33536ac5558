"""Circuits: which cells there are and how they are connected.

A `Circuit` is static topology; its conductances are arrays given at run time. Any list of
cells, chemical synapses and gap junctions runs through the same code.
"""

from dataclasses import dataclass, fields
from functools import cached_property

from pyloric_db.errors import ConfigError, nearest
from pyloric_db.model.constants import TRANSMITTERS
from pyloric_db.vocabulary import CELLS, SYNAPSES


@dataclass(frozen=True)
class Source:
    """The activation s of one cell's release of one transmitter.

    s depends on the presynaptic voltage and the transmitter alone, so all synapses of a cell
    with the same transmitter share one source.
    """

    name: str
    cell: str
    transmitter: str


@dataclass(frozen=True)
class Synapse:
    """A chemical synapse from a source onto a cell, conductance in nS."""

    source: str
    post: str

    @property
    def name(self) -> str:
        return f"{self.source}_{self.post}"


@dataclass(frozen=True)
class GapJunction:
    """An electrical synapse, I = g (V_i - V_j), conductance in nS."""

    cell_1: str
    cell_2: str

    @property
    def name(self) -> str:
        return f"gap_{self.cell_1}_{self.cell_2}"


@dataclass(frozen=True)
class Circuit:
    """Cells, chemical synapses and gap junctions.

    The array `gsyn` (circuit, synapse) of a circuit has one column per chemical synapse and then
    one per gap junction, in the order given here and in `synapse_names`.

    Raises:
        ConfigError: duplicate names, a gap junction given twice, or a synapse of an unknown cell,
            source or transmitter.
    """

    cells: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    synapses: tuple[Synapse, ...] = ()
    gap_junctions: tuple[GapJunction, ...] = ()

    def __repr__(self) -> str:
        return f"<Circuit of {', '.join(self.cells)}: {len(self.synapse_names)} synapses>"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, list | tuple):
                raise ConfigError(f"{field.name} of a circuit must be a list, not {value!r}")
            object.__setattr__(self, field.name, tuple(value))
        if not self.cells:
            raise ConfigError("a circuit needs at least one cell")
        for kind, names in (
            ("cell", list(self.cells)),
            ("synaptic source", [s.name for s in self.sources]),
            ("synapse", list(self.synapse_names)),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ConfigError(
                        f"{kind} {name!r} is listed twice in the circuit, or two have this name"
                    )
        known_sources = [s.name for s in self.sources]
        for source in self.sources:
            self._check(source.cell, self.cells, f"cell of synaptic source {source.name!r}")
            self._check(source.transmitter, TRANSMITTERS, f"transmitter of source {source.name!r}")
        for synapse in self.synapses:
            self._check(synapse.source, known_sources, f"source of synapse {synapse.name!r}")
            self._check(synapse.post, self.cells, f"target of synapse {synapse.name!r}")
            if synapse.name.startswith("gap_"):  # which would make a gap junction of its column
                raise ConfigError(f"synapse {synapse.name!r} needs a source of another name")
        for gap in self.gap_junctions:
            for cell in (gap.cell_1, gap.cell_2):
                self._check(cell, self.cells, f"cell of gap junction {gap.name!r}")
            if gap.cell_1 == gap.cell_2:
                raise ConfigError(f"gap junction {gap.name!r} joins a cell to itself")
            if GapJunction(gap.cell_2, gap.cell_1) in self.gap_junctions:
                raise ConfigError(f"gap junction {gap.name!r} is listed twice in the circuit")

    @staticmethod
    def _check(name: str, allowed: tuple[str, ...] | list[str], what: str) -> None:
        if name not in allowed:
            raise ConfigError(
                f"{what} is {name!r}, which is not one of {', '.join(allowed)}"
                f"{nearest(name, allowed)}"
            )

    @cached_property
    def synapse_names(self) -> tuple[str, ...]:
        """Names along the synapse dimension: chemical synapses, then gap junctions."""
        return tuple(s.name for s in self.synapses) + tuple(g.name for g in self.gap_junctions)

    @cached_property
    def source_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.sources)


#: One unconnected cell: how cells are run alone.
SINGLE_CELL = Circuit(cells=("cell",))

#: The three-cell pyloric circuit of Prinz, Bucher & Marder 2004. AB and PD are coupled so
#: tightly that they are one compartment, which releases both glutamate (AB) and
#: acetylcholine (PD).
PRINZ2004 = Circuit(
    cells=CELLS,
    sources=(
        Source("ab", "abpd", "glutamate"),
        Source("pd", "abpd", "acetylcholine"),
        Source("lp", "lp", "glutamate"),
        Source("py", "py", "glutamate"),
    ),
    synapses=tuple(Synapse(*name.split("_")) for name in SYNAPSES),
)
