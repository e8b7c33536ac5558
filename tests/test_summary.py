import math
from dataclasses import replace

import pytest

import pyloric_db
from pyloric_db import summary
from pyloric_db.summary import PUBLISHED_SHARES, Share, shares, wilson
from pyloric_db.vocabulary import ACTIVITIES


@pytest.mark.parametrize(
    "count, total, low, high",
    [
        # worked by hand with z = 1.96, z² = 3.8416
        (0, 10, 0.0, 0.277533),  # z²/(n + z²)
        (10, 10, 0.722467, 1.0),  # the mirror image
        (5, 10, 0.236593, 0.763407),  # 0.5 ± z sqrt(n + z²)/(2 (n + z²))
        (1, 4, 0.045587, 0.699358),  # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    ],
)
def test_wilson_by_hand(count, total, low, high):
    assert wilson(count, total) == pytest.approx((low, high), abs=2e-5)


def test_wilson_of_nothing_and_of_much():
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(200_000, 1_000_000)
    assert low < 0.2 < high
    assert high - low == pytest.approx(2 * 1.96 * (0.2 * 0.8 / 1e6) ** 0.5, rel=1e-3)


def test_published_shares():
    assert PUBLISHED_SHARES["pyloric_like"] == pytest.approx(0.1999, abs=1e-4)
    assert PUBLISHED_SHARES["pyloric"] == pytest.approx(0.02235, abs=1e-5)


def test_shares_of_a_database(tmp_path, monkeypatch):
    import synthetic

    manifest = synthetic.build(tmp_path / "db")
    assert shares(pyloric_db.open(tmp_path / "db"))[0].published is None  # a corner of the grid
    whole = math.prod(map(len, manifest.axes))
    monkeypatch.setattr(summary, "PUBLISHED_CIRCUITS", whole)
    found = shares(pyloric_db.open(tmp_path / "db"))
    everything = synthetic.expected(manifest)
    assert [s.label for s in found] == ["pyloric-like", "pyloric"]
    assert [s.count for s in found] == [
        everything["pyloric_like"].sum(),
        everything["pyloric"].sum(),
    ]
    assert all(s.total == 48 and s.interval is None for s in found)  # nothing was sampled
    assert found[0].published == PUBLISHED_SHARES["pyloric_like"]
    # another model's are not beside it
    for change in (
        {"settings": {**manifest.settings, "temperature_K": 293.0}},
        {"recipe": {**manifest.recipe, "constants": {"C": 2.0}}},
    ):
        path = tmp_path / next(iter(change))
        synthetic.build(path, replace(manifest, **change))
        assert shares(pyloric_db.open(path))[0].published is None
    # a range of ids, or the first shards of a build, are neither the grid nor a sample of it
    synthetic.build(tmp_path / "part", shards=[0])
    part = shares(pyloric_db.open(tmp_path / "part"))
    assert [(s.published, s.interval) for s in part] == [(None, None)] * 2


def test_shares_of_a_sample_have_intervals(tmp_path):
    import synthetic

    sampled = synthetic.make_manifest(n_circuits=20, selection={"sample": 20, "seed": 0})
    synthetic.build(tmp_path / "db", sampled)
    found = shares(pyloric_db.open(tmp_path / "db"))
    assert all(s.total == 20 and s.interval == wilson(s.count, 20) for s in found)
    # what is finished of it lies in one corner; what was drawn of some ranges, in these
    synthetic.build(tmp_path / "begun", replace(sampled, n_circuits=40), shards=[0])
    of_ranges = replace(sampled, selection={"sample": 20, "ids": [[0, 30]], "of": 48})
    synthetic.build(tmp_path / "ranges", of_ranges)
    for name in ("begun", "ranges"):
        assert not pyloric_db.open(tmp_path / name).random_sample
    # every circuit of a prior is drawn on its own
    prior = {"name": "tiny", "parameters": {"prior": {}}}
    synthetic.build(tmp_path / "prior", synthetic.make_manifest(recipe=prior), shards=[0])
    assert pyloric_db.open(tmp_path / "prior").random_sample


def test_circuits_without_labels_have_shares_of_activities(tmp_path, capsys):
    import synthetic

    from pyloric_db.cli.building import _print_shares

    manifest = synthetic.build(tmp_path / "db", synthetic.other_cells())
    everything = synthetic.expected(manifest)
    found = {s.label: s for s in shares(pyloric_db.open(tmp_path / "db"))}
    expected = {"periodic": everything["periodic"].sum()}
    for cell in "ab":
        for activity in ACTIVITIES:
            count = (everything[f"activity_{cell}"] == activity).sum()
            expected |= {f"{cell.upper()} {activity}": count} if count else {}
    assert {k: s.count for k, s in found.items()} == expected
    assert all(s.total == 12 and s.published is None for s in found.values())
    _print_shares(pyloric_db.open(tmp_path / "db"))
    head, *rows = capsys.readouterr().out.splitlines()
    assert "published" not in head and len(rows) == len(expected)
    assert rows[0].split() == [
        "periodic",
        f"{expected['periodic'] / 0.12:.2f}%",
        *rows[0].split()[2:],
    ]


def test_off_the_published_grid_nothing_is_published(tiny_db):
    found = shares(pyloric_db.open(tiny_db))
    assert [s.published for s in found] == [None, None]
    assert found[0] == Share("pyloric-like", found[0].count, 24, None, found[0].interval)


def test_a_database_without_circuits_has_no_shares(tmp_path):
    import synthetic

    synthetic.build(tmp_path / "db", shards=[])
    assert shares(pyloric_db.open(tmp_path / "db")) == []
