"""Imports go one way, and asking a database loads no JAX."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import pyloric_db

ROOT = Path(pyloric_db.__file__).parent
FACADE = "pyloric_db"
BASE = {"vocabulary", "errors", "protocol", "whole"}

#: What each part may import of this package; `protocol` is numbers, and counts with the names,
#: as does `whole`, how files are written.
ALLOWED = {
    "vocabulary": set(),
    "errors": set(),
    "protocol": {"errors"},
    "whole": {"errors"},
    "model": BASE,
    "integrate": BASE | {"model"},
    "rhythm": BASE,
    "store": BASE,
    "query": BASE | {"store"},
    "summary": BASE | {"query"},
    "ml": BASE | {"store", "query"},
    "statistics": BASE | {"store", "query"},
    "plot": BASE | {"store", "query", "rhythm"},
    "report": BASE | {"store", "query", "summary", "plot"},
    "explorer": BASE | {"store", "query"},
    "pipeline": BASE | {"model", "integrate", "rhythm", "store", "query", FACADE},
    "cli": BASE
    | {"rhythm", "store", "query", "summary", "statistics", "ml"}
    | {"plot", "report", "explorer", "pipeline", FACADE},
    "__init__": set(),
    "__main__": {"cli"},
}

#: Libraries that only these parts may import.
ONLY = {
    "jax": {"integrate", "pipeline"},
    "jaxlib": {"integrate", "pipeline"},
    "cupy": {"integrate"},
    "distributed": {"pipeline"},
    "dask": {"pipeline"},
    "zarr": {"store"},
    "obstore": {"store"},
    "fsspec": {"store"},
    "duckdb": {"query"},
    "matplotlib": {"plot", "report"},
    "pynwb": {"rhythm"},
    "scipy": {"statistics"},
    "jinja2": {"report"},
    "bokeh": {"explorer"},
    "tornado": {"explorer", "pipeline"},
    "typer": {"cli"},
    "rich": {"cli"},
}

MODULES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imports(tree: ast.AST):
    """(module name, enclosing function) of every import, wherever it stands."""

    def walk(node, function):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, child.name)
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, function) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                if child.module == FACADE:
                    for alias in child.names:
                        below = ROOT / alias.name
                        known = below.is_dir() or below.with_suffix(".py").exists()
                        yield f"{FACADE}.{alias.name}" if known else FACADE, function
                else:
                    yield child.module, function
            yield from walk(child, function)

    return list(walk(tree, None))


def violations(module: Path, text: str) -> list[str]:
    part = part_of(module)
    found = []
    for name, function in imports(ast.parse(text)):
        top, *rest = name.split(".")
        if top == "pyloric_db":
            target = rest[0] if rest else FACADE
            # what goes on from a database is called as one of its methods
            place = (module.as_posix(), target, function)
            exception = place == ("query/database.py", FACADE, "_run_on")
            if target not in ALLOWED[part] | {part} and not exception:
                found.append(f"{module}: {part} imports {name}")
        elif top in ONLY and part not in ONLY[top]:
            found.append(f"{module}: {part} imports {name}")
    return found


def test_every_module_is_in_a_known_part():
    assert {part_of(m) for m in MODULES} == set(ALLOWED)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_one_way(module):
    assert violations(module, (ROOT / module).read_text()) == []


@pytest.mark.parametrize(
    "module, text",
    [
        ("rhythm/bursts.py", "from pyloric_db.store.files import x"),
        ("model/cells.py", "import jax"),
        ("model/cells.py", "def f():\n    import jax.numpy as jnp"),
        ("store/files.py", "if True:\n    from pyloric_db.query import database"),
        ("query/rows.py", "import pyloric_db"),
        ("query/database.py", "def states():\n    import pyloric_db"),
        ("query/rows.py", "from pyloric_db import pipeline"),
        ("plot.py", "from pyloric_db.pipeline.simulate import simulate"),
        ("cli/building.py", "from pyloric_db.integrate.engine import Engine"),
    ],
)
def test_the_rule_notices(module, text):
    assert len(violations(Path(module), text)) == 1


def loaded(code: str, *arguments: object) -> set[str]:
    """Top-level modules in memory after some code in a fresh process."""
    code += "\nimport sys; print('LOADED', *sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("LOADED")[1].split())


HEAVY = {"jax", "jaxlib", "distributed"}  # xarray loads dask by itself


def test_opening_and_asking_load_no_jax(tiny_db):
    asked = loaded(
        "import sys, pyloric_db\n"
        "db = pyloric_db.open(sys.argv[1])\n"
        "assert db.query('v_mean_lp_mV < 0').sizes['circuit'] > 0\n"
        "db.sql('select count(*) from circuits'); db.cube(); db.states([3]); db.parameters([3])\n"
        "db.stats('lp == 1'); db.to_arrays(where='lp == 1', missing='mask')\n"
        "db.count('pyloric'); pyloric_db.read_recording; pyloric_db.save_rows\n"
        "db.circuits.period_ms.values",
        tiny_db,
    )
    assert "xarray" in asked and not HEAVY & asked


def test_figures_and_the_explorer_load_no_jax(tiny_db):
    drawn = loaded(
        "import sys, pyloric_db\n"
        "from pyloric_db.plot.histograms import histograms_figure\n"
        "from pyloric_db.plot.stacking import stack_figure\n"
        "from pyloric_db.explorer.explore import make_server\n"
        "db = pyloric_db.open(sys.argv[1])\n"
        "histograms_figure(db); stack_figure(db)\n"
        "make_server(db, None)",
        tiny_db,
    )
    assert {"matplotlib", "bokeh"} <= drawn and not HEAVY & drawn


def test_importing_loads_next_to_nothing():
    assert not (HEAVY | {"numpy", "xarray", "pyarrow"}) & loaded("import pyloric_db")


def test_the_analysis_of_spikes_needs_no_jax():
    assert not HEAVY & loaded("import pyloric_db; pyloric_db.features_from_spikes")


def test_the_coordinator_of_a_build_loads_no_jax():
    code = "import pyloric_db.pipeline.build, pyloric_db.pipeline.cluster"
    assert "jax" not in loaded(code)


COMMANDS = [
    ["--help"],
    ["--version"],
    ["recipes"],
    ["plan", "demo"],
    ["status", "DB"],
    ["verify", "DB"],
    ["query", "DB", "circuit_id < 3"],
    ["show", "DB", "3"],
    ["stats", "DB", "--where", "circuit_id < 12"],
]


def test_commands_that_only_ask_load_no_jax(tiny_db):
    """One after the other in one process: whichever loads it, it stays."""
    code = (
        "import json, sys\n"
        "from pyloric_db.cli import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:] = command\n"
        "    try: main()\n"
        "    except SystemExit as end: assert end.code in (0, None), (command, end.code)\n"
        f"    heavy = {HEAVY} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)"
    )
    commands = [[str(tiny_db) if a == "DB" else a for a in command] for command in COMMANDS]
    loaded(code, json.dumps(commands))
