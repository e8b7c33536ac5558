import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.errors import ConfigError
from pyloric_db.ml.split import part_of, place_of, read_shares

MASK = 2**64 - 1


def by_the_book(values) -> float:
    """The documented hash, one number at a time."""
    h = 0
    for value in values:
        (word,) = struct.unpack("<I", struct.pack("<f", value + 0.0))
        x = (h + word + 0x9E3779B97F4A7C15) & MASK
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        h = x ^ (x >> 31)
    return (h >> 11) / 2**53


values = st.lists(st.floats(0, 1e4, width=32), min_size=31, max_size=31)


@settings(max_examples=50, deadline=None)
@given(values)
def test_the_hash_is_the_documented_one(parameters):
    gbar = np.array(parameters[:24]).reshape(1, 3, 8)
    gsyn = np.array(parameters[24:]).reshape(1, 7)
    assert place_of(gbar, gsyn)[0] == by_the_book(np.float32(parameters).tolist())


def test_a_value_that_must_never_change():
    gbar = np.arange(24, dtype=float).reshape(1, 3, 8)
    place = place_of(gbar, np.arange(7.0)[None])
    assert place[0] == by_the_book([*range(24), *range(7)])
    assert place[0] == 0.16742919768437925


def test_signs_of_zero_precision_and_neighbours_do_not_matter():
    rng = np.random.default_rng(1)
    gbar, gsyn = rng.random((50, 3, 8)), rng.random((50, 7))
    gsyn[:, 2] = 0.0
    place = place_of(gbar, gsyn)
    assert np.array_equal(place, place_of(gbar.astype(np.float32), gsyn.astype(np.float32)))
    assert place[17] == place_of(gbar[17:18], gsyn[17:18])[0]
    gsyn[:, 2] = -0.0
    assert np.array_equal(place, place_of(gbar, gsyn))
    gsyn[:, 2] = 1e-3
    assert not (place == place_of(gbar, gsyn)).any()


def test_places_are_uniform_on_a_grid():
    """Neighbours on a grid, which differ in one number, spread as random numbers would."""
    levels = np.array([0, 3, 10, 30, 100.0])
    gsyn = np.stack(np.meshgrid(*[levels] * 6, indexing="ij"), -1).reshape(-1, 6)
    place = place_of(np.ones((len(gsyn), 3, 8)), gsyn)
    counts, _ = np.histogram(place, bins=50, range=(0, 1))
    expected = len(place) / 50
    assert np.square(counts - expected).sum() / expected < 90  # chi-square, 49 degrees: p < 3e-4
    parts = np.bincount(part_of(place, (0.8, 0.1, 0.1))) / len(place)
    np.testing.assert_allclose(parts, (0.8, 0.1, 0.1), atol=0.01)


def test_parts_by_place():
    shares = read_shares("0.5/0.25/0.25")
    assert part_of(np.array([0, 0.4999, 0.5, 0.7499, 0.75, 0.999]), shares).tolist() == [
        0, 0, 1, 1, 2, 2,
    ]  # fmt: skip
    assert part_of(np.array([0.999]), read_shares("1")).tolist() == [0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("0.8/0.1", "add up to 1, not 0.9"),
        ("0.8/0.1/0.1/0", "one, two or three shares above 0"),
        ("0.9/0.1/0", "above 0"),
        ("1.5/-0.5", "above 0"),
        ("nan/1", "above 0"),
        ("a/b", "such as '0.8/0.1/0.1', not 'a/b'"),
        ("", "not ''"),
        ((0.8, 0.2), r"not \(0.8, 0.2\)"),
    ],
)
def test_bad_shares(text, message):
    with pytest.raises(ConfigError, match=message):
        read_shares(text)
