"""`database.json`: what a database holds and which recipe it belongs to."""

import hashlib
import json
import math
import re
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from typing import Any, Literal

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import MANIFEST_FILE, Location, files_at
from pyloric_db.vocabulary import (
    CHANNELS,
    LABELS,
    PUBLISHED_CHANNELS,
    ChannelNames,
    Column,
    check_channel_names,
)

FORMAT = "pyloric-db"
SCHEMA_VERSION = 1
KINDS = (
    "float32", "float64", "int64", "int8", "uint8", "uint16", "bool", "string", "category",
)  # fmt: skip

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: As recipes spell names: one may become the name of a file.
_RECIPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
MOST_CIRCUITS = 10**12
#: Largest that readers take the word of a manifest for.
_MOST_PER_SHARD = 1_000_000
_MOST_BYTES = 1 << 26
_DEEPEST = 32


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter grid.

    A `cell` axis (its name is a cell) holds labels and, for each, a gbar vector in mS/cm2 in
    channel order; a `value` axis (its name is a parameter column) holds ascending numbers.
    """

    name: str
    kind: Literal["cell", "value"]
    values: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    gbar: tuple[tuple[float, ...], ...] = ()

    @property
    def levels(self) -> tuple[str, ...] | tuple[float, ...]:
        """Its labels, or its values."""
        return self.labels if self.kind == "cell" else self.values

    def __len__(self) -> int:
        return len(self.levels)


@dataclass(frozen=True)
class Manifest:
    """Everything that readers of a database need to know before its data.

    `axes` is None where circuits are no product grid. `recipe`, `selection`, `settings` and
    `versions` are plain JSON objects; the first three and `shard_circuits` make up the
    recipe hash.
    """

    name: str
    recipe: dict[str, Any]
    selection: dict[str, Any]
    n_circuits: int
    shard_circuits: int
    chunk_circuits: int
    cells: tuple[str, ...]
    synapses: tuple[str, ...]
    sources: tuple[str, ...]
    axes: tuple[Axis, ...] | None
    columns: tuple[Column, ...]
    settings: dict[str, Any]
    versions: dict[str, Any]
    channels: ChannelNames = PUBLISHED_CHANNELS

    def __repr__(self) -> str:
        return (
            f"<Manifest of {self.name!r}: {self.n_circuits:,} circuits, {self.n_shards:,} shards, "
            f"{len(self.columns)} columns, recipe {self.recipe_hash[:12]}>"
        )

    def __post_init__(self) -> None:
        # as it would come back from the file, so that a written and a read manifest are equal
        for key in ("recipe", "selection", "settings", "versions"):
            value = json.loads(json.dumps(getattr(self, key), allow_nan=False))
            object.__setattr__(self, key, value)
        problem = _problem(self)
        if problem:
            raise ValueError(f"manifest {problem}")

    @property
    def recipe_hash(self) -> str:
        """SHA-256 (hex) over what decides a database's contents."""
        content = {
            "recipe": self.recipe,
            "selection": self.selection,
            "settings": self.settings,
            "shard_circuits": self.shard_circuits,
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def n_shards(self) -> int:
        return -(-self.n_circuits // self.shard_circuits)

    @property
    def grid_size(self) -> int | None:
        """Circuits of the full grid, whatever was selected of it; None without axes."""
        return None if self.axes is None else math.prod(map(len, self.axes))

    def shard_size(self, shard: int) -> int:
        """Circuits in one shard; the last one may have fewer."""
        return min(self.shard_circuits, self.n_circuits - shard * self.shard_circuits)

    def fits(self, shard: int, n_circuits: int) -> bool:
        """Whether a row of the ledger may say so."""
        return shard < self.n_shards and n_circuits == self.shard_size(shard)

    @cached_property
    def by_name(self) -> dict[str, Column]:
        """The columns by their names, in order."""
        return {column.name: column for column in self.columns}

    @property
    def other_model(self) -> str:
        """In words, what differs from the published model at 283 K; empty where nothing does."""
        given, temperature = self.recipe.get("constants"), self.settings.get("temperature_K")
        words = [] if temperature is None else [f"{temperature} K"]
        for name, value in given.items() if isinstance(given, dict) else ():
            if name == "channels" and isinstance(value, list):
                names = [c.get("name") for c in value if isinstance(c, dict)]
                words += [f"{'other ' if n in CHANNELS else ''}channel {n}" for n in names]
                continue
            if isinstance(value, dict):
                value = "(" + ", ".join(f"{key} {factor}" for key, factor in value.items()) + ")"
            words.append(f"{name} {value}")
        return ", ".join(words)

    @property
    def has_labels(self) -> bool:
        """Whether circuits can be pyloric: whether they have AB/PD, LP and PY."""
        return set(LABELS) <= set(self.by_name)

    def to_json(self) -> str:
        """The text of `database.json`: sorted, indented, the same for equal manifests."""
        content = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "recipe_hash": self.recipe_hash,
            **asdict(self),
            "axes": None if self.axes is None else [_axis_json(a) for a in self.axes],
        }
        if self.channels == PUBLISHED_CHANNELS:  # as in databases from before there were others
            del content["channels"]
        return json.dumps(content, sort_keys=True, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Manifest":
        """Reads what `to_json` wrote.

        Raises:
            DatabaseError: no JSON, not a manifest, of a newer schema, incomplete, or with
                values that cannot be; `where` names the file in the message.
        """
        try:
            content = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as err:
            raise DatabaseError(f"{where} is damaged: it is not JSON ({err})") from err
        if _too_deep(content):
            raise DatabaseError(f"{where} is damaged: it is nested too deeply")
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise DatabaseError(f"{where} is not the manifest of a pyloric-db database")
        version: Any = content.get("schema_version")
        if not _whole(version) or version < 1:
            raise DatabaseError(f"{where} is damaged: schema_version is {version!r}")
        if version > SCHEMA_VERSION:
            raise DatabaseError(
                f"{where} was written by a newer pyloric-db (schema {version}; this one reads "
                f"up to {SCHEMA_VERSION}): update pyloric-db to open it"
            )
        keys = {"format", "schema_version", "recipe_hash", *(f.name for f in fields(cls))}
        wrong = sorted((set(content) ^ keys) - {"channels"})
        if wrong:
            kind = "missing" if wrong[0] in keys else "unknown"
            raise DatabaseError(f"{where} is damaged: the key {wrong[0]!r} is {kind}")
        try:
            manifest = cls(
                name=content["name"],
                recipe=content["recipe"],
                selection=content["selection"],
                n_circuits=content["n_circuits"],
                shard_circuits=content["shard_circuits"],
                chunk_circuits=content["chunk_circuits"],
                cells=tuple(content["cells"]),
                synapses=tuple(content["synapses"]),
                sources=tuple(content["sources"]),
                axes=None if content["axes"] is None else tuple(map(_axis, content["axes"])),
                columns=tuple(map(_column, content["columns"])),
                settings=content["settings"],
                versions=content["versions"],
                channels=_channels(content.get("channels", asdict(PUBLISHED_CHANNELS))),
            )
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as err:
            raise DatabaseError(f"{where} is damaged: {err}") from err
        if manifest.recipe_hash != content["recipe_hash"]:
            raise DatabaseError(f"{where} is damaged: its recipe does not match its recipe_hash")
        return manifest


def read_manifest(path: Location) -> Manifest:
    """The manifest of the database at `path`.

    Raises:
        DatabaseError: there is no readable `database.json`, or it is not a valid manifest.
    """
    files = files_at(path)
    where = files.named(MANIFEST_FILE)
    try:
        if files.size(MANIFEST_FILE) > _MOST_BYTES:
            raise DatabaseError(f"{where} is damaged: it has more than {_MOST_BYTES:,} bytes")
        text = files.read(MANIFEST_FILE).decode()
    except OSError as err:
        raise DatabaseError(f"{where} cannot be read ({err.strerror})") from err
    except UnicodeDecodeError as err:
        raise DatabaseError(f"{where} is damaged: it is not text") from err
    return Manifest.from_json(text, where)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _too_deep(content: Any) -> bool:
    """Whether lists and objects are nested deeper than any recipe's, without recursion."""
    level = [content]
    for _ in range(_DEEPEST):
        inner = [v for v in level if isinstance(v, dict | list)]
        level = [w for v in inner for w in (v.values() if isinstance(v, dict) else v)]
    return bool(level)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _printable(value: object) -> bool:
    """Text without control characters, which a terminal would obey."""
    return isinstance(value, str) and value.isprintable()


def _axis_json(axis: Axis) -> dict[str, Any]:
    if axis.kind == "cell":
        return {"name": axis.name, "kind": "cell", "labels": axis.labels, "gbar": axis.gbar}
    return {"name": axis.name, "kind": "value", "values": axis.values}


def _channels(content: Any) -> ChannelNames:
    if not isinstance(content, dict):
        raise TypeError("channels must be an object")
    return ChannelNames(**{key: tuple(names) for key, names in content.items()})


def _axis(content: Any) -> Axis:
    return Axis(
        name=content["name"],
        kind=content["kind"],
        values=tuple(content.get("values", ())),
        labels=tuple(content.get("labels", ())),
        gbar=tuple(map(tuple, content.get("gbar", ()))),
    )


def _column(content: Any) -> Column:
    return Column(**{**content, "categories": tuple(content["categories"])})


def _problem(m: Manifest) -> str | None:
    """What is wrong with a manifest's values, as the end of a sentence; None if nothing is."""
    if not isinstance(m.name, str) or not _RECIPE_NAME.match(m.name):
        return f"name must be letters, digits, _, - and ., not {m.name!r:.80}"
    for key in ("recipe", "selection", "settings", "versions"):
        if not isinstance(getattr(m, key), dict):
            return f"{key} must be an object"
    if not _number(m.settings.get("dt_ms")):
        return "settings must hold dt_ms, a number"
    for key in ("n_circuits", "shard_circuits", "chunk_circuits"):
        size = getattr(m, key)
        most = MOST_CIRCUITS if key == "n_circuits" else _MOST_PER_SHARD
        if not _whole(size) or not 1 <= size <= most:
            return f"{key} must be a whole number from 1 to {most:,}, not {size!r:.40}"
    if m.shard_circuits % m.chunk_circuits:
        return f"shard_circuits must be a multiple of chunk_circuits ({m.chunk_circuits})"
    for key in ("cells", "synapses", "sources"):
        names = getattr(m, key)
        if not all(isinstance(n, str) and _NAME.match(n) for n in names):
            return f"{key} must be names of letters, digits and _"
        if len(set(names)) != len(names):
            return f"{key} must differ from each other"
    if not m.cells:
        return "cells must not be empty"
    problem = check_channel_names(m.channels.all)
    if problem:
        return f"channels: {problem}"
    for names, first in zip(astuple(m.channels), astuple(PUBLISHED_CHANNELS), strict=True):
        if names[: len(first)] != first:
            return f"channels must begin with {', '.join(first)}"
        if not set(names) <= set(m.channels.all) or len(set(names)) != len(names):
            return "gates must be those of its channels, each once"
    return _axes_problem(m) or _columns_problem(m.columns)


def _axes_problem(m: Manifest) -> str | None:
    if m.axes is None:
        return None
    if not m.axes or len({a.name for a in m.axes}) != len(m.axes):
        return "axes must be there and differ from each other"
    for a in m.axes:
        if not isinstance(a.name, str) or not _NAME.match(a.name):
            return f"axis name {a.name!r} must be letters, digits and _"
        if a.kind not in ("cell", "value"):
            return f"axis {a.name} must be of kind cell or value, not {a.kind!r}"
        if not 1 <= len(a) <= 65_536:
            return f"axis {a.name} must have from 1 to 65536 values, not {len(a)}"
        if a.kind == "value" and not all(map(_number, a.values)):
            return f"axis {a.name} must hold finite numbers"
        if a.kind == "cell":
            if a.name not in m.cells:
                return f"axis {a.name} must be named after a cell"
            if not all(map(_printable, a.labels)):
                return f"axis {a.name} must have labels that are printable text"
            if len(a.gbar) != len(a.labels) or not all(
                len(v) == len(m.channels.all) and all(map(_number, v)) for v in a.gbar
            ):
                return f"axis {a.name} must have {len(m.channels.all)} finite gbar for each label"
    size = m.grid_size
    if size is not None and size >= 2**63:
        return "axes must not make a grid of 2**63 circuits or more"
    if size is not None and m.n_circuits > size:
        return f"n_circuits ({m.n_circuits:,}) must not exceed the grid ({size:,})"
    return None


def _columns_problem(columns: tuple[Column, ...]) -> str | None:
    if not columns or columns[0].name != "circuit_id" or columns[0].kind != "int64":
        return "columns must begin with circuit_id (int64)"
    if len({c.name for c in columns}) != len(columns):
        return "columns must differ from each other"
    for c in columns:
        if not isinstance(c.name, str) or not _NAME.match(c.name):
            return f"column name {c.name!r} must be letters, digits and _"
        if c.kind not in KINDS:
            return f"column {c.name} is of an unknown kind {c.kind!r}"
        if not _printable(c.unit) or not _printable(c.long_name):
            return f"column {c.name} must have a unit and a long_name of printable text"
        if not isinstance(c.nullable, bool):
            return f"column {c.name} must be nullable or not"
        if bool(c.categories) != (c.kind == "category") or not all(
            _printable(v) and v for v in c.categories
        ):
            return f"column {c.name} must have categories exactly if it is a category"
    return None


def first_difference(a: Any, b: Any, place: str) -> tuple[str, str, str] | None:
    """Where two JSON values differ first, and what they are there, shortened."""
    if isinstance(a, dict) and isinstance(b, dict):
        # words say the least of how two recipes differ
        for key in sorted(set(a) | set(b), key=lambda key: (key == "description", key)):
            found = first_difference(a.get(key), b.get(key), f"{place}.{key}")
            if found:
                return found
        return None
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = (
            first_difference(*pair, f"{place}[{i}]")
            for i, pair in enumerate(zip(a, b, strict=True))
        )
        return next(filter(None, pairs), None)
    # 1 and 1.0 and true are the same to Python, but not to a recipe's hash
    if repr(a) == repr(b):
        return None
    return place, _short(a), _short(b)


def _short(value: Any) -> str:
    text = "not given" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
