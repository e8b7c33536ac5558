"""The command that prints statistics of a set of circuits."""

import json
import math
from collections.abc import Iterator
from itertools import combinations
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyloric_db.cli.console import DB, Json, condition, err, open_to_ask, out, say, table_of

if TYPE_CHECKING:
    from pyloric_db.statistics.stats import Statistics

#: Lines of the longer tables.
_SHOWN = 10
#: In fewer circuits than these, what a parameter tells about a feature may be due to chance.
_FEW = 100


def stats(
    db: DB,
    where: Annotated[
        str | None,
        typer.Option(help="The circuits: those for which this expression is true; else pyloric."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a set of circuits, by default the pyloric ones.

    Combinations of cells and of synapses, marginals and correlations of the parameters,
    connectedness on the grid, and what each parameter tells about each feature.
    """
    opened = open_to_ask(db)
    with err.status("counting"):
        chosen = condition(where, opened)
        found = opened.stats(chosen)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    share = 100 * found.n_selected / found.n_circuits
    say(f"{found.n_selected:,} of {found.n_circuits:,} circuits ({share:.2f}%): {chosen}\n")
    _combinations(found)
    _marginals(found)
    _components(found)
    _dependence(found)


def _combinations(found: "Statistics") -> None:
    if found.cells is not None:
        occurring = int((found.cells > 0).sum())
        say(f"combinations of cells: {occurring} of {found.cells.size} occur")
    # a synapse that all circuits have, or none, is part of no other combination
    names = [n for n in found.marginals if _may_be_absent(n, found.marginals[n])]
    if names and found.synapses is not None:
        possible = 2 ** len(names)
        say(f"combinations of synapses that are there: {found.synapses.size} of {possible} occur")
        short = [n.removeprefix("gsyn_").removesuffix("_nS") for n in names]
        table = table_of("the most frequent", *short, "circuits")
        for i, count in enumerate(found.synapses.values[:_SHOWN]):
            flags = ("+" if found.synapses[n].values[i] else "-" for n in names)
            table.add_row(str(i + 1), *flags, f"{count:,}")
        out.print(table)
    if found.cells is not None or names:
        say("")


def _may_be_absent(name: str, marginal: Any) -> bool:
    """Whether it is a synapse that some of all circuits have and others do not."""
    if not name.startswith(("gsyn_", "ggap_")):
        return False
    lower, upper = _ends(name, marginal)
    there = marginal["all"].values > 0
    return bool(lower[there].min() == 0 < upper[there].max())


def _marginals(found: "Statistics") -> None:
    table = table_of("parameter", "level", "of the set", "of all", "share of the level")
    varying = {n: m for n, m in found.marginals.items() if m.sizes[n] > 1}
    for name, marginal in varying.items():
        selected, everything = marginal["selected"].values, marginal["all"].values
        for i, level in enumerate(_levels(name, marginal)):
            share = selected[i] / everything[i] if everything[i] else float("nan")
            table.add_row(
                name if i == 0 else "",
                level,
                f"{100 * selected[i] / found.n_selected:.2f}%",
                f"{100 * everything[i] / found.n_circuits:.2f}%",
                "" if share != share else f"{100 * share:.2f}%",
            )
    if varying:
        out.print(table)
    if constant := len(found.marginals) - len(varying):
        say(f"left out are {constant} of {len(found.marginals)} parameters, which do not vary")
    say("")


def _levels(name: str, marginal: Any) -> list[str]:
    if "lower" not in marginal.coords:
        return [v if isinstance(v, str) else f"{v:g}" for v in marginal[name].values.tolist()]
    # groups hold their lower ends, the last one both; some are one value
    ends = zip(*_ends(name, marginal), strict=True)
    *groups, last = [(f"{low:.4g}", f"{high:.4g}") for low, high in ends]
    said = [low if low == high else f"{low} - <{high}" for low, high in groups]
    return [*said, " - ".join(dict.fromkeys(last))]


def _ends(name: str, marginal: Any) -> tuple[Any, Any]:
    """Lower and upper ends of a parameter's levels; the same where these are values."""
    if "lower" in marginal.coords:
        return marginal["lower"].values, marginal["upper"].values
    return marginal[name].values, marginal[name].values


def _components(found: "Statistics") -> None:
    sizes = found.component_sizes
    if sizes is None:
        return
    if sizes[0] == 1:
        extents = "each of one circuit"
    else:
        largest = ", ".join(f"{s:,}" for s in sizes[:_SHOWN])
        share = 100 * sizes[0] / found.n_selected
        extents = f"the largest of {largest} circuits ({share:.1f}% in the first)"
    components = "component" if len(sizes) == 1 else "components"
    say(f"{len(sizes):,} connected {components} under single steps, {extents}")
    if not found.whole_grid:
        say(
            "the database does not hold the whole grid: these are components of what it "
            "holds, more and smaller than those of the region itself"
        )
    say("")


def _dependence(found: "Statistics") -> None:
    of_all = found.rank_correlation_of_all
    pairs = sorted(_pairs(found), reverse=True)
    chance = _by_chance(found.n_selected, len(pairs))
    strong = [pair for pair in pairs if pair[0] > chance]
    head = "strongest pairs of parameters"
    table = table_of(head, "", "measure", "value", *([] if of_all is None else ["among all"]))
    for _, value, a, b, kind in strong[:_SHOWN]:
        whole = [] if of_all is None else [_decimals(of_all.sel(parameter=a, other=b).item())]
        table.add_row(str(a), str(b), kind, f"{value:.3f}", *whole)
    if strong:
        out.print(table)
    if len(strong) < min(len(pairs), _SHOWN):
        what = "that are tied" if of_all is None else "that differ from those among all"
        say(
            f"left out are pairs {what} no more than chance alone may do: by up to "
            f"{min(chance, 1.0):.2f} among {len(pairs)} pairs in a set of {found.n_selected:,}"
        )
    if not pairs:
        say(f"no two parameters vary within this set of {found.n_selected:,}")
    say("")
    table = table_of("feature", "what tells most about it", "share of variance", "direction")
    for i, feature in enumerate(found.sensitivity["feature"].values):
        shares = found.sensitivity.values[i]
        known = [j for j in shares.argsort()[::-1] if shares[j] == shares[j]][:3]
        for rank, j in enumerate(known):
            rho = found.direction.values[i, j]
            sign = "" if rho != rho else "+" if rho > 0 else "-"
            table.add_row(
                str(feature) if rank == 0 else "",
                str(found.sensitivity["parameter"].values[j]),
                f"{shares[j]:.2f}",
                sign,
            )
    if table.row_count:
        out.print(table)
        if found.n_selected < _FEW:
            say(f"these are shares within {found.n_selected:,} circuits: some are due to chance")
    else:
        say(f"no feature can be told from a parameter within this set of {found.n_selected:,}")


def _by_chance(n: int, pairs: int) -> float:
    """What the strongest of so many independent pairs reaches in one of twenty sets of n.

    Of independent columns a rank correlation has the SD 1 / sqrt(n - 1), and V hardly more.
    """
    if n < 2 or not pairs:
        return 0.0
    return NormalDist().inv_cdf(1 - 0.025 / pairs) / math.sqrt(n - 1)


def _decimals(value: float) -> str:
    return f"{value:.3f}" if value == value else ""


def _pairs(found: "Statistics") -> Iterator[tuple[float, float, str, str, str]]:
    """How strong each pair of parameters is, its measure, their names and what was measured.

    What pairs a parameter with another among all circuits says nothing of the set: only what its
    correlation differs from that counts.
    """
    names = found.rank_correlation["parameter"].values
    of_all = found.rank_correlation_of_all
    for i, j in combinations(range(len(names)), 2):
        # V where the levels of a parameter have no order
        for matrix, kind in ((found.rank_correlation, "rank correlation"), (found.cramers_v, "V")):
            value = float(matrix.values[i, j])
            if value == value:
                whole = 0.0 if of_all is None else float(of_all.values[i, j])
                apart = value - whole if whole == whole else value  # NaN: one hardly ever varies
                yield abs(apart), value, names[i], names[j], kind
                break


COMMANDS = (stats,)
