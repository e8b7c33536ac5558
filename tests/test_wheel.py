import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel, built from the repository and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-cache-dir",
         "--wheel-dir", folder, REPOSITORY],
        check=True,
    )  # fmt: skip
    (wheel,) = folder.glob("pyloric_db-*.whl")
    target = folder / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


@pytest.mark.slow
def test_what_the_wheel_holds(unpacked):
    package = unpacked / "pyloric_db"
    for folder in ("cluster", "pipelines", "schemas"):
        here = {p.name: p.read_bytes() for p in (REPOSITORY / folder).iterdir()}
        assert {p.name: p.read_bytes() for p in (package / folder).iterdir()} == here
    assert (package / "py.typed").exists()
    modules = {p.relative_to(REPOSITORY) for p in (REPOSITORY / "pyloric_db").rglob("*.py")}
    assert {p.relative_to(unpacked) for p in package.rglob("*.py")} == modules
    assert sorted(p.name for p in unpacked.iterdir() if "dist-info" not in p.name) == ["pyloric_db"]
    (info,) = unpacked.glob("*.dist-info")
    assert "pyloric-db = pyloric_db.cli:main" in (info / "entry_points.txt").read_text()
    assert list(info.rglob("LICENSE"))
    metadata = (info / "METADATA").read_text()
    assert "Requires-Python: >=3.11" in metadata
    for extra in ("plot", "gpu", "slurm", "dev"):
        assert f"Provides-Extra: {extra}" in metadata


@pytest.mark.slow
def test_the_wheel_works_away_from_the_repository(unpacked, tmp_path):
    code = (
        "import json, pkgutil, importlib, pyloric_db\n"
        "from pyloric_db.pipeline.recipe import packaged_recipes\n"
        "from pyloric_db.pipeline.plan import make_plan\n"
        "names = [m.name for m in pkgutil.walk_packages(pyloric_db.__path__, 'pyloric_db.')]\n"
        "[importlib.import_module(n) for n in names]\n"
        "print(json.dumps({'file': pyloric_db.__file__, 'modules': len(names),\n"
        "    'recipes': {n: make_plan(n).manifest.n_circuits for n in packaged_recipes()}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found["file"]).is_relative_to(unpacked)
    assert found["recipes"]["prinz2004"] == 20_250_000 and found["recipes"]["demo"] == 4_000
    assert found["modules"] > 30
