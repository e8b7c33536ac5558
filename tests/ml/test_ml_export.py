import json

import numpy as np
import pytest
import synthetic

from pyloric_db.errors import ConfigError, QueryError
from pyloric_db.ml.export import FORMATS, export
from pyloric_db.ml.priors import in_words, prior_of
from pyloric_db.ml.split import part_of
from pyloric_db.protocol import Protocol
from pyloric_db.query import database
from pyloric_db.query.save import SUFFIXES, load_rows

NAMES = ("train", "validation", "test")
TARGETS = ["period_ms", "phase_start_lp"]


def read(directory, file_format, name):
    """circuit_id, inputs, targets and presence of the targets, as NumPy."""
    if file_format == "npz":
        found = np.load(directory / f"{name}.npz")
        assert found["targets_names"].tolist() == TARGETS
        assert found["targets_units"].tolist() == ["ms", "1"]
        return found["circuit_id"], found["inputs"], found["targets"], found["targets_present"]
    rows = load_rows(directory / f"{name}{SUFFIXES[file_format]}")
    assert rows.period_ms.attrs == {"units": "ms", "long_name": "AB/PD burst start to next start"}
    assert rows.gbar_lp_Kd.attrs["units"] == "mS/cm2"
    inputs = [str(n) for n in rows.data_vars if str(n).startswith(("gbar_", "gsyn_"))]
    present = [rows.get(f"{n}_present", np.ones(rows.sizes["circuit"], bool)) for n in TARGETS]
    return (
        rows.circuit_id.values,
        np.stack([rows[n] for n in inputs], 1),
        np.stack([rows[n] for n in TARGETS], 1),
        np.stack(present, 1),
    )


@pytest.mark.parametrize("missing", ["drop", "mask", "fill"])
@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_holds_the_same(db, tmp_path, file_format, missing):
    if file_format == "netcdf":
        pytest.importorskip("h5netcdf")
    counts = export(
        db,
        tmp_path / "out",
        file_format=file_format,
        targets=TARGETS,
        where="lp < 2",
        missing=missing,
        split="0.6/0.2/0.2",
    )
    wanted = db.to_arrays(
        targets=TARGETS, where="lp < 2", missing="drop" if missing == "drop" else "mask"
    )
    number = part_of(wanted.place, (0.6, 0.2, 0.2))
    train = wanted.targets.take(number == 0)
    trained = [c[p] for c, p in zip(train.values.T, train.present.T, strict=True)]
    means = np.array([c.mean(dtype=float) for c in trained])
    constants = json.loads((tmp_path / "out/standardisation.json").read_text())
    assert [constants[n]["mean"] for n in TARGETS] == pytest.approx(means)
    deviations = [c.std(dtype=float) for c in trained]
    assert [constants[n]["sd"] for n in TARGETS] == pytest.approx(deviations)
    assert constants["period_ms"]["units"] == "ms"
    source = json.loads((tmp_path / "out/source.json").read_text())
    assert Protocol(**source["settings"]) == db.protocol
    assert source["recipe"] == db.manifest.recipe and source["settings"] == db.manifest.settings
    for k, name in enumerate(NAMES):
        ids, inputs, targets, present = read(tmp_path / "out", file_format, name)
        part = wanted.take(number == k)
        assert ids.tolist() == part.circuit_id.tolist() and len(ids) == counts[name] > 0
        assert inputs.dtype == targets.dtype == np.float32
        assert np.array_equal(inputs, part.inputs.values)
        known = part.targets
        filling = means.astype(np.float32) if missing == "fill" else np.float32(0)
        assert np.array_equal(targets, np.where(known.present, known.values, filling))
        if missing == "mask":
            assert np.array_equal(present, known.present)


def test_the_readme_describes_every_column(db, tmp_path):
    counts = export(db, tmp_path / "out", where="lp < 2", missing="mask")
    text = (tmp_path / "out/README.md").read_text()
    constants = json.loads((tmp_path / "out/standardisation.json").read_text())
    assert len(constants) == 31 + 15
    for name, known in constants.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {known['units']} |" in line and f"| {known['role']} |" in line
    for name in NAMES:
        assert f"| `{name}.parquet` | {counts[name]} |" in text
    assert "`lp < 2`" in text and "SplitMix64" in text and "Missing values: mask." in text
    assert db.manifest.recipe_hash in text
    assert constants["gbar_lp_Na"]["constant"] is False
    assert constants["gsyn_pd_lp_nS"] == {
        "role": "input", "units": "nS", "prior": {"fixed": 0}, "scale": "linear", "mean": 0.0,
        "sd": 1.0, "constant": True,
    }  # fmt: skip
    assert "This 0 is no value" in text
    assert f"Only {sum(counts.values())} of the 48 circuits of the database" in text
    export(db, tmp_path / "all", missing="mask")
    assert "Only" not in (tmp_path / "all/README.md").read_text()


def test_the_readme_counts_what_was_left_out(db, tmp_path):
    asked = db.count("lp < 2")
    written = sum(export(db, tmp_path / "drop", targets="period_ms", where="lp < 2").values())
    assert written < asked == 32
    text = (tmp_path / "drop/README.md").read_text()
    assert f"{written} of the {asked} circuits for which `lp < 2` is true" in text
    assert f"{asked - written} circuits that lack a value of a column were left out" in text
    export(db, tmp_path / "mask", where="lp < 2", missing="mask")
    assert f"{asked} of the {asked} circuits" in (tmp_path / "mask/README.md").read_text()


def test_the_readme_counts_failed_runs(db, tmp_path):
    failed = db.count("lp < 2 and status != 'ok'")
    said = f"The runs of {failed} of the circuits asked for failed (`status` is not `ok`)"
    counts = export(db, tmp_path / "drop", targets="pyloric", where="lp < 2", split="1")
    assert sum(counts.values()) == 32 - failed < 32
    assert said in (tmp_path / "drop/README.md").read_text()
    export(db, tmp_path / "mask", targets="pyloric", where="lp < 2", missing="mask")
    text = (tmp_path / "mask/README.md").read_text()
    assert said in text
    (line,) = (line for line in text.splitlines() if line.startswith("| `pyloric` |"))
    assert line.endswith(f"| {failed} |")
    train = load_rows(tmp_path / "mask/train.parquet")
    assert not train.pyloric_present.values.all()
    wanted = db.query(f"circuit_id in {train.circuit_id.values.tolist()}", columns="status").status
    assert np.array_equal(train.pyloric_present, wanted.values == "ok")
    export(db, tmp_path / "ok", targets="pyloric", where="status == 'ok'", split="1")
    assert "failed" not in (tmp_path / "ok/README.md").read_text()


def test_the_readme_of_a_prior(tmp_path, monkeypatch):
    def drawn(manifest, shard, ids=None, made=synthetic.shard_data):
        ids, table, states = made(manifest, shard, ids)
        return ids, table | {"gsyn_ab_lp_nS": np.abs(table["gsyn_ab_lp_nS"])}, states

    monkeypatch.setattr(synthetic, "shard_data", drawn)
    recipe = {
        "name": "tiny",
        "parameters": {
            "prior": {
                "count": 60,
                "seed": 0,
                "parameters": {
                    "abpd": {"choice": ["AB/PD 1", "AB/PD 2"]},
                    "lp": "LP 3",
                    "gbar_py_Na": {"uniform": [100.0, 500.0]},
                    "gsyn_ab_lp_nS": {"log_uniform": [0.01, 100.0]},
                    "gsyn_py_lp_nS": 30.0,
                },
            }
        },
    }
    manifest = synthetic.make_manifest(
        axes=None, n_circuits=60, shard_circuits=30, chunk_circuits=10, recipe=recipe
    )
    synthetic.build(tmp_path / "db", manifest, shards=[0])
    export(database.open(tmp_path / "db"), tmp_path / "out", targets="pyloric", missing="mask")
    text = (tmp_path / "out/README.md").read_text()
    assert "30 of its 60 circuits were finished.\n" in text and "unlike" not in text
    constants = json.loads((tmp_path / "out/standardisation.json").read_text())
    for name, prior, words in (
        ("gbar_abpd_Na", {"choice": ["AB/PD 1", "AB/PD 2"]}, "choice of AB/PD 1, AB/PD 2"),
        ("gbar_lp_Kd", {"fixed": "LP 3"}, "fixed at LP 3"),
        ("gbar_py_Na", {"uniform": [100, 500]}, "uniform [100, 500]"),
        ("gbar_py_Kd", {"fixed": 0}, "fixed at 0"),
        ("gsyn_ab_lp_nS", {"log_uniform": [0.01, 100]}, "log-uniform [0.01, 100]"),
        ("gsyn_py_lp_nS", {"fixed": 30}, "fixed at 30"),
        ("pyloric", None, ""),
    ):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        scale = "log" if name == "gsyn_ab_lp_nS" else "linear"
        assert [cell.strip() for cell in line.split("|")[5:7]] == [words, scale]
        assert (constants[name]["prior"], constants[name]["scale"]) == (prior, scale)
    # in the unit itself, but for the mean and the SD of what was drawn log-uniformly
    train = load_rows(tmp_path / "out/train.parquet")
    for name, values in (
        ("gsyn_ab_lp_nS", np.log(train.gsyn_ab_lp_nS.values.astype(float))),
        ("gbar_py_Na", train.gbar_py_Na.values.astype(float)),
    ):
        assert constants[name]["mean"] == pytest.approx(values.mean())
        assert constants[name]["sd"] == pytest.approx(values.std())


@pytest.mark.parametrize(
    "prior, words",
    [
        ({"grid": list(range(12))}, "grid levels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"),
        (
            {"choice": [0.5, *["LP 1"] * 1012]},
            "choice of 0.5" + ", LP 1" * 11 + " and 1,001 others",
        ),
        ({"table": "drawn.csv"}, "column of a table"),
    ],
)
def test_a_long_list_is_cut_short_in_words(prior, words):
    assert in_words(prior) == words


def test_what_a_table_gave_is_said_to_be_of_it():
    recipe = {"name": "tiny", "parameters": {"table": {"path": "drawn.csv", "sha256": "0" * 64}}}
    manifest = synthetic.make_manifest(axes=None, recipe=recipe)
    for name in ("gbar_lp_Na", "gsyn_ab_lp_nS"):
        assert prior_of(name, manifest) == {"table": "drawn.csv"}
    assert prior_of("period_ms", manifest) is None


def test_conductances_that_are_to_be_predicted(db, tmp_path):
    """Their prior is said as that of inputs is."""
    export(db, tmp_path / "out", inputs="features", targets="parameters", missing="mask")
    constants = json.loads((tmp_path / "out/standardisation.json").read_text())
    assert constants["gsyn_ab_lp_nS"]["prior"] == {"grid": [0, 0.1, 3, 30]}
    assert constants["period_ms"]["prior"] is None


def test_the_readme_of_a_part_of_a_grid(tmp_path):
    synthetic.build(tmp_path / "db", shards=[0])
    inputs = ["parameters", "gsyn_ab_lp_index"]
    export(database.open(tmp_path / "db"), tmp_path / "out", inputs=inputs, missing="mask")
    text = (tmp_path / "out/README.md").read_text()
    assert "20 of its 48 circuits were finished, and the rest may be unlike them." in text
    assert "| log |" not in text and "then ggap in nS" in text
    lines = {
        line.split("`")[1]: line.split("|")[5] for line in text.splitlines() if "| input |" in line
    }
    assert lines["gbar_lp_Na"] == " grid levels LP 1, LP 2, LP 3 "
    assert lines["gsyn_ab_lp_nS"] == lines["gsyn_ab_lp_index"] == " grid levels 0, 0.1, 3, 30 "
    assert lines["gbar_py_Na"] == lines["gsyn_py_lp_nS"] == " fixed at 0 "


def test_one_part_and_two(db, tmp_path):
    assert list(export(db, tmp_path / "a", missing="mask", split="1")) == ["train"]
    (tmp_path / "b").mkdir()
    assert list(export(db, tmp_path / "b", missing="mask", split="0.5/0.5")) == ["train", "test"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_of_a_similar_name_is_left_alone(db, tmp_path, monkeypatch):
    mine = tmp_path / "out.partial/thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    export(db, tmp_path / "out", missing="mask")
    assert mine.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.partial"]
    assert (tmp_path / "out").stat().st_mode == mine.parent.stat().st_mode

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyloric_db.ml.export._write", full)
    with pytest.raises(ConfigError, match="other cannot be written: No space left"):
        export(db, tmp_path / "other", missing="mask")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.partial"]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"file_format": "xml"}, ConfigError, "format must be one of .*'xml'"),
        ({"missing": "x"}, QueryError, "missing must be one of"),
        ({"split": "0.9/0.2"}, ConfigError, "add up to 1"),
        ({"where": "lp > 77"}, QueryError, "no circuit"),
        ({"where": "lp ="}, QueryError, "not an expression"),
        ({"inputs": ["nothing"]}, QueryError, "unknown column 'nothing'"),
        ({"where": "circuit_id == 3", "missing": "mask"}, QueryError, "the part .* gets none"),
    ],
)
def test_bad_arguments_leave_nothing(db, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        export(db, tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_directories_that_cannot_be_written(db, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"\. must be a directory with a name"):
        export(db, ".", missing="mask")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, message in (
        ("full", "is not empty"),
        ("file", "not a directory"),
        ("nowhere/out", "is no directory"),
    ):
        with pytest.raises(ConfigError, match=message):
            export(db, tmp_path / name, missing="mask")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "full", "thesis.txt"]
