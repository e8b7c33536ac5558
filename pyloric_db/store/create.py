"""Making a database's directory, and mending its metadata."""

import os
import shutil
from pathlib import Path

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import (
    FEATURES_DIR,
    LEDGER_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    PARTIAL,
    STATES_DIR,
    FileSum,
    difference,
    fsync_path,
    fsync_tree,
    remove_partials,
    sum_file,
    write_atomically,
)
from pyloric_db.store.ledger import Ledger, LedgerRows, files_of
from pyloric_db.store.manifest import Manifest, read_manifest
from pyloric_db.store.template import write_template

_TEMPLATE = f"template{PARTIAL}"


def check_target(path: str | Path, manifest: Manifest) -> None:
    """Whether `create` may write a database at `path`; changes nothing.

    Raises:
        DatabaseError: the directory holds something else or another recipe's database, is of
            a newer schema, or cannot be written.
    """
    path = Path(path)
    if not path.exists():
        parent = next(p for p in path.absolute().parents if p.exists())
        if not parent.is_dir():
            raise DatabaseError(f"{path} cannot be made: {parent} is not a directory")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise DatabaseError(f"{path} cannot be made: {parent} is not writable")
        return
    if not path.is_dir():
        raise DatabaseError(f"{path} is not a directory")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise DatabaseError(f"{path} is not writable")
    names = {p.name for p in path.iterdir()}
    if MANIFEST_FILE not in names and LEDGER_FILE not in names:
        # leftovers of a build that was killed before its first file are ours
        foreign = sorted(n for n in names if n != LOCK_FILE and not n.endswith(PARTIAL))
        if foreign:
            raise DatabaseError(
                f"{path} is not empty and holds no database (but {foreign[0]!r}): "
                "choose another directory"
            )
        return
    _kept_manifest(path, manifest, Ledger(path).read())


def create(path: str | Path, manifest: Manifest) -> Manifest:
    """Makes the database at `path`, goes on with one of the same recipe, or mends its metadata.

    Files that match their checksums stay as they are, so a database built by other library
    versions keeps its own manifest, which is returned: use it for all that follows. Damaged
    rows of the ledger are dropped, and with them the shards that they vouched for. Hold
    `build_lock` if the directory exists already.

    Raises:
        DatabaseError: as `check_target`; nothing is changed then.
    """
    path = Path(path)
    check_target(path, manifest)
    try:
        path.mkdir(parents=True, exist_ok=True)
        return _create(path, manifest)
    except OSError as err:
        raise DatabaseError(f"{path} cannot be written ({err.strerror or err})") from err


def _create(path: Path, ours: Manifest) -> Manifest:
    ledger = Ledger(path)
    rows = ledger.read()
    kept = _kept_manifest(path, ours, rows)
    manifest = kept or ours
    remove_partials(path)
    if rows.damaged or rows.torn:
        ledger.compact()
    if kept is None:
        write_atomically(path / MANIFEST_FILE, manifest.to_json().encode())
    (path / FEATURES_DIR).mkdir(exist_ok=True)
    fsync_path(path)
    header = files_of(rows.header) if rows.header else []
    if not header or any(difference(path, file) for file in header):
        files = _mend_states(path, manifest, {f.path: f for f in header})
        files.insert(0, sum_file(path, path / MANIFEST_FILE))
        if files != header:
            row = {"kind": "database", "recipe_hash": manifest.recipe_hash}
            ledger.append({**row, "files": [f.to_text() for f in files]})
    return manifest


def _kept_manifest(path: Path, ours: Manifest, rows: LedgerRows) -> Manifest | None:
    """The stored manifest if it is intact and of our recipe; None if it has to be written."""
    file = path / MANIFEST_FILE
    header = rows.header
    vouched = {f.path: f for f in files_of(header)} if header else {}
    mendable = header is not None and header["recipe_hash"] == ours.recipe_hash
    if not file.exists():
        if mendable or (header is None and not rows.shards):
            return None
        raise DatabaseError(
            f"{path} has lost its {MANIFEST_FILE}, and its ledger is of another recipe: "
            "choose another directory"
        )
    damaged = MANIFEST_FILE in vouched and difference(path, vouched[MANIFEST_FILE]) is not None
    if damaged and mendable:
        return None
    stored = read_manifest(path)
    if stored.recipe_hash != ours.recipe_hash:
        raise DatabaseError(_other_recipe(path, stored, ours))
    for key in ("n_circuits", "cells", "synapses", "sources", "axes", "columns"):
        if getattr(stored, key) != getattr(ours, key):
            raise DatabaseError(
                f"{path} was begun by another version of pyloric-db, whose {key} differ: "
                "go on with that version, or choose another directory"
            )
    return stored


def _other_recipe(path: Path, stored: Manifest, ours: Manifest) -> str:
    keys = [
        key
        for key in ("name", "recipe", "selection", "settings", "shard_circuits")
        if getattr(stored, key) != getattr(ours, key)
    ]
    names = "" if stored.name == ours.name else f" ({stored.name}, not {ours.name})"
    return (
        f"{path} holds the database of another recipe{names}: {', '.join(keys)} "
        f"{'differs' if len(keys) == 1 else 'differ'}; choose another directory, or delete it"
    )


def _mend_states(path: Path, manifest: Manifest, vouched: dict[str, FileSum]) -> list[FileSum]:
    """Puts every metadata file of the states in place that is not there unharmed."""
    template, states = path / _TEMPLATE, path / STATES_DIR
    shutil.rmtree(template, ignore_errors=True)
    write_template(template, manifest)
    sums = []
    for source in sorted(p for p in template.rglob("*") if p.is_file()):
        target = states / source.relative_to(template)
        name = target.relative_to(path).as_posix()
        intact = name in vouched and difference(path, vouched[name]) is None
        if not intact:
            target.parent.mkdir(parents=True, exist_ok=True)
            fsync_path(source)
            source.replace(target)
            fsync_tree([target], path)
        sums.append(sum_file(path, target))
    shutil.rmtree(template)
    return sums
