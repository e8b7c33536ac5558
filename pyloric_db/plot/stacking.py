"""Dimensional stacking: a feature over all dimensions of the grid in one image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyloric_db.errors import QueryError, nearest
from pyloric_db.plot.canvas import new_figure, short_name, unfinished
from pyloric_db.plot.clutter import best_order, stacked
from pyloric_db.plot.tallies import grid_index, number, number_columns, rows
from pyloric_db.query.database import Database
from pyloric_db.store.manifest import Axis
from pyloric_db.vocabulary import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Circuits with the feature that a pixel should have at least on average, where a sample fills no
#: whole grid.
CIRCUITS_PER_PIXEL = 5
#: Colour classes of which the search for the order counts unlike neighbours.
CLASSES = 8
#: Pixels whose quantiles part these classes, drawn at random, and always the same.
SAMPLED = 100_000
#: Pixels along a side of the drawn image; a larger one is averaged over blocks.
MOST_DRAWN = 1_500
#: Steps of an axis that a strip shows; more would be a blur, and are plain grey.
FINEST_STRIP = 300
#: A larger image would not fit a figure or memory.
MOST_PIXELS = 50_000_000


@dataclass(frozen=True)
class Stack:
    """A feature laid out as an image.

    `image` (rows, columns) is NaN where no circuit has the feature; `x` and `y` name the axes of
    the grid along either side, outermost first; `circuits` are those that have the feature.
    """

    column: Column
    image: npt.NDArray[np.float32]
    x: tuple[str, ...]
    y: tuple[str, ...]
    clutter: int
    circuits: int


def stack(db: Database, column: str = "pyloric", axes: Sequence[str] | None = None) -> Stack:
    """The feature over axes of the grid, in the order with the least clutter.

    A pixel is the mean of the feature (of a flag: the share) over the circuits that agree in
    these axes and have the feature. On a complete grid with all its axes a pixel is one circuit.

    Args:
        column: a column of numbers or flags.
        axes: names of axes. If not said, all of them on a complete grid; otherwise those on
            which the feature depends most, as long as 5 circuits that have it remain per pixel.

    Raises:
        QueryError: the circuits are no grid, a name is unknown or there twice, or the column
            holds text.
    """
    manifest = db.manifest
    if manifest.axes is None:
        raise QueryError(f"the circuits of {manifest.name} are no grid: they cannot be stacked")
    (feature,) = number_columns(db, [column])
    every = manifest.axes
    names = [a.name for a in every]
    for name in axes or ():
        if name not in names:
            raise QueryError(
                f"the grid has no axis {name!r}{nearest(name, names)}: "
                f"it is one of {', '.join(names)}"
            )
    if axes is not None and (twice := [name for name in axes if axes.count(name) > 1]):
        raise QueryError(f"axis {twice[0]!r} is named twice")
    varying = [i for i, axis in enumerate(every) if len(axis) > 1]
    circuits = int(rows(db, f"SELECT count({number(feature)}) FROM circuits")[0][0])
    if axes is not None:
        chosen = [i for i in varying if names[i] in axes]
    elif db.whole_grid:
        chosen = varying
    else:
        chosen = _most_telling(db, feature, circuits, every, varying)
    if not chosen:
        raise QueryError("no axis with several values is left to stack")
    shape = tuple(len(every[i]) for i in chosen)
    if math.prod(shape) > MOST_PIXELS:
        raise QueryError(
            f"an image of {math.prod(shape):,} pixels is too large (at most {MOST_PIXELS:,}): "
            "name fewer axes"
        )
    if db.whole_grid and chosen == varying:
        grid = db.circuits[column].values.reshape(shape).astype(np.float32)
    else:
        grid = _means(db, feature, [every[i] for i in chosen])
    x, y, clutter = best_order(_classes(grid))
    return Stack(
        feature,
        stacked(grid, x, y).astype(np.float32, copy=False),
        tuple(names[chosen[d]] for d in x),
        tuple(names[chosen[d]] for d in y),
        clutter,
        circuits,
    )


def _most_telling(
    db: Database, column: Column, circuits: int, axes: Sequence[Axis], varying: list[int]
) -> list[int]:
    """Axes along which the mean of the feature varies most, in the order of the axes.

    As many as leave enough of the `circuits` that have the feature to a pixel.
    """
    variances = []
    for axis in varying:
        means = rows(
            db,
            f"SELECT {grid_index(axes[axis])} AS place, avg({number(column)}) FROM circuits "
            "GROUP BY 1 ORDER BY 1",
        )
        values = [m for _, m in means if m is not None]
        # rounded: sums over threads differ in the last bits, and the choice must not
        variances.append((-round(float(np.var(values)), 9) if values else 0.0, axis))
    chosen: list[int] = []
    for _, axis in sorted(variances):
        pixels = math.prod(len(axes[i]) for i in (*chosen, axis))
        if not chosen or pixels * CIRCUITS_PER_PIXEL <= circuits:
            chosen.append(axis)
    return sorted(chosen)


def _means(db: Database, column: Column, axes: Sequence[Axis]) -> npt.NDArray[np.float32]:
    """Means over all other axes; NaN where no circuit has the feature."""
    shape = tuple(map(len, axes))
    strides = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    place = " + ".join(f"({grid_index(a)}) * {s}" for a, s in zip(axes, strides, strict=True))
    table = db.sql(
        f"SELECT CAST({place} AS BIGINT) AS place, avg({number(column)}) AS mean "
        f"FROM circuits GROUP BY 1 HAVING avg({number(column)}) IS NOT NULL"
    )
    grid = np.full(math.prod(shape), np.nan, np.float32)
    grid[table["place"].to_numpy()] = table["mean"].to_numpy()
    return grid.reshape(shape)


def _classes(grid: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Colour classes with as many pixels each; 0 where there is no value."""
    finite = np.isfinite(grid)
    values = grid[finite]
    codes = finite.astype(np.uint8)
    if not len(values):
        return codes
    sample = values
    if len(values) > SAMPLED:  # enough for quantiles; every k-th would be in step with the grid
        sample = values[np.random.default_rng(0).integers(0, len(values), SAMPLED)]
    distinct = np.unique(sample)
    if len(distinct) <= CLASSES:
        distinct = np.unique(values)  # a flag may be rare
    if len(distinct) <= CLASSES:
        bounds = distinct[:-1]
    else:
        bounds = np.unique(np.quantile(sample, np.linspace(0, 1, CLASSES + 1)[1:-1]))
    for bound in bounds:
        codes += grid > bound
    return codes


def stack_figure(
    db: Database, column: str = "pyloric", axes: Sequence[str] | None = None
) -> "Figure":
    """`stack` as an image with a scale, and a strip per axis that darkens with its value.

    Raises:
        QueryError: as `stack` does.
        ConfigError: matplotlib is missing.
    """
    laid = stack(db, column, axes)
    figure = new_figure(figsize=(9, 8.6))
    grid = figure.add_gridspec(
        2, 3,
        width_ratios=(0.35 * len(laid.y) + 0.05, 8, 0.25),
        height_ratios=(8, 0.35 * len(laid.x) + 0.05),
    )  # fmt: skip
    ax = figure.add_subplot(grid[0, 1])
    drawn = _pooled(laid.image)
    _draw_image(figure, ax, laid.column, drawn, figure.add_subplot(grid[0, 2]))
    _draw_strips(figure.add_subplot(grid[0, 0]), db, laid.y, laid.image.shape[0], upright=True)
    _draw_strips(figure.add_subplot(grid[1, 1]), db, laid.x, laid.image.shape[1], upright=False)
    pixel = "a pixel is one circuit"
    if not db.whole_grid or drawn.size < len(db):
        held = f"{laid.circuits:,} with a value on {drawn.size:,} pixels"
        pixel = f"mean of each pixel's circuits ({held})"
    title = f"{laid.column.long_name}\n{pixel}; hatched: no value{unfinished(db)}"
    ax.set_title(title, fontsize=10)
    words = (
        "strips: each axis of the grid, outermost outside, from its first value (light) to its "
        "last (dark); plain grey where that is too fine to draw"
    )
    figure.supxlabel(f"{words}\n{_values_of(db, (*laid.x, *laid.y))}", fontsize=8)
    return figure


def _draw_image(
    figure: "Figure",
    ax: "Axes",
    column: Column,
    image: npt.NDArray[np.float32],
    scale: "Axes",
) -> None:
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    # without the lightest tones, which are too near to the white behind
    viridis = matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1, 256))
    colours = LinearSegmentedColormap.from_list("stack", viridis)
    ax.set_facecolor("white")
    ax.patch.set(hatch="////", edgecolor="0.75")
    flag = column.kind == "bool"
    shown = image[np.isfinite(image)]
    # a few circuits of long periods would leave one tone for all others
    low, high = np.quantile(shown, (0.01, 0.99)) if shown.size and not flag else (0, None)
    drawn = ax.imshow(
        np.ma.masked_invalid(image),
        cmap=colours,
        aspect="auto",
        interpolation="nearest",
        vmin=low,
        vmax=high,
    )
    ax.set_xticks([])
    ax.set_yticks([])
    figure.colorbar(
        drawn, cax=scale, extend="neither" if flag else "both",
        label=f"share of circuits: {column.long_name}" if flag else column.title,
    )  # fmt: skip


def _pooled(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Means over square blocks, without NaN, so that a side has at most `MOST_DRAWN` of them.

    A printer or screen would pick one pixel of each block instead.
    """
    block = -(-max(image.shape) // MOST_DRAWN)
    if block == 1:
        return image
    edge = [(0, -side % block) for side in image.shape]
    blocks = np.pad(image, edge, constant_values=np.nan)
    blocks = blocks.reshape(len(blocks) // block, block, -1, block)
    known = np.isfinite(blocks)
    n = known.sum(axis=(1, 3))
    sums = np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float32)
    return np.where(n > 0, sums / np.maximum(n, 1), np.nan).astype(np.float32)


def _draw_strips(
    ax: "Axes", db: Database, names: tuple[str, ...], length: int, *, upright: bool
) -> None:
    """One strip per axis, the innermost next to the image."""
    if not names:
        ax.set_axis_off()
        return
    sizes = {a.name: len(a) for a in db.manifest.axes or ()}
    strips = np.zeros((len(names), length))
    inner = length
    for row, name in enumerate(names):
        inner //= sizes[name]
        strips[row] = (np.arange(length) // inner) % sizes[name] / (sizes[name] - 1)
        if length > FINEST_STRIP * inner:
            strips[row] = 0.5
    labels = [short_name(name) for name in names]
    ax.imshow(
        strips.T if upright else strips[::-1],
        cmap="Greys", vmin=-0.2, vmax=1.3, aspect="auto", interpolation="nearest",
    )  # fmt: skip
    between = ax.axvline if upright else ax.axhline
    for edge in range(1, len(names)):
        between(edge - 0.5, color="white", linewidth=3)
    if upright:
        for place, text in enumerate(labels):  # beside the other strips, where nothing is
            under = ax.text(
                place, length, f" {text}", fontsize=8, rotation=270, ha="center", va="top"
            )
            under.set_in_layout(False)
    else:
        ax.set_yticks(range(len(names)), labels[::-1], fontsize=8)
        ax.yaxis.tick_right()
    ax.tick_params(length=0, bottom=False, labelbottom=False, left=False, labelleft=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _values_of(db: Database, names: Sequence[str]) -> str:
    """The values of the axes, those with the same values together."""
    axes = {a.name: a for a in db.manifest.axes or ()}
    by_values: dict[str, list[str]] = {}
    for name in names:
        axis = axes[name]
        unit = "" if axis.kind == "cell" else f" {db.manifest.by_name[name].unit}"
        texts = axis.labels if axis.kind == "cell" else tuple(f"{v:g}" for v in axis.values)
        by_values.setdefault(", ".join(texts) + unit, []).append(short_name(name))
    return "\n".join(
        f"{', '.join(sorted(group))}: {values}"
        if not values.startswith(f"{group[0]} ") else values
        for values, group in by_values.items()
    )  # fmt: skip
