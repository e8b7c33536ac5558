"""States of circuits as plain arrays and as xarray: cold starts, and what users pass in."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyloric_db.errors import ConfigError
from pyloric_db.integrate.engine import RANGE_V_mV
from pyloric_db.model.circuit import Circuit
from pyloric_db.vocabulary import (
    CHANNEL,
    CIRCUIT,
    H_GATE,
    M_GATE,
    PUBLISHED_CHANNELS,
    STATE_VARIABLES,
    ChannelNames,
    attributes,
    state_labels,
    state_shapes,
)

if TYPE_CHECKING:
    import xarray as xr

States = dict[str, np.ndarray]

#: What a state may be, with room for rounding.
LIMITS = {
    "V": (-RANGE_V_mV, RANGE_V_mV),
    "Ca": (1e-6, np.inf),  # without any there is no reversal potential
    "m": (-1e-3, 1.001),
    "h": (-1e-3, 1.001),
    "s": (-1e-3, 1.001),
}


def cold_states(n: int, circuit: Circuit, channels: ChannelNames = PUBLISHED_CHANNELS) -> States:
    """V = -50 mV, [Ca] = 0.05 uM, m = 0, h = 1, s = 0 for n circuits.

    Source: Prinz, Billimoria & Marder 2003.
    """
    cold = {"V": -50.0, "Ca": 0.05, "m": 0.0, "h": 1.0, "s": 0.0}
    shapes = state_shapes(circuit.cells, circuit.source_names, channels)
    return {name: np.full((n, *shape), cold[name]) for name, shape in shapes.items()}


def aligned(
    array: "xr.DataArray", what: str, labels: Mapping[str, tuple[str, ...]]
) -> "xr.DataArray":
    """With the labels along each dim, where it has any, in our order.

    Raises:
        ConfigError: its labels are others.
    """
    for dim, ours in labels.items():
        if dim in array.dims and dim in array.coords:
            given = [str(v) for v in array[dim].values]
            if sorted(given) != sorted(ours):
                other = "constants" if dim in (CHANNEL, M_GATE, H_GATE) else "circuit"
                raise ConfigError(
                    f"{what} has the {dim} labels {', '.join(given)}, "
                    f"but the circuit has {', '.join(ours)}; for another give {other}=, "
                    f"such as pyloric_db.{other}_of(db)"
                )
            array = array.sel({dim: list(ours)})
    return array


def states_from(
    initial: "xr.Dataset | Mapping[str, Any]", n: int, circuit: Circuit, channels: ChannelNames
) -> States:
    """A user's initial states as arrays, circuit first.

    Args:
        initial: variables V, Ca, m, h, s with the dims of the contract, in any order; labelled
            dims are aligned with the circuit's names.
        n: number of circuits.
        circuit: the topology.
        channels: of its cells.

    Raises:
        ConfigError: a variable or dim is missing, a length or label differs, or a value is
            not finite or outside `LIMITS`.
    """
    import xarray as xr  # not at the top: workers do without, and start sooner

    if not isinstance(initial, xr.Dataset | Mapping):
        raise ConfigError(
            "initial must be 'cold', 'thermal' or a Dataset of states, not a "
            f"{type(initial).__name__}"
        )
    try:
        dataset = initial if isinstance(initial, xr.Dataset) else xr.Dataset(initial)
    except (TypeError, ValueError) as err:
        raise ConfigError(f"initial must be a Dataset of states: {err}") from err
    labels = state_labels(circuit.cells, circuit.source_names, channels)
    size = {CIRCUIT: n, **{dim: len(names) for dim, names in labels.items()}}
    states: States = {}
    for name, (dims, _, _) in STATE_VARIABLES.items():
        if name not in dataset:
            raise ConfigError(
                f"initial states lack the variable {name!r}; they need {', '.join(STATE_VARIABLES)}"
            )
        array = dataset[name]
        wanted = (CIRCUIT, *dims)
        if set(array.dims) != set(wanted):
            raise ConfigError(
                f"initial {name} has the dims {tuple(array.dims)}, but needs {wanted}"
            )
        array = aligned(array, f"initial {name}", labels)
        try:
            values = np.asarray(array.transpose(*wanted).values, float)
        except (TypeError, ValueError):
            raise ConfigError(f"initial {name} must be an array of numbers") from None
        for dim, length in zip(wanted, values.shape, strict=True):
            if length != size[dim]:
                raise ConfigError(
                    f"initial {name} has {length} along {dim}, but {size[dim]} are needed"
                )
        if not np.isfinite(values).all():
            raise ConfigError(f"initial {name} has values that are not finite")
        low, high = LIMITS[name]
        if ((values < low) | (values > high)).any():
            i = tuple(int(k) for k in np.argwhere((values < low) | (values > high))[0])
            raise ConfigError(
                f"initial {name}{list(i)} is {values[i]:g}, but must be from {low:g} to {high:g}"
            )
        states[name] = values
    return states


def states_dataset(
    states: States, circuit: Circuit, channels: ChannelNames = PUBLISHED_CHANNELS
) -> "xr.Dataset":
    """States as an xr.Dataset with the dims, labels and units of the contract."""
    import xarray as xr

    return xr.Dataset(
        {
            name: ((CIRCUIT, *dims), states[name], attributes(unit, long_name))
            for name, (dims, unit, long_name) in STATE_VARIABLES.items()
        },
        coords={
            dim: list(labels)
            for dim, labels in state_labels(circuit.cells, circuit.source_names, channels).items()
        },
    )
