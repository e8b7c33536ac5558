import datetime

import numpy as np
import pytest
from recordings import BURSTS, PERIOD_S, pyloric_spikes, write_csv

from pyloric_db.errors import ConfigError
from pyloric_db.rhythm.recording_files import read_recording
from pyloric_db.rhythm.recordings import features_from_spikes


def test_a_csv_file_gives_the_features_of_its_spikes(tmp_path):
    file = write_csv(tmp_path / "prep.csv", pyloric_spikes())
    spikes = read_recording(file)
    assert spikes.dims == ("cell", "spike") and spikes.cell.values.tolist() == ["abpd", "lp", "py"]
    assert spikes.attrs["units"] == "ms" and spikes.attrs["left_out"] == []
    found = features_from_spikes(spikes)
    assert found.period_ms.values[0] == pytest.approx(1000 * PERIOD_S, rel=1e-5)
    assert found.burst_duration_lp_ms.values[0] == pytest.approx(400, rel=1e-4)
    assert found.delay_abpd_py_ms.values[0] == pytest.approx(1140, rel=1e-4)
    assert bool(found.pyloric.values[0])


def test_milliseconds_other_columns_other_neurons_and_capitals(tmp_path):
    plain = read_recording(write_csv(tmp_path / "s.csv", pyloric_spikes()))
    rows = [({"PD": "ab/pd", "LP": " lp "}.get(n, n), t) for n, t in pyloric_spikes()]
    rows.append(("MG", 100.0))
    text = "\ufeffTime, Neuron,note\r\n" + "".join(f"{1000 * t:.3f},{n},x\r\n" for n, t in rows)
    (tmp_path / "ms.csv").write_text(text)
    spikes = read_recording(tmp_path / "ms.csv", unit="ms")
    assert spikes.attrs["left_out"] == ["MG"]
    np.testing.assert_allclose(spikes, plain, atol=0.001)


def test_cells_of_another_circuit_are_found_by_their_names(tmp_path):
    file = write_csv(tmp_path / "prep.csv", pyloric_spikes())
    of_two = read_recording(file, cells=("lp", "pd"))  # here PD is a cell of its own
    assert of_two.cell.values.tolist() == ["lp", "pd"] and of_two.attrs["left_out"] == ["PY"]
    whole = read_recording(file)
    assert of_two.sel(cell="pd").max() == whole.sel(cell="abpd").max()
    with pytest.raises(ConfigError, match="no spikes of IC .*, whose bursts delimit the cycles$"):
        read_recording(file, cells=("ic", "pd"))
    # others than the first need not be there
    assert read_recording(file, cells=("pd", "ic")).sel(cell="ic").isnull().all()
    five = read_recording(file, cells=("abpd", "ic", "lp", "py", "vd"))
    assert five.isnull().all("spike").values.tolist() == [False, True, False, False, True]
    with pytest.raises(ConfigError, match="cells must be names .* not 'lp'"):
        read_recording(file, cells="lp")


def test_a_circuit_of_one_cell_takes_the_only_neuron_of_a_file(tmp_path):
    rows = [(n, t) for n, t in pyloric_spikes() if n == "LP"]
    only = read_recording(write_csv(tmp_path / "lp.csv", rows), cells=("cell",))
    assert only.cell.values.tolist() == ["cell"] and only.shape[1] == len(rows)
    with pytest.raises(ConfigError, match=r"no spikes of CELL \(other neurons: PD, LP, PY\),"):
        read_recording(write_csv(tmp_path / "all.csv", pyloric_spikes()), cells=("cell",))


GOOD = "".join(f"{n},{t}\n" for n, t in pyloric_spikes(3))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "names the columns neuron and time"),
        (GOOD, "names the columns neuron and time, .* not with 'PD,0.25'"),
        ("neuron,zeit\nPD,1\n", "neuron and time, .* not with 'neuron,zeit'"),
        ("neuron time\nPD 1\n", "by a comma, a semicolon or a tab, not with 'neuron time'"),
        ("neuron,time,time\nPD,1,2\n", "must have one column time, not 2"),
        ("neuron;time;neuron\nPD;1;PD\n", "must have one column neuron, not 2"),
        ("neuron,time\n", "no spikes of AB/PD, whose bursts"),
        ("neuron,time\nLP,1\nGM,2\n", r"no spikes of AB/PD \(other neurons: GM\), whose"),
        ("neuron,time\nPD,0\n,1\n", "line 3: the neuron has no name"),
        ("neuron,time\nPD,0\n ,1\n", "line 3: the neuron has no name"),
        ("neuron,time\n" + GOOD + "PD,abc\n", r"line 98: 'abc' is not a time"),
        ("neuron,time\n" + GOOD + "PD,\n", "line 98: '' is not a time"),
        ("neuron,time\n" + GOOD + "PD\n", "line 98: there must be a neuron and a time"),
        ("neuron,time\nPD,1.2,\n", "line 2: 3 fields are more than the 2 of the first row$"),
        ("neuron;time\nPD;1;2\n", "line 2: 3 fields are more than the 2 of the first row$"),
        ('neuron,time\nPD,"3,76073"\n', "line 2: '3,76073' is not a time; .* a point, not a comma"),
        ("neuron;time\nPD;1.003,76\n", "line 2: '1.003,76' is not a time$"),
        ("neuron,time\nPD,3_76073\n", "line 2: '3_76073' is not a time$"),
        ("neuron,time\nPD,0,1\n", "line 2: 3 fields .* the 2 of .* a point, not a comma"),
        ("time,neuron,note\n0,1,PD,x\n", "line 2: 4 fields .* the 3 of .* a point, not a comma"),
        ("neuron,time\n" + GOOD + "PD,nan\n", "line 98: a time must be a finite number.*not nan"),
        ("neuron,time\n" + GOOD + "PD,inf\n", "line 98: .*not inf"),
        ("neuron,time\n" + GOOD + "PD,1\n", "line 98: the times of PD must ascend, but 1 s comes"),
        ("neuron,time\n" + GOOD + GOOD, "line 98: the times of PD must ascend"),
        ('neuron,time\n"PD,1\n', "line 2|neuron and a time"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, text, message):
    file = tmp_path / "prep.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_recording(file)
    assert "\n" not in str(caught.value) and "prep.csv" in str(caught.value)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("decimal", [".", ","])
def test_files_of_spreadsheets_of_countries_with_decimal_commas(tmp_path, separator, decimal):
    rows = [f"{n}{separator}{t}".replace(".", decimal) for n, t in pyloric_spikes()]
    (tmp_path / "prep.csv").write_text("\r\n".join([f"Neuron{separator}Time", *rows]))
    plain = read_recording(write_csv(tmp_path / "plain.csv", pyloric_spikes()))
    np.testing.assert_array_equal(read_recording(tmp_path / "prep.csv"), plain)


def test_empty_rows_are_no_neurons(tmp_path):
    text = "neuron,time\n" + GOOD + ",\n , \n\n"
    (tmp_path / "prep.csv").write_text(text)
    plain = read_recording(write_csv(tmp_path / "plain.csv", pyloric_spikes(3)))
    np.testing.assert_array_equal(read_recording(tmp_path / "prep.csv"), plain)


def split_up(rows, names):
    """The spikes of each neuron by turns under several names."""
    turn = dict.fromkeys(BURSTS, 0)
    for neuron, time in rows:
        of = names.get(neuron, [neuron])
        yield of[turn[neuron] % len(of)], time
        turn[neuron] += 1


def test_units_of_one_cell_are_pooled(tmp_path):
    rows = pyloric_spikes()
    plain = read_recording(write_csv(tmp_path / "plain.csv", rows))
    assert plain.attrs["pooled"] == []
    names = {"PD": ["AB", "pd 1", "PD2"], "PY": ["PY_3", "PY (unit 4)", "PY"]}
    file = write_csv(tmp_path / "units.csv", [*split_up(rows, names), ("PD 1", 99), ("P2", 99)])
    spikes = read_recording(file)
    assert spikes.attrs["pooled"] == [
        "AB/PD: AB, pd 1, PD2, PD 1",
        "PY: PY_3, PY (unit 4), PY",
    ]
    assert spikes.attrs["left_out"] == ["P2"]
    for cell in ("lp", "py"):
        of_plain, found = (s.sel(cell=cell).dropna("spike") for s in (plain, spikes))
        np.testing.assert_array_equal(of_plain, found)


def test_a_cell_with_just_that_name_comes_before_a_unit_of_another(tmp_path):
    rows = [("PY1", 1.0), ("PY2", 2.0), ("PY 3", 3.0), ("py1 (unit 7)", 4.0), ("PY4", 5.0)]
    file = write_csv(tmp_path / "prep.csv", rows)
    spikes = read_recording(file, cells=("py1", "py2"))
    assert spikes.sel(cell="py1").dropna("spike").values.tolist() == [1000, 4000]
    assert spikes.sel(cell="py2").dropna("spike").values.tolist() == [2000]
    assert spikes.attrs["left_out"] == ["PY 3", "PY4"]
    assert spikes.attrs["pooled"] == ["PY1: PY1, py1 (unit 7)"]


def test_spikes_at_the_same_time_are_one(tmp_path):
    """Units that somebody has pooled in milliseconds, or that are pooled here."""
    rows = pyloric_spikes()
    plain = read_recording(write_csv(tmp_path / "plain.csv", rows))
    twice = sorted([*rows, *rows], key=lambda row: row[1])
    found = read_recording(write_csv(tmp_path / "twice.csv", twice))
    np.testing.assert_array_equal(found, plain)
    both = [*rows, *(("PD 2", t) for n, t in rows if n == "PD")]
    np.testing.assert_array_equal(read_recording(write_csv(tmp_path / "both.csv", both)), plain)


def test_all_but_the_first_cell_may_be_silent(tmp_path):
    rows = [row for row in pyloric_spikes() if row[0] != "LP"]
    spikes = read_recording(write_csv(tmp_path / "killed.csv", [*rows, ("LPP", 1.0)]))
    assert spikes.sel(cell="lp").isnull().all() and spikes.attrs["left_out"] == ["LPP"]
    found = features_from_spikes(spikes)
    assert found.activity_lp.values[0] == "silent" and found.period_ms.values[0] > 0


def test_files_that_are_no_recordings(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00neuron")
    with pytest.raises(ConfigError, match="not text"):
        read_recording(tmp_path / "x.csv")
    for name in ("nowhere.csv", "nowhere.nwb"):
        with pytest.raises(ConfigError, match="cannot be read"):
            read_recording(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_recording(tmp_path)
    with pytest.raises(ConfigError, match="must be s or ms, not 'min'"):
        read_recording(tmp_path / "x.csv", unit="min")
    with pytest.raises(ConfigError, match="NWB file are seconds"):
        read_recording(tmp_path / "x.nwb", unit="ms")


def write_nwb(path, rows, column="neuron", **columns):
    """A unit for each name in the rows, or for each row of `columns`: lists of names."""
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile(
        session_description="synthetic",
        identifier="1",
        session_start_time=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    )
    if column:
        file.add_unit_column(column, "name of the neuron")
    for other in columns:
        file.add_unit_column(other, "name of the neuron")
    for i, name in enumerate(dict.fromkeys(n for n, _ in rows)):
        times = np.array([t for n, t in rows if n == name])
        named = {other: names[i] for other, names in columns.items()}
        file.add_unit(spike_times=times, **named, **({column: name} if column else {}))
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


@pytest.mark.filterwarnings("ignore")
def test_an_nwb_file_gives_the_same(tmp_path):
    rows = pyloric_spikes()
    from_csv = read_recording(write_csv(tmp_path / "prep.csv", rows))
    for column in ("neuron", "cell_type"):
        from_nwb = read_recording(write_nwb(tmp_path / f"{column}.nwb", rows, column))
        np.testing.assert_allclose(from_nwb, from_csv, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_single_unit_of_an_nwb_file_needs_no_name(tmp_path):
    rows = [(n, t) for n, t in pyloric_spikes() if n == "LP"]
    only = read_recording(write_nwb(tmp_path / "lp.nwb", rows, None), cells=("cell",))
    assert only.shape == (1, len(rows))


@pytest.mark.filterwarnings("ignore")
def test_nwb_files_without_what_is_needed(tmp_path):
    rows = pyloric_spikes(3)
    with pytest.raises(ConfigError, match="does not name its neurons"):
        read_recording(write_nwb(tmp_path / "a.nwb", rows, None))
    with pytest.raises(ConfigError, match="no units table"):
        read_recording(write_nwb(tmp_path / "b.nwb", [], None))
    with pytest.raises(ConfigError, match=r"no spikes of AB/PD \(other neurons: unit 1\)"):
        read_recording(write_nwb(tmp_path / "c.nwb", rows, None, label=["LP", "", "PY"]))
    (tmp_path / "d.nwb").write_text("not HDF5")
    with pytest.raises(ConfigError, match="cannot be read as NWB") as caught:
        read_recording(tmp_path / "d.nwb")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_units_of_one_name_are_pooled(tmp_path):
    rows = pyloric_spikes()
    plain = read_recording(write_csv(tmp_path / "plain.csv", rows))
    units = list(split_up(rows, {"PD": ["a", "b"], "LP": ["c"], "PY": ["d", "e"]}))
    file = write_nwb(tmp_path / "x.nwb", units, None, neuron=["PD", "PD", "LP", "PY", "PY2"])
    spikes = read_recording(file)
    assert spikes.attrs["pooled"] == ["AB/PD: PD (unit 0), PD (unit 1)", "PY: PY, PY2"]
    np.testing.assert_allclose(spikes, plain, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_names_are_in_the_first_column_that_has_the_first_cell(tmp_path):
    rows = pyloric_spikes()
    plain = read_recording(write_csv(tmp_path / "plain.csv", rows))
    other = {"unit_name": ["pdn unit", "lvn unit", "pyn unit"], "cell_type": ["PD", "LP", "PY"]}
    spikes = read_recording(write_nwb(tmp_path / "x.nwb", rows, None, **other))
    np.testing.assert_allclose(spikes, plain, atol=1e-6)
    file = write_nwb(tmp_path / "y.nwb", rows, None, neuron=["1", "2", "3"], label=["PD", "x", ""])
    assert read_recording(file).attrs["left_out"] == ["x", "unit 2"]
