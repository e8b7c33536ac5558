"""Whatever recipes, expressions and databases hold, the answer is a sentence, never a traceback."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.slow

#: The same examples in every run.
FUZZ = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(scope="session")
def answers(inside):
    """Runs a command; it has to end in good order. Anything that is raised fails the test."""

    def run(*arguments):
        done = inside(*arguments)
        assert done.returncode in (0, 1, 2), done
        assert "Traceback" not in done.stderr + done.stdout
        assert done.returncode == 0 or done.stderr or done.stdout
        if done.returncode == 2:
            assert len(done.stderr.strip()) > 10, done
        return done

    return run


# recipes

NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([0, -1, 2**31, 2**32, 2**63, 2**64, 10**12, 10**30]),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", "abpd", "AB/PD 1", "LP 9", "../x", "/", "cold", "thermal", "gates_first", "float16",
         "glutamate", "prinz2004", "a b", "\u00e9", "x" * 300, "None", "nan", "1"]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
)  # fmt: skip
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans())
KEYS = st.one_of(
    st.sampled_from(
        ["name", "circuit", "preset", "cells", "synapses", "gap_junctions", "parameters", "grid",
         "prior", "table", "path", "count", "seed", "uniform", "log_uniform", "choice", "abpd",
         "lp", "py", "gsyn_ab_lp_nS", "gbar_lp_Na", "dt_ms", "epoch_ms", "max_ms", "store",
         "shard_circuits", "sample", "protocol", "pre", "post", "transmitter", "Na"]
    ),
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,9}", fullmatch=True),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=8,
)


def toml_of(value):
    """A value as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        items = (f"{json.dumps(k)} = {toml_of(v)}" for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def places(table, here=()):
    """Paths of all keys of nested tables."""
    for key, value in table.items():
        yield (*here, key)
        if isinstance(value, dict):
            yield from places(value, (*here, key))


@st.composite
def changed(draw, tables):
    """One of some tables, with up to three keys changed, added or taken away."""
    table = copy.deepcopy(draw(st.sampled_from(tables)))
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(table))
        if not found:
            break
        *way, key = draw(st.sampled_from(found))
        inner = table
        for step in way:
            inner = inner[step]
        what = draw(st.sampled_from(["set", "add", "delete"]))
        if what == "delete":
            del inner[key]
        else:
            inner[draw(KEYS) if what == "add" else key] = draw(VALUES)
    return table


PROTOCOL = {"dt_ms": 0.1, "transient_ms": 250, "epoch_ms": 250, "min_ms": 500, "max_ms": 750}
GRID = {
    "name": "tiny",
    "circuit": {"preset": "prinz2004"},
    "parameters": {
        "grid": {
            "abpd": ["AB/PD 1"], "lp": ["LP 1", "LP 2"], "py": ["PY 1"], "gsyn_ab_lp_nS": [0, 3]
        }
    },
    "protocol": PROTOCOL,
    "sample": {"count": 2, "seed": 1},
    "store": {"shard_circuits": 2},
}  # fmt: skip
PRIOR = {
    **GRID,
    "parameters": {
        "prior": {
            "count": 5,
            "seed": 1,
            "parameters": {
                "abpd": {"choice": ["AB/PD 1", "AB/PD 2"]}, "lp": "LP 1", "py": "PY 1",
                "gsyn_ab_lp_nS": {"log_uniform": [0.1, 10]}, "gsyn_lp_py_nS": {"uniform": [0, 1]},
            },
        }
    },
}  # fmt: skip
OWN = {
    "name": "pair",
    "circuit": {
        "cells": [{"name": "a"}, {"name": "b"}],
        "synapses": [{"pre": "a", "post": "b", "transmitter": "glutamate"}],
        "gap_junctions": [{"cells": ["a", "b"]}],
    },
    "parameters": {"grid": {"a": ["LP 1"], "b": [{"Na": 100, "leak": 0.1}], "gsyn_a_b_nS": [1, 2]}},
    "protocol": PROTOCOL,
}


@settings(max_examples=1000, **FUZZ)
@given(recipe=changed([GRID, PRIOR, OWN]))
def test_recipes(answers, tmp_path_factory, recipe):
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_text("".join(f"{json.dumps(k)} = {toml_of(v)}\n" for k, v in recipe.items()))
    answers("plan", file)


@settings(max_examples=150, **FUZZ)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_recipes_that_are_no_toml(answers, tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_text(text)
    answers("plan", file)
    answers("plan", "demo", "--cluster", file)


PROFILES = [
    {"kind": "local", "workers": 2},
    {"kind": "local-gpu", "gpus": [0, 1]},
    {"kind": "scheduler", "address": "tcp://127.0.0.1:8786"},
    {"kind": "slurm", "jobs": 2, "workers_per_job": 2, "memory_per_worker_gib": 1.0,
     "walltime_minutes_per_job": 60.0, "directives": ["-x"], "partition": "p"},
]  # fmt: skip


@settings(max_examples=150, **FUZZ)
@given(profile=changed(PROFILES))
def test_profiles(answers, tmp_path_factory, profile):
    file = tmp_path_factory.getbasetemp() / "profile.toml"
    file.write_text("".join(f"{json.dumps(k)} = {toml_of(v)}\n" for k, v in profile.items()))
    answers("plan", "demo", "--cluster", file)


# expressions

WORDS = st.sampled_from(
    ["pyloric", "period_ms", "circuit_id", "status", "netcode", "lp", "activity_lp", "nope", "and",
     "or", "not", "in", "is", "(", ")", "[", "]", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*",
     "/", "//", "%", "**", "~", "&", "|", "=", ",", ".", ";", "--", "1", "0", "1e400", "-1", "nan",
     "None", "True", "'ok'", '"LP 1"', "'", '"', "x'); drop table circuits; --", "lambda: 1",
     "__import__('os')", "{", "}", "\\", "\n", "\x00", "0x10", "1_000", "9" * 30, "if", "else"]
)  # fmt: skip
EXPRESSIONS = st.one_of(
    st.lists(WORDS, max_size=9).map(" ".join),
    st.lists(WORDS, max_size=5).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=25),
    st.integers(1, 2000).map(lambda n: "(" * n + "pyloric" + ")" * n),
    st.integers(1, 3000).map(lambda n: "not " * n + "pyloric"),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "db"
    synthetic.build(path)
    return path


@settings(max_examples=900, **FUZZ)
@given(expression=EXPRESSIONS, columns=st.none() | EXPRESSIONS, order=st.none() | EXPRESSIONS)
def test_expressions(answers, database, expression, columns, order):
    more = [] if columns is None else [f"--columns={columns}"]
    more += [] if order is None else [f"--order-by={order}"]
    answers("query", database, "--limit=3", *more, "--", expression)


# damaged databases


@st.composite
def damages(draw):
    """What to do to which file: (number of the file, what, where in it, bytes)."""
    one = st.tuples(
        st.integers(0, 10**6),
        st.sampled_from(["flip", "cut", "noise", "empty", "delete", "directory", "swap", "json"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=30),
    )
    return draw(st.lists(one, min_size=1, max_size=3)), draw(VALUES)


def damage(path, number, what, where, noise, value):
    files = sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        return
    # the two files that everything hangs on as often as all others
    known = [f for f in files if f.name in ("database.json", "ledger.jsonl", "zarr.json")]
    among = known if known and number % 2 else files
    file = among[number % len(among)]
    data = bytearray(file.read_bytes())
    at = int(where * len(data))
    if what == "flip" and data:
        data[at] ^= 1 << (noise[0] % 8)
    elif what == "cut":
        del data[at:]
    elif what == "noise":
        data[at : at + len(noise)] = noise
    elif what == "empty":
        data.clear()
    elif what == "json" and file.suffix == ".json":
        table = json.loads(data)
        found = list(places(table)) if isinstance(table, dict) else []
        if found:
            *way, key = found[number % len(found)]
            inner = table
            for step in way:
                inner = inner[step]
            inner[key] = value
            data = bytearray(json.dumps(table, default=str).encode())
    elif what == "swap":
        other = files[(number // 7) % len(files)]
        data, others = bytearray(other.read_bytes()), bytes(data)
        other.write_bytes(others)
    elif what in ("delete", "directory"):
        file.unlink()
        if what == "directory":
            file.mkdir()
        return
    file.write_bytes(data)


@settings(max_examples=150, **FUZZ)
@given(plan=damages())
def test_damaged_databases(answers, database, tmp_path_factory, plan):
    path = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(database, path)
    todo, value = plan
    for one in todo:
        try:
            damage(path, *one, value)
        except (ValueError, OSError):  # damaged before
            pass
    Path(path, "x.partial").touch()
    answers("verify", path)
    answers("status", path)
    answers("query", path, "circuit_id >= 0", "--format", "csv")
    answers("show", path, "3")
