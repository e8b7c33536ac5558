"""DuckDB over the Parquet files of a database: read-only, and shut in with them."""

from collections.abc import Sequence
from threading import Lock
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


class Engine:
    """A DuckDB connection that sees the view `circuits`, its files, and nothing else.

    Threads may share it: their questions are answered one after the other, each by all cores.
    `derived` is a table that `ask` may be told to read instead of the view.
    """

    def __init__(self, files: Files, parts: Sequence[str], derived: str | None = None) -> None:
        import duckdb

        self._duckdb = duckdb
        self._lock = Lock()
        self._connection = duckdb.connect(":memory:")
        filesystem = files.arrow_filesystem()
        if filesystem is not None:
            self._connection.register_filesystem(filesystem)
        names = [*parts, *([derived] if derived else [])]
        paths = [_path_of(files, name) for name in names]
        self._files, self._named = files, dict(zip(paths, names, strict=True))
        allowed = text_list([*paths, *map(literally, paths)])
        self._connection.execute(f"SET allowed_paths = {allowed}")
        self._connection.execute("SET parquet_metadata_cache = true")
        try:
            self._connection.execute(
                f"CREATE VIEW circuits AS SELECT * FROM {rows_of(files, parts)}"
            )
        except duckdb.Error as err:
            raise self._unreadable(err) from err
        # it would be drawn into the caller's output. Turning off what is off fails in notebooks
        # that cannot draw it
        setting = "current_setting('enable_progress_bar')"
        if self._connection.execute(f"SELECT {setting}").fetchone() != (False,):
            self._connection.execute("SET enable_progress_bar = false")
        for statement in _SHUT:
            self._connection.execute(statement)

    def ask(self, text: str) -> Any:
        """The `pyarrow.Table` of one SELECT statement.

        Raises:
            QueryError: it is none, is not the only one, or fails.
            DatabaseError: a part cannot be read.
        """
        if not isinstance(text, str):
            raise QueryError(f"SQL must be text, not {type(text).__name__}")
        with self._lock:
            return self._answer(text)

    def _answer(self, text: str) -> Any:
        try:
            statements = self._connection.extract_statements(text)
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
            return self._connection.sql(text).to_arrow_table()
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


def rows_of(files: Files, names: Sequence[str]) -> str:
    """SQL of the rows of a database's Parquet files, whatever their names."""
    return f"read_parquet({text_list([literally(_path_of(files, name)) for name in names])})"


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
