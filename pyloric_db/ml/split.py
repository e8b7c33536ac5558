"""Which part of a split a circuit falls into: a hash of its parameters says.

The same circuit falls into the same part in every database, whatever else is in it, so that no
circuit of a test set was ever trained on. The hash, in full:

- The parameters of a circuit are gbar in mS/cm2, cell by cell and in each the channels in the
  order Na CaT CaS A KCa Kd H leak, then gsyn in nS, synapse by synapse, and then ggap in nS, gap
  junction by gap junction, all as float32, with -0 taken as 0. What no recipe gave is 0. Their bits
  are words of 32 bits. Other channels follow, by name in the order of ASCII, if a cell of the
  circuit has them: the codes of the letters of the name, a word each, and its gbar cell by cell.
- h begins with 0. For every word, h becomes mix(h + word + 0x9E3779B97F4A7C15), where mix is the
  finaliser of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA): x ^= x >> 30, x *=
  0xBF58476D1CE4E5B9, x ^= x >> 27, x *= 0x94D049BB133111EB, x ^= x >> 31; all modulo 2**64.
- u = (h >> 11) / 2**53 is uniform in [0, 1). With shares 0.8/0.1/0.1, a circuit is in the first
  part if u < 0.8, in the second if u < 0.9, else in the third.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import ConfigError
from pyloric_db.vocabulary import CHANNELS

#: Names of the parts for one, two and three shares.
PARTS = {1: ("train",), 2: ("train", "test"), 3: ("train", "validation", "test")}

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def place_of(
    gbar: npt.ArrayLike, gsyn: npt.ArrayLike, channels: Sequence[str] = CHANNELS
) -> npt.NDArray[np.float64]:
    """u of circuits, (n,) in [0, 1).

    Args:
        gbar: (n, cell, channel) mS/cm2.
        gsyn: (n, synapse) nS, the gap junctions last.
        channels: their names, the eight first.
    """
    membrane = np.asarray(gbar, dtype=np.float32)
    n, eight = len(membrane), len(CHANNELS)
    synapses = np.asarray(gsyn, dtype=np.float32).reshape(n, -1)
    h = np.zeros(n, dtype=np.uint64)
    for word in _words(np.concatenate([membrane[..., :eight].reshape(n, -1), synapses], axis=1)):
        h = _mix(h + word + _GOLDEN)
    for name in sorted(channels[eight:]):
        values = membrane[..., list(channels).index(name)]
        has = values.any(axis=1)
        for word in (*np.frombuffer(name.encode("ascii"), np.uint8), *_words(values[has])):
            h[has] = _mix(h[has] + np.asarray(word, np.uint64) + _GOLDEN)
    return (h >> np.uint64(11)).astype(np.float64) / 2.0**53


def _words(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """The bits of values (n, value), (value, n)."""
    return np.ascontiguousarray((values + np.float32(0)).T).view(np.uint32).astype(np.uint64)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MULTIPLIERS[0]
    x = (x ^ (x >> np.uint64(27))) * _MULTIPLIERS[1]
    return x ^ (x >> np.uint64(31))


def part_of(place: npt.NDArray[np.float64], shares: Sequence[float]) -> npt.NDArray[np.intp]:
    """Number of the part that circuits with these u fall into, (n,)."""
    return np.searchsorted(np.cumsum(shares)[:-1], place, side="right")


def read_shares(text: Any) -> tuple[float, ...]:
    """The shares of a text such as `0.8/0.1/0.1`.

    Raises:
        ConfigError: these are not one, two or three positive numbers that add up to 1.
    """
    try:
        shares = tuple(float(part) for part in text.split("/")) if isinstance(text, str) else ()
    except ValueError:
        shares = ()
    if len(shares) not in PARTS or not all(math.isfinite(s) and s > 0 for s in shares):
        raise ConfigError(
            f"a split must be one, two or three shares above 0 such as '0.8/0.1/0.1', not {text!r}"
        )
    if not math.isclose(sum(shares), 1.0):
        raise ConfigError(f"the shares of a split must add up to 1, not {sum(shares):g}")
    return shares
