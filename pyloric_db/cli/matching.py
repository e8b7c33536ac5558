"""The command that finds circuits for a recording."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import pyloric_db
from pyloric_db.cli.console import (
    DB,
    OUTPUT,
    Json,
    cell_text,
    check_output,
    ends_at_once,
    err,
    open_to_ask,
    out,
    say,
    table_of,
)
from pyloric_db.cli.simulating import simulate_on
from pyloric_db.errors import ConfigError
from pyloric_db.vocabulary import CELLS, CONDUCTANCES, RHYTHMS, default_features, label, published

if TYPE_CHECKING:
    import xarray as xr

    from pyloric_db.protocol import Protocol
    from pyloric_db.query.database import Database

#: Labels, of which the later say why the first is not given.
_LABELS = (*RHYTHMS, "triphasic")


def match(
    db: DB,
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="CSV with columns neuron,time; or NWB.")
    ],
    k: Annotated[int, typer.Option("-k", help="How many circuits.")] = 5,
    unit: Annotated[str, typer.Option(help="Of the times in a CSV file: s or ms.")] = "s",
    where: Annotated[
        str,
        typer.Option(
            help="Only circuits for which this is true, such as 'pyloric'.", show_default="all"
        ),
    ] = "True",
    max_burst_gap_ms: Annotated[
        float | None,
        typer.Option(
            help="Longer intervals always separate bursts of the recording.",
            show_default="the database's",
        ),
    ] = None,
    from_s: Annotated[
        float | None,
        typer.Option("--from", help="Only spikes from this time on, s.", show_default="the first"),
    ] = None,
    to_s: Annotated[
        float | None,
        typer.Option("--to", help="Only spikes before this time, s.", show_default="the last"),
    ] = None,
    as_json: Json = False,
    output: Annotated[
        Path | None, typer.Option(*OUTPUT, help="Figure of recording and model.")
    ] = None,
) -> None:
    """Find the circuits that play the rhythm of a recording.

    Measures the features of the recorded spikes of the circuits' cells (the fifteen of AB/PD, LP
    and PY), and prints the circuits that are nearest in units of the features' standard deviations:
    the published ones, or where there are none those of the database.
    """
    opened = open_to_ask(db)
    cells = opened.manifest.cells
    if output is not None:
        from pyloric_db.plot.canvas import check_suffix

        check_suffix(output)
        check_output(output, db)
    protocol = opened.protocol
    if max_burst_gap_ms is not None:
        protocol = replace(protocol, max_burst_gap_ms=max_burst_gap_ms)
    spikes = pyloric_db.read_recording(recording, unit=unit, cells=cells)
    spikes = _between(spikes, from_s, to_s)
    _check_intervals(recording, spikes, unit)
    features = pyloric_db.features_from_spikes(spikes, cells=cells, protocol=protocol)
    _check_period(recording, spikes, features, unit, protocol)
    with ends_at_once(), err.status("looking through the circuits"):
        found = opened.nearest(features, k=k, where=where)
        beyond = _beyond(opened, features, where)
    if as_json:
        print(json.dumps(_described(opened, spikes, features, found, beyond), indent=2))
    else:
        _print(opened, spikes, features, found)
        _print_notes(opened, spikes, features, found, beyond, protocol)
    if output is not None:
        _draw(opened, spikes, features, found.isel(circuit=[0]), protocol, output)
        if not as_json:
            say(f"wrote {output}")


def _between(spikes: "xr.DataArray", from_s: float | None, to_s: float | None) -> "xr.DataArray":
    """The spikes of a part of a recording."""
    import numpy as np

    low, high = (-np.inf if from_s is None else from_s), (np.inf if to_s is None else to_s)
    if not low < high:
        raise ConfigError(f"--from {low:g} must be before --to {high:g}")
    inside = (spikes.values >= 1000 * low) & (spikes.values < 1000 * high)
    if not inside.any():
        first, last = np.nanmin(spikes.values) / 1000, np.nanmax(spikes.values) / 1000
        raise ConfigError(
            f"no spikes are left from {low:g} to {high:g} s: the recording has them from "
            f"{first:g} to {last:g} s"
        )
    return spikes.copy(data=np.sort(np.where(inside, spikes.values, np.nan), axis=-1))


def _beyond(opened: "Database", features: "xr.Dataset", where: str) -> dict[str, Any]:
    """What of a recording no circuit of its kind plays: `among` how many of which, and `features`
    with the lowest and the highest value of these circuits."""
    kinds = (n for n in RHYTHMS if n in features and features[n].values[0])
    kind = next(kinds, None)
    if kind is None:
        return {}
    from pyloric_db.query.nearest import ranges

    names = [
        n for n in default_features(opened.manifest.columns) if _value(features, n, 0) is not None
    ]
    among = f"({where}) and {kind}"
    found = {
        name: [low, high]
        for name, (low, high) in ranges(opened, names, among).items()
        if not low <= float(features[name].values[0]) <= high
    }
    return {"among": kind, "circuits": opened.count(among), "features": found} if found else {}


def _check_intervals(recording: Path, spikes: "xr.DataArray", unit: str) -> None:
    """ConfigError where a neuron would spike faster or slower than neurons do: in a wrong unit."""
    import numpy as np

    from pyloric_db.rhythm.recordings import LONGEST_MS, SHORTEST_MS

    for cell, times in zip(spikes["cell"].values, spikes.values, strict=True):
        intervals = np.diff(times[~np.isnan(times)])
        if not intervals.size:
            continue
        between = np.median(intervals)
        if between < SHORTEST_MS:
            found, other = f"{between:.3g} ms", "s"
            limit = f"below the {SHORTEST_MS:g} ms that a neuron needs"
        elif between > LONGEST_MS:
            found, other = f"{between / 1000:.3g} s", "ms"
            limit = f"above the {LONGEST_MS / 1000:g} s that any rhythm has"
        else:
            continue
        asked = f"; are they in {other} (--unit {other})?" if unit != other else ""
        raise ConfigError(
            f"{recording} has {found} between spikes of {label(cell)} in the median, {limit}; "
            f"times were read as {unit}{asked}"
        )


def _check_period(
    recording: Path,
    spikes: "xr.DataArray",
    features: "xr.Dataset",
    unit: str,
    protocol: "Protocol",
) -> None:
    """ConfigError where the first cell has no period, with what it does instead."""
    from pyloric_db.rhythm.reasons import why_no_period

    if float(features["period_ms"].values[0]) > 0:
        return
    why = why_no_period(spikes, protocol)
    raise ConfigError(
        f"the rhythm of {recording} has no period: {label(str(spikes['cell'].values[0]))} {why} "
        f"(times were read as {unit})"
    )


def _parameters(opened: "Database", found: "xr.Dataset") -> dict[str, list[Any]]:
    """Parameters of the circuits found: cells on a grid by name, conductances with units."""
    manifest = opened.manifest
    columns: dict[str, list[Any]] = {}
    if manifest.axes is not None:
        for axis in manifest.axes:
            values = found[axis.name].values
            columns[axis.name] = (
                [axis.labels[int(i)] for i in values]
                if axis.kind == "cell"
                else [float(v) for v in values]
            )
        return columns
    for name in map(str, found.data_vars):
        if name.startswith(CONDUCTANCES):
            columns[name] = [float(v) for v in found[name].values]
    return columns


def _value(source: "xr.Dataset", name: str, i: int) -> float | None:
    value = float(source[name].values[i])
    return None if value != value else value


def _unmet(opened: "Database", features: "xr.Dataset") -> list[str]:
    """The published criteria that a recording does not meet, also for want of a value."""
    criteria = published(opened.manifest.cells)
    return [n for n, c in criteria.items() if not c.low <= features[n].values[0] <= c.high]


def _described(
    opened: "Database",
    spikes: "xr.DataArray",
    features: "xr.Dataset",
    found: "xr.Dataset",
    beyond: dict[str, Any],
) -> dict[str, Any]:
    parameters = _parameters(opened, found)
    names = default_features(opened.manifest.columns)
    labels = [n for n in _LABELS if n in features]
    met: dict[str, Any] = {}
    if opened.manifest.has_labels:
        met["n_criteria_met"] = int(features["n_criteria_met"].values[0])
        met["criteria_not_met"] = _unmet(opened, features)
    return {
        "recording": {
            "features": {n: _value(features, n, 0) for n in names},
            **{n: bool(features[n].values[0]) for n in labels},
            **met,
            "period_cv": _value(features, "period_cv", 0),
            "neurons_left_out": list(spikes.attrs["left_out"]),
            "neurons_pooled": list(spikes.attrs["pooled"]),
        },
        "compared": found.attrs["compared"],
        "beyond": beyond,
        "nearest": [
            {
                "circuit_id": int(found["circuit_id"].values[i]),
                "distance_sd": float(found["distance"].values[i]),
                **{n: bool(found[n].values[i]) for n in labels[:1]},
                "parameters": {name: values[i] for name, values in parameters.items()},
                "features": {n: _value(found, n, i) for n in names},
            }
            for i in range(found.sizes["circuit"])
        ],
    }


def _print(
    opened: "Database", spikes: "xr.DataArray", features: "xr.Dataset", found: "xr.Dataset"
) -> None:
    """The table of recording and circuits."""
    lines = [["", "recording", *(str(i) for i in found["circuit_id"].values)]]
    if "netcode" in found:
        lines.append(["netcode", "", *found["netcode"].values])
    usual = default_features(opened.manifest.columns)
    compared = f"{len(found.attrs['compared'])} of {len(usual)}"
    lines.append(["features compared", compared, *[""] * found.sizes["circuit"]])
    lines.append(["distance (SD)", "", *(f"{d:.3f}" for d in found["distance"].values)])
    columns = [(features, 0), *((found, i) for i in range(found.sizes["circuit"]))]
    names = (*_LABELS, "n_criteria_met", "period_cv", *usual)
    lines += [[n, *(cell_text(s[n].values[i]) for s, i in columns)] for n in names if n in features]
    outside = [n for n in _unmet(opened, features) if _value(features, n, 0) is not None]
    for line in lines:
        if line[0] in outside:
            line[1] += "*"
    for name, values in _parameters(opened, found).items():
        lines.append([name, "", *(v if isinstance(v, str) else f"{v:g}" for v in values)])
    # one table below the other, each of as many circuits as are beside each other in the width
    # two spaces stand between columns
    widths = [2 + max(map(len, column)) for column in zip(*lines, strict=True)]
    at_once = max(1, (out.width + 2 - sum(widths[:2])) // max(widths[2:]))
    for start in range(2, len(widths), at_once):
        if start > 2:
            say("")
        rows = [[*line[:2], *line[start : start + at_once]] for line in lines]
        table = table_of(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        out.print(table)
    if outside:
        say("* not within the published mean ± 2 SD, a criterion of a pyloric rhythm")


def _print_notes(
    opened: "Database",
    spikes: "xr.DataArray",
    features: "xr.Dataset",
    found: "xr.Dataset",
    beyond: dict[str, Any],
    protocol: "Protocol",
) -> None:
    """What has not been taken from the recording, or not been compared, and why; and what of it
    no circuit plays."""
    left_out = ", ".join(spikes.attrs["left_out"])
    if spikes.attrs["pooled"]:
        say(f"pooled as one cell: {'; '.join(spikes.attrs['pooled'])}", err)
    if left_out:
        say(f"neurons left out: {left_out}", err)
    usual = default_features(opened.manifest.columns)
    missing = [n for n in usual if _value(features, n, 0) is None]
    if any(n.startswith("phase_start_") for n in missing):
        from pyloric_db.rhythm.reasons import why_no_phase

        for cell, why in why_no_phase(spikes, protocol).items():
            kind = "not triphasic" if opened.manifest.has_labels and cell in CELLS else "no phase"
            if left_out and spikes.sel(cell=cell).isnull().all():
                why += f"; is it one of the neurons left out, {left_out}?"
            say(f"{kind}: {label(cell)} {why}", err)
    alike = [n for n in usual if n not in (*missing, *found.attrs["compared"])]
    for which, why in (
        (missing, "the recording does not have them"),
        (alike, "all circuits have the same"),
    ):
        if which:
            say(f"not compared, {why}: {', '.join(which)}", err)
    for name, (low, high) in beyond.get("features", {}).items():
        say(
            f"{name} {cell_text(features[name].values[0])} is beyond the {low:.4g} to {high:.4g} "
            f"of the {beyond['circuits']:,} circuits that are {beyond['among']}",
            err,
        )


def _draw(
    opened: "Database",
    spikes: "xr.DataArray",
    features: "xr.Dataset",
    circuit: "xr.Dataset",
    protocol: "Protocol",
    output: Path,
) -> None:
    from pyloric_db.plot.canvas import save
    from pyloric_db.plot.match import CYCLES, match_figure
    from pyloric_db.query.nearest import scales

    ids = circuit["circuit_id"].values
    # two cycles more than are shown, so that any burst may be the first
    period = max(float(circuit["period_ms"].values[0]), float(features["period_ms"].values[0]))
    with ends_at_once(), err.status("simulating the nearest circuit"):
        simulation = simulate_on(opened, ids, (CYCLES + 2) * period)
    scale = scales(opened, default_features(opened.manifest.columns))
    protocols = {"protocol": opened.protocol, "recording_protocol": protocol}
    drawn = match_figure(spikes, features, circuit, simulation, scale, **protocols)
    save(drawn, output)


COMMANDS = (match,)
