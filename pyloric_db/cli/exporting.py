"""The command that writes training data."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pyloric_db.cli.console import (
    DB,
    OUTPUT,
    Json,
    check_output,
    err,
    open_to_ask,
    say,
    split_names,
)

if TYPE_CHECKING:
    from pyloric_db.ml.arrays import Missing


def export(
    db: DB,
    output: Annotated[Path, typer.Option(*OUTPUT, help="Directory to write.")],
    file_format: Annotated[
        str, typer.Option("--format", help="parquet, npz, csv, netcdf or zarr.")
    ] = "parquet",
    where: Annotated[
        str,
        typer.Option(
            help="Only circuits for which this is true, such as 'pyloric_like'.", show_default="all"
        ),
    ] = "True",
    split: Annotated[
        str, typer.Option(help="Shares of training, validation and test.")
    ] = "0.8/0.1/0.1",
    missing: Annotated[
        str, typer.Option(help="Missing values: drop the circuit, mask them, or fill in the mean.")
    ] = "drop",
    inputs: Annotated[
        str,
        typer.Option(help="Columns, separated by commas; parameters stands for all conductances."),
    ] = "parameters",
    targets: Annotated[
        str,
        typer.Option(
            help="Columns, separated by commas; features stands for the fifteen, or what of them "
            "other circuits have, and for burst duration, duty cycle and phase of other cells."
        ),
    ] = "features",
    as_json: Json = False,
) -> None:
    """Write training data: inputs and targets, split, with constants and a README.

    A hash of its parameters decides which part a circuit falls into: the same in every database.
    """
    from pyloric_db.ml.export import export as export_arrays

    opened = open_to_ask(db)
    check_output(output, db)
    with err.status("reading and writing"):
        counts = export_arrays(
            opened,
            output,
            file_format=file_format,
            inputs=split_names(inputs),
            targets=split_names(targets),
            where=where,
            missing=cast("Missing", missing),  # which is checked there
            split=split,
        )
    if as_json:
        print(json.dumps({"path": str(output), "circuits": counts}, indent=2))
        return
    parts = ", ".join(f"{n:,} {name}" for name, n in counts.items())
    total, asked = sum(counts.values()), opened.count(where)
    left_out = ""
    if asked > total:
        left_out = f", without {asked - total:,} that lack a value (--missing mask keeps them)"
    say(
        f"wrote {output}: {total:,} of {asked:,} circuits{left_out} ({parts}); its README "
        "describes every column"
    )


COMMANDS = (export,)
