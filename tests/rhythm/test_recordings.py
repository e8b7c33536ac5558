import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pyloric_db.errors import ConfigError, PyloricDBWarning
from pyloric_db.rhythm.recordings import features_from_spikes
from pyloric_db.vocabulary import CELLS, feature_columns


def padded(*circuits):
    width = max(len(times) for cells in circuits for times in cells)
    out = np.full((len(circuits), len(circuits[0]), width), np.nan)
    for i, cells in enumerate(circuits):
        for j, times in enumerate(cells):
            out[i, j, : len(times)] = times
    return out


def test_every_form_of_input_gives_the_same(pattern):
    one, two = pattern().cells(), pattern(period=1600.0).cells()
    array = padded(one, two)
    expected = features_from_spikes(array, window_ms=(0, 10_000))
    assert expected["pyloric"].values.tolist() == [True, True]
    assert expected["period_ms"].values == pytest.approx([1500, 1600])
    named = xr.DataArray(array, dims=("circuit", "cell", "spike"))
    shuffled = named.assign_coords(cell=list(CELLS)).sel(cell=["py", "abpd", "lp"])
    for spikes in (
        [one, two],
        [[times.tolist() for times in cells] for cells in (one, two)],
        named,
        named.transpose("spike", "cell", "circuit"),
        shuffled,
    ):
        xr.testing.assert_identical(features_from_spikes(spikes, window_ms=(0, 1e4)), expected)
    series = [pd.Series(times, index=range(50, 50 + len(times))) for times in one]
    for spikes in (one, array[0], named[0], [t.tolist() for t in one], series):
        single = features_from_spikes(spikes, window_ms=(0, 1e4))
        xr.testing.assert_identical(single, expected.isel(circuit=[0]))


def test_the_dataset_describes_itself(pattern):
    got = features_from_spikes(pattern().cells())
    assert dict(got.sizes) == {"circuit": 1}
    assert list(got.data_vars) == [c.name for c in feature_columns()]
    assert got["period_ms"].attrs == {
        "units": "ms",
        "long_name": "AB/PD burst start to next start",
    }


def test_circuit_ids_are_kept(pattern):
    array = xr.DataArray(
        padded(pattern().cells()), dims=("circuit", "cell", "spike"), coords={"circuit": [417]}
    )
    assert features_from_spikes(array)["circuit"].values.tolist() == [417]


def test_without_a_window_the_spikes_delimit_it(pattern):
    # beside others that begin and end elsewhere, each circuit has its own extent
    one = [times + 50_000 for times in pattern().cells()]
    got = features_from_spikes([one, pattern().cells(), [[], [], []], [[7.0], [], []]])
    assert got["pyloric"].values.tolist() == [True, True, False, False]
    assert got["spike_rate_abpd_Hz"].values[0] == got["spike_rate_abpd_Hz"].values[1]
    extent = max(t[-1] for t in one) - min(t[0] for t in one)
    rate = len(one[0]) / extent * 1000
    assert got["spike_rate_abpd_Hz"].values == pytest.approx([rate, rate, 0, np.nan], nan_ok=True)
    assert got["activity_abpd"].values[2:].tolist() == ["silent", "irregular"]


def test_in_a_window_every_rate_is_known(pattern):
    got = features_from_spikes([pattern().cells(), [[7.0], [], []]], window_ms=(0, 5000))
    first = (pattern().cells()[0] < 5000).sum()
    assert got["spike_rate_abpd_Hz"].values == pytest.approx([first / 5, 0.2])
    assert got["spike_rate_lp_Hz"].values[1] == 0


def test_other_cells_and_silence(pattern):
    got = features_from_spikes([pattern().cells()[0]], cells=("pd",))
    assert got["period_ms"].values == pytest.approx([1500])
    silent = features_from_spikes([[], [], []])
    assert silent["activity_py"].values.tolist() == ["silent"]
    assert features_from_spikes(np.full((2, 3, 0), np.nan)).sizes["circuit"] == 2


@pytest.mark.parametrize(
    ("spikes", "options", "text"),
    [
        ([], {}, "at least one circuit"),
        (np.zeros((0, 3, 4)), {}, "at least one circuit"),
        (np.zeros(4), {}, r"dimensions \(circuit, cell, spike\), not \(4,\)"),
        ([[1.0], [2.0]], {}, r"must have 3 cells \(abpd, lp, py\), not 2"),
        ([1.0, 2.0], {}, "spike times must be numbers"),
        ([[object()], [], []], {}, "spike times must be numbers"),
        (7.0, {}, "spike times must be numbers"),
        ([[[1.0, 0.5], [], []]], {}, "must ascend.*circuit 0, cell abpd"),
        (np.array([[[np.nan, 1], [0, 1], [0, 1]]]), {}, "time after a NaN"),
        ([[1.0]], {"cells": ()}, r"cells must be names of one or more cells, not \(\)"),
        (np.zeros((3, 4), "m8[ns]"), {}, "spike times must be numbers.*timedelta64"),
        ([np.zeros(2, "M8[s]"), [], []], {}, "spike times must be numbers.*datetime64"),
        (np.zeros((3, 4), bool), {}, "spike times must be numbers.*bool"),
        ([[1.0]], {"cells": 5}, "cells must be names of one or more cells, not 5"),
        ([[1.0], [2.0]], {"cells": "lp"}, "cells must be names of one or more cells, not 'lp'"),
        ([[1.0], [2.0]], {"cells": ("a", "a")}, "must differ, not a, a"),
        ([[1.0], [], []], {"window_ms": (5, 2)}, "must end after it begins, not 5 to 2"),
        ([[1.0], [], []], {"window_ms": (0, np.inf)}, r"window_ms must be finite, not \(0, inf\)"),
        ({"abpd": [1.0], "lp": [], "py": []}, {}, "list in the order abpd, lp, py, not a dict"),
        ([[1.0], [], []], {"protocol": 5}, "protocol must be a Protocol, not 5"),
        ([{"abpd": [1.0], "lp": [], "py": []}], {}, "spike times must be numbers"),
        (xr.DataArray([["a"]] * 3, dims=("cell", "spike")), {}, "spike times must be numbers"),
        (
            xr.DataArray(np.zeros((2, 1)), dims=("cell", "spike"), coords={"cell": ["py", "py"]}),
            {"cells": ("py",)},
            "must differ, not py, py",
        ),
        ([[1.0], [], []], {"window_ms": 5}, r"must be \(start, stop\) in ms, not 5"),
        (xr.DataArray(np.zeros((3, 2)), dims=("cell", "x")), {}, "and spike, not cell, x"),
        (
            xr.DataArray(np.zeros((1, 1)), dims=("cell", "spike"), coords={"cell": ["pd"]}),
            {},
            "cell 'abpd' is not among the cells of the spike times: pd",
        ),
    ],
)
def test_bad_input_is_named(spikes, options, text):
    with pytest.raises(ConfigError, match=text):
        features_from_spikes(spikes, **options)


@pytest.mark.parametrize(("factor", "said"), [(1e-3, "0.1"), (1e3, r"1e\+05")])
def test_times_in_another_unit_are_asked_about(factor, said):
    times = np.arange(100) * 100.0
    features_from_spikes([times, [], times])
    features_from_spikes([[5.0, 2e4], [3.0], [1e6]])  # too few intervals to tell
    asked = rf"{said} apart .* are these times in ms\?"
    with pytest.warns(PyloricDBWarning, match=asked) as caught:
        features_from_spikes([times * factor, [], times * factor])
    assert caught[0].filename == __file__  # it points at whoever gave these times
