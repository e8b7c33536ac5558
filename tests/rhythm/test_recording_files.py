import datetime

import numpy as np
import pytest
from recordings import PERIOD_S, pyloric_spikes, write_csv

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
    with pytest.raises(ConfigError, match="no spikes of IC .* a rhythm is measured on IC$"):
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
    with pytest.raises(ConfigError, match=r"no spikes of CELL \(other neurons: PD, LP, PY\)"):
        read_recording(write_csv(tmp_path / "all.csv", pyloric_spikes()), cells=("cell",))


GOOD = "".join(f"{n},{t}\n" for n, t in pyloric_spikes(3))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "names the columns neuron and time"),
        (GOOD, "names the columns neuron and time, not with 'PD,0.25'"),
        ("neuron,zeit\nPD,1\n", "neuron and time, not with 'neuron,zeit'"),
        ("neuron,time\n", "no spikes of AB/PD, LP, PY"),
        ("neuron,time\nLP,1\nGM,2\n", r"no spikes of AB/PD, PY \(other neurons: GM\)"),
        ("neuron,time\n" + GOOD + "PD,abc\n", r"line 98: 'abc' is not a time"),
        ("neuron,time\n" + GOOD + "PD,\n", "line 98: '' is not a time"),
        ("neuron,time\n" + GOOD + "PD\n", "line 98: there must be a neuron and a time"),
        ("neuron,time\nPD,0,1\n", "line 2: 3 fields .* the 2 of .* a point, not a comma"),
        ("time,neuron,note\n0,1,PD,x\n", "line 2: 4 fields .* the 3 of .* a point, not a comma"),
        ("neuron,time\n" + GOOD + "PD,nan\n", "line 98: a time must be a finite number.*not nan"),
        ("neuron,time\n" + GOOD + "PD,inf\n", "line 98: .*not inf"),
        ("neuron,time\n" + GOOD + "PD,1\n", "line 98: the times of PD must ascend, but 1 s comes"),
        ("neuron,time\n" + GOOD + GOOD, "line 98: the times of PD must ascend"),
        ("neuron,time\n" + GOOD + "AB,9\n", "spikes of PD and of AB .line 98., .* one cell"),
        ('neuron,time\n"PD,1\n', "line 2|neuron and a time"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, text, message):
    file = tmp_path / "prep.csv"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_recording(file)
    assert "\n" not in str(caught.value) and "prep.csv" in str(caught.value)


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


def write_nwb(path, rows, column="neuron"):
    pynwb = pytest.importorskip("pynwb")
    file = pynwb.NWBFile(
        session_description="synthetic",
        identifier="1",
        session_start_time=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    )
    if column:
        file.add_unit_column(column, "name of the neuron")
    for name in dict.fromkeys(n for n, _ in rows):
        times = np.array([t for n, t in rows if n == name])
        file.add_unit(spike_times=times, **({column: name} if column else {}))
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
    with pytest.raises(ConfigError, match="no spikes of LP, PY"):
        read_recording(write_nwb(tmp_path / "c.nwb", [r for r in rows if r[0] == "PD"]))
    later = [("LP ", t + 100) for n, t in rows if n == "LP"]
    with pytest.raises(
        ConfigError, match="e.nwb has spikes of LP and of LP .unit 3., which are one cell"
    ):
        read_recording(write_nwb(tmp_path / "e.nwb", rows + later))
    (tmp_path / "d.nwb").write_text("not HDF5")
    with pytest.raises(ConfigError, match="cannot be read as NWB") as caught:
        read_recording(tmp_path / "d.nwb")
    assert "\n" not in str(caught.value)
