"""JAX in processes of our own."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax
from pyloric_db.pipeline.jax_settings import set_up_jax
set_up_jax()
print(jax.config.jax_platforms, jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("gpu", [True, False])
def test_programs_are_kept_and_jax_leaves_the_gpu_to_the_kernel(tmp_path, gpu):
    # a CuPy that finds a GPU, or none
    text = f"class cuda:\n    is_available = staticmethod(lambda: {gpu})\n"
    (tmp_path / "cupy.py").write_text(text)
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    env = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    env |= {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    platforms, folder = done.stdout.split()
    assert platforms == ("cpu" if gpu else "None")
    assert folder.startswith(f"{tmp_path}/cache/pyloric-db/jax/") and os.path.isdir(folder)
