"""One histogram of the page: its figure, the choice of its column, its brush."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.events import DoubleTap, MouseEnter, SelectionGeometry, Tap
from bokeh.layouts import column
from bokeh.models import (
    BasicTicker,
    BoxAnnotation,
    BoxSelectTool,
    ColumnDataSource,
    FixedTicker,
    LayoutDOM,
    NumeralTickFormatter,
    Range1d,
    Select,
)
from bokeh.plotting import figure

from pyloric_db.explorer.bins import Binned
from pyloric_db.explorer.crossfilter import Brush
from pyloric_db.vocabulary import Criterion

CHOSEN, WHOLE = "#0072B2", "#c8c8c8"


class Panel:
    """A histogram of all circuits (grey) and of those within the brushes (blue).

    Args:
        binned: its first column.
        choices: names that its menu offers.
        criteria: the published ranges of these circuits, by column.
        on_choose: called with the name chosen, which is one of `choices`.
        on_enter: called when the pointer comes in.
        on_brush: called with the brush in bins, or None where it is lifted, and whether the
            pointer was let go.
    """

    def __init__(
        self,
        binned: Binned,
        choices: list[str],
        criteria: Mapping[str, Criterion],
        on_choose: Callable[["Panel", str], None],
        on_enter: Callable[["Panel"], None],
        on_brush: Callable[["Panel", Brush | None, bool], None],
    ) -> None:
        self.binned, self.criteria = binned, criteria
        self.whole = ColumnDataSource({"left": [], "right": [], "top": []})
        self.chosen = ColumnDataSource({"left": [], "right": [], "top": []})
        self.menu = Select(value=binned.name, options=choices, width=290, height=30)
        # ends are numbers from the start: a change from Bokeh's default, a model, to a number
        # would make it look through the whole document
        self.brushed = BoxAnnotation(
            left=0,
            right=0,
            visible=False,
            fill_color="#555555",
            fill_alpha=0.15,
            line_color="#333333",
        )
        self.published = BoxAnnotation(
            left=0,
            right=0,
            visible=False,
            fill_alpha=0,
            line_alpha=0,
            hatch_pattern="/",
            hatch_alpha=0.25,
        )
        tool = BoxSelectTool(dimensions="width", continuous=True, renderers=[], persistent=False)
        self.figure = figure(
            width=300, height=185, tools=[tool], active_drag=tool, toolbar_location=None,
            x_range=Range1d(0, 1), y_range=Range1d(0, 1), min_border_left=55, min_border_right=8,
        )  # fmt: skip
        self.figure.yaxis.ticker.update(desired_num_ticks=3, min_interval=1)
        self.figure.yaxis.formatter = NumeralTickFormatter(format="0,0")
        self.figure.xgrid.visible = False
        self.figure.xaxis.axis_label_text_font_size = "11px"
        self.figure.xaxis.major_label_text_font_size = "10px"
        self.figure.title.update(text_font_size="10px", text_font_style="normal", align="right")
        box = {"left": "left", "right": "right", "top": "top", "bottom": 0, "line_color": None}
        # the bars of all circuits have a height of their own, and stand still under a brush
        self.figure.extra_y_ranges = {"whole": Range1d(0, 1)}
        self.figure.quad(source=self.whole, fill_color=WHOLE, y_range_name="whole", **box)
        self.figure.quad(source=self.chosen, fill_color=CHOSEN, fill_alpha=0.85, **box)
        self.figure.add_layout(self.published)
        self.figure.add_layout(self.brushed)
        self.layout: LayoutDOM = column(self.menu, self.figure)
        self._on_brush = on_brush
        self.menu.on_change("value", lambda _, old, new: self._choose(new, on_choose))
        self.figure.on_event(MouseEnter, lambda _: on_enter(self))
        self.figure.on_event(SelectionGeometry, self._geometry)
        self.figure.on_event(Tap, lambda event: self._take(event.x, event.x, final=True))
        self.figure.on_event(DoubleTap, lambda _: self._lift())
        self.show_column(binned)

    def show_column(self, binned: Binned) -> None:
        """Another column: its axis, its published range, its bars of all circuits."""
        self.binned = binned
        self.brushed.visible = False
        edges = binned.edges
        self.figure.x_range.update(start=edges[0], end=edges[-1])
        self.figure.title.text = f"{binned.missing:,} without" if binned.missing else ""
        axis = self.figure.xaxis[0]
        axis.axis_label = binned.title
        name_ticks(axis, binned)
        whole = binned.whole.astype(np.float64)
        self.whole.data = {"left": edges[:-1], "right": edges[1:], "top": whole}
        self.figure.extra_y_ranges["whole"].end = 1.05 * max(whole.max(), 1)
        criterion = self.criteria.get(binned.name)
        self.published.visible = criterion is not None and not binned.names
        if criterion:
            self.published.update(left=criterion.low, right=criterion.high)

    def show_counts(self, counts: npt.NDArray[np.int64]) -> None:
        """Bars of the circuits within the brushes, the highest as high as that of all."""
        self.figure.y_range.end = 1.05 * max(int(counts.max()), 1)
        left, right = self.binned.edges[:-1], self.binned.edges[1:]
        self.chosen.data = {"left": left, "right": right, "top": counts.astype(np.float64)}

    def show_brush(self, brush: Brush | None) -> None:
        """The brush as a box that ends where bins end."""
        self.brushed.visible = brush is not None
        if brush is not None:
            self.brushed.update(left=self.binned.edges[brush[0]], right=self.binned.edges[brush[1]])

    def _choose(self, new: str, on_choose: Callable[["Panel", str], None]) -> None:
        if new != self.binned.name:
            on_choose(self, new)

    def _geometry(self, event: SelectionGeometry) -> None:
        self._take(*(event.geometry.get(k) for k in ("x0", "x1")), final=bool(event.final))

    def _take(self, start: Any, end: Any, *, final: bool) -> None:
        """A page sends where the pointer is; anything that is not two numbers is let go."""
        if not all(isinstance(x, int | float) and np.isfinite(x) for x in (start, end)):
            return
        brush = self.binned.bins_between(min(start, end), max(start, end))
        if brush[0] < brush[1]:
            self._on_brush(self, brush, final)

    def _lift(self) -> None:
        self._on_brush(self, None, True)


def name_ticks(axis: Any, binned: Binned) -> None:
    """Ticks of an axis: the names of values, or numbers where values are measured."""
    axis.ticker = FixedTicker(ticks=list(range(binned.n))) if binned.names else BasicTicker()
    axis.major_label_overrides = dict(enumerate(binned.names))
