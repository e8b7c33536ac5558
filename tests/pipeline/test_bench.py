"""The benchmark of a tiny recipe: what it reports is consistent, whatever the machine's speed."""

import pytest

from pyloric_db.errors import ConfigError
from pyloric_db.pipeline.bench import measure
from pyloric_db.pipeline.machine import cores


@pytest.mark.slow
def test_rates_and_stages_are_consistent(tiny):
    seen = []
    recipe = tiny({"store.shard_circuits": 6})
    found = measure(lambda *step: seen.append(step), recipe=recipe, shard_circuits=6)
    assert [r.processes for r in found.rates] == ([1, 2] if cores() > 1 else [1])
    for rates in found.rates:
        assert rates.kernel_Mcs_per_s > 0 and rates.end_to_end_Mcs_per_cpu_s > 0
    assert sum(found.stages.values()) == pytest.approx(1)
    assert min(found.stages.values()) >= 0
    assert found.stages["integrating"] > 0 and found.stages["writing"] > 0
    # every circuit of the tiny recipe runs for two or three epochs of a quarter of a second
    assert 0.5 <= found.simulated_s_per_circuit <= 0.75
    per_core = found.rates[-1].circuits_per_s / found.rates[-1].processes
    assert found.gpu is None
    assert found.estimate().startswith(f"{found.n_circuits:,} circuits: ")
    assert found.hours_on_16_cores == pytest.approx(found.n_circuits / per_core / 16 / 3600)
    assert found.hours_here == pytest.approx(found.n_circuits / per_core / cores() / 3600)
    assert seen[0][0] == 0 and seen[-1][0] == seen[-1][1]


@pytest.mark.slow
def test_cells_of_a_prior_are_thermalised_in_its_shards(tiny):
    prior = {"lp": "LP 1", "py": "PY 1", "gbar_abpd_Na": {"uniform": [100, 400]}}
    recipe = tiny({"parameters": {"prior": {"count": 8, "parameters": prior}}})
    found = measure(recipe=recipe)
    assert found.n_circuits == 8 and found.shard_circuits == 2
    assert found.thermalise_s == 0 and found.stages["thermalising cells"] > 0
    assert sum(found.stages.values()) == pytest.approx(1)


def test_a_recipe_too_small_to_measure_is_refused(tiny):
    with pytest.raises(ConfigError, match="has 3 circuits: to measure takes 4 at least"):
        measure(recipe=tiny({"sample": {"count": 3}}))
