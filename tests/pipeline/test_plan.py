import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.errors import ConfigError
from pyloric_db.pipeline.plan import (
    CHUNK_CIRCUITS,
    DESKTOP_SHARDS,
    LEAST_SHARDS,
    SMALL_SHARD,
    make_plan,
)
from pyloric_db.vocabulary import CHANNELS


def test_a_plan_touches_nothing(tiny_toml, tmp_path, monkeypatch, snapshot):
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path), snapshot(tiny_toml.parent)
    make_plan(tiny_toml, sample=5)
    assert (snapshot(tmp_path), snapshot(tiny_toml.parent)) == before


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 24), shard_circuits=st.integers(1, 30), sampled=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_shards_hold_every_circuit_once(tiny, n, shard_circuits, sampled, seed):
    recipe = tiny({"store.shard_circuits": shard_circuits})
    plan = make_plan(recipe, **({"sample": n, "seed": seed} if sampled else {"limit": n}))
    m = plan.manifest
    parts = [plan.shard_ids(k) for k in range(m.n_shards)]
    assert [len(p) for p in parts] == [m.shard_size(k) for k in range(m.n_shards)]
    assert all(1 <= len(p) <= shard_circuits for p in parts)
    ids = np.concatenate(parts)
    assert len(ids) == n == m.n_circuits
    assert (np.diff(ids) > 0).all()
    if not sampled:
        assert ids.tolist() == list(range(n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 20_250_000))
def test_chunks_divide_shards(n):
    m = make_plan("prinz2004", limit=n).manifest
    assert m.n_circuits == n
    assert m.shard_circuits % m.chunk_circuits == 0
    assert m.chunk_circuits <= CHUNK_CIRCUITS and m.shard_circuits <= 20_250
    assert m.chunk_circuits >= min(m.shard_circuits, CHUNK_CIRCUITS / 2)  # a write is a few chunks
    assert m.n_shards >= min(n, LEAST_SHARDS) - 1  # even a small build keeps workers busy
    # and a larger one the cores of a desktop
    assert m.n_shards >= min(n // SMALL_SHARD, DESKTOP_SHARDS)
    assert m.shard_circuits >= min(SMALL_SHARD, n / LEAST_SHARDS) - 1


def test_the_whole_grid():
    m = make_plan("prinz2004").manifest
    assert (m.n_circuits, m.shard_circuits, m.n_shards) == (20_250_000, 20_250, 1000)
    names = [c.name for c in m.columns]
    assert names[:2] == ["circuit_id", "netcode"] and names[-1] == "status"
    assert m.settings["dt_ms"] == 0.05 and m.versions["jax"]


def test_netcodes_only_where_the_axes_are_those_of_2004(tiny, named_toml):
    assert "netcode" in {c.name for c in make_plan(named_toml).manifest.columns}
    assert "netcode" not in {c.name for c in make_plan(tiny()).manifest.columns}


def test_what_decides_the_contents_decides_the_hash(tiny):
    def of(changes=None, **more):
        return make_plan(tiny(changes), **more).manifest.recipe_hash

    hashes = [
        of(),
        of({"protocol.max_ms": 1000}),
        of({"parameters.grid.gsyn_ab_lp_nS": [0, 3, 11]}),
        of({"store.shard_circuits": 3}),
        of(limit=7),
        of(sample=7),
        of(sample=7, seed=1),
    ]
    assert len(set(hashes)) == len(hashes)
    assert of() == hashes[0]
    assert of(sample=7, seed=1) == hashes[-1]


def test_where_a_table_lies_does_not_decide_the_hash(tiny, tmp_path):
    hashes = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "t.csv"
        file.write_text("gbar_abpd_Na,gbar_lp_Na,gbar_py_Na\n1,1,1\n")
        m = make_plan(tiny({"parameters": {"table": {"path": str(file)}}})).manifest
        hashes.append(m.recipe_hash)
        assert str(tmp_path) not in m.to_json()
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 2.0}, "limit must be a whole number"),
        ({"seed": 7}, "a seed is for a sample"),
        ({"sample": 5, "seed": -1}, "a seed must not be negative"),
    ],
)
def test_bad_counts(tiny, arguments, text):
    with pytest.raises(ConfigError, match=text):
        make_plan(tiny(), **arguments)


def test_counts_may_be_numpys(tiny):
    numpys = {"limit": np.int64(5), "sample": np.int32(6), "seed": np.uint8(1)}
    plain = make_plan(tiny(), limit=5, sample=6, seed=1).manifest
    assert make_plan(tiny(), **numpys).manifest.to_json() == plain.to_json()


def test_more_circuits_than_a_database_holds_are_refused_with_a_way_out(tiny):
    grid = {f"gbar_abpd_{c}": list(range(60)) for c in CHANNELS}
    recipe = tiny({"parameters": {"grid": grid | {"lp": ["LP 1"], "py": ["PY 1"]}}})
    with pytest.raises(ConfigError, match=r"1.68e\+14 circuits are too many .* take some"):
        make_plan(recipe)
    assert make_plan(recipe, sample=10).manifest.n_circuits == 10


def test_a_grid_whose_ids_float64_cannot_tell_apart_is_refused(tiny):
    grid = {f"gbar_abpd_{c}": list(range(100)) for c in CHANNELS}
    grid |= {"lp": ["LP 1"], "py": ["PY 1"]}
    with pytest.raises(ConfigError, match=r"1e\+16 circuits are too many: ids end at 9.01e\+15"):
        make_plan(tiny({"parameters": {"grid": grid}}), sample=10)
