import os
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.errors import ConfigError
from pyloric_db.model.cells import PUBLISHED_CELLS
from pyloric_db.pipeline.draw import (
    grid_axes,
    has_netcode,
    netcodes,
    parameters,
    population,
    select,
)
from pyloric_db.pipeline.plan import make_plan
from pyloric_db.pipeline.recipe import load_recipe
from pyloric_db.store.parameters import parameters_from_columns
from pyloric_db.vocabulary import SYNAPSES

FIVE, SIX = (0, 3, 10, 30, 100), (0, 1, 3, 10, 30, 100)
#: The axes of Prinz, Bucher & Marder 2004 from the slowest, written out by hand.
AXES = (
    [f"AB/PD {k}" for k in range(1, 6)],
    [f"LP {k}" for k in range(1, 6)],
    [f"PY {k}" for k in range(1, 7)],
    *(FIVE, FIVE, SIX, SIX, FIVE, SIX, FIVE),
)
N_GRID = 20_250_000


def decoded(circuit_id):
    """Index along each axis, by division from the fastest."""
    indices = []
    for axis in reversed(AXES):
        circuit_id, index = divmod(circuit_id, len(axis))
        indices.append(index)
    assert circuit_id == 0
    return indices[::-1]


def test_circuit_id_is_the_index_of_the_published_grid():
    recipe = load_recipe("prinz2004")
    assert population(recipe) == N_GRID
    ids = np.random.default_rng(0).integers(0, N_GRID, 500)
    ids[:3] = 0, 1, N_GRID - 1
    columns, gbar, gsyn = parameters(recipe, ids)
    assert gbar.shape == (500, 3, 8) and gsyn.shape == (500, 7)
    codes = netcodes(recipe, columns)
    for row, circuit_id in enumerate(ids.tolist()):
        indices = decoded(circuit_id)
        cells = [AXES[k][indices[k]] for k in range(3)]
        assert (gbar[row] == [PUBLISHED_CELLS[c] for c in cells]).all()
        assert gsyn[row].tolist() == [AXES[k][indices[k]] for k in range(3, 10)]
        assert codes[row] == "".join(map(str, indices))
    assert list(codes[:3]) == ["0000000000", "0000000001", "4454455454"]


def test_grid_columns_are_indices_and_values():
    columns, gbar, gsyn = parameters(load_recipe("prinz2004"), np.array([N_GRID - 1]))
    assert columns["py"].tolist() == [5] and columns["py"].dtype == np.uint8
    assert columns["gsyn_ab_py_nS"].tolist() == [100]
    assert columns["gsyn_ab_py_index"].tolist() == [5]
    assert len(columns) == 3 + 7 * 2


def test_what_is_run_is_what_the_database_says(tiny):
    """To the bit, also where a value of an axis is none in float32."""
    recipe = load_recipe(tiny({"parameters.grid.gsyn_ab_lp_nS": [0.1, 0.33, 5.4]}))
    ids = np.arange(24)
    columns, gbar, gsyn = parameters(recipe, ids)
    manifest = make_plan(recipe).manifest
    found = parameters_from_columns(manifest, {"circuit_id": ids, **columns})
    assert (found[0] == gbar).all() and (found[1] == gsyn).all()
    assert gsyn[:3, 0].tolist() == [0.1, 0.33, 5.4]


def test_netcodes_of_a_part_of_the_grid(tiny, named_toml):
    recipe = load_recipe(named_toml)
    columns, _, _ = parameters(recipe, np.array([15]))
    # AB/PD 2, LP 1, PY 2; AB-LP 30 nS and what else the recipe has
    assert netcodes(recipe, columns).tolist() == ["1013111220"]
    assert not has_netcode(load_recipe(tiny()))  # axes are missing
    content = tomllib.loads(named_toml.read_text())
    content["parameters"]["grid"]["gsyn_ab_lp_nS"] = [0, 31]
    assert not has_netcode(load_recipe(content))


def test_more_circuits_than_there_are_ids(tiny):
    synapses = ("ab_lp", "pd_lp", "ab_py", "pd_py", "lp_py", "py_lp")
    axes = {f"parameters.grid.gsyn_{s}_nS": list(range(2000)) for s in synapses}
    with pytest.raises(ConfigError, match="are too many"):
        select(load_recipe(tiny(axes)), sample=3)


def test_cells_of_ones_own_and_parameters_that_are_not_given(tiny):
    recipe = tiny({"parameters.grid.py": ["PY 1", {"Na": 123.0, "leak": 0.5}]})
    columns, gbar, gsyn = parameters(load_recipe(recipe), np.arange(24))
    assert gbar[3, 2].tolist() == [123, 0, 0, 0, 0, 0, 0, 0.5]
    assert gbar[0, 2].tolist() == list(PUBLISHED_CELLS["PY 1"])
    assert gsyn[:, 0].tolist() == [0, 3, 10] * 8
    assert not gsyn[:, 1:].any()


# selections


def test_everything_without_a_list_of_ids(tiny):
    chosen = select(load_recipe(tiny()))
    assert chosen.count == 24 and chosen.ids is None
    assert chosen.part(5, 8).tolist() == [5, 6, 7]
    assert select(load_recipe(tiny()), limit=7).count == 7
    assert select(load_recipe(tiny()), limit=700).count == 24


def test_a_sample_is_drawn_without_replacement():
    recipe = load_recipe("prinz2004")
    chosen = select(recipe, sample=1000, seed=3)
    ids = chosen.part(0, 1000)
    assert (np.diff(ids) > 0).all() and ids.dtype == np.int64
    assert 0 <= ids[0] and ids[-1] < N_GRID
    assert abs(ids.mean() / N_GRID - 0.5) < 0.05  # spread over the whole grid
    assert (select(recipe, sample=1000, seed=3).ids == ids).all()
    assert (select(recipe, sample=1000, seed=4).ids != ids).any()


def test_a_limit_takes_the_first_that_were_drawn():
    recipe = load_recipe("prinz2004")
    whole = set(select(recipe, sample=1000, seed=3).ids.tolist())
    few = select(recipe, sample=1000, seed=3, limit=10)
    more = select(recipe, sample=1000, seed=3, limit=20)
    assert few.count == 10 and (np.diff(few.ids) > 0).all()
    assert set(few.ids.tolist()) < set(more.ids.tolist()) < whole
    # not merely the smallest ids, which would be a corner of the grid
    assert few.ids[-1] > N_GRID / 4


def test_a_sample_of_a_sample(tiny):
    recipe = load_recipe(tiny({"sample": {"count": 12, "seed": 1}}))
    mine = set(select(recipe).ids.tolist())
    again = select(recipe, sample=5, seed=2)
    assert len(mine) == 12 and again.count == 5
    assert set(again.ids.tolist()) < mine
    assert set(select(recipe, sample=12).ids.tolist()) == mine


@pytest.mark.parametrize(
    "counts, expected",
    [
        ({"sample": 25}, "25 cannot be drawn from 24"),
        ({"sample": 0}, "sample of 0"),
        ({"sample": 5, "seed": -1}, "seed must not be negative"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"limit": -3}, "limit must be at least 1"),
    ],
)
def test_counts_that_cannot_be(tiny, counts, expected):
    with pytest.raises(ConfigError, match=expected):
        select(load_recipe(tiny()), **counts)


@settings(max_examples=50, deadline=None)
@given(n=st.integers(1, 24), seed=st.integers(0, 2**40), limit=st.integers(1, 30))
def test_selections_are_ascending_and_distinct(tiny, n, seed, limit):
    chosen = select(load_recipe(tiny()), sample=n, seed=seed, limit=limit)
    ids = chosen.part(0, chosen.count).tolist()
    assert len(ids) == chosen.count == min(n, limit)
    assert ids == sorted(set(ids)) and 0 <= ids[0] and ids[-1] < 24


# priors


N_PRIOR = 4000


@pytest.fixture(scope="module")
def prior(tiny):
    return load_recipe(
        tiny(
            {
                "parameters": {
                    "prior": {
                        "count": N_PRIOR,
                        "seed": 5,
                        "parameters": {
                            "abpd": {"choice": ["AB/PD 1", "AB/PD 2", "AB/PD 3"]},
                            "lp": "LP 2",
                            "gbar_py_Na": {"uniform": [100, 500]},
                            "gbar_py_Kd": 75,
                            "gsyn_ab_lp_nS": {"log_uniform": [0.01, 100]},
                            "gsyn_py_lp_nS": {"choice": [0, 30]},
                        },
                    }
                }
            }
        )
    )


@pytest.fixture(scope="module")
def drawn(prior):
    return parameters(prior, np.arange(N_PRIOR))


# of one size: each size is compiled anew
@settings(max_examples=15, deadline=None)
@given(ids=st.lists(st.integers(0, N_PRIOR - 1), min_size=7, max_size=7, unique=True).map(sorted))
def test_a_draw_depends_on_its_circuit_alone(prior, drawn, ids):
    columns, gbar, gsyn = parameters(prior, np.array(ids))
    assert (gbar == drawn[1][ids]).all() and (gsyn == drawn[2][ids]).all()
    assert all((columns[k] == drawn[0][k][ids]).all() for k in columns)


def test_a_draw_alone_is_the_same(prior, drawn):
    assert (parameters(prior, np.array([17]))[2] == drawn[2][[17]]).all()


def test_draws_lie_where_they_should(drawn):
    columns, gbar, gsyn = drawn
    Na = gbar[:, 2, 0]
    assert Na.min() >= 100 and Na.max() <= 500
    assert abs(Na.mean() - 300) < 4 * 400 / np.sqrt(12 * N_PRIOR)
    assert (gbar[:, 2, 5] == 75).all() and not gbar[:, 2, 1:5].any()
    assert (gbar[:, 1] == np.float32(PUBLISHED_CELLS["LP 2"])).all()
    cells = [np.float32(PUBLISHED_CELLS[f"AB/PD {k}"]) for k in (1, 2, 3)]
    counts = [int((gbar[:, 0] == c).all(axis=1).sum()) for c in cells]
    assert sum(counts) == N_PRIOR and min(counts) > N_PRIOR / 3 * 0.9
    assert set(gsyn[:, 6].tolist()) == {0, 30}
    assert len(columns) == 24 + 7


def test_log_uniform_is_uniform_in_the_logarithm(drawn):
    """Kolmogorov-Smirnov distance, far below what a uniform draw would have (0.7)."""
    g = np.sort(drawn[2][:, 0])
    assert g[0] >= 0.01 * (1 - 1e-6) and g[-1] <= 100 * (1 + 1e-6)
    u = np.log(g / 0.01) / np.log(1e4)
    assert np.abs(u - (np.arange(N_PRIOR) + 0.5) / N_PRIOR).max() < 1.63 / np.sqrt(N_PRIOR)


def test_draws_of_different_parameters_are_independent(drawn):
    correlation = np.corrcoef(drawn[1][:, 2, 0], np.log(drawn[2][:, 0]))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(N_PRIOR)


def test_what_is_run_is_what_is_stored(drawn):
    columns, gbar, gsyn = drawn
    assert columns["gsyn_ab_lp_nS"].dtype == np.float32
    assert (columns["gsyn_ab_lp_nS"] == gsyn[:, 0]).all()
    assert (columns["gbar_py_Na"] == gbar[:, 2, 0]).all()


def test_the_order_in_the_file_means_nothing(prior, drawn, tiny):
    turned = dict(reversed(prior.parameters.prior.parameters.items()))
    content = prior.model_dump(exclude_none=True)
    content["parameters"]["prior"]["parameters"] = turned
    again = load_recipe(content)
    assert (parameters(again, np.arange(50))[2] == drawn[2][:50]).all()
    grid = load_recipe("prinz2004").model_dump(exclude_none=True)
    grid["parameters"]["grid"] = dict(sorted(grid["parameters"]["grid"].items()))
    assert [a.name for a in grid_axes(load_recipe(grid))] == [
        "abpd", "lp", "py", *(f"gsyn_{s}_nS" for s in SYNAPSES)
    ]  # fmt: skip


def test_draws_are_those_of_any_environment():
    """Databases are mended and joined by drawing again."""
    code = (
        "import numpy as np\n"
        "from pyloric_db.pipeline.draw import parameters\n"
        "from pyloric_db.pipeline.recipe import load_recipe\n"
        "found = parameters(load_recipe('goncalves2020'), np.arange(3))[0]['gbar_abpd_Na']\n"
        "print(*found.round(2))"
    )
    odd = {
        "JAX_DEFAULT_PRNG_IMPL": "rbg",
        "JAX_RANDOM_SEED_OFFSET": "5",
        "JAX_THREEFRY_PARTITIONABLE": "false",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | odd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["380.08", "325.37", "350.71"]


def test_another_seed_draws_others(prior, drawn):
    spec = prior.parameters.prior.model_copy(update={"seed": 6})
    other = prior.model_copy(
        update={"parameters": prior.parameters.model_copy(update={"prior": spec})}
    )
    assert (parameters(other, np.arange(50))[2][:, 0] != drawn[2][:50, 0]).all()


# tables


def test_a_table_by_row(tiny, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {"gbar_abpd_Na": [1.0, 2, 3], "gbar_lp_H": [0.1, 0.2, 0.3], "gbar_py_A": [7, 8, 9]}
    table["gsyn_py_lp_nS"] = [0, 0, 2.5]
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    recipe = load_recipe(tiny({"parameters": {"table": {"path": str(tmp_path / "t.parquet")}}}))
    assert population(recipe) == 3
    columns, gbar, gsyn = parameters(recipe, np.array([0, 2]))
    assert gbar[:, 0, 0].tolist() == [1, 3] and gbar[:, 2, 3].tolist() == [7, 9]
    assert gbar[:, 1, 6].tolist() == np.float32([0.1, 0.3]).tolist()
    assert gsyn[:, 6].tolist() == [0, 2.5] and np.count_nonzero(gbar) == 6
    assert columns["gbar_lp_H"].tolist() == np.float32([0.1, 0.3]).tolist()


def test_an_index_of_pandas_is_no_parameter(tiny, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"gbar_abpd_Na": [1.0], "__index_level_0__": [7]})
    pq.write_table(table, tmp_path / "t.parquet")
    recipe = load_recipe(tiny({"parameters": {"table": {"path": str(tmp_path / "t.parquet")}}}))
    with pytest.raises(ConfigError, match="as pandas writes its index: .* with index=False$"):
        population(recipe)


def test_a_table_that_changes_under_a_build_is_noticed(tiny, tmp_path):
    file = tmp_path / "t.csv"
    head = "gbar_abpd_Na,gbar_lp_Na,gbar_py_Na\n"
    file.write_text(head + "1,1,1\n")
    recipe = load_recipe(tiny({"parameters": {"table": {"path": str(file)}}}))
    file.write_text(head + "1,1,2\n")
    with pytest.raises(ConfigError, match=r"t\.csv has changed"):
        parameters(recipe, np.array([0]))
