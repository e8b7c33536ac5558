"""The one table of names: cells, channels, gates, synapses, dimensions, columns, units.

Every name that reaches a file, an array or a user is spelt here once. Units are part of
a column's name (`_ms`, `_mV`, `_Hz`, `_nS`) and repeated in its metadata.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

CELLS = ("abpd", "lp", "py")
CELL_LABELS = {"abpd": "AB/PD", "lp": "LP", "py": "PY"}
#: Colours of cells (Okabe & Ito), of different lightness so that they differ in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
CHANNELS = ("Na", "CaT", "CaS", "A", "KCa", "Kd", "H", "leak")
M_GATES = ("Na", "CaT", "CaS", "A", "KCa", "Kd", "H")
H_GATES = ("Na", "CaT", "CaS", "A")
SYNAPSES = ("ab_lp", "pd_lp", "ab_py", "pd_py", "lp_abpd", "lp_py", "py_lp")
SOURCES = ("ab", "pd", "lp", "py")

#: How the names of parameters begin: channels, chemical synapses, gap junctions.
CONDUCTANCES = ("gbar_", "gsyn_", "ggap_")

# dimensions
CIRCUIT, CELL, CHANNEL, SYNAPSE = "circuit", "cell", "channel", "synapse"
M_GATE, H_GATE, SOURCE, TIME, SPIKE = "m_gate", "h_gate", "source", "time", "spike"

ACTIVITIES = ("silent", "tonic", "bursting", "irregular")
STATUSES = ("ok", "nonfinite", "event_overflow", "out_of_range")

#: State variables in stored order: name -> (dims after `circuit`, unit, long name).
STATE_VARIABLES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "V": ((CELL,), "mV", "membrane potential"),
    "Ca": ((CELL,), "uM", "intracellular calcium concentration"),
    "m": ((CELL, M_GATE), "1", "activation of each channel"),
    "h": ((CELL, H_GATE), "1", "inactivation of each channel"),
    "s": ((SOURCE,), "1", "activation of each synaptic source"),
}


@dataclass(frozen=True)
class ChannelNames:
    """Which channels the cells of a circuit have: the eight, and then any others.

    `m_gates` and `h_gates` are the channels with an activation and an inactivation, in the order
    of a state.
    """

    all: tuple[str, ...] = CHANNELS
    m_gates: tuple[str, ...] = M_GATES
    h_gates: tuple[str, ...] = H_GATES


#: Those of the published cells.
PUBLISHED_CHANNELS = ChannelNames()

_CHANNEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*\Z")
#: What ends the name of a column in another sense.
_ENDINGS = ("ms", "mv", "hz", "ns", "index")


def check_channel_names(names: Sequence[str]) -> str | None:
    """What is wrong with names of channels, as the end of a sentence; None if nothing is."""
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not _CHANNEL_NAME.match(name):
            return (
                f"a channel's name must be a letter and then letters and digits, not {name!r:.80}"
            )
        if name.lower() in _ENDINGS:
            return f"a channel must not be called {name!r}, with which other columns end"
        other = seen.setdefault(name.lower(), name)  # columns are told apart without regard to case
        if other is not name or list(names).count(name) > 1:
            return f"{other} and {name} are two channels of one name (case does not count)"
    return None


def state_labels(
    cells: tuple[str, ...], sources: tuple[str, ...], channels: ChannelNames
) -> dict[str, tuple[str, ...]]:
    """Labels along every dimension of a state but `circuit`."""
    return {CELL: cells, M_GATE: channels.m_gates, H_GATE: channels.h_gates, SOURCE: sources}


def state_shapes(
    cells: tuple[str, ...], sources: tuple[str, ...], channels: ChannelNames
) -> dict[str, tuple[int, ...]]:
    """Shape of each state variable of one circuit."""
    labels = state_labels(cells, sources, channels)
    return {
        name: tuple(len(labels[d]) for d in dims) for name, (dims, _, _) in STATE_VARIABLES.items()
    }


def attributes(unit: str, long_name: str) -> dict[str, str]:
    """What variables of xarray and fields of Arrow say of themselves."""
    return {"units": unit, "long_name": long_name}


@dataclass(frozen=True)
class Column:
    """One column of the feature table.

    `kind` is one of `float32`, `float64`, `int64`, `int8`, `uint8`, `uint16`, `bool`, `string`
    (free) or `category` (one of `categories`). A nullable column is null where it has no meaning;
    in xarray null is NaN (float32 for int8), and the empty string for text.
    """

    name: str
    kind: str
    unit: str
    long_name: str
    nullable: bool = False
    categories: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Its long name with its unit."""
        return self.long_name if self.unit == "1" else f"{self.long_name} ({self.unit})"

    @property
    def attrs(self) -> dict[str, str]:
        """What xarray and Arrow keep of it beside its values."""
        return attributes(self.unit, self.long_name)

    @property
    def measured(self) -> bool:
        """Whether it may hold any number: it is no parameter, whole number or flag."""
        return self.kind.startswith("float") and not self.name.startswith(CONDUCTANCES)


@dataclass(frozen=True)
class Criterion:
    """One of the fifteen criteria of a pyloric rhythm: accepted is mean ± 2 SD."""

    column: str
    mean: float
    sd: float
    long_name: str

    @property
    def low(self) -> float:
        return self.mean - 2 * self.sd

    @property
    def high(self) -> float:
        return self.mean + 2 * self.sd

    @property
    def unit(self) -> str:
        return "ms" if self.column.endswith("_ms") else "1"


#: Mean and SD over 99 lobsters: Prinz, Bucher & Marder 2004, Nat Neurosci 7:1345, table 1.
CRITERIA = (
    Criterion("period_ms", 1509.0, 279.0, "AB/PD burst start to next start"),
    Criterion("burst_duration_abpd_ms", 582.0, 133.0, "AB/PD burst duration"),
    Criterion("burst_duration_lp_ms", 399.0, 113.0, "LP burst duration"),
    Criterion("burst_duration_py_ms", 530.0, 150.0, "PY burst duration"),
    Criterion("gap_abpd_lp_ms", 221.0, 109.0, "AB/PD burst end to LP burst start"),
    Criterion("gap_lp_py_ms", -61.0, 60.0, "LP burst end to PY burst start"),
    Criterion("delay_abpd_lp_ms", 803.0, 169.0, "AB/PD burst start to LP burst start"),
    Criterion("delay_abpd_py_ms", 1141.0, 216.0, "AB/PD burst start to PY burst start"),
    Criterion("duty_cycle_abpd", 0.385, 0.040, "AB/PD burst duration over period"),
    Criterion("duty_cycle_lp", 0.264, 0.059, "LP burst duration over period"),
    Criterion("duty_cycle_py", 0.348, 0.054, "PY burst duration over period"),
    Criterion("phase_gap_abpd_lp", 0.148, 0.065, "AB/PD end to LP start, over period"),
    Criterion("phase_gap_lp_py", -0.040, 0.034, "LP end to PY start, over period"),
    Criterion("phase_start_lp", 0.533, 0.054, "phase of LP burst start in the AB/PD cycle"),
    Criterion("phase_start_py", 0.758, 0.060, "phase of PY burst start in the AB/PD cycle"),
)
#: The same by column.
PUBLISHED = {c.column: c for c in CRITERIA}


def colour_of(place: int) -> str:
    """The colour of the cell at this place of a circuit."""
    return _COLOURS[place % len(_COLOURS)]


def has_pyloric_cells(cells: Iterable[str]) -> bool:
    """Whether AB/PD, LP and PY are among these cells."""
    return set(CELLS) <= set(cells)


def label(cell: str) -> str:
    """A cell's name as people print it: `abpd` is AB/PD; others in capitals."""
    return CELL_LABELS.get(cell, cell.upper())


#: A column that is not measured has a bar for each value where these are at most so many.
MOST_VALUES = 20


def value_names(values: Iterable[float]) -> tuple[str, ...]:
    """Names of the different values of a column; none where they are many or two look alike."""
    names = tuple(f"{v:g}" for v in islice(values, MOST_VALUES + 1))
    return names if len(set(names)) == len(names) <= MOST_VALUES else ()


def feature_columns(cells: tuple[str, ...] = CELLS) -> tuple[Column, ...]:
    """Columns that the rhythm analysis fills, for a circuit with these cells.

    The first cell is the pacemaker whose burst starts delimit cycles; every other has a delay and
    phases in its cycle. The gaps between bursts and the labels of a pyloric rhythm exist only for
    circuits that have AB/PD, LP and PY.
    """
    first = label(cells[0])
    triphasic = has_pyloric_cells(cells)
    # LP and PY come before others
    followers = sorted(cells[1:], key=lambda c: CELLS.index(c) if triphasic and c in CELLS else 3)

    def of(names: Sequence[str]) -> list[Column]:
        """Those of the published features that are about LP and PY together."""
        return [
            Column(n, "float32", PUBLISHED[n].unit, PUBLISHED[n].long_name, True)
            for n in names
            if triphasic
        ]

    columns = [
        Column("period_ms", "float32", "ms", f"{first} burst start to next start", True),
        *(
            Column(f"burst_duration_{c}_ms", "float32", "ms", f"{label(c)} burst duration", True)
            for c in cells
        ),
        *of(("gap_abpd_lp_ms", "gap_lp_py_ms")),
        *(
            Column(f"delay_{cells[0]}_{c}_ms", "float32", "ms",
                   f"{first} burst start to {label(c)} burst start", True)
            for c in followers
        ),
        *(
            Column(f"duty_cycle_{c}", "float32", "1",
                   f"{label(c)} burst duration over period", True)
            for c in cells
        ),
        *of(("phase_gap_abpd_lp", "phase_gap_lp_py")),
        *(
            Column(f"phase_start_{c}", "float32", "1",
                   f"phase of {label(c)} burst start in the {first} cycle", True)
            for c in followers
        ),
        *(
            Column(f"phase_end_{c}", "float32", "1", f"phase of {label(c)} burst end", True)
            for c in followers
        ),
    ]  # fmt: skip
    columns.append(
        Column("period_cv", "float32", "1", "coefficient of variation of the period", True)
    )
    for c in cells:
        columns += [
            Column(f"activity_{c}", "category", "1", f"{label(c)} activity", True, ACTIVITIES),
            Column(f"spike_rate_{c}_Hz", "float32", "Hz", f"{label(c)} mean spike rate", True),
            Column(f"spikes_per_burst_{c}", "float32", "1", f"{label(c)} spikes per burst", True),
        ]
    columns.append(Column("periodic", "bool", "1", "the period of the first cell repeats"))
    if triphasic:
        columns += [
            Column("triphasic", "bool", "1", "AB/PD, LP, PY each burst once in every cycle"),
            Column("pyloric_like", "bool", "1", "periodic, triphasic, in pyloric order"),
            Column("pyloric", "bool", "1", "pyloric-like and all fifteen criteria met"),
            Column("n_criteria_met", "int8", "1", "criteria met of the fifteen", True),
        ]
    return tuple(columns)


def default_features(columns: Sequence[Column]) -> list[str]:
    """Those of a table's columns that are meant where no feature is named.

    The fifteen of the criteria, and burst duration, duty cycle and phase of every other cell.
    """
    of_each_cell = ("burst_duration_", "duty_cycle_", "phase_start_")
    return [c.name for c in columns if c.name in PUBLISHED or c.name.startswith(of_each_cell)]


#: The labels of a circuit that has AB/PD, LP and PY.
LABELS = ("pyloric_like", "pyloric")
#: What a circuit's rhythm is called, the strictest first. Circuits of other cells have the last.
RHYTHMS = ("pyloric", "pyloric_like", "periodic")


def glance(columns: Sequence[Column], cells: Sequence[str]) -> list[str]:
    """Those of a table's columns that say at a glance what its circuits do.

    Where there are no labels the activity of each cell stands in for them, beside its duty cycle.
    """
    present = [c.name for c in columns]
    of_each_cell = ("duty_cycle",) if set(LABELS) <= set(present) else ("activity", "duty_cycle")
    wanted = (
        *("netcode", "period_ms", *LABELS),  # what fits on a narrow screen comes first
        *(f"{kind}_{cell}" for cell in cells for kind in of_each_cell),
        *(f"phase_start_{cell}" for cell in cells[1:]),
    )
    return [n for n in wanted if n in present]


def published(cells: Sequence[str]) -> dict[str, Criterion]:
    """The criteria by column, for circuits with these cells: none unless they are pyloric ones."""
    return PUBLISHED if has_pyloric_cells(cells) else {}


def run_columns(cells: tuple[str, ...] = CELLS) -> tuple[Column, ...]:
    """Columns that the integration fills: voltage statistics, time simulated, status."""
    statistics = (("min", "lowest"), ("max", "highest"), ("mean", "mean"))
    columns = [
        Column(f"v_{s}_{c}_mV", "float32", "mV", f"{label(c)} {word} membrane potential", True)
        for c in cells
        for s, word in statistics
    ]
    columns += [
        Column("t_simulated_ms", "float32", "ms", "time simulated, transient included"),
        Column("status", "category", "1", "how the run ended", False, STATUSES),
    ]
    return tuple(columns)
