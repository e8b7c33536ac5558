"""What all figures share: matplotlib without global state, names of parameters, saving."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyloric_db.errors import ConfigError
from pyloric_db.vocabulary import CHANNELS, Column, label
from pyloric_db.whole import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: A subset in front of the whole: dark on light, whatever the printer.
SUBSET, WHOLE = "#0072B2", "0.78"


def new_figure(**settings: Any) -> "Figure":
    """A figure outside pyplot: nothing is left open, no window or backend is touched.

    Raises:
        ConfigError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError(
            "figures need matplotlib: install pyloric-db with the extra 'plot'"
        ) from None
    return Figure(layout="constrained", **settings)


def check_suffix(path: str | Path) -> None:
    """ConfigError where a file's suffix is no format of a figure, or matplotlib is missing."""
    new_figure()
    if Path(path).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"{path} must end in one of .png, .svg and .pdf")


def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure; ConfigError where its format is unknown or the file cannot be written."""
    check_suffix(path)
    with written_whole(path) as work:
        figure.savefig(work, dpi=150)


def short_title(column: Column) -> str:
    """A parameter as it stands beside many others: AB-LP (nS), LP Kd (mS/cm2)."""
    name = short_name(column.name)
    return name if column.unit == "1" else f"{name} ({column.unit})"


def short_name(name: str) -> str:
    """A parameter or axis as people print it: `gsyn_lp_abpd_nS` is LP-AB/PD."""
    kind, _, rest = name.partition("_")
    if kind == "gbar" and rest.rpartition("_")[2] in CHANNELS:
        cell, _, channel = rest.rpartition("_")
        return f"{label(cell)} {channel}"
    if kind in ("gsyn", "ggap"):
        ends = "-".join(label(part) for part in rest.removesuffix("_nS").split("_"))
        return f"gap {ends}" if kind == "ggap" else ends
    return label(name)
