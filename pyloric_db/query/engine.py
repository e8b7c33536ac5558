"""DuckDB over the Parquet files of a database: read-only, and shut in with them."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, current_thread, main_thread
from typing import Any

from pyloric_db.errors import DatabaseError, QueryError, first_line
from pyloric_db.query.expression import quote_text
from pyloric_db.store.files import FEATURES_DIR, Files

#: What a query may not do, set after the view exists and then locked.
_SHUT = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",  # Python variables of the caller
    "SET temp_directory = ''",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class SqlEngine:
    """A DuckDB connection that sees the view `circuits`, its files, and nothing else.

    Threads may share it: their questions are answered one after the other, each by all cores. A
    process that was forked makes its own, since DuckDB's threads stay behind.
    `derived` is a table that `ask` may be told to read instead of the view.
    """

    def __init__(self, files: Files, parts: Sequence[str], derived: str | None = None) -> None:
        import duckdb

        self._duckdb = duckdb
        names = [*parts, *([derived] if derived else [])]
        paths = [_path_of(files, name) for name in names]
        self._files, self._parts = files, parts
        self._named = dict(zip(paths, names, strict=True))
        self._connections: dict[int, tuple[Any, Lock]] = {}  # by process
        self._connected()

    def _connected(self) -> tuple[Any, Lock]:
        """This process's connection, and the lock that goes with it."""
        process = os.getpid()
        if process not in self._connections:
            # an inherited one is kept: to close it is to wait for its threads
            self._connections[process] = self._connect(), Lock()
        return self._connections[process]

    def _connect(self) -> Any:
        connection = self._duckdb.connect(":memory:")
        filesystem = self._files.arrow_filesystem()
        if filesystem is not None:
            connection.register_filesystem(filesystem)
        allowed = text_list([*self._named, *map(literally, self._named)])
        connection.execute(f"SET allowed_paths = {allowed}")
        connection.execute("SET parquet_metadata_cache = true")
        try:
            connection.execute(
                f"CREATE VIEW circuits AS SELECT * FROM {rows_of(self._files, self._parts)}"
            )
        except self._duckdb.Error as err:
            raise self._unreadable(err) from err
        # it would be drawn into the caller's output. Turning off what is off fails in notebooks
        # that cannot draw it
        setting = "current_setting('enable_progress_bar')"
        if connection.execute(f"SELECT {setting}").fetchone() != (False,):
            connection.execute("SET enable_progress_bar = false")
        for statement in _SHUT:
            connection.execute(statement)
        return connection

    def ask(self, text: str) -> Any:
        """The `pyarrow.Table` of one SELECT statement.

        Raises:
            QueryError: it is none, is not the only one, or fails.
            DatabaseError: a part cannot be read.
        """
        if not isinstance(text, str):
            raise QueryError(f"SQL must be text, not {type(text).__name__}")
        connection, lock = self._connected()
        with lock:
            return self._answer(connection, text)

    def _answer(self, connection: Any, text: str) -> Any:
        try:
            statements = connection.extract_statements(text)
        except (self._duckdb.Error, ValueError) as err:
            raise QueryError(f"SQL cannot be read: {first_line(err)}") from err
        if len(statements) != 1:
            raise QueryError(f"SQL must be exactly one statement, not {len(statements)}")
        if statements[0].type != self._duckdb.StatementType.SELECT:
            raise QueryError(
                f"SQL must be a SELECT statement, not {statements[0].type.name}: "
                "a database is read-only"
            )
        try:
            return _plain(_interruptible(connection, lambda: connection.sql(text).to_arrow_table()))
        except (self._duckdb.Error, ValueError, RuntimeError) as err:
            # what is wrong inside a Parquet file comes as an error of no class of its own
            if type(err) is self._duckdb.Error or self._name_in(err):
                raise self._unreadable(err) from err
            raise QueryError(f"SQL failed: {first_line(err)}") from err

    def _unreadable(self, err: Exception) -> DatabaseError:
        """The error of a damaged part, which is named where DuckDB names it."""
        name = self._name_in(err) or f"a file in {FEATURES_DIR}"
        return DatabaseError(
            f"{name} of {self._files} cannot be read: `pyloric-db verify` says what is damaged, "
            "and building it again mends it"
        )

    def _name_in(self, err: Exception) -> str | None:
        """The file that a message is about; its further lines quote SQL."""
        return next((name for path, name in self._named.items() if path in first_line(err)), None)


def _plain(table: Any) -> Any:
    """Sums of integers as numbers that NumPy and pandas know: DuckDB's are of 128 bits."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if field.type == pa.decimal128(38, 0):
            try:
                column = table[i].cast(pa.int64())
            except pa.ArrowInvalid:
                column = table[i].cast(pa.float64())
            table = table.set_column(i, field.name, column)
    return table


def _interruptible(connection: Any, question: Callable[[], Any]) -> Any:
    """What a question gives, or KeyboardInterrupt as soon as Ctrl-C is pressed.

    DuckDB looks for signals between the tasks of a question, and one may be long; another thread
    does not wait for them.
    """
    if current_thread() is not main_thread():  # which signals come to
        return question()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(question)
        try:
            return running.result()
        except KeyboardInterrupt:
            connection.interrupt()
            raise


def rows_of(files: Files, names: Sequence[str]) -> str:
    """SQL of the rows of a database's Parquet files, whatever their names and their folders'.

    A folder called `lp=2` is not to put its 2 in the place of the column lp.
    """
    paths = text_list([literally(_path_of(files, name)) for name in names])
    return f"read_parquet({paths}, hive_partitioning = false)"


def _path_of(files: Files, name: str) -> str:
    """A file as DuckDB names it."""
    filesystem = files.arrow_filesystem()
    path = files.arrow_path(name)
    return path if filesystem is None else f"{filesystem.protocol}://{path}"


def text_list(texts: Sequence[str]) -> str:
    """SQL of a list of texts."""
    return "[" + ", ".join(map(quote_text, texts)) + "]"


def literally(path: str) -> str:
    """A path in which DuckDB finds no wildcards."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)
