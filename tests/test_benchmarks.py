"""The scripts in benchmarks/: the page that they write, and how they read XLA's programs."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from pyloric_db.integrate.engine import Engine
from pyloric_db.model.circuit import PRINZ2004
from pyloric_db.pipeline.states import cold_states


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    yield
    for name in ("page", "hlo"):
        sys.modules.pop(name, None)


def test_a_section_takes_the_place_of_its_predecessor():
    from page import INTRO, replaced, section

    page = replaced(INTRO, "Peers", section("Peers", "old"))
    page = replaced(page, "Queries", section("Queries", "fast", "### Sub\n\ntext"))
    assert page.startswith(INTRO.rstrip("\n"))
    again = replaced(page, "Peers", section("Peers", "new"))
    assert again == page.replace("old", "new")
    assert replaced(again, "Peers", section("Peers", "new")) == again


def test_the_loop_over_steps_is_found_in_xlas_program():
    from hlo import step_body

    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=100.0)
    width = 32
    batch = engine.start(
        cold_states(width, PRINZ2004), np.ones((width, 3, 8)), np.ones((width, 7))
    )  # fmt: skip
    step = jax.jit(
        lambda state, parameters: jax.lax.fori_loop(
            0, 1000, lambda _, x: engine.stepper.step(x, parameters), state
        )
    )
    body = step_body(step.lower(batch.state, batch.parameters).compile().as_text())
    # the counter, then every array of the state
    results = [body.instructions[name] for name in body.results[1 : 1 + len(batch.state)]]
    assert [i.shape for i in results] == [a.shape for a in batch.state]
    assert all(i.opcode == "fusion" and i.bytes == 4 * i.elements for i in results)


def test_loops_are_found_in_machine_code(monkeypatch):
    import hlo

    listing = """
   0:\tc5 fc 28 c8          \tvmovaps %ymm0,%ymm1
   4:\tc5 fc 10 04 b9       \tvmovups (%rcx,%rdi,4),%ymm0
   9:\tc5 fc 5e 44 24 20    \tvdivps 0x20(%rsp),%ymm0,%ymm0
   f:\tc5 fc 11 04 ba       \tvmovups %ymm0,(%rdx,%rdi,4)
  14:\t48 83 c7 08          \tadd    $0x8,%rdi
  18:\t75 ea                \tjne    4 <f+0x4>
  1a:\tc3                   \tret
"""

    class Done:
        stdout = listing

    monkeypatch.setattr(hlo.subprocess, "run", lambda *_, **__: Done)
    loop = hlo.loop_of(Path("f.o"), "f")
    # five instructions per vector stored, of which one divides and reads the stack
    assert (loop.instructions, loop.divisions, loop.spills) == (5, 1, 1)
    assert loop.per_step(80) == 50
    assert (loop.offset, loop.size, len(loop.code)) == (0, 27, 27)
