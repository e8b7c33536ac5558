"""Circuits simulated on for what a command shows."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

    from pyloric_db.query.database import Database


def simulate_on(opened: "Database", ids: Any, duration_ms: float) -> "xr.Dataset":
    """The traces of circuits from their stored states on, for a duration rounded to steps.

    `ids` as `Database.simulate` takes them.
    """
    opened.states(ids)  # damage is said before JAX is loaded
    from pyloric_db.pipeline.jax_settings import set_up_jax

    set_up_jax()
    dt_ms = float(opened.manifest.settings["dt_ms"])
    return opened.simulate(ids, duration_ms=round(duration_ms / dt_ms) * dt_ms)
