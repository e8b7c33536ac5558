"""The command line: parse, call, print. No science, and no JAX before a command needs it."""

import inspect
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated

import typer

import pyloric_db
from pyloric_db.cli import (
    asking,
    building,
    deriving,
    exporting,
    looking,
    matching,
    measuring,
    statistics,
)
from pyloric_db.cli.console import complain, warnings_as_sentences
from pyloric_db.errors import PyloricDBError, ShardError

#: What typer ends with after Ctrl-C.
INTERRUPTED = 130

app = typer.Typer(
    help="Databases of pyloric circuit models, built and asked.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _paragraphs(command: Callable[..., None]) -> str:
    """Its docstring with each paragraph on one line, which the help breaks where it must."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)


for command in (
    *building.COMMANDS,
    *deriving.COMMANDS,
    *measuring.COMMANDS,
    *asking.COMMANDS,
    *matching.COMMANDS,
    *looking.COMMANDS,
    *exporting.COMMANDS,
    *statistics.COMMANDS,
):
    app.command(help=_paragraphs(command))(command)


def main() -> None:
    """Entry point: errors become one sentence and an exit code, our warnings one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that its encoding lacks
    try:
        with warnings_as_sentences():
            app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            complain("interrupted")
        raise
    except MemoryError:
        complain("there is not enough memory: ask for fewer circuits or columns")
        sys.exit(2)
    except ShardError as error:
        complain(str(error))
        sys.exit(1)
    except PyloricDBError as error:
        complain(str(error))
        sys.exit(2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.stderr.close()
            sys.exit(0)
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}")
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(pyloric_db.__version__)
        raise typer.Exit
