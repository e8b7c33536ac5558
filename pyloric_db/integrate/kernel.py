"""An epoch as one CUDA kernel: a thread per circuit, its state in registers throughout.

The kernel is CUDA C, compiled on the GPU's machine by NVRTC and launched by CuPy. Only its loops
and its loads and stores are written here; the step and the spike finding are printed from the
functions that the CPU engine runs (`cuda_source`), with the GPU's own 2**x and logarithm.
Global memory is touched at the start, at spikes and at the end.
"""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from pyloric_db.errors import PyloricDBWarning, first_line
from pyloric_db.integrate.cuda_source import CudaLines, as_c
from pyloric_db.integrate.finding import Spikes, spike_finder, start_finding
from pyloric_db.integrate.step import Stepper
from pyloric_db.integrate.traced import Names, numbered

#: Threads of a block; with four blocks on a multiprocessor, each may have 128 registers.
THREADS = 128
BLOCKS_PER_MULTIPROCESSOR = 4
#: NaN and infinity keep their meaning; division and subnormal numbers are the hardware's.
OPTIONS = ("--use_fast_math",)

_TEMPLATE = """\
// state (and V_before), parameters, statistics: (row, n), one column per circuit.
// spike_ms: (slots * cells, n), of which n_spikes (cells, n) are filled, the earliest first.
extern "C" __global__ void __launch_bounds__({threads}, {blocks}) epoch(
    const int n, float* state, const float* parameters, float* statistics,
    float* spike_ms, int* n_spikes, int* crowded)
{{
  const int lane = blockIdx.x * blockDim.x + threadIdx.x;
  if (lane >= n) return;
{load}
  bool twice = false;
  #pragma unroll 1
  for (int j = 0; j < {slots}; ++j) {{
    #pragma unroll 1
    for (int k = 0; k < {samples}; ++k) {{
      #pragma unroll 1
      for (int i = 0; i < {stride}; ++i) {{
{step}
      }}
{look}
    }}
{keep}
  }}
{store}
  crowded[lane] = twice;
}}

// The spikes of (circuit, cell) pairs one after the other, from `first` on.
extern "C" __global__ void gather(
    const int n, const float* spike_ms, const int* n_spikes, const long long* first, float* flat)
{{
  const int lane = blockIdx.x * blockDim.x + threadIdx.x;
  if (lane >= n) return;
  for (int cell = 0; cell < {cells}; ++cell)
    for (int i = 0; i < n_spikes[cell * n + lane]; ++i)
      flat[first[lane * {cells} + cell] + i] = spike_ms[(size_t)(i * {cells} + cell) * n + lane];
}}
"""


@dataclass(frozen=True)
class EpochLines:
    """The parts of an epoch as lines of C, and the names of its variables.

    `start` declares what spike finding keeps (`found`: for each cell the last two samples, the
    lowest, highest and summed V, the time of a spike), `step` is one step, and `look` takes
    sample k of slot j.
    """

    state: list[str]
    V_before: list[str]
    parameters: list[str]
    found: list[str]
    start: list[str]
    step: list[str]
    look: list[str]

    @property
    def begin(self) -> list[str]:
        """What an epoch begins with."""
        return [*self.state, *self.V_before]

    @property
    def end(self) -> list[str]:
        """The same at its end: the last sample but one has become `V_before`."""
        return [*self.state, *self.found[: len(self.V_before)]]

    @property
    def spike(self) -> list[str]:
        """The time of each cell's spike."""
        return self.found[-len(self.V_before) :]


def epoch_lines(
    stepper: Stepper, *, sample_ms: float, threshold_mV: float, samples: int
) -> EpochLines:
    """An epoch of slots of `samples` samples, which are `sample_ms` apart."""
    cells, synapses = len(stepper.circuit.cells), len(stepper.circuit.synapse_names)
    channels, sources = len(stepper.constants.channels), len(stepper.circuit.sources)
    groups = [(len(group.keys), cells, 1) for group in stepper.groups]
    state = numbered("s", [(cells, 1), (cells, 1), (sources, 1), *groups])
    parameters = numbered("p", [(channels, cells, 1), (synapses, 1), (cells, 1)])
    before, found = numbered("b", [(cells, 1)]), numbered("f", [(6, cells, 1)])

    start = CudaLines()
    values = start.apply(start_finding, before[0], state[0])[0].ravel()
    start.lines += [
        f"float {name} = {as_c(value)};" for name, value in zip(_names(found), values, strict=True)
    ]
    step = CudaLines()
    step.assign(state, step.apply(stepper.step, tuple(state), tuple(parameters)))
    look = CudaLines()
    finder = spike_finder(
        stepper.arithmetic, sample_ms=sample_ms, threshold_mV=threshold_mV, samples=samples
    )
    j, k = (np.array(name, object) for name in "jk")
    look.assign(found, look.apply(finder, j, k, state[0], found[0]))
    return EpochLines(
        state=_names(state),
        V_before=_names(before),
        parameters=_names(parameters),
        found=_names(found),
        start=start.lines,
        step=step.lines,
        look=look.lines,
    )


def epoch_source(
    stepper: Stepper,
    *,
    stride: int,
    sample_ms: float,
    threshold_mV: float,
    samples: int,
    slots: int,
) -> str:
    """The CUDA C of an epoch of `slots` of `samples` of `stride` steps."""
    lines = epoch_lines(stepper, sample_ms=sample_ms, threshold_mV=threshold_mV, samples=samples)
    cells = len(stepper.circuit.cells)
    load = [
        f"float {name} = {memory}[{i} * n + lane];"
        for names, memory in ((lines.begin, "state"), (lines.parameters, "parameters"))
        for i, name in enumerate(names)
    ]
    load += [*lines.start, *(f"int n_{c} = 0;" for c in range(cells))]
    keep = [
        f"if (!isnan({time})) {{ spike_ms[(size_t)(n_{c}++ * {cells} + {c}) * n + lane] = {time}; "
        f"twice |= isinf({time}); }}"
        for c, time in enumerate(lines.spike)
    ]
    store = [f"state[{i} * n + lane] = {name};" for i, name in enumerate(lines.end)]
    low_high_total = lines.found[2 * cells : 5 * cells]
    store += [f"statistics[{i} * n + lane] = {name};" for i, name in enumerate(low_high_total)]
    store += [f"n_spikes[{c} * n + lane] = n_{c};" for c in range(cells)]

    def indented(lines: list[str], by: int) -> str:
        return "\n".join(" " * by + line for line in lines)

    return _TEMPLATE.format(
        threads=THREADS,
        blocks=BLOCKS_PER_MULTIPROCESSOR,
        slots=slots,
        samples=samples,
        stride=stride,
        cells=cells,
        load=indented(load, 2),
        step=indented(lines.step, 8),
        look=indented(lines.look, 6),
        keep=indented(keep, 4),
        store=indented(store, 2),
    )


@cache
def gpu_is_used() -> bool:
    """Whether epochs run on a GPU: CuPy finds one, and JAX_PLATFORMS does not rule it out."""
    platforms = os.environ.get("JAX_PLATFORMS")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return False
    try:
        import cupy

        return bool(cupy.cuda.is_available())
    except ImportError:
        return False
    except Exception as err:  # without a driver, with one too old, without a folder for its cache
        warnings.warn(
            f"CuPy is installed but finds no GPU ({first_line(err)}): epochs run on the CPU",
            PyloricDBWarning,
            stacklevel=2,
        )
        return False


class EpochKernel:
    """Epochs on the GPU. Arrays stay there, as CuPy's, until someone asks for them.

    Args:
        stepper: with the GPU's arithmetic.
        stride, sample_ms, threshold_mV, samples, slots: see `epoch_source`.
    """

    def __init__(self, stepper: Stepper, **shape: Any):
        self.source = epoch_source(stepper, **shape)
        self._slots = shape["slots"]

    @cached_property
    def _module(self) -> Any:
        import cupy

        return cupy.RawModule(code=self.source, options=OPTIONS)

    @cached_property
    def lanes(self) -> int:
        """Circuits that run at the same time when every multiprocessor is full."""
        import cupy

        multiprocessors = cupy.cuda.Device().attributes["MultiProcessorCount"]
        return int(multiprocessors * BLOCKS_PER_MULTIPROCESSOR * THREADS)

    @cached_property
    def gpu(self) -> str:
        """What the GPU calls itself."""
        import cupy

        device = cupy.cuda.Device().id
        return str(cupy.cuda.runtime.getDeviceProperties(device)["name"].decode())

    @staticmethod
    def place(array: Any) -> Any:
        """The array on the GPU."""
        import cupy

        return cupy.asarray(array)

    def __call__(
        self, state: Sequence[Any], V_before: Any, parameters: Sequence[Any]
    ) -> tuple[tuple[Any, ...], Any, Any, Spikes]:
        """Run an epoch.

        Args:
            state, V_before, parameters: as in `engine.Batch`, on the GPU or not.

        Returns:
            state, V_before and statistics (lowest, highest, summed V; cell; batch) on the GPU,
            and the spikes.
        """
        import cupy

        cells, n = V_before.shape
        before = (*state, V_before)
        after = _rows(before, n)
        statistics = cupy.empty((3, cells, n), np.float32)
        spike_ms = cupy.empty((self._slots * cells, n), np.float32)
        n_spikes = cupy.empty((cells, n), np.int32)
        crowded = cupy.empty(n, np.int32)
        grid = (-(-n // THREADS),)
        rows = np.int32(n), after, _rows(parameters, n), statistics
        self._module.get_function("epoch")(grid, (THREADS,), (*rows, spike_ms, n_spikes, crowded))
        counts = cupy.ascontiguousarray(n_spikes.T)
        ends = cupy.cumsum(counts.ravel(), dtype=np.int64)
        flat = cupy.empty(int(ends[-1]), np.float32)
        if flat.size:
            first = ends - counts.ravel()
            self._module.get_function("gather")(
                grid, (THREADS,), (np.int32(n), spike_ms, n_spikes, first, flat)
            )
        spikes = flat.get(), counts.get().astype(int), crowded.get().astype(bool)
        ends_of_arrays = np.cumsum([math.prod(a.shape[:-1]) for a in before])[:-1]
        parts = zip(before, cupy.split(after, ends_of_arrays.tolist()), strict=True)
        *new_state, V_before = (rows.reshape(a.shape) for a, rows in parts)
        return tuple(new_state), V_before, statistics, spikes


def _rows(arrays: Sequence[Any], n: int) -> Any:
    """Arrays (..., n) as the rows of a new one on the GPU."""
    import cupy

    rows = [cupy.asarray(a, np.float32).reshape(math.prod(a.shape[:-1]), n) for a in arrays]
    return cupy.concatenate(rows)


def _names(arrays: list[Names]) -> list[str]:
    return [str(name) for array in arrays for name in array.ravel()]
