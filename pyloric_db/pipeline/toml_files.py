"""The TOML files that users write, and those that come with the package."""

import re
import tomllib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from pyloric_db.errors import ConfigError, nearest


class Table(BaseModel):
    """A table of such a file: unknown keys are errors, and values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Found(NamedTuple):
    """A parsed file: its content, how messages name it, and the folder its paths start from."""

    content: dict[str, Any]
    where: str
    folder: Path


def packaged_texts(name: str) -> dict[str, str]:
    """Names and texts of the TOML files in a folder that comes with the package."""
    folder = resources.files("pyloric_db") / name
    if not folder.is_dir():  # an editable install keeps them at the top of the repository
        folder = resources.files("pyloric_db").joinpath("..", name)
    return {
        entry.name.removesuffix(".toml"): entry.read_text()
        for entry in sorted(folder.iterdir(), key=lambda e: e.name)
        if entry.name.endswith(".toml")
    }


def read_toml(source: str | Path | dict[str, Any], what: str, packaged: dict[str, str]) -> Found:
    """A file by packaged name or path, or what was parsed already.

    Args:
        source: one of `packaged`, the path of a file, or its content.
        what: how messages name such a file, as in `there is no recipe 'x'`.
        packaged: names and texts of those that come with the package.

    Raises:
        ConfigError: there is none, it cannot be read or is not TOML; one sentence.
    """
    if isinstance(source, dict):
        return Found(source, what, Path())
    text, where, folder = packaged.get(str(source)), f"{what} {source}", Path()
    if text is None:
        path = Path(source)
        if not path.is_file():
            raise ConfigError(
                f"there is no {what} {str(source)!r}: give a TOML file or one of "
                f"{', '.join(packaged)}{nearest(str(source), list(packaged))}"
            )
        try:
            text, where, folder = path.read_text(encoding="utf-8"), str(path), path.parent
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError(f"{path} cannot be read as text: {err}") from err
    try:
        return Found(tomllib.loads(text), where, folder)
    except (tomllib.TOMLDecodeError, RecursionError) as err:
        raise ConfigError(f"{where} is not TOML: {err}") from err


def sentence(error: ValidationError, keys_at: Callable[[list[str]], list[str]]) -> str:
    """The first problem of a validation, as a person would say it.

    Args:
        error: of a model that forbids unknown keys.
        keys_at: the keys that are allowed in the table at a place.
    """
    # a misspelt key is also a missing one: its name says more; and of the kinds that a value may
    # be of, the one that fits to the deepest place is the one that was meant
    first = min(error.errors(), key=lambda e: (e["type"] != "extra_forbidden", -len(e["loc"])))
    place = [str(p) for p in first["loc"] if not _TYPE_NAME.search(str(p))]
    where = ".".join(place)
    if first["type"] == "extra_forbidden":
        allowed = keys_at(place[:-1])
        return f"unknown key {where}{nearest(place[-1], allowed)}"
    if first["type"] == "missing" and place[-1].isdigit():
        return f"{'.'.join(place[:-1])} needs {int(place[-1]) + 1} values"
    if first["type"] == "missing":
        return f"the key {where} is missing"
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where}: {text}" if where else text
    if first["type"] == "too_short":
        return f"{where} is empty, but needs at least one value"
    shown = first.get("input")
    text = text.replace("a valid tuple", "a list").replace("valid dictionary", "table")
    return f"{where} is {shown!r}, but {text[0].lower()}{text[1:].split(' or instance of')[0]}"


#: Positions in unions are names of types, which mean nothing to a user.
_TYPE_NAME = re.compile(r"[\[\](]|^(float|str|int|dict|constrained-\w+)$|Distribution")
