"""Which circuits a recipe holds, and the parameters of each."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from pyloric_db.errors import ConfigError, first_line, nearest
from pyloric_db.model.circuit import Circuit
from pyloric_db.pipeline.ranges import Ranges, check_ranges, ids_of_rows, ranges_text
from pyloric_db.pipeline.recipe import (
    MOST_CONDUCTANCE,
    Distribution,
    Recipe,
    TableSpec,
    cell_vector,
    load_recipe,
    parameter_names,
)
from pyloric_db.store.manifest import Axis
from pyloric_db.store.parameters import (
    conductances,
    gbar_column,
    grid_columns,
    grid_values,
    index_column,
    synapse_column,
)

Columns = dict[str, np.ndarray]

#: Queries, and all who read ids as numbers in JSON or as float64, tell so many apart.
MOST_IDS = 2**53


@dataclass(frozen=True)
class Selection:
    """The ids of a database's circuits, ascending: `ids`, or all of `ranges` where it is None.

    `of` is how many circuits the recipe's parameters describe: ids are below it.
    """

    of: int
    ranges: Ranges
    ids: np.ndarray | None

    @property
    def count(self) -> int:
        return sum(map(len, self.ranges)) if self.ids is None else len(self.ids)

    def part(self, start: int, stop: int) -> np.ndarray:
        """Ids (stop - start,) of the rows start ... stop - 1."""
        if self.ids is None:
            return ids_of_rows(self.ranges, start, stop)
        return self.ids[start:stop]


def grid_axes(recipe: Recipe) -> tuple[Axis, ...] | None:
    """The axes of a grid recipe in their order, None for others."""
    if recipe.parameters.grid is None:
        return None
    cells, channels = recipe.circuit.circuit().cells, recipe.channels
    axes = []
    for name, values in recipe.parameters.grid.items():
        if name in cells:
            labels, gbar = zip(*(cell_vector(v, channels) for v in values), strict=True)  # type: ignore[arg-type]
            vectors = tuple(tuple(float(x) for x in g) for g in gbar)
            axes.append(Axis(name, "cell", labels=labels, gbar=vectors))
        else:
            axes.append(Axis(name, "value", values=tuple(float(v) for v in values)))  # type: ignore[arg-type]
    return tuple(axes)


def population(recipe: Recipe) -> int:
    """How many circuits the recipe's parameters describe, before any sampling."""
    axes = grid_axes(recipe)
    if axes is not None:
        return int(np.prod([len(a) for a in axes], dtype=object))
    if recipe.parameters.prior is not None:
        return recipe.parameters.prior.count
    assert recipe.parameters.table is not None
    table = _table(recipe.parameters.table, recipe.circuit.circuit(), recipe.channels)
    return len(next(iter(table.values())))


def select(
    recipe: Recipe,
    *,
    limit: int | None = None,
    sample: int | None = None,
    seed: int | None = None,
    ids: Ranges | None = None,
) -> Selection:
    """The circuits of a database.

    The recipe's own sample is drawn first, then `sample` of those, then the first `limit` in
    the order in which they were drawn; of all these, `ids` leaves those in its ranges.

    Raises:
        ConfigError: a count is not positive, or more than there are circuits; ranges overlap,
            leave the recipe, or hold no circuit.
    """
    for name, value in (("limit", limit), ("sample", sample), ("seed", seed)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise ConfigError(f"{name} must be a whole number, not {value!r}")
    if seed is not None and sample is None:
        raise ConfigError("a seed is for a sample: the recipe has the seed of its own draws")
    total = population(recipe)
    if total > MOST_IDS:
        raise ConfigError(f"{total:.3g} circuits are too many: ids end at {MOST_IDS:.3g}")
    drawn: np.ndarray | None = None
    draws = [(recipe.sample.count, recipe.sample.seed)] if recipe.sample is not None else []
    draws += [(sample, seed or 0)] if sample is not None else []
    for count, draw_seed in draws:
        n = total if drawn is None else len(drawn)
        if not 1 <= count <= n:
            raise ConfigError(f"a sample of {count:,} cannot be drawn from {n:,} circuits")
        if draw_seed < 0:
            raise ConfigError(f"a seed must not be negative, not {draw_seed}")
        rows = np.random.default_rng(draw_seed).choice(n, count, replace=False)
        drawn = rows if drawn is None else drawn[rows]
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit must be at least 1, not {limit}")
    ranges = (range(total),) if ids is None else check_ranges(ids, total)
    if drawn is None:
        first = min(total, limit or total)
        kept = tuple(range(r.start, min(r.stop, first)) for r in ranges if r.start < first)
        chosen = Selection(total, kept, None)
    else:
        inside = np.sort(drawn[:limit]).astype(np.int64)
        edges = np.searchsorted(inside, [(r.start, r.stop) for r in ranges])
        inside = np.concatenate([inside[a:b] for a, b in edges])
        chosen = Selection(total, ranges, inside)
    if not chosen.count:
        raise ConfigError(f"ids {ranges_text(ranges)} hold none of the circuits of this selection")
    return chosen


def parameters(recipe: Recipe, ids: np.ndarray) -> tuple[Columns, np.ndarray, np.ndarray]:
    """Parameters of circuits by id.

    Returns:
        the parameter columns of the feature table, gbar (circuit, cell, channel) in mS/cm2
        and gsyn (circuit, synapse) in nS.
    """
    circuit, channels = recipe.circuit.circuit(), recipe.channels
    parts = circuit.cells, circuit.synapse_names, channels, len(ids)
    axes = grid_axes(recipe)
    if axes is not None:
        columns = grid_columns(axes, ids)
        return columns, *conductances(grid_values(axes, columns), *parts)
    if recipe.parameters.prior is not None:
        values = _draw(recipe, ids)
    else:
        assert recipe.parameters.table is not None
        table = _table(recipe.parameters.table, circuit, channels)
        values = {name: column[ids] for name, column in table.items()}
    # what is run is what is stored, to the bit
    stored = {name: np.asarray(v, np.float32) for name, v in values.items()}
    gbar, gsyn = conductances(stored, *parts)
    columns = {
        gbar_column(cell, channel): gbar[:, i, k].astype(np.float32)
        for i, cell in enumerate(circuit.cells)
        for k, channel in enumerate(channels)
    }
    columns |= {
        synapse_column(s): gsyn[:, i].astype(np.float32)
        for i, s in enumerate(circuit.synapse_names)
    }
    return columns, gbar, gsyn


def has_netcode(recipe: Recipe) -> bool:
    """Whether the grid is that of Prinz 2004 or a part of it, so that netcodes name circuits."""
    axes, published = grid_axes(recipe) or (), _published_axes()
    return (
        recipe.circuit.preset == "prinz2004"
        and [a.name for a in axes] == [a.name for a in published]
        and all(set(a.levels) <= set(p.levels) for a, p in zip(axes, published, strict=True))
    )


def netcodes(recipe: Recipe, columns: Columns) -> np.ndarray:
    """Ten-digit names of circuits of the Prinz 2004 grid (circuit,), from their index columns.

    Zero-based positions on the published axes of AB/PD, LP, PY and of the seven synapses.
    Source: Gunay & Prinz 2010, J Neurosci 30:1686.
    """
    digits = [
        np.array([published.levels.index(level) for level in axis.levels], np.uint8)[
            columns[index_column(axis)]
        ]
        for axis, published in zip(grid_axes(recipe) or (), _published_axes(), strict=True)
    ]
    codes = np.stack(digits, axis=1) + np.uint8(ord("0"))
    return np.ascontiguousarray(codes).view(f"S{codes.shape[1]}")[:, 0].astype(str).astype(object)


@lru_cache(maxsize=1)
def _published_axes() -> tuple[Axis, ...]:
    return grid_axes(load_recipe("prinz2004")) or ()


def _draw(recipe: Recipe, ids: np.ndarray) -> Columns:
    """Independent draws of the prior; those of a circuit depend on its id and the seed alone."""
    import jax
    import jax.numpy as jnp

    prior = recipe.parameters.prior
    assert prior is not None
    # the environment may set other generators and seeds: its variables are not to change the draws
    seed = jnp.array([prior.seed >> 32, prior.seed & 0xFFFFFFFF], jnp.uint32)
    with jax.enable_x64(True), jax.threefry_partitionable(True):
        root = jax.random.wrap_key_data(seed, impl="threefry2x32")
        u = np.asarray(
            jax.vmap(
                lambda i: jax.random.uniform(
                    jax.random.fold_in(root, i), (len(prior.parameters),), "float64"
                )
            )(np.asarray(ids, np.uint32))
        )
    values: Columns = {}
    cells, channels = recipe.circuit.circuit().cells, recipe.channels
    for k, (name, spec) in enumerate(prior.parameters.items()):
        if not isinstance(spec, Distribution):
            spec = Distribution(choice=(spec,))
        if spec.uniform is not None:
            low, high = spec.uniform
            values[name] = low + (high - low) * u[:, k]
        elif spec.log_uniform is not None:
            low, high = np.log(spec.log_uniform)
            values[name] = np.exp(low + (high - low) * u[:, k])
        else:
            assert spec.choice is not None
            options: Any = np.array(
                [cell_vector(str(c), channels)[1] for c in spec.choice]
                if name in cells
                else spec.choice
            )
            values[name] = options[(u[:, k] * len(options)).astype(int)]
    return values


#: What pandas calls an index without a name, in CSV and in Parquet.
_PANDAS_INDEX = ("", "__index_level_0__")


def _check_separators(content: bytes, path: str) -> None:
    """ConfigError for a CSV as programs write it where decimals have a comma, or with tabs."""
    for separator, name in ((b";", "semicolons"), (b"\t", "tabs")):
        if separator in content.partition(b"\n")[0]:
            raise ConfigError(
                f"{path} has {name} between its columns: these must be separated by commas, and "
                "decimals have a point"
            )


@lru_cache(maxsize=1)
def _table(spec: TableSpec, circuit: Circuit, channels: tuple[str, ...]) -> Columns:
    """The columns of a parameter table.

    Raises:
        ConfigError: it cannot be read, is not the one that the recipe was loaded with, has an
            unknown or no column, or a value that is no conductance; the message names column
            and row.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    path = spec.path
    try:
        content = Path(path).read_bytes()
        if hashlib.sha256(content).hexdigest() != spec.sha256:
            raise ConfigError(f"{path} has changed since its recipe was loaded")
        if path.lower().endswith(".parquet"):
            table = pyarrow.parquet.ParquetFile(pa.BufferReader(content)).read()
        else:
            _check_separators(content, path)
            table = pyarrow.csv.read_csv(pa.BufferReader(content))
    except (OSError, pa.ArrowException) as err:
        raise ConfigError(f"{path} is not a CSV or Parquet table: {first_line(err)}") from err
    allowed = [n for n in parameter_names(circuit, channels) if n not in circuit.cells]
    if table.num_rows == 0:
        raise ConfigError(f"{path} has no rows")
    columns: Columns = {}
    for name in table.column_names:
        if name in _PANDAS_INDEX:
            raise ConfigError(
                f"{path} has the column {name!r}, as pandas writes its index: write the table "
                "with index=False"
            )
        if name not in allowed:
            raise ConfigError(
                f"{path} has the column {name!r}, which is no parameter of this circuit"
                f"{nearest(name, allowed)}"
            )
        if table.column_names.count(name) > 1:
            raise ConfigError(f"{path} has the column {name!r} twice")
        kind = table[name].type
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        # null: all missing, which is said below with its row
        if not (is_number or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
            raise ConfigError(f"{path}: column {name} is not numeric, but {kind}")
        values = np.asarray(table[name].to_numpy(), float)
        bad = np.flatnonzero(~((values >= 0) & (values <= MOST_CONDUCTANCE)))
        if bad.size:
            raise ConfigError(
                f"{path}: column {name}, row {bad[0] + 1} is {values[bad[0]]:g}; conductances "
                f"must be from 0 to {MOST_CONDUCTANCE:g}"
            )
        columns[name] = values
    for cell in circuit.cells:
        if not any(gbar_column(cell, channel) in columns for channel in channels):
            raise ConfigError(f"{path} has no conductance of {cell} (gbar_{cell}_Na, ...)")
    return columns
