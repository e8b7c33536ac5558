"""The TOML files that users write, and those that come with the package."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pyloric_db.errors import ConfigError, nearest


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
