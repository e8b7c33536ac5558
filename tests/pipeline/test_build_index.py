"""Builds of many circuits end with an index; whatever stops them, the parts stand."""

import pyloric_db
from pyloric_db.pipeline import build
from pyloric_db.store.verify import verify


def test_a_build_of_many_circuits_ends_with_an_index(client, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "WORTHWHILE", 8)
    few = pyloric_db.build(tiny(), tmp_path / "few", cluster=client, limit=4)
    many = pyloric_db.build(tiny(), tmp_path / "many", cluster=client, limit=8)
    assert few._index is None and many._index is not None
    assert many.count("pyloric_like or not pyloric_like") == len(many) == 8
    report = verify(tmp_path / "many")
    assert report.good and report.strays == ()
    before = (many.path / many._index).stat().st_mtime_ns
    again = pyloric_db.build(tiny(), tmp_path / "many", cluster=client, limit=8)
    assert (again.path / again._index).stat().st_mtime_ns == before


def test_so_does_a_merge(client, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "WORTHWHILE", 8)
    for name, ids in (("a", range(4)), ("b", range(4, 8))):
        pyloric_db.build(tiny(), tmp_path / name, cluster=client, ids=[ids])
    merged = pyloric_db.merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
    assert merged._index is not None and len(merged) == 8


def test_circuits_without_labels_need_no_index(client, tmp_path, monkeypatch, inside):
    monkeypatch.setattr(build, "WORTHWHILE", 1)
    recipe = {
        "name": "lonely",
        "circuit": {"cells": [{"name": "lp"}]},
        "parameters": {"grid": {"lp": ["LP 1", "LP 2", "LP 3", "LP 4"]}},
        "protocol": {"dt_ms": 0.1, "initial": "cold", "transient_ms": 250, "epoch_ms": 250,
                     "min_ms": 500, "max_ms": 500},
    }  # fmt: skip
    db = pyloric_db.build(recipe, tmp_path / "db", cluster=client)
    assert len(db) == 4 and not (tmp_path / "db/derived").exists()
    # and what means the pyloric ones where nothing is said asks for a condition
    for command, option in ((["stats"], "--where"), (["plot", "stack"], "--columns")):
        done = inside(command[0], tmp_path / "db", *command[1:])
        assert done.returncode == 2 and f"no label pyloric: give {option}" in done.stderr
