"""This package's engine, as a peer among the others."""

import time
from typing import Any, Literal

import jax
import numpy as np
from problem import Problem, Run, Spikes

from pyloric_db.integrate.engine import Engine
from pyloric_db.model.circuit import PRINZ2004


class PyloricDB:
    """The engine of a build.

    Args:
        problem: circuits to time; `spikes` may be asked of others.
        dt_ms: step.
        epoch_ms: length of a timed run.
        scheme, dtype: see `integrate.step`.
    """

    def __init__(
        self,
        problem: Problem,
        dt_ms: float,
        epoch_ms: float,
        scheme: Literal["gates_first", "old_state"] = "gates_first",
        dtype: Literal["float32", "float64"] = "float32",
    ):
        made_by = "tables" if dtype == "float32" else f"JAX {jax.__version__}"
        self.version = f"{made_by}, {scheme}, {dtype}"
        self._problem, self._dt_ms, self._epoch_ms = problem, dt_ms, epoch_ms
        self._options: dict[str, Any] = {"scheme": scheme, "dtype": dtype}
        self._engine = self._engine_of(dt_ms)

    def _engine_of(self, dt_ms: float) -> Engine:
        return Engine(PRINZ2004, dt_ms=dt_ms, epoch_ms=self._epoch_ms, **self._options)

    def spikes(self, problem: Problem, duration_ms: float, dt_ms: float) -> Spikes:
        engine = self._engine_of(dt_ms)
        batch = engine.start(problem.states, problem.gbar, problem.gsyn)
        found: Spikes = [[np.zeros(0)] * 3 for _ in range(len(problem))]
        for k in range(round(duration_ms / self._epoch_ms)):
            batch, epoch = engine.epoch(batch)
            parts = np.split(epoch.spike_ms, np.cumsum(epoch.n_spikes.ravel())[:-1])
            for i, part in enumerate(parts):
                old = found[i // 3][i % 3]
                found[i // 3][i % 3] = np.concatenate([old, part + k * self._epoch_ms])
        return found

    def run(self) -> Run:
        batch = self._engine.start(self._problem.states, self._problem.gbar, self._problem.gsyn)
        wall, cpu = time.perf_counter(), time.process_time()
        self._engine.epoch(batch)
        return Run(
            len(self._problem) * self._engine.n_steps / 1e6,
            time.perf_counter() - wall,
            time.process_time() - cpu,
        )
