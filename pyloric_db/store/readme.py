"""The README of a database: what somebody needs who was handed a copy of it."""

from pyloric_db.store.events import has_events
from pyloric_db.store.files import (
    CELLS_FILE,
    EVENTS_DIR,
    FEATURES_DIR,
    LEDGER_FILE,
    MANIFEST_FILE,
    STATES_DIR,
)
from pyloric_db.store.manifest import Manifest
from pyloric_db.vocabulary import Column

_TEXT = """\
# {name}

{description}

{n_circuits} model circuits of the cells {cells}{synapses}, simulated by
pyloric-db {version}. Recipe {recipe_hash}.

With pyloric-db:

    pyloric-db show .                   # what is in it
    pyloric-db status .                 # whether it is complete
    pyloric-db verify .                 # whether every file is as it was written
    pyloric-db query . "{question}"

Without it, any reader of Parquet and of Zarr (version 3) will do:

    pandas.read_parquet("{features}")   # a row per circuit; the columns are below
    xarray.open_zarr("{states}")        # the state of every circuit at the end of its run

| file | |
| --- | --- |
| `{manifest}` | the recipe with all its settings, the columns, versions of what computed it |
| `{features}/` | parameters and features, a Parquet file per shard |
| `{states}/` | V (mV), Ca (uM), gates m and h, synapses s; rows with circuit_id -1 are none |
{events}\
| `{cells_file}` | where it is there: the cells alone, which the circuits began with |
| `{ledger}` | sizes and SHA-256 of all of these |

Where `status` is not `ok` a run failed: its features are null, its labels false. A feature that has
no meaning for a circuit (the phase of a silent cell, say) is null, too.

| column | unit | |
| --- | --- | --- |
{columns}

The models are those of Prinz, Billimoria & Marder 2003 (J Neurophysiol 90:3998) and Prinz, Bucher &
Marder 2004 (Nat Neurosci 7:1345){other_model}.
"""
_EVENTS = "| `{}/` | times of the last spikes of every cell, ms from the start of the run |\n"


def readme(manifest: Manifest) -> str:
    """The text, which depends on the manifest alone."""
    synapses = f" and the synapses {', '.join(manifest.synapses)}" if manifest.synapses else ""
    return _TEXT.format(
        name=manifest.name,
        description=manifest.recipe.get("description", ""),
        n_circuits=f"{manifest.n_circuits:,}",
        cells=", ".join(manifest.cells),
        synapses=synapses,
        version=manifest.versions.get("pyloric-db", ""),
        recipe_hash=manifest.recipe_hash,
        question="pyloric" if manifest.has_labels else "status == 'ok'",
        manifest=MANIFEST_FILE,
        ledger=LEDGER_FILE,
        features=FEATURES_DIR,
        states=STATES_DIR,
        cells_file=CELLS_FILE,
        events=_EVENTS.format(EVENTS_DIR) if has_events(manifest) else "",
        columns="\n".join(map(_row, manifest.columns)),
        other_model=f", with {manifest.other_model}" if manifest.other_model else "",
    )


def _row(column: Column) -> str:
    unit = "" if column.unit == "1" else column.unit
    return f"| `{column.name}` | {unit} | {column.long_name} |"
