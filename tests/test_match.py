"""`pyloric-db match`: from a file of spikes to circuits, parameters and a figure."""

import json
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from recordings import BURSTS, fast_spikes, pyloric_spikes, write_csv
from rich.console import Console

import pyloric_db as pyl
from pyloric_db.pipeline.draw import netcodes, parameters
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.states import cold_states
from pyloric_db.plot.canvas import new_figure
from pyloric_db.protocol import Protocol
from pyloric_db.store.create import create
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.shards import write_shard
from pyloric_db.vocabulary import CRITERIA, default_features


@pytest.fixture(scope="module")
def rhythmic_db(tmp_path_factory, named_toml):
    """The circuits of `named_toml` with made-up pyloric rhythms, and cold states to go on from.

    Circuit i is (i + 1) / 10 SD above the published means.
    """
    plan = make_plan(tomllib.loads(named_toml.read_text()))
    path = tmp_path_factory.mktemp("rhythmic") / "db"
    manifest = create(Ledger(path), plan.manifest)
    for shard in range(manifest.n_shards):
        ids = plan.shard_ids(shard)
        table, _, _ = parameters(plan.recipe, ids)
        table |= {"circuit_id": ids, "netcode": netcodes(plan.recipe, table)}
        off = (ids + 1) / 10
        for column in manifest.columns:
            made = {"bool": True, "category": (column.categories or ("",))[0]}.get(column.kind, 1)
            table.setdefault(column.name, np.full(len(ids), made))
        table |= {c.column: c.mean + off * c.sd for c in CRITERIA}
        states = cold_states(len(ids), plan.recipe.circuit.circuit())
        Ledger(path).record(write_shard(path, manifest, shard, ids, table, states))
    return path


def refused(done, message):
    assert done.returncode == 2 and done.stdout == "", (done.stdout, done.stderr)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("pyloric-db: ") and message in line, line


def test_nearest_circuits_with_their_parameters(inside, rhythmic_db, tmp_path):
    file = write_csv(tmp_path / "prep.csv", [*pyloric_spikes(), ("MG", 99.0)])
    done = inside("match", rhythmic_db, file, "-k", 3, "--json")
    found = json.loads(done.stdout)
    assert found["recording"]["pyloric"] and found["recording"]["neurons_left_out"] == ["MG"]
    assert found["compared"] == [c.column for c in CRITERIA]
    measured = found["recording"]["features"]
    distances = {
        i: np.sqrt(np.mean([
            ((measured[c.column] - c.mean) / c.sd - (i + 1) / 10) ** 2 for c in CRITERIA
        ]))
        for i in range(24)
    }  # fmt: skip
    nearest = sorted(distances, key=distances.get)[:3]
    assert [c["circuit_id"] for c in found["nearest"]] == nearest
    for circuit in found["nearest"]:
        assert circuit["distance_sd"] == pytest.approx(distances[circuit["circuit_id"]], rel=1e-4)
        assert circuit["parameters"]["abpd"] in ("AB/PD 1", "AB/PD 2")
        assert circuit["parameters"]["gsyn_pd_lp_nS"] == 3
    shown = inside("match", rhythmic_db, file, "-k", 3)
    for text in ("period_ms", "1500", "AB/PD 1", "gsyn_ab_lp_nS", str(nearest[0])):
        assert text in shown.stdout
    assert "neurons left out: MG" in shown.stderr


def test_nothing_is_broken_over_lines(inside, rhythmic_db, tmp_path, monkeypatch):
    file = write_csv(tmp_path / "prep.csv", pyloric_spikes())
    ids = [c["circuit_id"] for c in json.loads(
        inside("match", rhythmic_db, file, "-k", 20, "--json").stdout
    )["nearest"]]  # fmt: skip
    piped = inside("match", rhythmic_db, file, "-k", 20).stdout.splitlines()
    assert piped[0].split() == ["recording", *map(str, ids)]
    (period,) = (line.split() for line in piped if line.startswith("period_ms "))
    assert len(period) == 22
    monkeypatch.setattr("pyloric_db.cli.matching.out", Console(width=80))  # a narrow terminal
    shown = inside("match", rhythmic_db, file, "-k", 20).stdout
    assert max(map(len, shown.splitlines())) <= 80
    tables = [table.splitlines() for table in shown.strip("\n").split("\n\n")]
    assert [int(i) for table in tables for i in table[0].split()[1:]] == ids
    names = [line.split()[0] for line in piped[1:] if line]
    for table in tables:
        assert [line.split()[0] for line in table[1:]] == names


def test_a_recording_that_is_not_pyloric_says_why(inside, rhythmic_db, tmp_path):
    """Every third cycle of this one is a third longer: its features are in range all the same."""
    rows = [(n, t + 0.5 * ((t - 0.249 - BURSTS[n][0]) // 4.5)) for n, t in pyloric_spikes()]
    file = write_csv(tmp_path / "prep.csv", rows)
    found = json.loads(inside("match", rhythmic_db, file, "--json").stdout)["recording"]
    period_cv = found.pop("period_cv")
    assert 0.05 < period_cv < 0.25
    del found["features"], found["neurons_left_out"], found["neurons_pooled"]
    assert found == {
        "pyloric": False,
        "pyloric_like": False,
        "periodic": False,
        "triphasic": True,
        "n_criteria_met": 15,
        "criteria_not_met": [],
    }
    lines = [line.split() for line in inside("match", rhythmic_db, file).stdout.splitlines()]
    shown = {line[0]: line[1] for line in lines if line}
    assert shown["n_criteria_met"] == "15" and shown["period_cv"] == f"{period_cv:.4g}"
    assert (shown["pyloric"], shown["periodic"], shown["triphasic"]) == ("False", "False", "True")


def test_a_recording_is_measured_as_the_circuits_were(inside, rhythmic_db, tmp_path, monkeypatch):
    """A database whose recipe takes cycles that vary by 30% for periodic."""
    loose = Protocol(period_cv=0.3)
    monkeypatch.setattr("pyloric_db.query.database.Database.protocol", loose)
    rows = [(n, t + 0.5 * ((t - 0.249 - BURSTS[n][0]) // 4.5)) for n, t in pyloric_spikes()]
    file = write_csv(tmp_path / "prep.csv", rows)
    drawn, asked = [], []
    monkeypatch.setattr("pyloric_db.cli.matching.simulate_on", lambda *_: None)
    monkeypatch.setattr(
        "pyloric_db.plot.match.match_figure",
        lambda *_, **protocols: drawn.append(protocols) or new_figure(),
    )
    figure = tmp_path / "x.png"
    found = json.loads(inside("match", rhythmic_db, file, "--json", "-o", figure).stdout)
    assert found["recording"]["periodic"]
    monkeypatch.setattr(
        "pyloric_db.rhythm.reasons.why_no_period", lambda *a: asked.append(a[-1]) or "rests"
    )
    short = write_csv(tmp_path / "short.csv", pyloric_spikes(cycles=1))
    refused(inside("match", rhythmic_db, short), "AB/PD rests")
    assert asked == [loose]
    assert drawn == [{"protocol": loose, "recording_protocol": loose}]
    other = replace(loose, max_burst_gap_ms=77)
    again = ("--json", "-o", figure, "--max-burst-gap-ms", 77)
    assert inside("match", rhythmic_db, file, *again).returncode == 0
    assert drawn[1:] == [{"protocol": loose, "recording_protocol": other}]


def test_a_fast_rhythm_of_which_a_burst_is_missing(inside, rhythmic_db, tmp_path):
    """The limit between bursts that the sentence names tells them apart."""
    file = write_csv(tmp_path / "pd.csv", fast_spikes([("PD", 21)]))
    done = inside("match", rhythmic_db, file)
    refused(
        done, "AB/PD has fewer than two whole cycles of bursts, as bursts less than 484 ms apart"
    )
    (limit,) = re.findall("max_burst_gap_ms ([0-9]+)", done.stderr)
    done = inside("match", rhythmic_db, file, "--max-burst-gap-ms", limit)
    assert done.returncode == 0, done.stderr
    for cell in ("LP", "PY"):
        assert f"{cell} does not burst once in 1 of 97 cycles: 2 times in the one" in done.stderr
    file = write_csv(tmp_path / "lp.csv", fast_spikes([("LP", 60)]))
    done = inside("match", rhythmic_db, file)
    assert "LP does not burst once in 97 of 98 cycles, as bursts less than 500 ms" in done.stderr
    (limit,) = re.findall("max_burst_gap_ms ([0-9]+)", done.stderr)
    done = inside("match", rhythmic_db, file, "--max-burst-gap-ms", limit)
    assert "once in 1 of 98 cycles: not at all in the one that begins at 36.00 s" in done.stderr
    for bad, how in ((0, "above 0, not 0"), (-5, "above 0, not -5"), ("nan", "finite, not nan")):
        done = inside("match", rhythmic_db, file, "--max-burst-gap-ms", bad)
        refused(done, f"max_burst_gap_ms must be {how}")


def test_which_criteria_a_recording_does_not_meet(inside, rhythmic_db, tmp_path):
    slow = [(n, 1.6 * t) for n, t in pyloric_spikes(20)]
    file = write_csv(tmp_path / "slow.csv", slow)
    found = json.loads(inside("match", rhythmic_db, file, "--json").stdout)["recording"]
    outside = ["period_ms", "burst_duration_abpd_ms", "burst_duration_lp_ms"]
    assert found["criteria_not_met"][:3] == outside
    assert len(found["criteria_not_met"]) == 15 - found["n_criteria_met"]
    shown = inside("match", rhythmic_db, file).stdout.splitlines()
    starred = [line.split()[0] for line in shown if line.split()[1:2] and "*" in line.split()[1]]
    assert starred == found["criteria_not_met"]
    assert shown[-1] == "* not within the published mean ± 2 SD, a criterion of a pyloric rhythm"
    assert "*" not in inside("match", rhythmic_db, write_csv(file, pyloric_spikes())).stdout
    # a criterion without a value is not met either, but there is nothing to mark
    write_csv(file, [row for row in slow if row[0] != "PY"])
    found = json.loads(inside("match", rhythmic_db, file, "--json").stdout)["recording"]
    assert "phase_start_py" in found["criteria_not_met"]
    assert len(found["criteria_not_met"]) == 15 - found["n_criteria_met"]


def test_a_preparation_without_lp(inside, rhythmic_db, tmp_path):
    pytest.importorskip("matplotlib")
    rows = [row for row in pyloric_spikes() if row[0] != "LP"]
    file = write_csv(tmp_path / "killed.csv", rows)
    done = inside("match", rhythmic_db, file, "-o", tmp_path / "x.png")
    assert done.returncode == 0, done.stderr
    assert "not triphasic: LP has no spikes\n" in done.stderr and "5 of 15" in done.stdout
    write_csv(file, [*rows, ("LPP", 1.0), ("MG", 2.0)])
    shown = inside("match", rhythmic_db, file).stderr
    assert "LP has no spikes; is it one of the neurons left out, LPP, MG?" in shown


def test_units_of_one_cell_are_said_to_be_pooled(inside, rhythmic_db, tmp_path):
    rows = [("PY 2" if n == "PY" and i % 2 else n, t) for i, (n, t) in enumerate(pyloric_spikes())]
    file = write_csv(tmp_path / "prep.csv", [*rows, ("AB", 0.25)])
    shown = inside("match", rhythmic_db, file)
    assert "pooled as one cell: AB/PD: PD, AB; PY: PY 2, PY\n" in shown.stderr
    found = json.loads(inside("match", rhythmic_db, file, "--json").stdout)["recording"]
    assert found["neurons_pooled"] == ["AB/PD: PD, AB", "PY: PY 2, PY"] and found["pyloric"]


def test_how_many_features_were_compared(inside, rhythmic_db, tmp_path):
    rows = [(n, t) for n, t in pyloric_spikes(20) if not (n == "LP" and 7.5 < t - 0.25 < 9)]
    file = write_csv(tmp_path / "prep.csv", rows)
    shown = inside("match", rhythmic_db, file)
    (line,) = (line for line in shown.stdout.splitlines() if line.startswith("features compared"))
    assert line.split()[2:] == ["7", "of", "15"]
    assert "not compared, the recording does not have them: gap_abpd_lp_ms" in shown.stderr
    assert "not triphasic: LP does not burst once in " in shown.stderr


@pytest.mark.parametrize("late", [np.arange(21.0, 22), np.arange(18.5, 23, 0.2)])
def test_a_recording_in_which_abpd_stops_can_be_cut_where_the_sentence_says(
    inside, rhythmic_db, tmp_path, late
):
    rows = sorted([*pyloric_spikes(), *(("PY", t) for t in late)], key=lambda row: row[1])
    done = inside("match", rhythmic_db, write_csv(tmp_path / "prep.csv", rows))
    refused(done, "s before the recording's last spike, twice its longest cycle of 1.5 s or more")
    (cut,) = re.findall("leave out all spikes after ([0-9.]+) s", done.stderr)
    assert float(cut) == pytest.approx(0.25 + 12 * 1.5)
    rows = [(n, t) for n, t in rows if t <= float(cut)]
    done = inside("match", rhythmic_db, write_csv(tmp_path / "prep.csv", rows), "--json")
    assert json.loads(done.stdout)["recording"]["pyloric"], done.stderr


def test_a_part_of_a_recording(inside, rhythmic_db, tmp_path):
    spikes = pyloric_spikes()
    spoilt = [(n, t) for n, t in spikes if n != "LP" or not 9 < t < 10.5]
    file = write_csv(tmp_path / "prep.csv", spoilt)
    whole = json.loads(inside("match", rhythmic_db, file, "--json").stdout)
    assert not whole["recording"]["triphasic"]
    for part in (("--to", 9), ("--from", 10.5), ("--from", 0.5, "--to", 8.5)):
        found = json.loads(inside("match", rhythmic_db, file, *part, "--json").stdout)
        assert found["recording"]["pyloric"] and len(found["compared"]) == len(CRITERIA)
    refused(inside("match", rhythmic_db, file, "--from", 5, "--to", 5), "--from 5 must be before")
    refused(inside("match", rhythmic_db, file, "--from", 500), "no spikes are left from 500 to inf")


def test_what_no_circuit_plays_is_said(inside, rhythmic_db, tmp_path):
    """The circuits are 0.1 to 2.4 SD above the published means."""
    file = write_csv(tmp_path / "prep.csv", [(n, t * 0.9) for n, t in pyloric_spikes()])
    done = inside("match", rhythmic_db, file)
    assert "period_ms 1350 is beyond the 1537 to 2179 of the 24 circuits that are pyloric" in (
        " ".join(done.stderr.split())
    )
    beyond = json.loads(inside("match", rhythmic_db, file, "--json").stdout)["beyond"]
    assert beyond["among"] == "pyloric" and beyond["circuits"] == 24
    assert beyond["features"]["period_ms"] == pytest.approx([1536.9, 2178.6], rel=1e-3)


def test_the_help_breaks_lines_only_where_they_are_full(inside, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    shown = inside("match", "--help").stdout
    assert "and prints the circuits that are nearest in units" in shown
    assert "[default: (all)]" in shown


def test_the_figure(inside, rhythmic_db, tmp_path):
    pytest.importorskip("matplotlib")
    file = write_csv(tmp_path / "prep.csv", pyloric_spikes(), scale=1000)
    done = inside("match", rhythmic_db, file, "--unit", "ms", "-o", tmp_path / "figure.png")
    assert done.returncode == 0 and "wrote" in done.stdout, done.stderr
    data = (tmp_path / "figure.png").read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 20_000


def test_times_may_be_counted_from_a_stimulus(inside, rhythmic_db, tmp_path):
    """Spikes before it are negative, and measured, listed and drawn like the others."""
    pytest.importorskip("matplotlib")
    shown = []
    for name, from_s in (("plain", 0), ("aligned", 7)):
        rows = [(n, t - from_s) for n, t in pyloric_spikes()]
        file = write_csv(tmp_path / f"{name}.csv", rows)
        done = inside("match", rhythmic_db, file, "--json", "-o", tmp_path / f"{name}.png")
        assert done.returncode == 0, done.stderr
        shown.append(json.loads(done.stdout))
    plain, aligned = (found["recording"]["features"] for found in shown)
    assert aligned == pytest.approx(plain, rel=1e-5)
    images = [(tmp_path / f"{name}.png").read_bytes() for name in ("plain", "aligned")]
    assert abs(len(images[0]) - len(images[1])) < 0.02 * len(images[0])


def test_no_figure_inside_the_database(inside, rhythmic_db, tmp_path, snapshot):
    file = write_csv(tmp_path / "prep.csv", pyloric_spikes())
    (tmp_path / "link").symlink_to(rhythmic_db / "features")
    before = snapshot(rhythmic_db)
    for db, figure in (
        (rhythmic_db, rhythmic_db / "x.png"),
        (rhythmic_db, tmp_path / "link/x.png"),
        ("db", "db/x.png"),
    ):
        done = inside("match", db, file, "-o", figure, cwd=rhythmic_db.parent)
        refused(done, f"{figure} lies inside the database {db}")
    assert snapshot(rhythmic_db) == before


TWO_CELLS = """
name = "two"
[[circuit.cells]]
name = "ab"
[[circuit.cells]]
name = "lp"
[[circuit.synapses]]
pre = "ab"
post = "lp"
transmitter = "glutamate"
[parameters.grid]
ab = ["AB/PD 1", "AB/PD 2"]
lp = ["LP 2", "LP 3"]
gsyn_ab_lp_nS = [10, 30, 100]
[protocol]
initial = "cold"
"""


def test_what_a_circuit_of_other_cells_plays_finds_it_again(inside, client, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "two.toml").write_text(TWO_CELLS)
    db = pyl.build(tmp_path / "two.toml", tmp_path / "db", cluster=client)
    played = db.query("phase_start_lp > 0.3").circuit_id.values
    assert len(played) >= 3
    spikes = db.simulate(played[1:2], duration_ms=9000).spike_time_ms[0]
    rows = [(n, t / 1000) for n in ("ab", "lp") for t in spikes.sel(cell=n).values if t == t]
    file = write_csv(tmp_path / "prep.csv", [*((n.upper(), t) for n, t in rows), ("PY", 99.0)])
    figure = tmp_path / "x.png"
    done = inside("match", tmp_path / "db", file, "-k", 2, "--json", "-o", figure)
    found = json.loads(done.stdout)
    assert found["recording"]["neurons_left_out"] == ["PY"] and found["recording"]["periodic"]
    assert found["compared"] == default_features(db.manifest.columns)
    first, second = found["nearest"]
    assert first["circuit_id"] == played[1] and first["distance_sd"] < 0.5 * second["distance_sd"]
    assert set(first["parameters"]) == {"ab", "lp", "gsyn_ab_lp_nS"}
    assert figure.read_bytes().startswith(b"\x89PNG")
    silenced = [(n, t) for n, t in rows if not (n == "lp" and 4 < t < 6)]
    shown = inside("match", tmp_path / "db", write_csv(tmp_path / "less.csv", silenced))
    assert "no phase: LP does not burst once in " in shown.stderr
    (lacking,) = (line for line in shown.stderr.splitlines() if line.startswith("not compared"))
    assert "duty_cycle_lp" in lacking and "phase_start_lp" in lacking
    alone = write_csv(tmp_path / "alone.csv", [(n, t) for n, t in rows if n == "ab"])
    shown = inside("match", tmp_path / "db", alone)
    assert "no phase: LP has no spikes" in shown.stderr and "3 of 6" in shown.stdout
    refused(inside("match", tmp_path / "db", write_csv(tmp_path / "pd.csv", pyloric_spikes())),
            "pd.csv has no spikes of AB (other neurons: PD, PY)")  # fmt: skip


def test_recordings_that_cannot_be_matched(inside, rhythmic_db, tmp_path):
    lonely = write_csv(tmp_path / "lonely.csv", pyloric_spikes(neurons=["LP"]))
    refused(inside("match", rhythmic_db, lonely), "has no spikes of AB/PD, whose bursts delimit")
    short = write_csv(tmp_path / "short.csv", pyloric_spikes(cycles=1))
    refused(
        inside("match", rhythmic_db, short),
        "short.csv has no period: AB/PD has fewer than two whole cycles of bursts (times were "
        "read as s)",
    )
    good = write_csv(tmp_path / "good.csv", pyloric_spikes(), scale=1000)
    refused(
        inside("match", rhythmic_db, good),
        "good.csv has 52.7 s between spikes of AB/PD in the median, above the 10 s that any rhythm "
        "has; times were read as s; are they in ms (--unit ms)?",
    )
    seconds = write_csv(tmp_path / "seconds.csv", pyloric_spikes())
    refused(
        inside("match", rhythmic_db, seconds, "--unit", "ms"),
        "seconds.csv has 0.0527 ms between spikes of AB/PD in the median, below the 0.5 ms that a "
        "neuron needs; times were read as ms; are they in s (--unit s)?",
    )
    refused(inside("match", rhythmic_db, good, "--unit", "h"), "must be s or ms, not 'h'")
    refused(inside("match", rhythmic_db, good, "--unit", "ms", "-k", 0), "k must be")
    refused(
        inside("match", rhythmic_db, good, "--unit", "ms", "--where", "lp > 70"),
        "no circuit for which 'lp > 70' is true",
    )
    refused(inside("match", rhythmic_db, good, "-o", tmp_path / "x.doc"), "must end in one of")
    nowhere = inside("match", rhythmic_db, good, "--unit", "ms", "-o", tmp_path / "no/x.png")
    refused(nowhere, "no is no directory")
    refused(inside("match", rhythmic_db, tmp_path / "no.csv"), "cannot be read")
    refused(inside("match", tmp_path / "nodb", good), "does not exist")
