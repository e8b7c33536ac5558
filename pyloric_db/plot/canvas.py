"""What all figures share: matplotlib without global state, names of parameters, saving."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from pyloric_db.errors import ConfigError
from pyloric_db.vocabulary import Column, label
from pyloric_db.whole import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyloric_db.plot.tallies import Tally
    from pyloric_db.query.database import Database

#: A subset in front of the whole: dark on light, whatever the printer.
SUBSET, WHOLE = "#0072B2", "0.78"
#: Letters of a line that stands upright.
UPRIGHT = 20


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


def name_bars(ax: "Axes", names: Sequence[str], room: int) -> None:
    """Names under the bars at 0, 1, 2 and so on, of which `room` letters fit beside each other.

    Longer ones are broken into lines behind commas, and stand upright where that is not enough.
    """
    each = room // len(names)
    broken = [_lines(name, max(each - 1, 1)) for name in names]
    fit = all(len(line) <= each for lines in broken for line in lines)
    if not fit:
        broken = [_lines(name, UPRIGHT) for name in names]
    texts = ["\n".join(lines) for lines in broken]
    ax.set_xticks(range(len(names)), texts, rotation=0 if fit else 90)


def _lines(name: str, width: int) -> list[str]:
    parts = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in name.split(", ")]
    lines = wrap(", ".join(parts), width, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def number_ticks(ax: "Axes", tally: "Tally", most: int) -> None:
    """Few numbers below bins, without zeros at their ends: they would run into each other."""
    from matplotlib.ticker import MaxNLocator

    if tally.log:
        ax.set_xscale("log")
    else:
        ax.xaxis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        ax.xaxis.set_major_formatter("{x:g}")


def unfinished(db: "Database") -> str:
    """A line for the title of a figure whose database is not complete; "" for one that is."""
    if db.complete:
        return ""
    return f"\nnot complete: {len(db):,} of {db.manifest.n_circuits:,} circuits"


def short_title(column: Column) -> str:
    """A parameter as it stands beside many others: AB-LP (nS), LP Kd (mS/cm2)."""
    name = short_name(column.name)
    return name if column.unit == "1" else f"{name} ({column.unit})"


def short_name(name: str) -> str:
    """A parameter or axis as people print it: `gsyn_lp_abpd_nS` is LP-AB/PD."""
    kind, _, rest = name.partition("_")
    if kind == "gbar" and "_" in rest:
        cell, _, channel = rest.rpartition("_")
        return f"{label(cell)} {channel}"
    if kind in ("gsyn", "ggap"):
        ends = "-".join(label(part) for part in rest.removesuffix("_nS").split("_"))
        return f"gap {ends}" if kind == "ggap" else ends
    return label(name)
