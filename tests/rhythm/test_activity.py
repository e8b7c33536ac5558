import numpy as np
import pytest

BURST = np.array([0.0, 15.0, 40.0, 80.0])


def bursts_at(starts):
    return np.concatenate([BURST + s for s in starts])


def bursts_after(*intervals, n):
    """Bursts at these intervals from start to start, again and again."""
    return bursts_at(500 + np.cumsum(np.tile(intervals, n)))


def varying(cv):
    """Eight intervals that repeat after no two and no three; `cv` is their SD over their mean."""
    intervals = 1000 * (1 + cv * np.array([1, 1, -1, -1] * 2))
    return bursts_at(600 + np.cumsum([0, *intervals]))


STOPPED = bursts_at(np.arange(200.0, 4000.0, 700.0))
WANDERING = 300 + np.cumsum([900, 1000, 1100, 950, 1050, 1000, 900, 1100])

CASES = {
    "no spike": ([], "silent"),
    "one spike": ([5000.0], "irregular"),
    "two spikes": ([3000.0, 7000.0], "irregular"),
    "regular at 10 Hz": (np.arange(30.0, 10_000.0, 100.0), "tonic"),
    "regular at 2.5 Hz": (np.arange(30.0, 10_000.0, 400.0), "tonic"),
    "one spike every 600 ms": (np.arange(30.0, 10_000.0, 600.0), "bursting"),
    "one spike every 3 s": ([1000.0, 4000.0, 7000.0], "bursting"),
    "one spike every 3 s, the first at the edge": ([100.0, 3100.0, 6100.0], "bursting"),
    "a burst every second": (bursts_at(np.arange(100.0, 9900.0, 1000.0)), "bursting"),
    "two bursts": (bursts_at([1000.0, 5500.0]), "bursting"),
    "one burst": (bursts_at([5000.0]), "irregular"),
    "bursts that stopped": (STOPPED, "irregular"),
    "tonic that stopped": (np.arange(30.0, 6000.0, 100.0), "irregular"),
    "intervals within 10%": (bursts_at(WANDERING), "bursting"),
    "intervals that vary by 24.9%": (varying(0.249), "bursting"),
    "intervals that vary by 25.1%": (varying(0.251), "irregular"),
    # the shortest pauses, of 520 ms, are longer than any limit between bursts
    "a pattern of two bursts": (bursts_after(600, 1200, n=5), "bursting"),
    "a pattern of three bursts": (bursts_after(600, 700, 1500, n=3), "bursting"),
    "a pattern of four bursts": (bursts_after(600, 700, 800, 1500, n=2), "irregular"),
    "a pattern of two bursts that drifts": (
        bursts_at(500 + np.cumsum([600, 1200, 640, 1280, 680, 1360, 720, 1440])),
        "irregular",
    ),
    "regular at 59 Hz, and slowing down": (np.cumsum(np.linspace(15, 19, 588)), "irregular"),
    "a spike every 0.4 s, slowing down": (np.cumsum(np.linspace(340, 460, 25)), "irregular"),
    "Poisson spikes": (np.cumsum(np.random.default_rng(1).exponential(200.0, 45)), "irregular"),
}


@pytest.mark.parametrize("case", CASES)
def test_activity(case, rhythm_of):
    times, expected = CASES[case]
    times = np.asarray(times)
    got = rhythm_of([times[times < 10_000]], cells=("cell",))
    assert got["activity_cell"][0] == expected


@pytest.mark.parametrize(("pause", "expected"), [(1400, "bursting"), (1400.5, "irregular")])
def test_bursts_have_stopped_after_more_than_twice_the_longest_interval(pause, expected, rhythm_of):
    starts = np.array([600.0, 1300, 1900, 2600])  # intervals of 700, 600 and 700
    got = rhythm_of([bursts_at(starts)], stop=2600 + pause, cells=("cell",))
    assert got["activity_cell"][0] == expected


def test_all_four_in_one_circuit(rhythm_of):
    names = ("silent", "regular at 10 Hz", "a burst every second", "one burst")
    times = [[], *(CASES[name][0] for name in names[1:])]
    got = rhythm_of(times, cells=("a", "b", "c", "d"))
    assert [got[f"activity_{c}"][0] for c in "abcd"] == [
        "silent",
        "tonic",
        "bursting",
        "irregular",
    ]
    assert [got[f"spike_rate_{c}_Hz"][0] for c in "abcd"] == pytest.approx([0, 10.0, 4.0, 0.4])
