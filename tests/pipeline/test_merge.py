"""Databases of id ranges, built apart and joined, are the database built in one go."""

import errno
import json
import shutil

import numpy as np
import pytest
from contents import contents
from hypothesis import given
from hypothesis import strategies as st

import pyloric_db as pyl
from pyloric_db.errors import ConfigError, DatabaseError
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.ranges import check_ranges, ids_of_rows, parse_ranges, ranges_text
from pyloric_db.store.ledger import Ledger
from pyloric_db.store.verify import status, verify


@pytest.fixture(scope="module")
def part(client, tiny, tmp_path_factory):
    """Path of the database of some ids of the tiny recipe, built once. Not to be changed."""
    built = {}

    def build(text):
        if text not in built:
            path = tmp_path_factory.mktemp("part") / "db"
            pyl.build(tiny(), path, cluster=client, ids=parse_ranges(text))
            built[text] = path
        return built[text]

    return build


CUTS = [
    ("0:12", "12:24"),  # at shards of the whole
    ("11:24", "0:5", "5:11"),  # anywhere, in any order
    ("4:9", "0:4,9:24"),
]


def rows_of(path):
    return Ledger(path).read().shards.values()


@pytest.mark.parametrize("cuts", CUTS, ids=" ".join)
def test_merged_is_built_in_one_go(part, tiny_db, tmp_path, cuts):
    db = pyl.merge([part(cut) for cut in cuts], tmp_path / "db")
    assert db.complete and len(db) == 24
    assert contents(tmp_path / "db") == contents(tiny_db)
    report = verify(tmp_path / "db")
    assert report.good and report.complete and not report.strays
    ends = [row["finished_at"] for row in rows_of(tmp_path / "db")]
    assert {*ends} <= {row["finished_at"] for cut in cuts for row in rows_of(part(cut))}
    states = [status(p) for p in (tmp_path / "db", *map(part, cuts))]
    for worked in ([s.seconds for s in states], [s.kernel_seconds for s in states]):
        assert worked[0] == pytest.approx(sum(worked[1:]), abs=0.1) and worked[0] > 0


@pytest.mark.parametrize("year", [1999, 2999])
def test_a_shard_is_finished_when_the_last_of_its_rows_is(part, tmp_path, year):
    """Circuits 4 and 5 are one shard of the whole, and lie in two of the parts."""
    four, five = shutil.copytree(part("0:5"), tmp_path / "four"), part("5:11")
    row = next(row for row in rows_of(four) if row["first_id"] == 4)
    then = f"{year}-01-01T00:00:00+00:00"
    Ledger(four).append({k: v for k, v in row.items() if k != "sum"} | {"finished_at": then})
    pyl.merge([four, five], tmp_path / "db")
    (now,) = (row["finished_at"] for row in rows_of(five) if row["first_id"] == 5)
    (found,) = (row["finished_at"] for row in rows_of(tmp_path / "db") if row["first_id"] == 4)
    assert found == (then if year == 2999 else now)


def test_a_part_has_the_numbers_of_the_whole(part, tiny_db):
    db, whole = pyl.open(part("4:9")), pyl.open(tiny_db)
    assert db.circuits.circuit_id.values.tolist() == [4, 5, 6, 7, 8]
    assert db.manifest.selection == {"ids": [[4, 9]], "of": 24}
    assert db.states([7]).identical(whole.states([7]))


def test_a_union_with_a_gap_is_what_build_makes_of_it(part, tiny, client, tmp_path):
    merged = pyl.merge([part("11:24"), part("0:5")], tmp_path / "db")
    assert merged.manifest.selection["ids"] == [[0, 5], [11, 24]]
    assert contents(tmp_path / "db") == contents(part("0:5,11:24"))
    whole = pyl.merge([tmp_path / "db", part("5:11")], tmp_path / "whole")
    assert whole.manifest.selection == {} and len(whole) == 24
    (tmp_path / "whole" / "features" / "part-000002.parquet").unlink()
    assert pyl.build(tiny(), tmp_path / "whole", cluster=client).complete  # mends it


def test_ranges_of_a_sample(client, tiny, tmp_path):
    sampled = {"sample": 13, "seed": 3, "cluster": client}
    for name, ids in (("a", [range(0, 9)]), ("b", [range(9, 24)]), ("all", None)):
        pyl.build(tiny(), tmp_path / name, ids=ids, **sampled)
    db = pyl.merge([tmp_path / "b", tmp_path / "a"], tmp_path / "db")
    assert 0 < len(pyl.open(tmp_path / "a")) < 9 and len(db) == 13
    assert contents(tmp_path / "db") == contents(tmp_path / "all")


def test_ranges_of_a_prior(client, tiny, tmp_path):
    prior = {
        "count": 9,
        "parameters": {"abpd": "AB/PD 1", "lp": "LP 1", "py": "PY 1",
                       "gsyn_ab_lp_nS": {"uniform": [0, 100]}},
    }  # fmt: skip
    recipe = tiny({"parameters": {"prior": prior}})
    for name, ids in (("a", [range(0, 4)]), ("b", [range(4, 9)]), ("all", None)):
        pyl.build(recipe, tmp_path / name, ids=ids, cluster=client)
    pyl.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "db")
    assert contents(tmp_path / "db") == contents(tmp_path / "all")
    # more draws of the same
    more = tiny({"parameters": {"prior": prior | {"count": 13}}})
    pyl.build(more, tmp_path / "rest", ids=[range(9, 13)], cluster=client)
    pyl.build(more, tmp_path / "more", cluster=client)
    grown = pyl.merge([tmp_path / "all", tmp_path / "rest"], tmp_path / "grown")
    assert contents(tmp_path / "grown") == contents(tmp_path / "more") and len(grown) == 13
    other = tiny({"parameters": {"prior": prior | {"count": 13, "seed": 1}}})
    pyl.build(other, tmp_path / "other", ids=[range(9, 13)], cluster=client)
    with pytest.raises(DatabaseError, match=r"recipe\.parameters\.prior\.seed is 1, but there 0"):
        pyl.merge([tmp_path / "all", tmp_path / "other"], tmp_path / "x")


def test_interrupted_and_damaged_it_goes_on(part, tiny_db, tmp_path):
    def stop(done, total):
        if done >= 6:
            raise KeyboardInterrupt

    sources = [part("0:12"), part("12:24")]
    with pytest.raises(KeyboardInterrupt):
        pyl.merge(sources, tmp_path / "db", progress=stop)
    assert status(tmp_path / "db").shards_done == 3
    (tmp_path / "db" / "features" / "part-000001.parquet").write_bytes(b"")
    pyl.merge(sources, tmp_path / "db")
    assert contents(tmp_path / "db") == contents(tiny_db)


def changed(path, target, **changes):
    """A copy whose manifest says something else."""
    shutil.copytree(path, target)
    content = json.loads((target / "database.json").read_text()) | changes
    (target / "database.json").write_text(json.dumps(content))
    return target


def test_what_cannot_be_merged_is_one_sentence(part, tiny, tiny_db, client, tmp_path, snapshot):
    a, b = part("0:12"), part("12:24")
    versions = pyl.open(b).manifest.versions
    newer = changed(b, tmp_path / "newer", versions=versions | {"jax": "99"})
    pyl.build(tiny({"protocol.dt_ms": 0.05}), tmp_path / "fine", cluster=client, ids=[range(9, 24)])
    half = shutil.copytree(b, tmp_path / "half")
    rows = (half / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (half / "ledger.jsonl").write_bytes(b"".join(rows[:-1]))
    bad = shutil.copytree(b, tmp_path / "bad")
    (bad / "features" / "part-000002.parquet").write_bytes(
        (b / "features" / "part-000002.parquet").read_bytes()[::-1]
    )
    selection = {"ids": [[12, 24], [3]], "of": 24}
    nonsense = changed(b, tmp_path / "nonsense", selection=selection)
    before = snapshot(tmp_path)
    for sources, message in (
        ([a, nonsense], "recipe does not match its recipe_hash"),
        ([a, part("11:24")], r"both hold circuits 11:12$"),
        ([a, a], r"both hold circuits 0:12$"),
        ([a, tiny_db], "was not built with --ids: merged are ranges of ids"),
        ([a, newer], r"versions\.jax is '99', but there '"),
        ([a, tmp_path / "fine"], r"recipe\.protocol\.dt_ms is 0\.05, but there 0\.1$"),
        ([a, half], "half is not complete"),
        ([a, tmp_path / "nothing"], "does not exist"),
    ):
        with pytest.raises(DatabaseError, match=message) as caught:
            pyl.merge(sources, tmp_path / "db")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="at least two"):
        pyl.merge([a], tmp_path / "db")
    assert snapshot(tmp_path) == before
    with pytest.raises(DatabaseError, match=r"part-000002\.parquet does not match its checksum"):
        pyl.merge([a, bad], tmp_path / "db")
    assert status(tmp_path / "db").shards_done == 8  # a mended source makes the rest
    with pytest.raises(
        DatabaseError,
        match=r"12 circuits \(ids \[\[0, 12\]\]\) of this recipe, and not all circuits",
    ):
        pyl.merge([a, b], a)


def test_cells_of_another_machine_are_said(part, tmp_path):
    from pyloric_db.store.cells import read_cells, write_cells

    other = shutil.copytree(part("12:24"), tmp_path / "other")
    cells = read_cells(other)
    Ledger(other).append(write_cells(other, {**cells, "V": np.nextafter(cells["V"], 0)}))
    with pytest.warns(UserWarning, match="thermalised cells of .*other.* differ"):
        db = pyl.merge([part("0:12"), other], tmp_path / "db")
    assert db.cells().V.identical(pyl.open(part("0:12")).cells().V)


def test_a_disk_that_takes_no_more_is_a_sentence(part, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr("pyloric_db.pipeline.merge.write_shard", full)
    with pytest.raises(DatabaseError, match="cannot be written .File too large.*what is finished"):
        pyl.merge([part("0:12"), part("12:24")], tmp_path / "db")


@pytest.mark.slow
def test_the_command_line(part, tiny_toml, tiny_db, tmp_path, cli):
    built = cli("build", tiny_toml, "--out", tmp_path / "b", "--ids", "12:24", "--workers", 1)
    assert built.returncode == 0, built.stderr
    done = cli("merge", part("0:12"), tmp_path / "b", "--out", tmp_path / "db")
    assert done.returncode == 0 and "24 circuits" in done.stdout, done.stderr
    assert contents(tmp_path / "db") == contents(tiny_db)
    again = cli("merge", part("0:12"), part("0:12"), "--out", tmp_path / "c")
    assert again.returncode == 2 and again.stderr.count("\n") == 1
    assert not (tmp_path / "c").exists()


# ranges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5", "A:B"), ("a:b", "A:B"), ("1:2,", "A:B"), ("-1:5", "A:B"), ("0:" + "9" * 30, "A:B"),
        ("5:5", "no range"), ("9:5", "no range"), ("0:25", r"which are 0:24"),
        ("0:5,4:9", "4:5 are given twice"),
    ],
)  # fmt: skip
def test_ranges_that_cannot_be_are_refused(tiny, text, message):
    with pytest.raises(ConfigError, match=message):
        make_plan(tiny(), ids=parse_ranges(text))


def test_a_range_without_circuits_is_refused(tiny):
    with pytest.raises(ConfigError, match="none of the circuits"):
        make_plan(tiny(), limit=5, ids=[range(6, 9)])


def test_the_whole_range_is_the_whole_recipe(tiny):
    assert make_plan(tiny(), ids=[range(12, 24), range(12)]).manifest == make_plan(tiny()).manifest


@given(st.sets(st.integers(0, 60), min_size=1), st.randoms(use_true_random=False))
def test_ranges_are_sets_of_ids(ids, rng):
    single = [range(i, i + 1) for i in ids]
    rng.shuffle(single)
    joined = check_ranges(single, 61)
    assert [i for r in joined for i in r] == sorted(ids)
    assert all(a.stop < b.start for a, b in zip(joined, joined[1:], strict=False))
    assert check_ranges(parse_ranges(ranges_text(joined)), 61) == joined
    start = rng.randrange(len(ids))
    stop = rng.randrange(start, len(ids)) + 1
    assert ids_of_rows(joined, start, stop).tolist() == sorted(ids)[start:stop]
