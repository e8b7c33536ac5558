"""Making a database's files, and mending its metadata."""

from pyloric_db.errors import DatabaseError
from pyloric_db.store.files import (
    FAILURES_FILE,
    LEDGER_FILE,
    LOCK_FILE,
    MANIFEST_FILE,
    PARTIAL,
    README_FILE,
    Files,
    FileSum,
    difference,
)
from pyloric_db.store.ledger import Ledger, LedgerRows, files_of
from pyloric_db.store.manifest import Manifest, first_difference, read_manifest
from pyloric_db.store.readme import readme
from pyloric_db.store.template import template_files


def check_target(ledger: Ledger, manifest: Manifest) -> None:
    """Whether `create` may write a database there; changes nothing.

    Raises:
        DatabaseError: the place holds something else or another recipe's database, is of a newer
            schema, or cannot be written.
    """
    files = ledger.files
    files.check_writable()
    names = files.top_names()
    if MANIFEST_FILE not in names and LEDGER_FILE not in names:
        # leftovers of a build that was killed before its first file are ours
        ours = (LOCK_FILE, FAILURES_FILE)
        foreign = sorted(n for n in names if n not in ours and not n.endswith(PARTIAL))
        if foreign:
            raise DatabaseError(
                f"{files} is not empty and holds no database (but {foreign[0]!r}): "
                "choose another directory"
            )
        return
    _kept_manifest(files, manifest, ledger.read())


def create(ledger: Ledger, manifest: Manifest) -> Manifest:
    """Makes the database there, goes on with one of the same recipe, or mends its metadata.

    Files that match their checksums stay as they are, so a database built by other library
    versions keeps its own manifest, which is returned: use it for all that follows. Damaged
    rows of the ledger are dropped, and with them the shards that they vouched for. Hold
    `build_lock` if the directory exists already.

    Raises:
        DatabaseError: as `check_target`; nothing is changed then.
    """
    check_target(ledger, manifest)
    try:
        return _create(ledger, manifest)
    except OSError as err:
        raise DatabaseError(f"{ledger.files} cannot be written ({err.strerror or err})") from err


def _create(ledger: Ledger, ours: Manifest) -> Manifest:
    files = ledger.files
    rows = ledger.read()
    kept = _kept_manifest(files, ours, rows)
    manifest = kept or ours
    files.remove_leftovers()
    if rows.damaged or rows.torn:
        ledger.compact()
    if kept is None:
        files.write({MANIFEST_FILE: manifest.to_json().encode()})
    header = files_of(rows.header) if rows.header else []
    if not header or any(difference(files, file) for file in header):
        sums = [FileSum.of(MANIFEST_FILE, files.read(MANIFEST_FILE))]
        sums += _mend_metadata(files, manifest, header)
        if sums != header:
            row = {"kind": "database", "recipe_hash": manifest.recipe_hash}
            ledger.append({**row, "files": [f.to_text() for f in sums]})
    return manifest


def _kept_manifest(files: Files, ours: Manifest, rows: LedgerRows) -> Manifest | None:
    """The stored manifest if it is intact and of our recipe; None if it has to be written."""
    header = rows.header
    vouched = {f.path: f for f in files_of(header)} if header else {}
    mendable = header is not None and header["recipe_hash"] == ours.recipe_hash
    nothing_vouched = header is None and not rows.shards
    if not files.exists(MANIFEST_FILE):
        if mendable or nothing_vouched:
            return None
        raise DatabaseError(
            f"{files} has lost its {MANIFEST_FILE}, and its ledger is of another recipe: "
            "choose another directory"
        )
    damaged = MANIFEST_FILE in vouched and difference(files, vouched[MANIFEST_FILE]) is not None
    if (damaged and mendable) or (nothing_vouched and _is_cut_short(files, ours)):
        return None
    stored = read_manifest(files)
    if stored.recipe_hash != ours.recipe_hash:
        raise DatabaseError(_other_recipe(files, stored, ours))
    for key in ("n_circuits", "cells", "synapses", "sources", "axes", "columns"):
        if getattr(stored, key) != getattr(ours, key):
            raise DatabaseError(
                f"{files} was begun by another version of pyloric-db, whose {key} differ: "
                "go on with that version, or choose another directory"
            )
    return stored


def _is_cut_short(files: Files, ours: Manifest) -> bool:
    """Whether the stored manifest is ours without its end, as a power cut leaves it."""
    whole = ours.to_json().encode()
    try:
        if files.size(MANIFEST_FILE) > len(whole):
            return False
        stored = files.read(MANIFEST_FILE)
    except OSError:  # `read_manifest` says so
        return False
    return stored != whole and whole.startswith(stored.rstrip(b"\0"))


def _other_recipe(files: Files, stored: Manifest, ours: Manifest) -> str:
    same = stored.recipe == ours.recipe and stored.settings == ours.settings
    if same and stored.selection != ours.selection:
        return (
            f"{files} holds {_selected(stored)} of this recipe, and not {_selected(ours)}: ask for "
            "the same, or choose another directory"
        )
    names = "" if stored.name == ours.name else f" ({stored.name}, not {ours.name})"
    for key in ("recipe", "settings", "selection", "shard_circuits"):
        different = first_difference(getattr(ours, key), getattr(stored, key), key)
        if different:
            place, wanted, there = different
            return (
                f"{files} holds the database of another recipe{names}: {place} is {wanted}, but "
                f"there {there}; choose another directory, or delete it"
            )
    return f"{files} holds the database of another recipe{names}; choose another directory"


def _selected(manifest: Manifest) -> str:
    """Which circuits a database holds, and what of `build` asks for them."""
    options = {k: v for k, v in manifest.selection.items() if k != "of"}
    given = ", ".join(f"{name} {value}" for name, value in options.items())
    return f"{manifest.n_circuits:,} circuits ({given})" if given else "all circuits"


def _mend_metadata(files: Files, manifest: Manifest, header: list[FileSum]) -> list[FileSum]:
    """Puts the README and every metadata file of the states in place that is not there unharmed."""
    intact = {f.path: f for f in header if difference(files, f) is None}
    states = sorted(template_files(manifest).items())
    metadata = {README_FILE: readme(manifest).encode(), **dict(states)}
    missing = {name: data for name, data in metadata.items() if name not in intact}
    files.write(missing)
    return [intact.get(name) or FileSum.of(name, data) for name, data in metadata.items()]
