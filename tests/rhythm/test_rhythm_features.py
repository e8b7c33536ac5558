import numpy as np
import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.protocol import Protocol
from pyloric_db.rhythm.analyse import analyse
from pyloric_db.rhythm.classify import criteria_met, in_pyloric_order, periodic
from pyloric_db.rhythm.spikes import SpikeTrains
from pyloric_db.vocabulary import CELLS, CRITERIA, feature_columns

# by hand from the pattern: period 1500, AB/PD 0-570, LP 800-1190, PY 1130-1650
EXPECTED = {
    "period_ms": 1500,
    "burst_duration_abpd_ms": 570,
    "burst_duration_lp_ms": 390,
    "burst_duration_py_ms": 520,
    "gap_abpd_lp_ms": 230,
    "gap_lp_py_ms": -60,
    "delay_abpd_lp_ms": 800,
    "delay_abpd_py_ms": 1130,
    "duty_cycle_abpd": 0.38,
    "duty_cycle_lp": 0.26,
    "duty_cycle_py": 520 / 1500,
    "phase_gap_abpd_lp": 230 / 1500,
    "phase_gap_lp_py": -0.04,
    "phase_start_lp": 800 / 1500,
    "phase_start_py": 1130 / 1500,
    "phase_end_lp": 1190 / 1500,
    "phase_end_py": 1.1,
    "spikes_per_burst_abpd": 14,
    "spikes_per_burst_lp": 14,
    "spikes_per_burst_py": 14,
}
FLAGS = ("periodic", "triphasic", "pyloric_like", "pyloric")


def flags(got, i=0):
    return [bool(got[name][i]) for name in FLAGS]


def test_a_pyloric_rhythm(pattern, rhythm_of):
    got = rhythm_of(pattern().cells())
    for name, value in EXPECTED.items():
        assert got[name][0] == pytest.approx(value, rel=1e-6), name
    assert got["period_cv"][0] == pytest.approx(0, abs=1e-6)
    assert flags(got) == [True] * 4
    assert got["n_criteria_met"][0] == 15


def test_columns_are_those_of_the_vocabulary(pattern, rhythm_of):
    got = rhythm_of(pattern().cells())
    assert list(got) == [c.name for c in feature_columns()]
    kinds = {"float32": "f", "int8": "f", "bool": "b", "category": "U"}
    for c in feature_columns():
        assert got[c.name].dtype.kind == kinds[c.kind], c.name


@pytest.mark.parametrize("first", [-1490, -1200, -900, -600, -300, -10, 0])
@pytest.mark.parametrize("stop", [8_000, 8_300, 8_700, 9_100, 9_450])
def test_any_cut_of_the_window_gives_the_same_rhythm(pattern, rhythm_of, first, stop):
    got = rhythm_of(pattern(first=first, stop=stop).cells(), stop=stop)
    for name, value in EXPECTED.items():
        assert got[name][0] == pytest.approx(value, rel=1e-6), name
    assert flags(got) == [True] * 4


def test_bursts_cut_by_an_edge_do_not_shorten_durations(rhythm_of):
    starts = np.arange(0.0, 9000.0, 1000.0)
    times = np.concatenate([s + np.linspace(0, 300, 11) for s in starts])
    times = times[(times >= 100) & (times < 8200)]  # the first and the last are cut
    got = rhythm_of([times], start=100.0, stop=8200.0, cells=("a",))
    assert got["burst_duration_a_ms"][0] == pytest.approx(300)
    assert got["spikes_per_burst_a"][0] == 11
    assert got["period_ms"][0] == pytest.approx(1000)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # LP ends after PY: no pyloric order
        ({"lp": (800, 900)}, [True, True, False, False]),
        # PY starts before LP
        ({"lp": (900, 400), "py": (850, 600)}, [True, True, False, False]),
        # LP starts before AB/PD ends
        ({"lp": (550, 390)}, [True, True, False, False]),
        # in order, but the period is too short for lobsters
        (
            {"period": 900.0, "abpd": (0, 340), "lp": (480, 230), "py": (680, 310)},
            [True, True, True, False],
        ),
    ],
)
def test_labels(pattern, rhythm_of, change, expected):
    assert flags(rhythm_of(pattern(**change).cells())) == expected


def test_order_is_that_of_the_means_and_nothing_at_once_is_in_it():
    order = {
        "delay_abpd_lp_ms": 800.0,
        "delay_abpd_py_ms": 800.5,
        "phase_end_lp": 0.8,
        "phase_end_py": 0.801,
        "gap_abpd_lp_ms": 0.5,
    }
    for name in order:
        at_once = {"delay_abpd_py_ms": 800.0, "phase_end_py": 0.8, "gap_abpd_lp_ms": 0.0}
        values = np.array([order[name], at_once.get(name, order[name]), np.nan])
        got = in_pyloric_order({**{n: np.full(3, v) for n, v in order.items()}, name: values})
        assert got.tolist() == [True, name not in at_once, False], name


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda c: c.column)
def test_a_criterion_is_met_from_limit_to_limit(criterion):
    low, high = criterion.low, criterion.high
    values = np.array([low, high, np.nextafter(low, -np.inf), np.nextafter(high, np.inf), np.nan])
    features = {c.column: np.full(5, c.mean) for c in CRITERIA}
    met = criteria_met({**features, criterion.column: values})
    null = np.nan if criterion.column == "period_ms" else 14  # without a period there is no count
    np.testing.assert_array_equal(met, [15, 15, 14, 14, null])


def test_one_missing_or_doubled_burst_is_not_triphasic(pattern, rhythm_of):
    abpd, lp, py = pattern().cells()
    missing = lp[(lp < 5000) | (lp > 6500)]
    assert flags(rhythm_of([abpd, missing, py])) == [True, False, False, False]
    # one more short burst in a cycle, away from the other
    doubled = np.sort(np.concatenate([lp, [5040.0, 5050.0]]))
    assert flags(rhythm_of([abpd, doubled, py])) == [True, False, False, False]
    # a missing one and a doubled one: the number of bursts is right, their places are not
    moved = np.sort(np.concatenate([missing, [3545.0, 3555.0]]))
    assert flags(rhythm_of([abpd, moved, py])) == [True, False, False, False]
    got = rhythm_of([abpd, missing, py])
    for name in ("delay_abpd_lp_ms", "gap_lp_py_ms", "phase_start_py", "phase_end_lp"):
        assert np.isnan(got[name][0])
    # an LP that misses a burst is irregular; what the others do by themselves stays known, and
    # is counted: period, two durations, two duty cycles
    assert got["activity_lp"][0] == "irregular"
    assert got["burst_duration_py_ms"][0] == pytest.approx(520)
    assert got["n_criteria_met"][0] == 5


def test_bursts_in_the_wrong_cycle_are_not_triphasic(pattern, rhythm_of):
    # one LP burst comes just before its AB/PD burst, all others just after theirs: their number
    # is right and LP is regular, but one cycle has two and the next none
    abpd, lp, py = pattern(lp=(20, 390)).cells()
    early = np.where((lp > 4800) & (lp < 6000), lp - 40, lp)
    assert rhythm_of([abpd, lp, py])["triphasic"][0]
    got = rhythm_of([abpd, early, py])
    assert got["activity_lp"][0] == "bursting"
    assert flags(got) == [True, False, False, False]


def test_a_burst_cut_by_the_windows_begin_spoils_no_cycle(pattern, rhythm_of):
    # AB/PD starts at 300 for certain (it pauses for 500 ms, and 250 is enough); LP's last two
    # spikes of a burst from before the window fall into that cycle, beside its own burst
    abpd, lp, py = pattern(abpd=(0, 1000), lp=(1050, 300), py=(1200, 400)).cells()
    lp = np.concatenate([[400.0, 410.0], lp[lp > 1300]])
    got = rhythm_of([abpd, lp, py])
    assert got["triphasic"][0]
    assert got["delay_abpd_lp_ms"][0] == pytest.approx(1050)


def test_a_burst_cut_by_the_windows_end_has_no_gap(pattern, rhythm_of):
    # the last LP burst starts at 8800, in the last cycle, and would end at 9700
    cells = pattern(lp=(1000, 900), py=(1300, 400), stop=9400).cells()
    got = rhythm_of(cells, stop=9400)
    assert got["triphasic"][0]
    assert got["gap_lp_py_ms"][0] == pytest.approx(-600)
    assert got["burst_duration_lp_ms"][0] == pytest.approx(900)


def test_periodic_needs_two_cycles_and_a_small_spread(rhythm_of):
    def pacemaker(cycles):
        starts = 600 + np.concatenate([[0], np.cumsum(cycles)])
        return np.concatenate([s + np.array([0.0, 20.0, 60.0]) for s in starts])

    cases = {
        (1000.0,): (np.nan, np.nan, False),  # one cycle: no period
        (1000.0, 1000.0): (1000, 0, True),
        (960.0, 1040.0, 960.0, 1040.0): (1000, 0.04, True),
        (940.0, 1060.0, 940.0, 1060.0): (1000, 0.06, False),
    }
    for intervals, (period, cv, repeats) in cases.items():
        stop = 1200 + sum(intervals)
        got = rhythm_of([pacemaker(intervals)], stop=stop, cells=("a",))
        assert got["activity_a"][0] == "bursting"
        assert got["period_ms"][0] == pytest.approx(period, nan_ok=True)
        assert got["period_cv"][0] == pytest.approx(cv, nan_ok=True, abs=1e-6)
        assert got["periodic"][0] == repeats
    at_most = periodic(np.array([0.05, np.nextafter(0.05, 1), np.nan]), Protocol())
    assert at_most.tolist() == [True, False, False]
    loose = Protocol(period_cv=0.07)
    got = rhythm_of([pacemaker((940.0, 1060.0) * 2)], stop=5200, protocol=loose, cells=("a",))
    assert got["periodic"][0]


def test_a_burst_longer_than_the_pacemakers_period_has_no_duty_cycle(pattern, rhythm_of):
    abpd, _, py = pattern().cells()
    slow = np.concatenate([t + np.arange(0, 2000, 100.0) for t in np.arange(0, 12_000, 3000.0)])
    got = rhythm_of([abpd, slow, py])
    assert got["activity_lp"][0] == "bursting"
    assert got["burst_duration_lp_ms"][0] == pytest.approx(1900)
    assert np.isnan(got["duty_cycle_lp"][0]) and 0 < got["duty_cycle_abpd"][0] < 1


def test_nulls_of_a_circuit_that_does_not_burst(pattern, rhythm_of):
    abpd, lp, py = pattern().cells()
    got = rhythm_of([[], [], []], [abpd, [], py], [[], lp, py], [np.arange(5, 1e4, 100), lp, py])
    assert got["activity_lp"].tolist() == ["silent", "silent", "bursting", "bursting"]
    assert got["activity_abpd"].tolist() == ["silent", "bursting", "silent", "tonic"]
    for name in FLAGS[1:]:
        assert not got[name].any()
    assert got["periodic"].tolist() == [False, True, False, False]
    assert np.isnan(got["period_ms"]).tolist() == [True, False, True, True]
    assert np.isnan(got["n_criteria_met"]).tolist() == [True, False, True, True]
    # an LP that bursts alone has a duration, but no cycle to be part of
    assert got["burst_duration_lp_ms"][2] == pytest.approx(390)
    assert np.isnan(got["duty_cycle_lp"][2])
    assert np.isnan(got["burst_duration_lp_ms"][1])
    assert np.isnan(got["spikes_per_burst_abpd"][3])
    assert np.isnan(got["phase_start_lp"]).all()
    rates = [got[f"spike_rate_{c}_Hz"] for c in CELLS]
    assert np.isfinite(rates).all()
    assert [r[0] for r in rates] == [0, 0, 0]


def test_one_spike_bursts_have_duration_zero(pattern, rhythm_of):
    abpd, lp, py = pattern().cells()
    got = rhythm_of([abpd, lp[(lp - (-1200 + 800)) % 1500 < 1], py])
    assert got["activity_lp"][0] == "bursting"
    assert got["burst_duration_lp_ms"][0] == 0
    assert got["triphasic"][0]
    assert got["phase_start_lp"][0] == pytest.approx(800 / 1500)


def test_a_rhythm_that_dies_is_none(pattern, rhythm_of):
    cells = [times[times < 6000] for times in pattern().cells()]
    assert flags(rhythm_of(cells)) == [False] * 4


def test_criteria_are_counted_on_the_stored_numbers(pattern, rhythm_of):
    slow = {"period": 2000.0, "abpd": (0, 800), "lp": (1160, 440), "py": (1600, 700)}
    got = rhythm_of(pattern(**slow).cells())
    met = sum(c.low <= got[c.column][0] <= c.high for c in CRITERIA)
    assert got["n_criteria_met"][0] == met
    # LP starts after 1160 ms, not in 803 +- 338; PY after 1600 ms, not in 1141 +- 432
    assert met == 13
    assert flags(got) == [True, True, True, False]


def test_a_limit_is_met_by_the_number_as_it_is_stored(pattern, rhythm_of):
    # 1e-9 below the lowest duty cycle, which float32 cannot tell from it
    got = rhythm_of(pattern(abpd=(0, 1500 * (0.305 - 1e-9))).cells())
    assert got["duty_cycle_abpd"][0] == np.float32(0.305)
    assert got["n_criteria_met"][0] == 15


def test_windows_may_differ_between_circuits(pattern):
    cells = pattern().cells()
    later = [times + 20_000 for times in cells]
    trains = SpikeTrains.from_lists([cells, later], CELLS)
    got = analyse(trains, CELLS, [0.0, 20_000.0], [10_000.0, 30_000.0], Protocol())
    assert got["pyloric"].tolist() == [True, True]
    outside = analyse(trains, CELLS, 0.0, 10_000.0, Protocol())
    assert outside["activity_abpd"].tolist() == ["bursting", "silent"]


def test_in_other_circuits_every_cell_has_a_delay_and_phases(pattern, rhythm_of):
    cells = ("ab", "x", "y")
    got = rhythm_of(pattern().cells(), cells=cells)
    assert list(got) == [c.name for c in feature_columns(cells)]
    assert "triphasic" not in got
    expected = {"x": (800, 800 / 1500, 1190 / 1500), "y": (1130, 1130 / 1500, 1.1)}
    for cell, (delay, start, end) in expected.items():
        assert got[f"delay_ab_{cell}_ms"][0] == pytest.approx(delay, rel=1e-6)
        assert got[f"phase_start_{cell}"][0] == pytest.approx(start, rel=1e-6)
        assert got[f"phase_end_{cell}"][0] == pytest.approx(end, rel=1e-6)
    # one that misses a burst has no phase, and takes the other's away only where both are asked
    abpd, lp, py = pattern().cells()
    lp = lp[(lp < 5000) | (lp > 6500)]
    got = rhythm_of([abpd, lp, py], cells=cells)
    assert np.isnan(got["phase_start_x"][0]) and np.isnan(got["delay_ab_x_ms"][0])
    assert got["phase_start_y"][0] == pytest.approx(1130 / 1500)
    assert np.isnan(rhythm_of([abpd, lp, py])["phase_start_py"][0])


@pytest.mark.parametrize("early", [-100, -1, 0, 1, 100, 1300])
def test_a_cell_in_synchrony_has_a_phase_around_zero(pattern, rhythm_of, early):
    abpd = pattern().cells()[0]
    wobble = np.repeat(np.resize([-2.0, 2.0], 40), 14)[: len(abpd)]  # of every other burst
    got = rhythm_of([abpd, abpd + early + wobble], cells=("ab", "pd"))
    assert got["activity_pd"][0] == "bursting"
    assert got["delay_ab_pd_ms"][0] == pytest.approx(early, abs=1)
    assert got["phase_start_pd"][0] == pytest.approx(early / 1500, abs=1e-3)
    assert got["phase_end_pd"][0] == pytest.approx((early + 570) / 1500, abs=1e-3)


@pytest.mark.parametrize(("early", "delay"), [(149, -149), (151, 1349)])
def test_from_a_tenth_of_a_cycle_on_a_burst_belongs_to_the_cycle_before(
    pattern, rhythm_of, early, delay
):
    abpd = pattern().cells()[0]
    got = rhythm_of([abpd, abpd - early], cells=("ab", "pd"))
    assert got["delay_ab_pd_ms"][0] == pytest.approx(delay)


def test_a_burst_that_starts_with_the_pacemakers_is_of_the_cycle_that_begins(pattern, rhythm_of):
    got = rhythm_of(pattern(lp=(0, 390)).cells())
    assert flags(got) == [True, True, False, False]
    assert got["delay_abpd_lp_ms"][0] == got["phase_start_lp"][0] == 0


def test_three_cells_are_found_by_name(pattern, rhythm_of):
    abpd, lp, py = pattern().cells()
    cells = ("abpd", "ic", "py", "lp", "vd")
    got = rhythm_of([abpd, [], py, lp, abpd + 30], cells=cells)
    assert list(got) == [c.name for c in feature_columns(cells)]
    assert flags(got) == [True] * 4
    assert got["phase_start_lp"][0] == pytest.approx(800 / 1500)
    assert np.isnan(got["phase_start_ic"][0])
    assert got["delay_abpd_vd_ms"][0] == pytest.approx(30)
    assert got["phase_end_vd"][0] == pytest.approx(600 / 1500)


def test_no_circuits_give_empty_columns():
    empty = SpikeTrains(np.zeros(0), np.zeros(1, np.int64), 0, 3)
    got = analyse(empty, CELLS, 0.0, 1.0, Protocol())
    assert list(got) == [c.name for c in feature_columns()]
    assert all(v.shape == (0,) for v in got.values())


@pytest.mark.parametrize(
    ("cells", "window", "text"),
    [
        (("abpd", "lp"), (0, 1), r"each of the 3 cells, not 2 \(abpd, lp\)"),
        (("abpd", "lp", "lp"), (0, 1), "cell names must differ, not abpd, lp, lp"),
        (("lp", "abpd", "py"), (0, 1), "abpd must be the first cell.*not lp"),
        (CELLS, (5, 5), r"must end after it begins, not 5 to 5 ms \(circuit 0\)"),
        (CELLS, ([0, 7], [5, 6]), r"not 7 to 6 ms \(circuit 1\)"),
        (CELLS, (0, np.nan), "must end after it begins, not 0 to nan"),
    ],
)
def test_bad_arguments(cells, window, text):
    trains = SpikeTrains.from_lists([[[], [], []]] * 2, CELLS)
    with pytest.raises(ConfigError, match=text):
        analyse(trains, cells, *window, Protocol())
