"""JAX's settings in processes of our own: workers, and commands that compute."""

import os
import platform
from pathlib import Path


def set_up_jax() -> None:
    """Set JAX up for a process that is ours; called once, before it computes, never at import.

    Compiled programs are kept from one process to the next: 1 s of compiling becomes 0.1 s.
    The folder is the user's and the node's own, because machine code made for one processor may
    not run on another. JAX writes its files without a rename: a file that a kill cut short, or that
    another worker is writing, is compiled anew. A folder that cannot be made is done without.

    Where epochs run on a GPU, JAX keeps off it: it would take most of its memory in every process,
    for the little that it does there.
    """
    import jax

    from pyloric_db.integrate.kernel import gpu_is_used

    if gpu_is_used():
        jax.config.update("jax_platforms", "cpu")
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "pyloric-db" / "jax" / (platform.node() or "node")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):  # a user without a home
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
