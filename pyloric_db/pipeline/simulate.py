"""The Python calls on arrays: `simulate` and `classify`."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Literal, overload

import numpy as np
import xarray as xr

from pyloric_db.errors import ConfigError, PyloricDBWarning, nearest
from pyloric_db.integrate.engine import SAMPLE_MS, SAMPLES_PER_SLOT, WIDTHS, Engine, Epoch
from pyloric_db.model.circuit import PRINZ2004, Circuit
from pyloric_db.model.constants import Constants, warn_without_q10
from pyloric_db.pipeline.recipe import MOST_CONDUCTANCE
from pyloric_db.pipeline.run import protocol_engine, run_circuits, status_of
from pyloric_db.pipeline.states import (
    States,
    aligned,
    cold_states,
    states_dataset,
    states_from,
)
from pyloric_db.pipeline.thermalise import thermal_cells, thermal_start
from pyloric_db.protocol import Protocol
from pyloric_db.vocabulary import (
    CELL,
    CHANNEL,
    CIRCUIT,
    SPIKE,
    STATE_VARIABLES,
    SYNAPSE,
    TIME,
    ChannelNames,
    attributes,
    feature_columns,
    run_columns,
    state_labels,
)

Initial = Literal["cold", "thermal"] | xr.Dataset

#: Length of the pieces in which a simulation is run, ms.
PIECE_MS = 1000.0

#: Spacing of traces where nobody says it, as nearly as the step allows, ms.
RECORD_MS = 0.5


def read_conductances(
    gbar: Any, gsyn: Any, circuit: Circuit, channels: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A user's conductances as float64 arrays (circuit, cell, channel) and (circuit, synapse).

    Args:
        gbar: an array, or an xr.DataArray whose dims and labels are put in order; one circuit
            may come without its first axis. mS/cm2.
        gsyn: the same, nS. None for a circuit without synapses.
        circuit: the topology.
        channels: those of its cells, in order.

    Raises:
        ConfigError: a shape does not fit the circuit, or a value is negative or not finite.
    """
    if not isinstance(circuit, Circuit):
        raise ConfigError(f"circuit must be a pyloric_db.Circuit, not {circuit!r}")
    for name, given in (("gbar", gbar), ("gsyn", gsyn)):
        if isinstance(given, xr.Dataset):
            raise ConfigError(
                f"{name} is a Dataset: pass .gbar and .gsyn of it, one after the other"
            )
    if gsyn is None and circuit.synapse_names:
        raise ConfigError(
            f"gsyn is missing: this circuit has the synapses {', '.join(circuit.synapse_names)}"
        )
    shapes = {
        "gbar": (len(circuit.cells), len(channels)),
        "gsyn": (len(circuit.synapse_names),),
    }
    labels = {CELL: circuit.cells, CHANNEL: channels, SYNAPSE: circuit.synapse_names}
    wanted = {"gbar": (CIRCUIT, CELL, CHANNEL), "gsyn": (CIRCUIT, SYNAPSE)}
    arrays: dict[str, np.ndarray] = {}
    for name, given in (("gbar", gbar), ("gsyn", gsyn)):
        if given is None and name == "gsyn":
            given = np.zeros((len(arrays["gbar"]), 0))
        if isinstance(given, xr.DataArray) and wanted[name][-1] not in given.dims:
            raise ConfigError(f"{name} has the dims {given.dims}, but needs {wanted[name][-1]}")
        array = _numbers(given, name, wanted[name], labels)
        if array.ndim == len(shapes[name]):
            array = array[None]
        if array.shape[1:] != shapes[name]:
            raise ConfigError(
                f"{name} has the shape {array.shape}, but this circuit needs "
                f"(circuits, {', '.join(map(str, shapes[name]))})"
            )
        bad = np.argwhere(~((array >= 0) & (array <= MOST_CONDUCTANCE)))
        if len(bad):
            i = tuple(int(k) for k in bad[0])
            raise ConfigError(
                f"{name}{list(i)} is {array[i]:g}; conductances must be numbers from 0 to "
                f"{MOST_CONDUCTANCE:g}"
            )
        arrays[name] = array
    if not len(arrays["gbar"]):
        raise ConfigError("there are no circuits: gbar has none")
    if len(arrays["gbar"]) != len(arrays["gsyn"]):
        raise ConfigError(f"gbar has {len(arrays['gbar'])} circuits but gsyn {len(arrays['gsyn'])}")
    return arrays["gbar"], arrays["gsyn"]


def _labels(**given: Any) -> dict[Any, xr.Variable]:
    """What those of a user's arguments that are labelled say of the circuits.

    Raises:
        ConfigError: two of them say different things; circuits are not put in order.
    """
    found: dict[Any, tuple[str, xr.DataArray]] = {}
    for argument, value in given.items():
        if not isinstance(value, xr.DataArray | xr.Dataset):
            continue
        for name, values in value.coords.items():
            if values.dims != (CIRCUIT,):
                continue
            other, known = found.setdefault(name, (argument, values))
            if not np.array_equal(known.values, values.values):
                what = name if name == CIRCUIT else f"{name} as circuit"
                raise ConfigError(f"{other} and {argument} have different {what} labels")
    return {name: values.variable for name, (_, values) in found.items()}


def _numbers(
    given: Any, name: str, dims: tuple[str, ...], labels: dict[str, tuple[str, ...]]
) -> np.ndarray:
    """A user's array as float64; a labelled one with its dims and labels in our order.

    Raises:
        ConfigError: it holds no numbers, or has other dims or labels.
    """
    if isinstance(given, xr.DataArray):
        if not set(given.dims) <= set(dims):
            raise ConfigError(f"{name} has the dims {given.dims}, but may have {dims}")
        given = aligned(given, name, labels)
        given = given.transpose(*[d for d in dims if d in given.dims]).values
    try:
        array = np.asarray(given)
        if array.dtype.kind not in "biufO":
            raise TypeError
        return array.astype(float)
    except (TypeError, ValueError):
        raise ConfigError(f"{name} must be an array of numbers") from None


def _number(value: Any, name: str) -> float:
    """A user's number; ConfigError for what is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, not {value!r}")
    return float(value)


def _model(constants: Any, protocol: Protocol) -> Constants:
    """A user's constants, which are the published ones where there are none."""
    model = Constants() if constants is None else constants
    if not isinstance(model, Constants):
        raise ConfigError(f"constants must be a pyloric_db.Constants, not {constants!r}")
    warn_without_q10(model, protocol.temperature_K)
    return model


def _protocol(protocol: Any, default: Protocol) -> Protocol:
    """A user's protocol, or the default."""
    if protocol is None:
        return default
    if not isinstance(protocol, Protocol):
        raise ConfigError(f"protocol must be a pyloric_db.Protocol, not {protocol!r}")
    return protocol


def _initial(
    initial: Initial | None,
    gbar: np.ndarray,
    circuit: Circuit,
    protocol: Protocol,
    constants: Constants,
) -> States:
    initial = protocol.initial if initial is None else initial
    if isinstance(initial, str):
        if initial == "cold":
            return cold_states(len(gbar), circuit, constants.channel_names)
        if initial == "thermal":
            return thermal_start(
                gbar, circuit, protocol, lambda own, phase: thermal_cells(own, phase, constants)
            )
        raise ConfigError(
            f"initial must be 'cold', 'thermal' or a Dataset of states, not {initial!r}"
            f"{nearest(initial, ('cold', 'thermal'))}"
        )
    return states_from(initial, len(gbar), circuit, constants.channel_names)


@overload
def simulate(
    gbar: Any,
    gsyn: Any = ...,
    *,
    duration_ms: float,
    protocol: Protocol | None = ...,
    dt_ms: float | None = ...,
    record_every_ms: float | None = ...,
    initial: Initial | None = ...,
    temperature_K: float | None = ...,
    circuit: Circuit = ...,
    i_ext_nA: Any = ...,
    variables: Sequence[str] = ...,
    scheme: Literal["gates_first", "old_state"] | None = ...,
    dtype: Literal["float32", "float64"] | None = ...,
    constants: Constants | None = ...,
    spike_threshold_mV: float | None = ...,
    thermal_phase: float | Sequence[float] | None = ...,
    return_state: Literal[False] = False,
) -> xr.Dataset: ...


@overload
def simulate(
    gbar: Any,
    gsyn: Any = ...,
    *,
    duration_ms: float,
    protocol: Protocol | None = ...,
    dt_ms: float | None = ...,
    record_every_ms: float | None = ...,
    initial: Initial | None = ...,
    temperature_K: float | None = ...,
    circuit: Circuit = ...,
    i_ext_nA: Any = ...,
    variables: Sequence[str] = ...,
    scheme: Literal["gates_first", "old_state"] | None = ...,
    dtype: Literal["float32", "float64"] | None = ...,
    constants: Constants | None = ...,
    spike_threshold_mV: float | None = ...,
    thermal_phase: float | Sequence[float] | None = ...,
    return_state: Literal[True],
) -> tuple[xr.Dataset, xr.Dataset]: ...


def simulate(
    gbar: Any,
    gsyn: Any = None,
    *,
    duration_ms: float,
    protocol: Protocol | None = None,
    dt_ms: float | None = None,
    record_every_ms: float | None = None,
    initial: Initial | None = None,
    temperature_K: float | None = None,
    circuit: Circuit = PRINZ2004,
    i_ext_nA: Any = None,
    variables: Sequence[str] = ("V",),
    scheme: Literal["gates_first", "old_state"] | None = None,
    dtype: Literal["float32", "float64"] | None = None,
    constants: Constants | None = None,
    spike_threshold_mV: float | None = None,
    thermal_phase: float | Sequence[float] | None = None,
    return_state: bool = False,
) -> xr.Dataset | tuple[xr.Dataset, xr.Dataset]:
    """Simulate circuits and return traces and spike times.

    Args:
        gbar: (circuit, cell, channel) mS/cm2, cells and channels in the vocabulary's order.
        gsyn: (circuit, synapse) nS, in the order of `circuit.synapse_names`; may be left out
            where there are no synapses.
        duration_ms: length of the run; a multiple of dt_ms.
        protocol: how `classify` and a build run the circuits; what is given beside it counts
            more. None for the default protocol, but with the `initial` state `cold`.
        dt_ms: step, above 0 and at most 0.2 ms; 0.05 by default.
        record_every_ms: spacing of the traces, a multiple of dt_ms; None for that next to 0.5 ms.
            The first record is the initial state at time 0.
        initial: `cold` (V -50 mV, Ca 0.05 uM, m 0, h 1, s 0), `thermal` (each cell as it
            is alone, with these constants and at this temperature, see `Protocol.thermal_phase`;
            s 0), or states as `return_state` gives them.
        temperature_K: scales by the Q10 factors of `constants`, which are 1 unless given; 283 by
            default.
        circuit: the topology.
        i_ext_nA: injected current, a number or an array broadcast to (circuit, cell); a labelled
            one is put in order.
        variables: state variables to record: of V, Ca, m, h, s; () for none.
        scheme: `gates_first` (default) or `old_state`, see `integrate.step`.
        dtype: `float32` (default) or `float64`.
        constants: the model's numbers; None for the published ones.
        spike_threshold_mV: a spike is a local maximum of V above it; 0 by default.
        thermal_phase: where in their cycles cells start that start `thermal`, one number for all or
            one for each cell; 0.5 by default.
        return_state: return the state at the end too.

    Returns:
        the recorded variables (circuit, ..., time); `spike_time_ms` (circuit, cell, spike), ms from
        the start, padded with NaN; and `status` (circuit), `ok` unless the numbers of a circuit
        are not to be used: its run failed, or spikes were too close to be kept (runs go on to the
        end of a piece of a second, and a failure there counts). With `return_state`, a pair of this
        and the Dataset of states, which goes into `initial` of the next call.

    Raises:
        ConfigError: an argument is not valid.
    """
    of_circuits = _labels(gbar=gbar, gsyn=gsyn, initial=initial, i_ext_nA=i_ext_nA)
    given: dict[str, Any] = {
        "dt_ms": dt_ms,
        "temperature_K": temperature_K,
        "scheme": scheme,
        "dtype": dtype,
        "spike_threshold_mV": spike_threshold_mV,
        "thermal_phase": thermal_phase,
    }
    protocol = replace(
        _protocol(protocol, Protocol(initial="cold")),
        **{k: v for k, v in given.items() if v is not None},
    )
    model = _model(constants, protocol)
    gbar, gsyn = read_conductances(gbar, gsyn, circuit, model.channel_names.all)
    dt_ms, duration_ms = protocol.dt_ms, _number(duration_ms, "duration_ms")
    if record_every_ms is None:
        record_every_ms = max(1, round(RECORD_MS / dt_ms)) * dt_ms
    if duration_ms <= 0:
        raise ConfigError(f"duration_ms must be above 0, not {duration_ms}")
    n_steps = _steps(duration_ms, dt_ms, "duration_ms")
    every = _steps(_number(record_every_ms, "record_every_ms"), dt_ms, "record_every_ms")
    variables = (variables,) if isinstance(variables, str) else variables
    if not isinstance(variables, Sequence) or not all(v in (*STATE_VARIABLES,) for v in variables):
        raise ConfigError(f"variables must be of {', '.join(STATE_VARIABLES)}, not {variables!r}")
    variables = tuple(variables)
    injected = _injected(i_ext_nA, gbar.shape[:2], circuit)
    start = _initial(initial, gbar, circuit, protocol, model)

    # pieces of a whole number of samples, so that every piece is the same program
    unit = max(1, int(SAMPLE_MS / dt_ms + 1e-9)) * SAMPLES_PER_SLOT
    piece = max(1, round(PIECE_MS / dt_ms / unit)) * unit
    engine = protocol_engine(circuit, protocol, model, piece * dt_ms)
    # traces take memory; without them a GPU can be full
    width = WIDTHS[-1] if variables else engine.lanes
    chunks = [
        _simulate_chunk(
            engine,
            {k: v[here] for k, v in start.items()},
            gbar[here],
            gsyn[here],
            injected[here],
            n_steps,
            every,
            variables,
            return_state,
        )
        for here in (slice(a, a + width) for a in range(0, len(gbar), width))
    ]
    traces, counts, times, ends, failures = zip(*chunks, strict=True)
    dataset = _dataset(
        circuit,
        model.channel_names,
        {name: np.concatenate([t[name] for t in traces]) for name in variables},
        np.arange(-(-n_steps // every)) * every * dt_ms,
        _padded(np.concatenate(counts), np.concatenate(times)),
        np.concatenate(failures),
    ).assign_coords(of_circuits)
    if not return_state:
        return dataset
    stored = {k: np.concatenate([e[k] for e in ends]) for k in STATE_VARIABLES}
    end = states_dataset(stored, circuit, model.channel_names)
    return dataset, end.assign_coords(of_circuits)


def _padded(counts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Spike times (circuit, cell, spike), NaN behind a cell's last, of so many (circuit, cell)."""
    padded = np.full((*counts.shape, counts.max(initial=0)), np.nan)
    padded[np.arange(padded.shape[2]) < counts[..., None]] = times
    return padded


def _dataset(
    circuit: Circuit,
    channels: ChannelNames,
    traces: dict[str, np.ndarray],
    times_ms: np.ndarray,
    spikes: np.ndarray,
    status: np.ndarray,
) -> xr.Dataset:
    """What `simulate` returns, with the dims, labels and units of the contract."""
    data: dict[str, Any] = {}
    labelled = {CELL}
    for name, values in traces.items():
        dims, unit, text = STATE_VARIABLES[name]
        data[name] = (CIRCUIT, *dims, TIME), values, attributes(unit, text)
        labelled.update(dims)
    described = attributes("ms", "spike times from the start of the run")
    data["spike_time_ms"] = (CIRCUIT, CELL, SPIKE), spikes, described
    data["status"] = CIRCUIT, status, attributes("1", "how the run ended")
    labels = state_labels(circuit.cells, circuit.source_names, channels)
    coords: dict[str, Any] = {d: list(names) for d, names in labels.items() if d in labelled}
    if traces:
        coords[TIME] = TIME, times_ms, attributes("ms", "time")
    return xr.Dataset(data, coords)


def _injected(i_ext_nA: Any, shape: tuple[int, ...], circuit: Circuit) -> np.ndarray:
    """A user's current as (circuit, cell), nA."""
    given = 0.0 if i_ext_nA is None else i_ext_nA
    injected = _numbers(given, "i_ext_nA", (CIRCUIT, CELL), {CELL: circuit.cells})
    if isinstance(i_ext_nA, xr.DataArray) and i_ext_nA.dims == (CIRCUIT,):
        injected = injected[:, None]
    try:
        injected = np.broadcast_to(injected, shape)
    except ValueError:
        raise ConfigError(f"i_ext_nA must broadcast to (circuit, cell) = {shape}") from None
    if not np.isfinite(injected).all():
        raise ConfigError("i_ext_nA must be finite")
    return injected


def _steps(ms: float, dt_ms: float, name: str) -> int:
    steps = round(ms / dt_ms)
    if steps < 1 or abs(steps * dt_ms - ms) > 1e-6 * ms:
        raise ConfigError(f"{name} ({ms:g}) must be a multiple of dt_ms ({dt_ms:g})")
    return steps


def _simulate_chunk(
    engine: Engine,
    start: States,
    gbar: np.ndarray,
    gsyn: np.ndarray,
    i_ext_nA: np.ndarray,
    n_steps: int,
    every: int,
    variables: tuple[str, ...],
    return_state: bool,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, States, np.ndarray]:
    """Of at most one batch: traces, numbers of spikes (circuit, cell) and their times cell by
    cell, end states (if wanted), status."""
    batch = engine.start(start, gbar, gsyn, i_ext_nA)
    n, n_cells = gbar.shape[:2]
    traces: dict[str, list[np.ndarray]] = {
        v: [np.asarray(start[v], engine.dtype)[..., None]] for v in variables
    }
    epochs: list[Epoch] = []
    piece = engine.n_steps
    # records that fit into a piece, of which those are kept that were asked for
    finest = math.gcd(every, piece)
    end = None
    for done in range(0, n_steps, piece):
        if return_state and n_steps - done < piece:
            end = engine.advance(batch, np.full(n, n_steps - done))
        if variables:
            batch, epoch, recorded = engine.record(batch, variables, finest)
            wanted = np.arange(done, done + piece, finest) + finest
            for name, values in recorded.items():
                traces[name].append(values[..., wanted % every == 0])
        else:
            batch, epoch = engine.epoch(batch)
        epochs.append(epoch)
    rows = np.concatenate([np.repeat(np.arange(n * n_cells), e.n_spikes.ravel()) for e in epochs])
    times = np.concatenate([e.spike_ms + i * engine.epoch_ms for i, e in enumerate(epochs)])
    kept = times <= n_steps * engine.dt_ms
    rows, times = rows[kept], times[kept]
    n_records = -(-n_steps // every)
    return (
        {k: np.concatenate(v, axis=-1)[..., :n_records] for k, v in traces.items()},
        np.bincount(rows, minlength=n * n_cells).reshape(n, n_cells),
        times[np.lexsort((times, rows))],
        engine.stepper.unpack(batch.state if end is None else end),
        status_of(*epochs),
    )


def classify(
    gbar: Any,
    gsyn: Any = None,
    *,
    initial: Initial | None = None,
    protocol: Protocol | None = None,
    circuit: Circuit = PRINZ2004,
    i_ext_nA: Any = None,
    constants: Constants | None = None,
) -> xr.Dataset:
    """Run circuits under a protocol and return their features: exactly what a build stores.

    Args:
        gbar: (circuit, cell, channel) mS/cm2.
        gsyn: (circuit, synapse) nS.
        initial: as for `simulate`; None for what the protocol says, which is `thermal` by default.
        protocol: times, thresholds, tolerances and temperature; None for the defaults.
        circuit: the topology.
        i_ext_nA: injected current from the start on, as for `simulate`; cells that start `thermal`
            have been alone without it.
        constants: the model's numbers; None for the published ones.

    Returns:
        the feature columns over `circuit`; NaN (for text, '') where a feature has no meaning.
        Warns where runs failed, which have no features and a `status` that is not `ok`.

    Raises:
        ConfigError: an argument is not valid.
    """
    of_circuits = _labels(gbar=gbar, gsyn=gsyn, initial=initial, i_ext_nA=i_ext_nA)
    protocol = _protocol(protocol, Protocol())
    model = _model(constants, protocol)
    gbar, gsyn = read_conductances(gbar, gsyn, circuit, model.channel_names.all)
    injected = _injected(i_ext_nA, gbar.shape[:2], circuit)
    start = _initial(initial, gbar, circuit, protocol, model)
    columns, _ = run_circuits(
        gbar,
        gsyn,
        start,
        circuit=circuit,
        protocol=protocol,
        constants=model,
        i_ext_nA=injected,
    )
    failed = columns["status"] != "ok"
    if failed.any():
        kinds = ", ".join(sorted(set(columns["status"][failed])))
        warnings.warn(
            f"{failed.sum():,} of {len(failed):,} circuits have the status {kinds}: they were not "
            "measured, and their labels are False for want of features: leave them out of shares",
            PyloricDBWarning,
            stacklevel=2,
        )
    described = (*feature_columns(circuit.cells), *run_columns(circuit.cells))
    return xr.Dataset(
        {c.name: (CIRCUIT, columns[c.name], c.attrs) for c in described},
        {name: values for name, values in of_circuits.items() if name not in columns},
    )
