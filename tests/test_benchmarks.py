"""The scripts in benchmarks/: the page that they write, and how they read what compilers make."""

import platform
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from circuits import pyloric_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from pyloric_db.integrate.arithmetic import GpuArithmetic
from pyloric_db.integrate.engine import Engine
from pyloric_db.integrate.step import make_stepper
from pyloric_db.model.circuit import PRINZ2004, SINGLE_CELL
from pyloric_db.pipeline.states import cold_states


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    yield
    for name in ("page", "hlo", "sass", "gpu_kernels", "gpu_rate", "kernel_code"):
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
    assert [i.arrays for i in results] == [(("f32", a.shape),) for a in batch.state]
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


# ---------------------------------------------------------------- code for GPUs


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads AVX instructions")
def test_the_step_of_the_cpus_kernel_is_found_in_its_machine_code():
    from kernel_code import by_kind, clock_GHz, step_of

    engine = Engine(SINGLE_CELL, dt_ms=0.05, epoch_ms=10.0)
    kinds = by_kind(step_of(engine._vectors.source))
    # Ca / (Ca + 3) and drive / total, once for each of the vectors that LLVM may have split
    assert kinds["division"] in (2, 4) and 100 < kinds["arithmetic"] < kinds.total()
    assert 0.1 < clock_GHz() < 10


def test_instructions_are_told_apart():
    from kernel_code import by_kind

    step = "\tvmovaps 64(%rsp), %zmm1\n\tvfmadd213ps %zmm1, %zmm2, %zmm3\n\tvdivps %zmm1\n"
    step += "\tvshufps $1, %zmm1\n\tvmovd %xmm1, %eax\n\tdecq %r8\n\tvmovaps %zmm1, (%rsi)\n"
    assert by_kind(step) == {
        "load, store or move": 2, "arithmetic": 1, "division": 1,
        "exchange between lanes and layouts": 2, "of the loop": 1,
    }  # fmt: skip


def test_the_kernel_read_as_python_takes_the_engines_step():
    from gpu_kernels import make_epoch

    epoch = make_epoch()
    stepper = make_stepper(PRINZ2004, dt=0.05, arithmetic=GpuArithmetic())
    gbar, gsyn = pyloric_grid(np.array([12_345_678]))
    state = stepper.pack(cold_states(1, PRINZ2004))
    parameters = stepper.parameters(gbar, gsyn, np.zeros((1, 3)))

    def named(names, arrays):
        return dict(zip(names, np.concatenate([np.ravel(a) for a in arrays]), strict=True))

    words = {
        "f32": np.float32, "i32": np.int32, "fmax": np.fmax, "fmin": np.fmin, "exp2": np.exp2,
        "log": np.log, "divide": np.divide, "where": np.where,
        "as_float": lambda x: np.int32(x).view(np.float32),
        "as_int": lambda x: np.float32(x).view(np.int32),
    }  # fmt: skip
    values = named(epoch.state, state) | named(epoch.parameters, parameters)
    exec("\n".join(epoch.step), words, values)
    wanted = named(epoch.state, stepper.step(state, parameters))
    assert len(wanted) == 43
    for name, value in wanted.items():
        np.testing.assert_allclose(values[name], value, rtol=2e-6, err_msg=name)


#: A loop of a product and a 2**x, and a shorter one.
LISTING = """
.L_x_1:
        /*0000*/                   FMUL R1, R2, R3 ;               /* 0x0000000302017220 */
                                                                   /* 0x004fc80000400000 */
        /*0010*/                   MUFU.EX2 R2, R1 ;               /* 0x0000000100027308 */
                                                                   /* 0x000e240000000800 */
        /*0020*/               @P0 BRA `(.L_x_1) ;                 /* 0xfffffffc00d80947 */
                                                                   /* 0x000fea000383ffff */
.L_x_2:
        /*0030*/               @P1 BRA `(.L_x_2) ;                 /* 0xfffffffc00f80947 */
                                                                   /* 0x000fea000383ffff */
        /*0040*/                   EXIT ;                          /* 0x000000000000794d */
                                                                   /* 0x000fea0003800000 */
"""


def test_the_loop_over_steps_is_found_in_a_gpus_code():
    from sass import cycles, step_loop

    loop = step_loop(LISTING)
    assert [i.pipe for i in loop] == ["multiply-add", "special", "branch"]
    assert [i.stall for i in loop] == [4, 2, 5]
    # the power frees barrier 0; the product waits for barrier 2, which nothing has taken
    assert [i.frees for i in loop] == [7, 0, 7] and [i.waits for i in loop] == [4, 0, 0]
    # so the stalls are all that there is
    assert cycles(loop, 1, special_latency=18) == pytest.approx(4 + 2 + 5, rel=0.02)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from(["FFMA", "MUFU.EX2", "IADD3"]), st.integers(1, 6)), min_size=1
    ),
    st.integers(1, 4),
)
def test_a_scheduler_is_never_faster_than_its_pipes_or_slower_than_one_warp(code, warps):
    from sass import Instruction, cycles, least_cycles

    # each power frees barrier 0, for which every other instruction waits
    loop = [
        Instruction(opcode, stall, *((0, 0) if "MUFU" in opcode else (7, 1)))
        for opcode, stall in code
    ]
    taken = cycles(loop, warps, special_latency=20, passes=50)
    assert taken >= least_cycles(loop) * 0.99 - 8 / 50
    assert taken <= cycles(loop, 1, special_latency=20, passes=50) * 1.01 + 1


def test_bytes_between_the_kernels_of_xlas_program_are_counted():
    from hlo import step_body

    program = """
%other (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
}

%body (t: (s32[], f32[3,8], f32[2,8])) -> (s32[], f32[3,8], f32[2,8]) {
  %i = s32[] get-tuple-element(%t), index=0
  %a = f32[3,8]{1,0} get-tuple-element(%t), index=1
  %b = f32[2,8]{1,0} get-tuple-element(%t), index=2
  %c = f32[3]{0} constant({1, 2, 3})
  %next = s32[] fusion(%i), kind=kLoop, calls=%f0
  %copy.1 = f32[2,8]{1,0} copy(%b), metadata={x}
  %both = (f32[3,8]{1,0}, f32[2,8]{1,0}) fusion(%a, %copy.1, %c), kind=kLoop, calls=%f1
}
"""
    # per circuit 2 + 2 numbers for the copy, 3 + 2 read and 3 + 2 written by the kernel
    body = step_body(program)
    assert (len(body.of("fusion")), len(body.of("copy"))) == (2, 1)
    assert sum(body.moved(8).values()) == 8 * 4 * (4 + 5 + 5)


def test_rates_on_a_gpu_are_those_of_full_lanes():
    from gpu_rate import REPETITIONS, Rate, rates, report

    engine = Engine(PRINZ2004, dt_ms=0.05, epoch_ms=20.0)
    found = rates(engine, 8)
    assert len(found) == REPETITIONS and min(found) > 0
    text = report({"kernel": Rate("one", 8, (1.0, 2.0, 4.0)), "jax": Rate("one", 8, (0.5,) * 3)})
    assert "| the kernel | 8 | 2.00 | 1.00 to 4.00 |" in text and "On one one" in text
