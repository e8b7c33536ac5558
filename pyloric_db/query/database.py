"""`open`: a database as lazy xarray, hypercube, states, expressions and SQL."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property, partial
from importlib import import_module
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import ConfigError, DatabaseError, PyloricDBWarning, QueryError
from pyloric_db.protocol import Protocol
from pyloric_db.query.columns import (
    Table,
    check_names,
    dtype_of,
    names_of,
    numpy_column,
)
from pyloric_db.query.expression import quote_name, to_sql
from pyloric_db.query.rows import Rows
from pyloric_db.store.cells import cell_columns, read_cells
from pyloric_db.store.files import (
    LEDGER_FILE,
    MANIFEST_FILE,
    Files,
    Location,
    check_sizes,
    database_at,
    is_url,
)
from pyloric_db.store.ledger import Ledger, LedgerRows, files_of
from pyloric_db.store.manifest import Manifest, read_manifest
from pyloric_db.store.parameters import grid_columns, needed_columns, parameters_from_columns
from pyloric_db.store.table import part_name
from pyloric_db.vocabulary import CELL, CHANNEL, CIRCUIT, SYNAPSE, attributes

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

    from pyloric_db.query.engine import SqlEngine
    from pyloric_db.query.states import States

#: Rows that are in one of so many parts, or fewer, are read without the rest.
_FEW_PARTS = 4
#: Circuits of a batch, about: 200 MB of all columns.
_AT_ONCE = 250_000


def open(path: Location) -> "Database":
    """Opens a database; one that is still being built serves its finished shards.

    Args:
        path: its directory, or its URL such as `s3://bucket/name`.

    Raises:
        DatabaseError: there is none at `path`, it is damaged or copied in part, or it was
            written by a newer pyloric-db.
    """
    files = database_at(path)
    manifest = read_manifest(files)
    if not files.exists(LEDGER_FILE):
        raise DatabaseError(f"{files} has no {LEDGER_FILE}: it may have been copied in part")
    rows = Ledger(files).read()
    _check(files, manifest, rows)
    return Database(files, manifest, rows)


def _check(files: Files, manifest: Manifest, rows: LedgerRows) -> None:
    if rows.header and rows.header["recipe_hash"] != manifest.recipe_hash:
        raise DatabaseError(
            f"{files}: {LEDGER_FILE} and {MANIFEST_FILE} belong to different recipes"
        )
    parts = []
    for shard, row in rows.shards.items():
        part = [f for f in files_of(row) if f.path == part_name(shard)]
        if not manifest.fits(shard, row["n_circuits"]) or len(part) != 1:
            raise DatabaseError(f"{files}: the {LEDGER_FILE} row of shard {shard} is not valid")
        parts += part
    check_sizes(files, parts)
    if rows.damaged:
        warnings.warn(
            f"{files.named(LEDGER_FILE)} is damaged in line {rows.damaged[0]}: what it recorded is "
            "left out; build the database again to mend it",
            PyloricDBWarning,
            stacklevel=3,
        )


def check_opened(db: object) -> None:
    """ConfigError where something else stands for an opened database, such as its path."""
    if not isinstance(db, Database):
        kind = type(db).__name__
        raise ConfigError(f"db must be a Database, which pyloric_db.open(path) gives, not a {kind}")


class Database:
    """A database that was opened with `open`. Reads only; its attributes are not to be set.

    Threads and forked processes may share it; pickled, it is opened again where it arrives.
    """

    def __init__(self, files: Files, manifest: Manifest, rows: LedgerRows) -> None:
        self.files = files
        self.manifest = manifest
        self._ledger = rows
        parts = [part_name(shard) for shard in sorted(rows.shards)]
        count = sum(row["n_circuits"] for row in rows.shards.values())
        self._table = Table(files, manifest, parts, count)
        self._rows = Rows(manifest, rows.shards, lambda: self._table.load("circuit_id"))

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.files.address,)

    @property
    def path(self) -> Path | str:
        """Directory, or URL."""
        return self.files.address if is_url(self.files.address) else Path(self.files.address)

    def __len__(self) -> int:
        """Circuits available."""
        return self._rows.count

    @property
    def complete(self) -> bool:
        """Whether every shard is finished."""
        return len(self._ledger.shards) == self.manifest.n_shards

    @property
    def whole_grid(self) -> bool:
        """Whether it holds every circuit of a grid, so that its shares are of no sample."""
        return len(self) == self.manifest.grid_size

    @property
    def random_sample(self) -> bool:
        """Whether its circuits are drawn at random, so that their shares have intervals.

        Shards follow the ids: of a sample of a grid, those that are finished are no sample.
        """
        recipe, selection = self.manifest.recipe, self.manifest.selection
        parameters = recipe.get("parameters")
        if isinstance(parameters, dict) and parameters.get("prior") is not None:
            return True
        drawn = "sample" in selection or recipe.get("sample") is not None
        return drawn and self.complete and "ids" not in selection

    @property
    def protocol(self) -> Protocol:
        """How its circuits were run and their rhythms measured.

        Raises:
            ConfigError: a setting in the database is not valid.
        """
        stored = self.manifest.settings
        return Protocol(**{f.name: stored[f.name] for f in fields(Protocol) if f.name in stored})

    def __repr__(self) -> str:
        m, done = self.manifest, len(self._ledger.shards)
        state = "complete" if self.complete else f"{done:,} of {m.n_shards:,} shards finished"
        grid = ""
        if m.axes is not None:
            grid = f" of a grid of {' x '.join(str(len(a)) for a in m.axes)}"
        return (
            f"<pyloric_db.Database {m.name!r} in {self.path}: {len(self):,} circuits{grid}, "
            f"{len(m.columns)} columns, {state}>"
        )

    @cached_property
    def circuits(self) -> "xr.Dataset":
        """All columns over dim `circuit`, each read when its values are first needed.

        Null is NaN (int8 columns become float32), text is object with "" for null. Values are
        read-only: copy before you change them.
        """
        import xarray as xr

        from pyloric_db.query.lazy import lazy_variable

        variables = {
            c.name: lazy_variable(
                (CIRCUIT,),
                (len(self),),
                dtype_of(c),
                partial(self._table.load, c.name),
                c.attrs,
                partial(self._some_rows, c.name),
            )
            for c in self.manifest.columns
            if c.name != "circuit_id"
        }
        circuit_id = lazy_variable(  # the ledger knows the ids, the table need not be read
            (CIRCUIT,),
            (len(self),),
            np.int64,
            lambda: self._rows.ids,
            self.manifest.by_name["circuit_id"].attrs,
            self._rows.ids_at,
        )
        return xr.Dataset(variables, {"circuit_id": circuit_id}, {"name": self.manifest.name})

    def _some_rows(self, name: str, rows: "npt.NDArray[Any]") -> "npt.NDArray[Any] | None":
        """A column's values in some rows, if these are in few parts and the column is unread."""
        part, place = self._rows.in_parts(rows)
        few = len(np.unique(part)) * _FEW_PARTS <= len(self._table.parts)
        if self._table.is_loaded(name) or not few:
            return None
        return self._table.take([name], part, place)[name]

    def cube(self, columns: str | Sequence[str] | None = None) -> "xr.Dataset":
        """The circuits as a hypercube: one dim for each axis of the grid, with its values.

        Args:
            columns: which; all but the parameters on the axes if not said.

        Where a sample or an unfinished build leaves places empty, numbers are NaN, text is "",
        flags are False and the coordinate `circuit_id` is -1: divide counts of flags by
        `(cube.circuit_id >= 0).sum()`.

        Raises:
            QueryError: the circuits are no grid, a column is unknown, or a grid that is not
                complete has more than 50 million places.
        """
        from pyloric_db.query.cube import make_cube

        names = None if columns is None else names_of(columns)
        return make_cube(self._table, self._rows, names)

    def states(self, ids: npt.ArrayLike | None = None) -> "xr.Dataset":
        """Stored states: V (circuit, cell) mV, Ca (circuit, cell) uM, m, h and s.

        Args:
            ids: circuit ids, in any order; without them all circuits, read lazily.

        Raises:
            QueryError: an id is not in the database.
            DatabaseError: the files of the states are damaged or missing.
        """
        rows = np.arange(len(self)) if ids is None else self._rows.find(ids)
        stored = self._rows.in_states(rows)
        chosen = self._states.lazily(stored) if ids is None else self._states.read(stored)
        return chosen.assign_coords(circuit_id=self._circuit_id(rows))

    def events(self, ids: npt.ArrayLike) -> "xr.DataArray":
        """The last spikes of circuits: (circuit, cell, spike) ms, NaN behind each cell's last.

        Only where the recipe says `[store] events = "last_periods"`: spikes of the last five
        periods, or, of a circuit without a period, of the last `silent_ms`. Times count from the
        start of the run, which ended at `t_simulated_ms`; `features_from_spikes` reads them.

        Args:
            ids: circuit ids, in any order.

        Raises:
            QueryError: an id is not in the database, or it keeps no spikes.
            DatabaseError: a file is damaged or missing.
        """
        from pyloric_db.query.events import last_spikes

        rows = self._rows.find(ids)
        shards, places = np.divmod(self._rows.in_states(rows), self.manifest.shard_circuits)
        spikes = last_spikes(self.files, self.manifest, shards, places)
        return spikes.assign_coords(circuit_id=self._circuit_id(rows))

    def parameters(self, ids: npt.ArrayLike) -> "xr.Dataset":
        """Conductances: gbar (circuit, cell, channel) mS/cm2, gsyn (circuit, synapse) nS.

        Raises:
            QueryError: an id is not in the database.
        """
        import xarray as xr

        rows = self._rows.find(ids)
        columns: dict[str, Any] = {"circuit_id": self._rows.ids_at(rows)}
        if self.manifest.axes is not None:  # the id says where on the grid a circuit is
            columns |= grid_columns(self.manifest.axes, columns["circuit_id"])
        else:
            columns |= self._table.take(needed_columns(self.manifest), *self._rows.in_parts(rows))
        gbar, gsyn = parameters_from_columns(self.manifest, columns)
        return xr.Dataset(
            {
                "gbar": (
                    (CIRCUIT, CELL, CHANNEL), gbar,
                    attributes("mS/cm2", "maximal conductance"),
                ),
                "gsyn": (
                    (CIRCUIT, SYNAPSE), gsyn,
                    attributes("nS", "maximal synaptic conductance"),
                ),
            },
            {
                "circuit_id": self._circuit_id(rows),
                CELL: list(self.manifest.cells),
                CHANNEL: list(self.manifest.channels.all),
                SYNAPSE: list(self.manifest.synapses),
            },
        )  # fmt: skip

    def query(
        self,
        expr: str,
        columns: str | Sequence[str] | None = None,
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> "xr.Dataset":
        """Circuits for which a boolean expression over the columns is true.

        Args:
            expr: such as `"pyloric and period_ms > 1200 and gsyn_lp_py_nS == 0"`; what may
                stand in it, and what null does, is said in `pyloric_db.query.expression`.
            columns: which to return; all if not said. `circuit_id` always comes along.
            order_by: one column or several, descending with a "-" in front; null is last.
                Without it, and between equals, circuits come in ascending `circuit_id`.
            limit: most circuits to return.

        Raises:
            QueryError: the expression is not valid, or a column is unknown.
        """
        names = self._selected(columns)
        order = f"ORDER BY {self._order(order_by)}"
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 0:
                raise QueryError(f"limit must be a whole number from 0, not {limit!r}")
            order += f" LIMIT {min(int(limit), 2**62)}"
        return self._dataset(names, self._ask(", ".join(map(quote_name, names)), expr, order))

    def batches(
        self, expr: str, columns: str | Sequence[str] | None = None
    ) -> "Iterator[xr.Dataset]":
        """What `query` returns, piece by piece: for more circuits than fit into memory.

        Args:
            expr: as for `query`.
            columns: as for `query`.

        Returns:
            at least one Dataset; they hold the circuits in ascending `circuit_id`.

        Raises:
            QueryError: the expression is not valid, or a column is unknown.
        """
        names = self._selected(columns)
        pieces = -(-self.count(expr) // _AT_ONCE)
        if pieces <= 1 or not self._rows.ascending:
            return iter([self.query(expr, names)])
        return self._by_parts(expr, names, pieces)

    def _by_parts(self, expr: str, names: list[str], pieces: int) -> "Iterator[xr.Dataset]":
        """The same in so many pieces, of about as many parts each."""
        from pyloric_db.query.engine import rows_of

        what, condition = ", ".join(map(quote_name, names)), to_sql(expr, self.manifest)
        for some in np.array_split(np.array(self._table.parts, object), pieces):
            source = rows_of(self.files, list(some))
            found = self._engine.ask(
                f"SELECT {what} FROM {source} WHERE {condition} ORDER BY circuit_id"
            )
            yield self._dataset(names, found)

    def count(self, expr: str) -> int:
        """How many circuits a boolean expression over the columns is true for.

        Raises:
            QueryError: the expression is not valid, as in `query`.
        """
        table = self._ask("count(*)", expr)
        return 0 if table is None else int(table[0][0].as_py())

    def nearest(
        self,
        features: "Mapping[str, float] | xr.Dataset",
        k: int = 10,
        where: str = "True",
    ) -> "xr.Dataset":
        """The circuits whose rhythm is nearest to a given one, the nearest first.

        The distance is the root mean square, over the features compared, of the difference in
        units of the standard deviation: 1 is as far as one SD in each. The SDs of the fifteen
        features of circuits with AB/PD, LP and PY are the published ones
        (`vocabulary.CRITERIA`), all others those of the feature in this database. Phases of other
        cells' bursts differ by half a cycle at most. A feature that
        the given rhythm does not have is not compared, nor is one in which the database's
        circuits do not differ, and a circuit that lacks one of those compared is left out.

        Args:
            features: values of features by column name, as numbers; None and NaN are missing. Or
                what `features_from_spikes` returned for one recording, of which the
                `vocabulary.default_features` are compared: the fifteen, and burst duration, duty
                cycle and phase of other cells.
            k: how many circuits; fewer come where there are not so many.
            where: only circuits for which this expression is true, such as "pyloric_like".

        Returns:
            All columns of the circuits, and `distance` (circuit,) in SD; ties in ascending
            `circuit_id`. `attrs["compared"]` lists the features compared.

        Raises:
            QueryError: the circuits have no such feature or do not differ in any, a value is not
                one finite number, all are missing, `k` or `where` is not valid, or no circuit
                has them all.
        """
        from pyloric_db.query.nearest import find_nearest

        return find_nearest(self, features, k, where)

    def sql(self, text: str) -> "pa.Table":
        """The result of one SELECT statement of DuckDB over the view `circuits`.

        Raises:
            QueryError: it is not exactly one SELECT, reaches beyond the database, or fails.
        """
        if not len(self):
            raise QueryError(f"{self.path} has no finished circuits yet")
        return self._engine.ask(text)

    def simulate(self, ids: npt.ArrayLike, *, duration_ms: float, **settings: Any) -> Any:
        """Goes on from the stored states, as `pyloric_db.simulate` does.

        Args:
            ids: circuit ids.
            duration_ms: how long.
            settings: other arguments of `pyloric_db.simulate`; `gbar`, `gsyn`, `protocol`,
                `circuit` and `constants` are those of the database if not given.

        Returns:
            as there; the circuits have their `circuit_id`.

        Raises:
            QueryError: an id is not in the database.
        """
        return self._run_on("simulate", ids, {"duration_ms": duration_ms} | settings)

    def classify(
        self, ids: npt.ArrayLike, *, gbar: Any = None, gsyn: Any = None, **settings: Any
    ) -> "xr.Dataset":
        """Runs circuits on from their stored states, as they are or changed, and measures them.

        Args:
            ids: circuit ids.
            gbar: (circuit, cell, channel) mS/cm2, as `parameters` gives them; None for theirs.
            gsyn: (circuit, synapse) nS; None for theirs.
            settings: other arguments of `pyloric_db.classify`; `initial` is the stored states,
                `protocol`, `circuit` and `constants` are those of the database if not given.

        Returns:
            the feature columns; the circuits have their `circuit_id`.

        Raises:
            QueryError: an id is not in the database.
        """
        return self._run_on("classify", ids, {"gbar": gbar, "gsyn": gsyn} | settings)

    def _run_on(self, name: str, ids: npt.ArrayLike, settings: dict[str, Any]) -> Any:
        """What `pyloric_db.simulate` or `classify` says of circuits that go on."""
        import pyloric_db

        own = self.parameters(ids)
        usual = {
            "gbar": own.gbar,
            "gsyn": own.gsyn,
            "protocol": self.protocol,
            "initial": self.states(ids),
            "circuit": pyloric_db.circuit_of(self.manifest),
            "constants": pyloric_db.constants_of(self.manifest),
        }
        given = {key: value for key, value in settings.items() if value is not None}
        return getattr(pyloric_db, name)(**usual | given)

    def to_arrays(
        self,
        inputs: str | Sequence[str] = "parameters",
        targets: str | Sequence[str] = "features",
        where: str = "True",
        missing: Literal["drop", "mask", "fill"] = "drop",
    ) -> Any:
        """Inputs and targets of circuits as float32 matrices with names and units.

        As `pyloric_db.ml.arrays.to_arrays`, which says what the arguments are and what
        `Arrays` come back.

        Raises:
            QueryError: a column is unknown or text, or no circuit is left.
        """
        # by name: what is built upon questions is not below them
        arrays = import_module("pyloric_db.ml.arrays")
        return arrays.to_arrays(self, inputs, targets, where, missing)

    def stats(self, where: str = "pyloric") -> Any:
        """Statistics of the circuits for which an expression is true.

        As `pyloric_db.statistics.stats.stats`, whose `Statistics` come back.

        Raises:
            QueryError: the expression is not valid, or true for no circuit.
        """
        return import_module("pyloric_db.statistics.stats").stats(self, where)

    def cells(self) -> "xr.Dataset":
        """The thermalised cells: gbar_* mS/cm2, activity, period_ms, steady, V mV, Ca uM, m_*, h_*.

        Raises:
            DatabaseError: there are none yet, or their file is damaged.
        """
        import xarray as xr

        variables = {}
        described = cell_columns(self.manifest.channels)
        for name, values in read_cells(self.files, self.manifest.channels).items():
            variables[name] = ("thermalised", values, attributes(*described[name]))
        return xr.Dataset(variables)

    def _ask(self, what: str, expr: str, order: str = "") -> "pa.Table | None":
        """SELECT `what` of the circuits of an expression; None where there are no circuits."""
        condition = to_sql(expr, self.manifest)
        if not len(self):
            return None
        for source in self._sources(expr):
            try:
                return self._engine.ask(f"SELECT {what} FROM {source} WHERE {condition} {order}")
            except (QueryError, DatabaseError):
                if source == "circuits":
                    raise
        raise AssertionError("the last source is the view")

    def _sources(self, expr: str) -> Iterator[str]:
        """Where to look for the circuits of an expression, the fastest first.

        All give the same answer; one may be gone by now, but for the last, which is all.
        """
        from pyloric_db.query.engine import rows_of
        from pyloric_db.query.index import in_index
        from pyloric_db.query.narrow import narrow

        narrowing = narrow(expr)
        if narrowing.spans:
            held = self._rows.shards_within(narrowing.may_hold)
            if len(held) < len(self._table.parts):
                yield rows_of(self.files, [self._table.parts[k] for k in held or [0]])
        elif in_index(narrowing) and self._index is not None:
            yield rows_of(self.files, [self._index])
        yield "circuits"

    @cached_property
    def _engine(self) -> "SqlEngine":
        from pyloric_db.query.engine import SqlEngine

        return SqlEngine(self.files, self._table.parts, self._index)

    @cached_property
    def _index(self) -> str | None:
        """The derived table of the pyloric-like circuits, where there is a good one."""
        from pyloric_db.query.index import find_index

        return find_index(self.files, self.manifest, self._ledger.shards)

    @cached_property
    def _states(self) -> "States":
        from pyloric_db.query.states import States

        return States(self.files, self.manifest, self._ledger)

    def _circuit_id(self, rows: "npt.NDArray[np.int64]") -> tuple[str, Any, dict[str, str]]:
        """The coordinate `circuit_id` of rows of the table."""
        return CIRCUIT, self._rows.ids_at(rows), self.manifest.by_name["circuit_id"].attrs

    def _selected(self, columns: str | Sequence[str] | None) -> list[str]:
        """Names of the columns of an answer: `circuit_id` and those asked for, or all."""
        names = list(self.manifest.by_name) if columns is None else names_of(columns)
        check_names(self.manifest, names)
        return list(dict.fromkeys(["circuit_id", *names]))

    def _order(self, order_by: str | Sequence[str] | None) -> str:
        terms = []
        for term in () if order_by is None else names_of(order_by):
            name = str(term).removeprefix("-")
            check_names(self.manifest, [name])
            terms.append(f"{quote_name(name)} {'DESC' if term != name else 'ASC'} NULLS LAST")
        return ", ".join([*terms, "circuit_id"])

    def _dataset(self, names: Sequence[str], table: "pa.Table | None") -> "xr.Dataset":
        import pyarrow as pa
        import xarray as xr

        variables = {}
        for name in names:
            column = self.manifest.by_name[name]
            values = pa.chunked_array([], pa.float32()) if table is None else table[name]
            # fastpath: xarray would take every text to pandas and back
            variables[name] = xr.Variable(
                CIRCUIT, numpy_column(column, values), column.attrs, fastpath=True
            )
        coords = {"circuit_id": variables.pop("circuit_id")}
        return xr.Dataset(variables, coords, {"name": self.manifest.name})
