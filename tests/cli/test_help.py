"""What commands say of themselves."""

import re

import pytest
import typer

from pyloric_db.cli import app

COMMANDS = sorted(typer.main.get_command(app).commands)


def words(text):
    """A page of help without its frame and its lines."""
    return re.sub(r"[\s│]+", " ", text)


@pytest.mark.parametrize(
    "command, says",
    [
        ("query", "columns, which `pyloric-db show DB` lists"),
        ("query", "== != < <= > >=, in with a list, and, or, not, + - * / and isnull(...)."),
        ("query", "By default a table has those that say most"),
        (
            "plot",
            "By default 'pyloric' for rhythm and marginals, none for histograms; not for stack",
        ),
        ("plot", "For histograms and stack alone: names"),
        ("merge", "Complete databases of disjoint ids: built with --ids, or draws of a prior."),
    ],
)
def test_help_says_what_stands_there_and_what_else_is_taken(inside, command, says):
    assert says in words(inside(command, "--help").stdout)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_h_is_help(inside, command):
    short, long = inside(*command, "-h"), inside(*command, "--help")
    assert short.returncode == 0 and short.stdout == long.stdout != ""
