"""What a build would take on a cluster: workers, hours, and the script of its jobs."""

from pathlib import Path
from typing import Any

from pyloric_db.errors import ConfigError
from pyloric_db.pipeline.plan import Plan
from pyloric_db.pipeline.profile import SlurmProfile, load_profile, n_workers


def expectation(
    plan: Plan, cluster: "str | Path | dict[str, Any]", rate: float | None = None
) -> dict[str, Any]:
    """Workers, hours and job script of a build; starts nothing.

    Args:
        plan: what will be built.
        cluster: a profile.
        rate: circuits per second of one worker; None for the profile's.

    Returns:
        `expected_hours` is None where no rate was measured, or where how many workers there are is
        the scheduler's to know; `job_script` where there are no jobs. A shard is done by one
        worker: hours are those of the worker that gets most.

    Raises:
        ConfigError: the profile or the rate is not valid, or the profile cannot be used here.
    """
    profile = load_profile(cluster)
    rate = profile.circuits_per_s_per_worker if rate is None else rate
    if rate is not None and not 0 < rate < float("inf"):
        raise ConfigError(f"the rate must be above 0 circuits per second, not {rate:g}")
    workers = n_workers(profile)
    hours = None
    if rate is not None and workers is not None:
        m = plan.manifest
        most = min(m.n_circuits, -(-m.n_shards // workers) * m.shard_circuits)
        hours = most / rate / 3600
    script = None
    if isinstance(profile, SlurmProfile):
        from pyloric_db.pipeline.slurm import job_script  # which loads what starts clusters

        script = job_script(profile)
    return {
        "cluster": profile.kind,
        "workers": workers,
        "circuits_per_s_per_worker": rate,
        "expected_hours": hours,
        "shard_minutes": None if rate is None else plan.manifest.shard_circuits / rate / 60,
        "job_script": script,
    }


def duration(hours: float) -> str:
    """A length of time in words."""
    for unit, in_hours in (("hours", 1.0), ("minutes", 1 / 60)):
        if hours >= in_hours:
            return f"{hours / in_hours:.1f} {unit}"
    return f"{hours * 3600:.1f} seconds"
