"""Batches of circuits through epochs: step, find spikes, keep voltage statistics.

An epoch is a compiled program: on a CPU in float32 that of `vector_kernel`, on a GPU that of
`kernel`, and else JAX's, one per batch width. What it does to a circuit does not depend on the
other circuits of the batch, its place there or the width: all operations are elementwise along
the batch (a test holds it to the bit).
"""

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pyloric_db.errors import ConfigError
from pyloric_db.integrate.arithmetic import GpuArithmetic
from pyloric_db.integrate.finding import (
    OFFSET_mV,
    Spikes,
    spike_finder,
    spikes_of_slots,
    start_finding,
)
from pyloric_db.integrate.kernel import EpochKernel, gpu_is_used
from pyloric_db.integrate.step import State, Stepper, make_stepper, on_host
from pyloric_db.integrate.tables import make_tables
from pyloric_db.integrate.vector_kernel import VectorKernel
from pyloric_db.model.circuit import Circuit
from pyloric_db.model.constants import REFERENCE_TEMPERATURE_K, Constants, q10

#: How the CPU's kernel runs cells that are alone: a step is a chain of results that wait for each
#: other, and the step of a second cell fills the time.
PAIR = Circuit(cells=("one", "other"))
#: Circuits that the CPU's kernel is given together. It takes a few at a time whatever their number;
#: everything else between two epochs is a few NumPy calls on all of them.
LANES = 2048
#: Batch widths that JAX compiles for a CPU; a batch is padded to the next one.
WIDTHS = (32, 128, 256, 512)
#: The same where JAX itself runs on a GPU, which needs tens of thousands of circuits to be full.
GPU_WIDTHS = (512, 8192, 65536)
#: Circuits that are advanced together, each by its own number of steps.
ADVANCED_TOGETHER = 256
#: Spikes are looked for at this spacing: fine enough for parabolic interpolation to place a
#: spike within 0.05 ms (late by 0.016 ms on average; at 0.2 ms it would be 0.15 and 0.06),
#: coarse enough to cost a few per cent.
SAMPLE_MS = 0.1
#: Samples in a slot, which keeps one spike per cell: 2 ms, under any interval between spikes. In
#: circuits warmer than published ones samples are as much closer as gates are faster.
SAMPLES_PER_SLOT = 20
#: Outside these a run is reported as out of range.
RANGE_V_mV = 250.0
RANGE_CA_uM = (0.0, 1e5)


@dataclass(frozen=True)
class Batch:
    """A batch of circuits between epochs: everything with the batch as its last axis.

    `V_before` is V one sample before the present one, +inf at the start of a run. The arrays are
    NumPy's, or CuPy's where the engine's kernel keeps them on a GPU.
    """

    state: State
    V_before: Any  # (cell, batch) mV
    parameters: tuple[Any, Any, Any]

    def __len__(self) -> int:
        return int(self.V_before.shape[-1])

    def map(self, function: Callable[..., Any], *others: "Batch") -> "Batch":
        """The batch of a function of each array, and of the other batches' same arrays."""
        return Batch(
            *jax.tree.map(function, *((b.state, b.V_before, b.parameters) for b in (self, *others)))
        )

    def take(self, index: np.ndarray) -> "Batch":
        """The circuits at these places."""
        return self.map(lambda a: a.take(index, axis=-1))

    def join(self, other: "Batch") -> "Batch":
        """This batch's circuits, then the other's."""
        return self.map(lambda *pair: np.concatenate(pair, axis=-1), other)

    def padded(self, width: int) -> "Batch":
        """Filled up with copies of the last circuit."""
        return self.take(np.minimum(np.arange(width), len(self) - 1))


@dataclass(frozen=True)
class Epoch:
    """What an epoch found; NumPy arrays, batch first.

    `spike_ms` (total) holds the spikes of (circuit, cell) pairs one after the other, ms from the
    start of the epoch, `n_spikes` (batch, cell) how many each has. `crowded`, `nonfinite` and
    `out_of_range` (batch,) say what went wrong.
    """

    spike_ms: np.ndarray
    n_spikes: np.ndarray
    V_min: np.ndarray  # (batch, cell) mV
    V_max: np.ndarray
    V_mean: np.ndarray
    crowded: np.ndarray
    nonfinite: np.ndarray
    out_of_range: np.ndarray


@cache
def _start_jax() -> None:
    """Start JAX's CPU backend with one thread, where it has not been started yet.

    A step is too short to be shared between threads: with two, XLA takes twice the processor
    time for the same rate. The pool's size can only be given through this variable, before the
    first computation; a value that is already set is left alone.
    """
    given = os.environ.get("NPROC")
    os.environ["NPROC"] = given or "1"
    try:
        jax.devices()
    finally:
        if given is None:
            del os.environ["NPROC"]


class Engine:
    """Runs batches of one circuit's parameter sets.

    Args:
        circuit: the topology.
        dt_ms, scheme, dtype, constants, temperature_K: see `step.make_stepper`.
        epoch_ms: length of an epoch; a multiple of dt.
        spike_threshold_mV: a spike is a local maximum of V above it.

    Raises:
        ConfigError: epoch_ms is not a multiple of dt_ms.
    """

    def __init__(
        self,
        circuit: Circuit,
        *,
        dt_ms: float,
        epoch_ms: float,
        scheme: str = "gates_first",
        dtype: str = "float32",
        constants: Constants = Constants(),
        temperature_K: float = REFERENCE_TEMPERATURE_K,
        spike_threshold_mV: float = 0.0,
    ):
        _start_jax()
        n_steps = round(epoch_ms / dt_ms)
        if abs(n_steps * dt_ms - epoch_ms) > 1e-6 * epoch_ms or n_steps < 1:
            raise ConfigError(f"epoch_ms ({epoch_ms:g}) must be a multiple of dt_ms ({dt_ms:g})")
        self.circuit = circuit
        self.dt_ms = dt_ms
        self.epoch_ms = epoch_ms
        self.dtype = dtype
        step_of = partial(
            make_stepper,
            dt=dt_ms,
            scheme=scheme,
            constants=constants,
            temperature_K=temperature_K,
        )
        self._step_of = step_of
        self.stepper = step_of(circuit, dtype=dtype)
        # spikes of warm cells are as much narrower and closer together as their gates are faster
        faster = max(1.0, q10(constants.Q10_tau_m, temperature_K))
        #: steps from one sample to the next
        self.stride = _largest_divisor(n_steps, int(SAMPLE_MS / faster / dt_ms + 1e-9))
        n_samples = n_steps // self.stride
        samples = _largest_divisor(n_samples, SAMPLES_PER_SLOT)
        self._shape: dict[str, Any] = {
            "sample_ms": self.stride * dt_ms,
            "threshold_mV": spike_threshold_mV,
            "samples": samples,
            "slots": n_samples // samples,
        }
        self._n_samples = n_samples
        self._kernel: EpochKernel | None = None
        if dtype == "float32" and gpu_is_used():
            self._kernel = EpochKernel(
                step_of(circuit, arithmetic=GpuArithmetic()), stride=self.stride, **self._shape
            )
        self._on_cpu = jax.default_backend() == "cpu"
        self._tabulated = dtype == "float32" and self._on_cpu
        #: batch sizes that JAX compiles programs for
        self.widths = WIDTHS if self._on_cpu else GPU_WIDTHS
        #: circuits that run at the same time at the best rate
        self.lanes = LANES if self._tabulated else self.widths[-1]
        if self._kernel:
            self.lanes = self._kernel.lanes
        #: name of the GPU that epochs run on
        self.gpu: str | None = None if self._on_cpu else jax.devices()[0].device_kind
        if self._kernel:
            self.gpu = self._kernel.gpu
        self.n_steps = n_steps
        self.seconds = 0.0  # spent in compiled programs
        self._advance = jax.jit(self._advance_program)
        self._programs: dict[tuple[int, tuple[int, ...]], Any] = {}

    @cached_property
    def _vectors(self) -> VectorKernel | None:
        """The CPU's kernel, made when it is first needed."""
        if not self._tabulated:
            return None
        tables = make_tables(self._step_of(self.circuit, dtype="float64"))
        if len(self.circuit.cells) == 1 and not self.circuit.sources:
            return VectorKernel(self._step_of(PAIR), tables, **self._shape, copies=2)
        return VectorKernel(self.stepper, tables, **self._shape)

    def _program(self, parts: int = 1, record: tuple[int, ...] = ()) -> Any:
        """An epoch whose samples have so many parts, after which these arrays are recorded."""
        if (parts, record) not in self._programs:
            if self._vectors:
                program: Any = partial(self._vectors, parts=parts, record=record)
            else:
                # the stride is an argument, since XLA unrolls short loops whose trip count it
                # knows, at half the rate on a CPU; on a GPU, not to know it is to ask the host
                # before every step
                program = jax.jit(
                    epoch_program(self.stepper, **self._shape, parts=parts, record=record),
                    static_argnums=() if self._on_cpu else 2,
                )
            self._programs[parts, record] = program
        return self._programs[parts, record]

    def _precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(True) if self.dtype == "float64" else nullcontext()

    def start(
        self,
        state: dict[str, np.ndarray],
        gbar: np.ndarray,
        gsyn: np.ndarray,
        i_ext_nA: np.ndarray | None = None,
    ) -> Batch:
        """A batch at the start of a run.

        Args:
            state: V (batch, cell) mV, Ca (batch, cell) uM, m (batch, cell, m_gate),
                h (batch, cell, h_gate), s (batch, source).
            gbar: (batch, cell, channel) mS/cm2.
            gsyn: (batch, synapse) nS.
            i_ext_nA: (batch, cell); None for none.
        """
        packed = self.stepper.pack(state)
        if i_ext_nA is None:
            i_ext_nA = np.zeros(gbar.shape[:2])
        before = np.full_like(packed[0], np.inf)
        batch = Batch(packed, before, self.stepper.parameters(gbar, gsyn, i_ext_nA))
        return batch.map(self._kernel.place) if self._kernel else batch

    def epoch(self, batch: Batch) -> tuple[Batch, Epoch]:
        """Run one epoch.

        Returns:
            the batch at the end, and what was found.
        """
        if self._kernel:
            began = time.perf_counter()
            state, V_before, statistics, spikes = self._kernel(
                batch.state, batch.V_before, batch.parameters
            )
            self.seconds += time.perf_counter() - began
        else:
            (state, V_before), (statistics, slots) = self._execute(
                self._program(), batch, self.stride
            )
            spikes = spikes_of_slots(slots)
        return Batch(state, V_before, batch.parameters), self._found(state, statistics, spikes)

    def record(
        self, batch: Batch, variables: tuple[str, ...], every: int
    ) -> tuple[Batch, Epoch, dict[str, np.ndarray]]:
        """Run one epoch and record state variables.

        The steps are the same as those of `epoch`, and so are the spikes; but where `epoch` has
        the GPU's kernel, they are taken on the CPU here, and differ in rounding.

        Args:
            batch: circuits to run.
            variables: of V, Ca, m, h, s.
            every: steps from one record to the next; divides the steps of an epoch.

        Returns:
            the batch at the end, what was found, and the variables (batch, ..., time), the first
            one `every` steps after the start.
        """
        length = int(np.gcd(every, self.stride))
        arrays = self._arrays_of(variables)
        (state, V_before), (statistics, (slots, trace)) = self._execute(
            self._program(self.stride // length, arrays), batch, length
        )
        rows = {}
        for i, values in zip(arrays, trace, strict=True):
            # (slot, sample, part, rows..., batch) -> (rows..., time, batch)
            # lengths are counted, not left to NumPy: without synapses there are no rows
            flat = values.reshape(math.prod(values.shape[:3]), *values.shape[3:])
            flat = flat[every // length - 1 :: every // length]
            rows[i] = np.moveaxis(flat, 0, -2)
        n_times = next(iter(rows.values())).shape[-2]
        folded = tuple(
            rows[i].reshape(*rows[i].shape[:-2], math.prod(rows[i].shape[-2:]))
            if i in rows
            else np.zeros((*batch.state[i].shape[:-1], n_times * len(batch)))
            for i in range(len(batch.state))
        )
        stored = self.stepper.unpack(folded)
        recorded = {}
        for name in variables:
            values = stored[name].reshape(n_times, len(batch), *stored[name].shape[1:])
            recorded[name] = np.moveaxis(values, 0, -1)
        end = Batch(state, V_before, batch.parameters)
        return end, self._found(state, statistics, spikes_of_slots(slots)), recorded

    def advance(self, batch: Batch, n_steps: np.ndarray) -> State:
        """The state of each circuit after its own number of steps (batch,)."""
        batch = batch.map(on_host)
        advance = self._vectors.advance if self._vectors else self._advance
        found = tuple(np.array(a) for a in batch.state)
        order = np.argsort(n_steps, kind="stable")
        for index in np.split(order, range(ADVANCED_TOGETHER, len(order), ADVANCED_TOGETHER)):
            some, steps = batch.take(index), n_steps[index]
            padded = some.padded(self._width_for(len(some)))
            state, done = padded.state, 0
            for n in np.unique(steps):
                with self._precision():
                    state = advance(state, padded.parameters, n - done)
                done = n
                there = np.flatnonzero(steps == n)
                for values, now in zip(found, state, strict=True):
                    values[..., index[there]] = np.asarray(now)[..., there]
        return found

    def _advance_program(self, state: State, parameters: Any, n_steps: Any) -> State:
        return lax.fori_loop(0, n_steps, lambda _, x: self.stepper.step(x, parameters), state)

    def _execute(self, program: Any, batch: Batch, stride: int) -> Any:
        """Run a program on a padded batch; NumPy arrays without the padding."""
        n = len(batch)
        padded = batch.map(on_host).padded(self._width_for(n))
        began = time.perf_counter()
        with self._precision():
            out = program((padded.state, padded.V_before), padded.parameters, stride)
        arrays = jax.tree.map(lambda a: np.asarray(a)[..., :n], out)
        self.seconds += time.perf_counter() - began
        return arrays

    def _width_for(self, n: int) -> int:
        """The smallest batch width that holds n circuits and that there is a program for."""
        if self._vectors:
            return -(-n // self._vectors.width) * self._vectors.width
        return next(w for w in self.widths if w >= n)

    def _found(self, state: State, statistics: Any, spikes: Spikes) -> Epoch:
        spike_ms, n_spikes, crowded = spikes
        V, Ca = state[0], state[1]
        finite = np.isfinite(V).all(axis=0) & np.isfinite(Ca).all(axis=0)
        for array in state[2:]:
            finite &= np.isfinite(array).reshape(-1, array.shape[-1]).all(axis=0)
        beyond = (np.abs(statistics[:2]) > RANGE_V_mV).any(axis=(0, 1))
        beyond |= ((Ca < RANGE_CA_uM[0]) | (Ca > RANGE_CA_uM[1])).any(axis=0)
        V_min, V_max, V_sum = (a.T for a in on_host(statistics))
        return Epoch(
            spike_ms=spike_ms.astype(float),
            n_spikes=n_spikes,
            V_min=V_min,
            V_max=V_max,
            V_mean=np.clip(V_sum / self._n_samples + OFFSET_mV, V_min, V_max),
            crowded=crowded,
            nonfinite=on_host(~finite),
            out_of_range=on_host(finite & beyond),
        )

    def _arrays_of(self, variables: tuple[str, ...]) -> tuple[int, ...]:
        """Indices of the state's arrays that hold these variables."""
        where: dict[str, set[int]] = {"V": {0}, "Ca": {1}, "s": {2}, "m": set(), "h": set()}
        for i, group in enumerate(self.stepper.groups, start=3):
            for which, _ in group.keys:
                where[which].add(i)
        return tuple(sorted(set().union(*(where[v] for v in variables))))


def _largest_divisor(n: int, at_most: int) -> int:
    return max(k for k in range(1, max(1, at_most) + 1) if n % k == 0)


def epoch_program(
    stepper: Stepper,
    *,
    sample_ms: float,
    threshold_mV: float,
    samples: int,
    slots: int,
    parts: int = 1,
    record: tuple[int, ...] = (),
) -> Any:
    """An epoch as `slots` of `samples` of `parts` of `stride` steps.

    A slot keeps at most one spike per cell, so spikes leave the loop as one dense row per slot;
    a scatter into lists of spikes would cost a quarter of the rate. A second spike in a slot
    turns its time into +inf. The arrays of the state whose indices are in `record` are
    recorded after every part.
    """
    look = spike_finder(
        stepper.arithmetic, sample_ms=sample_ms, threshold_mV=threshold_mV, samples=samples
    )

    def run(carry: Any, parameters: Any, stride: Any) -> Any:
        def part(state: Any) -> Any:
            return lax.fori_loop(0, stride, lambda _, x: stepper.step(x, parameters), state)

        def slot(c: Any, j: Any) -> Any:
            def sample(k: Any, c: Any) -> Any:
                state, found = c
                state = part(state)
                return state, look(j, k, state[0], found)

            state, found = lax.fori_loop(0, samples, sample, c)
            return (state, found), found[5]

        def recorded_slot(c: Any, j: Any) -> Any:
            def recorded_part(state: Any, _: None) -> Any:
                state = part(state)
                return state, [state[k] for k in record]

            def sample(c: Any, k: Any) -> Any:
                state, found = c
                state, trace = lax.scan(recorded_part, state, length=parts)
                return (state, look(j, k, state[0], found)), trace

            (state, found), trace = lax.scan(sample, c, jnp.arange(samples))
            return (state, found), (found[5], trace)

        state, V_0 = carry
        V = state[0]
        found = start_finding(V_0, V)
        body = recorded_slot if record else slot
        (state, found), out = lax.scan(body, (state, found), jnp.arange(slots))
        return (state, found[0]), (found[2:5], out)

    return run
