"""What can go wrong, as a user meets it.

Every error that bad input or a damaged database can cause is a `PyloricDBError`
whose text is one sentence for a person: what was expected, what came, where.
The command line prints that sentence and exits with 2. Anything else that is
raised is a fault of this package.
"""


class PyloricDBError(Exception):
    """Base of all errors that a user can cause and mend."""


class ConfigError(PyloricDBError, ValueError):
    """A recipe, protocol, circuit or argument is not valid."""


class QueryError(PyloricDBError, ValueError):
    """A query names an unknown column or is not a boolean expression over columns."""


class DatabaseError(PyloricDBError):
    """A directory is not a database, is damaged, or belongs to another recipe."""


class ShardError(PyloricDBError):
    """A shard could not be made."""


class ClusterError(PyloricDBError):
    """There are no workers to build on, or they were lost; what is finished is kept."""


class PyloricDBWarning(UserWarning):
    """The work waits, or its result is not what it would be of intact or like inputs."""


def nearest(name: str, allowed: "list[str] | tuple[str, ...]") -> str:
    """A hint `; did you mean 'x'?` for a misspelt name, or an empty string."""
    from difflib import get_close_matches

    as_written = {known.lower(): known for known in allowed}
    exact = [name.lower()] if name.lower() in as_written else []
    longer = [known for known in as_written if known.startswith(f"{name.lower()}_")]  # period_ms
    match = exact or longer or get_close_matches(name.lower(), list(as_written), n=1, cutoff=0.5)
    return f"; did you mean {as_written[match[0]]!r}?" if match else ""


def first_line(err: BaseException) -> str:
    """The first line of a library's message."""
    return (str(err).strip() or type(err).__name__).splitlines()[0]
