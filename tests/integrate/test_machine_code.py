"""Compiled code that is kept on disk."""

import ctypes
import platform
import subprocess
import sys

import jax
import pytest

from pyloric_db.integrate import machine_code

SOURCE = """\
define double @half(double %x) {
%y = fmul double %x, 0.5
ret double %y
}
"""

PROGRAM = """
import numpy as np
from pyloric_db.pipeline.jax_settings import set_up_jax
set_up_jax()
from pyloric_db.model.circuit import SINGLE_CELL
from pyloric_db.pipeline.simulate import simulate
simulate(np.ones((1, 1, 8)), circuit=SINGLE_CELL, duration_ms=10.0)
"""


def half(x):
    engine = machine_code.compiled(SOURCE)
    address = engine.get_function_address("half")
    return ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(address)(x)


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def times_optimised(monkeypatch):
    calls = []
    optimised = machine_code.optimised
    monkeypatch.setattr(
        machine_code, "optimised", lambda *args: calls.append(args) or optimised(*args)
    )
    return calls


def test_code_is_compiled_once(folder, times_optimised):
    assert half(3.0) == half(3.0) == 1.5
    assert len(times_optimised) == 1 and len(list(folder.iterdir())) == 1


def test_nothing_is_kept_where_jax_keeps_nothing(folder, times_optimised):
    jax.config.update("jax_compilation_cache_dir", None)
    assert half(3.0) == half(3.0) == 1.5
    assert len(times_optimised) == 2 and not list(folder.iterdir())


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:100], lambda b: b[:-1] + b"x"])
def test_a_damaged_file_is_compiled_anew(folder, times_optimised, damage):
    half(3.0)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert half(3.0) == 1.5
    assert len(times_optimised) == 2 and file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_done_without(folder):
    jax.config.update("jax_compilation_cache_dir", str(folder / "none"))
    assert half(3.0) == 1.5
    assert not list(folder.iterdir())


def test_other_code_and_other_machines_have_other_files(folder, monkeypatch):
    half(3.0)
    other = "x86-64" if platform.machine() == "x86_64" else "cortex-a53"
    monkeypatch.setattr(machine_code.llvm, "get_host_cpu_name", lambda: other)
    half(3.0)
    machine_code.compiled(SOURCE.replace("0.5", "0.25"))
    assert len(list(folder.iterdir())) == 3


def test_workers_keep_their_kernel(tmp_path, monkeypatch):
    """A second process finds what the first has compiled."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    files = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)
        files.append({p: p.stat().st_mtime_ns for p in tmp_path.rglob("llvm-*")})
    assert len(files[0]) == 1 and files[0] == files[1]
