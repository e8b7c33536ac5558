"""Ranges of circuit ids: parts of a recipe that different machines build."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyloric_db.errors import ConfigError

#: Ranges of step 1; `check_ranges` sorts them, and joins those that touch.
Ranges = Sequence[range]


def parse_ranges(text: str) -> Ranges:
    """Ranges from text such as `0:1000` or `0:1000,5000:6000`.

    Raises:
        ConfigError: it is something else.
    """
    parts = text.split(",")
    if not all(re.fullmatch(r"[0-9]{1,18}:[0-9]{1,18}", part) for part in parts):
        raise ConfigError(f"ids must be given as A:B or A:B,C:D,..., not {text!r}")
    return tuple(range(*map(int, part.split(":"))) for part in parts)


def ranges_text(ranges: Ranges) -> str:
    """What `parse_ranges` reads."""
    return ",".join(f"{r.start}:{r.stop}" for r in ranges)


def check_ranges(ranges: Ranges, total: int) -> Ranges:
    """The same ranges, ascending, with those that touch joined.

    Raises:
        ConfigError: there is none, one is empty, they overlap, or they leave 0 ... total - 1.
    """
    if not isinstance(ranges, Sequence) or not all(isinstance(r, range) for r in ranges):
        raise ConfigError(f"ids must be ranges, such as [range(0, 1000)], not {ranges!r}")
    if not ranges:
        raise ConfigError("ids must have at least one range")
    joined: list[range] = []
    for r in sorted(ranges, key=lambda r: r.start):
        if r.step != 1 or not 0 <= r.start < r.stop <= total:
            raise ConfigError(
                f"ids {r.start}:{r.stop} are no range of the recipe's circuits, which are 0:{total}"
            )
        if joined and r.start < joined[-1].stop:
            raise ConfigError(f"ids {r.start}:{min(r.stop, joined[-1].stop)} are given twice")
        if joined and r.start == joined[-1].stop:
            joined[-1] = range(joined[-1].start, r.stop)
        else:
            joined.append(r)
    return tuple(joined)


def ids_of_rows(ranges: Ranges, start: int, stop: int) -> np.ndarray:
    """Ids (stop - start,) of rows start ... stop - 1, which count through all ranges."""
    rows = np.arange(start, stop, dtype=np.int64)
    ends = np.cumsum([len(r) for r in ranges])
    which = np.searchsorted(ends, rows, side="right")
    stops = np.array([r.stop for r in ranges], dtype=np.int64)
    return rows - ends[which] + stops[which]


def recorded_ranges(ranges: Ranges, total: int) -> dict[str, Any]:
    """How a manifest's selection says that only these ranges were built; {} if that is all."""
    joined = check_ranges(ranges, total)
    if list(joined) == [range(total)]:
        return {}
    return {"ids": [[r.start, r.stop] for r in joined], "of": total}
