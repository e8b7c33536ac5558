"""LLVM's assembly, compiled for the machine that it runs on.

What was compiled is kept beside JAX's own programs, where JAX was told to keep any
(`jax_compilation_cache_dir`): in the user's folder of this node, 0.3 s become a few milliseconds.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import jax
import llvmlite
import llvmlite.binding as llvm

_DIGEST_BYTES = hashlib.sha256().digest_size


def machine() -> Any:
    """LLVM's description of this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), jit=True
    )


def vector_width() -> int:
    """Numbers of 32 bits that a vector should have on this machine.

    Sixteen are right for registers of 512 bits only: with sixteen of 256 bits (AVX2) too few values
    stay in registers, and nothing is gained.
    """
    return 16 if llvm.get_host_cpu_features().get("avx512f") else 8


def optimised(source: str, target: Any) -> Any:
    """The module, optimised for a machine."""
    module = llvm.parse_assembly(source)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    passes = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    return module


def compiled(source: str) -> Any:
    """LLVM's engine that holds the functions of a module; they go when it does."""
    target = machine()
    file = _file_of(source, target)
    code = _kept(file)
    if code is None:
        code = target.emit_object(optimised(source, target))
        _keep(file, code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _file_of(source: str, target: Any) -> Path | None:
    """Where the code is kept; None where none is."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if folder is None:
        return None
    made_for = (
        llvmlite.__version__,
        target.triple,
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        source,
    )
    key = hashlib.sha256("\n".join(made_for).encode()).hexdigest()
    return Path(folder) / f"llvm-{key}"


def _kept(file: Path | None) -> bytes | None:
    """The code in a file; None if there is none, or it is not whole: LLVM would end the process."""
    try:
        contents = file.read_bytes() if file else b""
    except OSError:
        return None
    digest, code = contents[:_DIGEST_BYTES], contents[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(file: Path | None, code: bytes) -> None:
    """Write the code to a file, whole or not at all; where that fails, it is done without."""
    if file is None:
        return
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "wb") as whole:
            whole.write(hashlib.sha256(code).digest() + code)
        os.replace(temporary, file)
    except OSError:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
