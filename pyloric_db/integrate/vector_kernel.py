"""Epochs on a CPU, several circuits at a time, with gates and synapses from tables.

The kernel is LLVM's assembly, which `machine_code` compiles. What is written here is loops, loads
and stores, the look-up in `tables`, and the exchange between two layouts: a look-up gives all gates
of a cell of one circuit, everything else works on one gate of eight or sixteen circuits. The rest
of the step and the spike finding are printed from the functions that JAX runs.
"""

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from pyloric_db.integrate import machine_code
from pyloric_db.integrate.finding import spike_finder, start_finding
from pyloric_db.integrate.llvm_source import VectorLines, integers, scheduled
from pyloric_db.integrate.step import State, Stepper
from pyloric_db.integrate.tables import HIGHEST_mV, LOWEST_mV, ROWS_PER_mV, Tables
from pyloric_db.integrate.traced import Names, numbered

# LLVM does not of itself align the stack for vectors that it keeps there for want of registers:
# each would lie across two lines of the cache, in some processes and not in others
_FUNCTION = """\
define void @epoch(i64 %n, i64 %slots, i64 %samples, i64 %parts, i64 %stride, i32 %record,
    ptr noalias %state, ptr noalias %parameters, ptr noalias %statistics, ptr noalias %spike_ms,
    ptr noalias %trace, ptr noalias %table) alignstack(64) {"""
_ARGUMENTS = [*[ctypes.c_int64] * 5, ctypes.c_int32, *[ctypes.c_void_p] * 6]
_LOOPS = ("group", "slot", "sample", "part", "step")
_FLOAT_BYTES = 4
#: Bytes of a cache line.
_LINE_BYTES = 64


class VectorKernel:
    """Epochs of a step, compiled for this machine.

    `width` is how many circuits it takes at a time.

    Args:
        stepper: in float32.
        tables: of the same step.
        copies: the stepper's circuit is so many copies, which have nothing to do with each other,
            of the circuit that batches are of: an array of a batch holds one after the other.
        sample_ms, threshold_mV, samples: see `finding.spike_finder`.
        slots: of an epoch, each of `samples` samples.
    """

    def __init__(
        self,
        stepper: Stepper,
        tables: Tables,
        *,
        sample_ms: float,
        threshold_mV: float,
        samples: int,
        slots: int,
        copies: int = 1,
    ):
        look = spike_finder(
            stepper.arithmetic, sample_ms=sample_ms, threshold_mV=threshold_mV, samples=samples
        )
        elements = machine_code.vector_width()
        self.width = elements * copies
        self._slots, self._samples, self._copies = slots, samples, copies
        self._table = _with_slopes(tables, elements)
        self.source = _Source(stepper, tables, look, elements).text
        self._compiled = machine_code.compiled(self.source)
        function = ctypes.CFUNCTYPE(None, *_ARGUMENTS)
        self._epoch = function(self._compiled.get_function_address("epoch"))

    def __call__(
        self,
        carry: tuple[State, Any],
        parameters: Sequence[Any],
        stride: int,
        *,
        parts: int = 1,
        record: tuple[int, ...] = (),
    ) -> Any:
        """Run an epoch of a batch whose size is a multiple of `width`.

        Args:
            carry: state and V one sample earlier.
            parameters: as the step takes them.
            stride: steps of a part.
            parts: of a sample.
            record: indices of the state's arrays that are recorded after every part.

        Returns:
            as the programs of `engine.epoch_program`.
        """
        return self._run(carry, parameters, (self._slots, self._samples, parts), stride, record)

    def advance(self, state: State, parameters: Sequence[Any], n_steps: int) -> State:
        """The state after so many steps."""
        if n_steps == 0:
            return state
        (state, _), _ = self._run((state, state[0]), parameters, (1, 1, 1), n_steps, ())
        return state

    def _run(
        self,
        carry: tuple[State, Any],
        parameters: Sequence[Any],
        shape: tuple[int, int, int],  # slots, samples, parts
        stride: int,
        record: tuple[int, ...],
    ) -> Any:
        before = (*carry[0], carry[1])
        cells, n = carry[1].shape
        sizes = [math.prod(a.shape[:-1]) for a in before]
        rows = _rows(before, n)
        statistics = np.empty((3, cells, n), np.float32)
        spike_ms = np.empty((shape[0], cells, n), np.float32)
        trace = np.empty((*shape, sum(sizes[i] for i in record), n), np.float32)
        arrays = (rows, _rows(parameters, n), statistics, spike_ms, trace, self._table)
        bits = sum(1 << i for i in record)
        # a row of n is a row of n / copies for each copy of its cell
        self._epoch(n // self._copies, *shape, stride, bits, *(a.ctypes.data for a in arrays))
        *state, V_before = (
            part.reshape(a.shape)
            for part, a in zip(np.split(rows, np.cumsum(sizes)[:-1]), before, strict=True)
        )
        if not record:
            return (tuple(state), V_before), (statistics, spike_ms)
        recorded = np.split(trace, np.cumsum([sizes[i] for i in record])[:-1], axis=-2)
        traces = [
            a.reshape(*shape, *before[i].shape) for i, a in zip(record, recorded, strict=True)
        ]
        return (tuple(state), V_before), (statistics, (spike_ms, traces))


def _rows(arrays: Sequence[Any], n: int) -> np.ndarray:
    """Arrays (..., n) as the rows of a new one."""
    return np.concatenate(
        [np.asarray(a, np.float32).reshape(math.prod(a.shape[:-1]), n) for a in arrays]
    )


def _with_slopes(tables: Tables, width: int) -> np.ndarray:
    """Of each row k, B, and by how much they change to the next: (voltage, 4, column).

    With columns of zeros up to a multiple of the width; aligned to lines of the cache.
    """
    voltages, kinds, columns = tables.rows.shape
    rows = np.zeros((voltages, kinds, -(-columns // width) * width), np.float32)
    rows[:, :, :columns] = tables.rows
    table = np.concatenate([rows, np.diff(rows, axis=0, append=rows[-1:])], axis=1)
    room = np.empty(table.nbytes + _LINE_BYTES, np.uint8)
    first = -room.ctypes.data % _LINE_BYTES
    aligned = room[first : first + table.nbytes].view(np.float32).reshape(table.shape)
    aligned[:] = table
    return aligned


class _Source:
    """The assembly of an epoch.

    Arguments of its function: `state` (row, n), which is the state and V one sample earlier, and
    is changed; `parameters` (row, n); `statistics` (3 * cell, n); `spike_ms` (slot * cell, n);
    `trace` (part * row, n), the arrays of the state whose bits are set in `record`, after each
    part; and `table`, see `_with_slopes`. An epoch is `slots` of `samples` of `parts` of `stride`
    steps. n is a multiple of `width`.
    """

    def __init__(self, stepper: Stepper, tables: Tables, look: Callable[..., Any], width: int):
        self.stepper, self.tables, self.look, self.width = stepper, tables, look, width
        self.code = VectorLines(width)
        self.float_type, self.int_type = self.code.float_type, self.code.int_type
        self._floor = f"@llvm.floor.v{width}f32"
        circuit = stepper.circuit
        cells, sources = len(circuit.cells), len(circuit.sources)
        channels, synapses = len(stepper.constants.channels), len(circuit.synapse_names)
        groups = [(len(group.keys), cells, 1) for group in stepper.groups]
        self.cells = cells
        self.source_cells = [circuit.cells.index(source.cell) for source in circuit.sources]
        self.vectors = -(-tables.rows.shape[2] // width)  # of a cell's columns
        # places in memory, which LLVM turns into registers where it can
        self.state = numbered("%s", [(cells, 1), (cells, 1), (sources, 1), *groups])
        (self.E_Ca,) = numbered("%e", [(cells, 1)])
        (self.V_before,) = numbered("%b", [(cells, 1)])
        (self.found,) = numbered("%f", [(6, cells, 1)])
        # the gates and sources of a cell of one circuit
        (self.columns,) = numbered("%c", [(cells, width, self.vectors)])
        memory = (*self.state, self.E_Ca, self.V_before, self.found, self.columns)
        self.code.lines += [
            f"{name} = alloca {self.float_type}" for a in memory for name in a.ravel()
        ]
        self.code.lines += [f"%{name}.at = alloca i64" for name in (*_LOOPS, "trace")]
        # variables
        self.parameters = numbered("%p", [(channels, cells, 1), (synapses, 1), (cells, 1)])
        with self._loop("group", "%n", width) as self.at:
            self._begin()
            with self._loop("slot", "%slots") as j:
                with self._loop("sample", "%samples") as k:
                    with self._loop("part", "%parts"):
                        with self._loop("step", "%stride"):
                            self._step()
                        self._record()
                    self._look(j, k)
                self._keep_spikes(j)
            self._end()
        self.text = "\n".join(
            [
                f"declare {self.float_type} {self._floor}({self.float_type})",
                _FUNCTION,
                *self.code.lines,
                "ret void",
                "}",
                "",
            ]
        )

    # words

    def _say(self, line: str) -> None:
        self.code.lines.append(line)

    @contextmanager
    def _loop(self, name: str, end: str, by: int = 1) -> Iterator[str]:
        """A loop from 0 that runs at least once."""
        self._say(f"store i64 0, ptr %{name}.at")
        self._say(f"br label %{name}")
        self._say(f"{name}:")
        i = self.code.line(f"load i64, ptr %{name}.at")
        yield i
        following = self.code.line(f"add i64 {i}, {by}")
        self._say(f"store i64 {following}, ptr %{name}.at")
        more = self.code.line(f"icmp slt i64 {following}, {end}")
        self._say(f"br i1 {more}, label %{name}, label %{name}.end")
        self._say(f"{name}.end:")

    @contextmanager
    def _if_recorded(self, name: str, bits: int) -> Iterator[None]:
        """What is done if one of these bits is set in `record`."""
        bits_set = self.code.line(f"and i32 %record, {bits}")
        wanted = self.code.line(f"icmp ne i32 {bits_set}, 0")
        self._say(f"br i1 {wanted}, label %{name}, label %{name}.end")
        self._say(f"{name}:")
        yield
        self._say(f"br label %{name}.end")
        self._say(f"{name}.end:")

    def _get(self, memory: Names) -> Names:
        """What is in memory, as variables."""
        values = np.empty(memory.shape, object)
        for place in np.ndindex(memory.shape):
            values[place] = self.code.line(f"load {self.float_type}, ptr {memory[place]}")
        return values

    def _put(self, values: Names, memory: Names) -> None:
        for value, name in zip(values.ravel(), memory.ravel(), strict=True):
            self._say(f"store {self.float_type} {self.code.floats(value)}, ptr {name}")

    def _row(self, array: str, row: int | str) -> str:
        """A pointer to this group's part of an array's row."""
        start = self.code.line(f"mul i64 {row}, %n")
        start = self.code.line(f"add i64 {start}, {self.at}")
        return self.code.line(f"getelementptr float, ptr {array}, i64 {start}")

    def _load(self, pointer: str) -> str:
        return self.code.line(f"load {self.float_type}, ptr {pointer}, align {_FLOAT_BYTES}")

    def _store(self, value: Any, pointer: str) -> None:
        value = self.code.floats(value)
        self._say(f"store {self.float_type} {value}, ptr {pointer}, align {_FLOAT_BYTES}")

    def _broadcast(self, scalar: str, kind: str) -> str:
        vector = {"float": self.float_type, "i32": self.int_type}[kind]
        one = self.code.line(f"insertelement {vector} poison, {kind} {scalar}, i32 0")
        return self.code.line(
            f"shufflevector {vector} {one}, {vector} poison, {self.int_type} zeroinitializer"
        )

    def _shuffled(self, a: str, b: str, order: Sequence[int]) -> str:
        return self.code.line(
            f"shufflevector {self.float_type} {a}, {self.float_type} {b}, "
            f"{self.int_type} {integers(order)}"
        )

    def _transposed(self, rows: Sequence[str]) -> list[str]:
        """The columns of as many vectors as they have elements."""
        rows = list(rows)
        for bit in (1 << power for power in range(self.width.bit_length() - 1)):
            # rows that differ in this bit exchange the elements that differ in it
            upper = [bool(j & bit) for j in range(self.width)]
            first = [j ^ bit | self.width if up else j for j, up in enumerate(upper)]
            second = [j | self.width if up else j ^ bit for j, up in enumerate(upper)]
            for i in range(self.width):
                if not i & bit:
                    a, b = rows[i], rows[i | bit]
                    rows[i], rows[i | bit] = (self._shuffled(a, b, o) for o in (first, second))
        return rows

    # what an epoch consists of

    def _begin(self) -> None:
        """Load this group's state and parameters."""
        names = [name for a in (*self.state, self.V_before) for name in a.ravel()]
        for row, name in enumerate(names):
            self._say(f"store {self.float_type} {self._load(self._row('%state', row))}, ptr {name}")
        names = [name for a in self.parameters for name in a.ravel()]
        for row, name in enumerate(names):
            pointer = self._row("%parameters", row)
            self._say(f"{name} = load {self.float_type}, ptr {pointer}, align {_FLOAT_BYTES}")
        V, Ca, s, *gates = (self._get(memory) for memory in self.state)
        columns = np.full((self.cells, self.vectors * self.width), np.float32(0), object)
        for values, places in zip(gates, self.tables.gates, strict=True):
            if places.ndim == 1:
                columns[:, places] = values[..., 0].T
        columns[self.source_cells, list(self.tables.sources)] = s[:, 0]
        for cell, of_cell in enumerate(columns.reshape(self.cells, self.vectors, self.width)):
            for v, vector in enumerate(of_cell):
                words = [self.code.floats(element) for element in vector]
                self._put(np.array(self._transposed(words), object), self.columns[cell, :, v])
        self._put(self.code.apply(self.stepper.reversal, Ca)[0], self.E_Ca)
        self._put(self.code.apply(start_finding, self._get(self.V_before), V)[0], self.found)
        self._say(f"store i64 {self.at}, ptr %trace.at")

    def _step(self) -> None:
        start = len(self.code.lines)
        state = tuple(self._get(memory) for memory in self.state)
        circuits = np.array(
            [self._looked_up(cell, state[0][cell, 0]) for cell in range(self.cells)]
        )
        s, gates = self._by_gate(circuits)

        def conclude(state: Any, E_Ca: Any, s: Any, columns: Any, parameters: Any) -> Any:
            gates = []
            for x, group, values in zip(state[3:], self.stepper.groups, columns, strict=True):
                if group.half_Ca_uM is None:
                    gates.append(values)
                else:
                    Ca, k, B = state[1][None], values[:, 0], values[:, 1]
                    gates.append(x + (B * (Ca / (Ca + np.float32(group.half_Ca_uM))) - k * x))
            return self.stepper.conclude(state, E_Ca, s, tuple(gates), parameters)

        E_Ca = self._get(self.E_Ca)
        new = self.code.apply(conclude, state, E_Ca, s, gates, tuple(self.parameters))
        for values, memory in zip(new, (*self.state, self.E_Ca), strict=True):
            self._put(values, memory)
        self._put(circuits, self.columns)
        self.code.lines[start:] = scheduled(self.code.lines[start:])

    def _looked_up(self, cell: int, V: str) -> Names:
        """The columns of a cell one step on, (circuit, vector)."""
        code = self.code
        V = code.elementwise("max", V, LOWEST_mV)  # so is a V that is no number
        V = code.elementwise("min", V, HIGHEST_mV)
        scaled = code.elementwise("mul", V, ROWS_PER_mV)
        below = code.line(f"call {self.float_type} {self._floor}({self.float_type} {scaled})")
        beyond = code.elementwise("sub", scaled, below)
        row = code.line(f"fptosi {self.float_type} {below} to {self.int_type}")
        first_row = integers([round(LOWEST_mV * ROWS_PER_mV)] * self.width)
        row = code.line(f"sub {self.int_type} {row}, {first_row}")
        bytes_of_row = integers([self.vectors * self.width * 4 * _FLOAT_BYTES] * self.width)
        offset = code.line(f"mul {self.int_type} {row}, {bytes_of_row}")

        def operands(circuit: int, v: int) -> list[str]:
            at = code.line(f"extractelement {self.int_type} {offset}, i32 {circuit}")
            at = code.line(f"zext i32 {at} to i64")
            pointer = code.line(f"getelementptr i8, ptr %table, i64 {at}")
            far = self._broadcast(
                code.line(f"extractelement {self.float_type} {beyond}, i32 {circuit}"), "float"
            )
            places = [
                code.line(f"getelementptr {self.float_type}, ptr {pointer}, i64 {i}")
                for i in range(v, 4 * self.vectors, self.vectors)
            ]
            aligned = self.width * _FLOAT_BYTES
            loads = [f"load {self.float_type}, ptr {p}, align {aligned}" for p in places]
            x = code.line(f"load {self.float_type}, ptr {self.columns[cell, circuit, v]}")
            return [x, far, *map(code.line, loads)]

        taken = [[operands(c, v) for v in range(self.vectors)] for c in range(self.width)]
        return code.apply(_relaxed, *np.moveaxis(np.array(taken, object), -1, 0))[0]

    def _by_gate(self, circuits: Names) -> tuple[Names, list[Names]]:
        """s (source, 1) and the columns of each group's gates (gate, ..., cell, 1).

        Args:
            circuits: (cell, circuit, vector).
        """
        columns = np.array(
            [[x for v in of_cell.T for x in self._transposed(v)] for of_cell in circuits], object
        )
        gates = [np.moveaxis(columns[:, places], 0, -1)[..., None] for places in self.tables.gates]
        return columns[self.source_cells, list(self.tables.sources)][:, None], gates

    def _settled(self) -> list[Names]:
        """The state after a step; gates and sources from the columns, where they are kept."""
        V, Ca, _, *gates = (self._get(memory) for memory in self.state)
        s, columns = self._by_gate(self._get(self.columns))
        for i, places in enumerate(self.tables.gates):
            if places.ndim == 1:
                gates[i] = columns[i]
        return [V, Ca, s, *gates]

    def _record(self) -> None:
        with self._if_recorded("recording", -1):
            for i, values in enumerate(self._settled()):
                with self._if_recorded(f"record.{i}", 1 << i):
                    for value in values.ravel():
                        at = self.code.line("load i64, ptr %trace.at")
                        self._store(
                            value, self.code.line(f"getelementptr float, ptr %trace, i64 {at}")
                        )
                        self._say(f"store i64 {self.code.line(f'add i64 {at}, %n')}, ptr %trace.at")

    def _look(self, j: str, k: str) -> None:
        numbers = [self._broadcast(self.code.line(f"trunc i64 {i} to i32"), "i32") for i in (j, k)]
        slot, sample = (np.array(number, object) for number in numbers)
        V, found = self._get(self.state[0]), self._get(self.found)
        self._put(self.code.apply(self.look, slot, sample, V, found)[0], self.found)

    def _keep_spikes(self, j: str) -> None:
        first = self.code.line(f"mul i64 {j}, {self.cells}")
        for cell, time in enumerate(self._get(self.found[-1])[:, 0]):
            self._store(time, self._row("%spike_ms", self.code.line(f"add i64 {first}, {cell}")))

    def _end(self) -> None:
        """Store this group's state and statistics."""
        found = self._get(self.found)
        values = [value for a in (*self._settled(), found[0]) for value in a.ravel()]
        for row, value in enumerate(values):
            self._store(value, self._row("%state", row))
        for row, value in enumerate(found[2:5].ravel()):
            self._store(value, self._row("%statistics", row))


def _relaxed(x: Any, far: Any, k: Any, B: Any, k_slope: Any, B_slope: Any) -> Any:
    return x + ((B + far * B_slope) - (k + far * k_slope) * x)
