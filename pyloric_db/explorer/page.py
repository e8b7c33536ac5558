"""The page: histograms with brushes, a density, the circuits selected, one circuit's traces."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.document import Document
from bokeh.layouts import column, row
from bokeh.models import (
    AllIndices,
    Button,
    ColorBar,
    ColumnDataSource,
    DataTable,
    Div,
    LogColorMapper,
    NumberFormatter,
    Pane,
    Range1d,
    Select,
    StringFormatter,
    TableColumn,
    TextInput,
)
from bokeh.models.dom import ValueOf
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from pyloric_db.errors import PyloricDBError
from pyloric_db.explorer.bins import RHYTHM, Binned, Bins
from pyloric_db.explorer.conditions import expression
from pyloric_db.explorer.crossfilter import Brush, CrossFilter, Linked
from pyloric_db.explorer.explore import SHOWN_MS
from pyloric_db.explorer.panels import Panel, name_ticks
from pyloric_db.query.database import Database
from pyloric_db.query.heading import heading
from pyloric_db.query.named import find_circuit
from pyloric_db.vocabulary import colour_of, label, published

if TYPE_CHECKING:
    import xarray as xr

#: Histograms of a page.
PANELS = 8
#: Circuits that the table lists of those selected.
LISTED = 50
#: Widths of the lower half in pixels; with their margins they fit a window of 1,280 that scrolls.
LEFT, RIGHT = 540, 710
#: How a page simulates a circuit: id -> what `simulate` returns.
Simulate = Callable[[int], "xr.Dataset"]


def first_columns(bins: Bins) -> list[str]:
    """The columns that a page begins with: what says most of the circuits, then others."""
    wanted = (RHYTHM, *bins.first, "gsyn_lp_py_nS")
    names = [n for n in wanted if n in bins.choices]
    return (names + [n for n in bins.choices if n not in names])[:PANELS]


def first_pair(bins: Bins) -> tuple[str, str]:
    """The two columns whose density a page begins with."""
    measured = [n for n in bins.first if n.startswith(("phase_", "period_", "duty_cycle_"))]
    known = sorted(measured, key=lambda n: not n.startswith("phase_"))
    known += [n for n in bins.choices if n != RHYTHM and n not in known]
    return known[0], known[-1] if len(known) == 1 else known[1]


class Page:
    """What one browser page shows. All that a page sends is a choice, a place or a number.

    Args:
        document: Bokeh's, of this page.
        db: the database.
        bins: its binned columns, shared by all pages.
        simulate: brings the traces of a circuit; called in a thread of `workers`.
        workers: where slow answers are made.
    """

    def __init__(
        self,
        document: Document,
        db: Database,
        bins: Bins,
        simulate: Simulate,
        workers: ThreadPoolExecutor,
    ) -> None:
        self.document, self.db, self.bins = document, db, bins
        self.simulate, self.workers = simulate, workers
        self._asked = {"list": 0, "circuit": 0}
        names, pair = first_columns(bins), first_pair(bins)
        self.cross = CrossFilter(
            [bins.load(n) for n in names], (bins.load(pair[0]), bins.load(pair[1]))
        )
        self.words, self.expression = Div(name="selected"), Div(name="expression")
        shown = _text_of(self.words, width="900px")
        # as high as two lines: histograms must not move under the pointer
        said = _text_of(
            self.expression, width="1190px", height="32px", overflow="auto",
            **{"font-family": "monospace", "user-select": "text", "white-space": "pre-wrap"},
        )  # fmt: skip
        self.problem = Div(width=900, height=16, name="problem")
        # the same beside the number that it is about: the page is higher than a window
        self.wrong = Div(width=LEFT - 190, margin=(24, 5, 5, 5), name="wrong")
        clear = Button(label="lift all brushes", width=140, name="clear")
        clear.on_click(self._clear)
        criteria = published(db.manifest.cells)
        self.panels = [
            Panel(bins.load(n), bins.choices, criteria, self._choose, self._enter, self._brush)
            for n in names
        ]
        for place, panel in enumerate(self.panels):
            panel.menu.name = f"column-{place}"
            panel.figure.name = f"histogram-{place}"
            panel.brushed.name = f"brush-{place}"
        self._make_density(*pair)
        self._make_list()
        self._make_circuit()
        grid = [row(*(p.layout for p in self.panels[i : i + 4])) for i in range(0, len(names), 4)]
        self.document.add_root(
            column(
                Div(text=_heading(db), width=1200),
                row(shown, clear),
                said,
                self.problem,
                *grid,
                row(self.density_layout, self.list_layout),
                self.circuit_layout,
            )
        )
        self.document.title = f"{db.manifest.name}: circuits"
        self._show(self.cross.linked())
        self._list()

    # brushes

    def _enter(self, panel: Panel) -> None:
        self.cross.activate(panel.binned.name)

    def _brush(self, panel: Panel, brush: Brush | None, final: bool) -> None:
        self._complain("")
        name = panel.binned.name
        if brush != self.cross.brushes.get(name):
            self._show(self.cross.brush(name, brush))
        if final:
            self._list()

    def _clear(self) -> None:
        self._complain("")
        self._show(self.cross.clear())
        self._list()

    def _show(self, linked: Linked) -> None:
        self.document.hold("combine")  # one message for all that changes
        for panel in self.panels:
            panel.show_counts(linked.histograms[panel.binned.name])
            panel.show_brush(self.cross.brushes.get(panel.binned.name))
        density = linked.density.astype(np.float32)
        density[density == 0] = np.nan
        self.density.data = {**self.density.data, "image": [density]}
        most = float(linked.density.max())
        self.mapper.update(high=max(2.0, most))
        self.scale.visible = most > 0
        self.words.text = (
            f"{linked.selected:,} of {self.bins.rows:,} circuits selected; drag over a "
            "histogram to brush it, or click for one bin; double-click to lift its brush"
        )
        self.expression.text = expression(self.cross.columns, self.cross.brushes)
        self.document.unhold()

    def _choose(self, panel: Panel, name: str) -> None:
        shown = [p.binned.name for p in self.panels]
        if name in shown:
            self._complain(f"{name} is already shown")
            panel.menu.value = panel.binned.name
            return
        found = self._load(name)
        if found is None:
            panel.menu.value = panel.binned.name
            return
        panel.show_column(found[0])
        self.cross.replace([p.binned for p in self.panels], self.cross.pair)
        self._show(self.cross.linked())
        self._list()

    def _load(self, *names: str) -> list[Binned] | None:
        try:
            found = [self.bins.load(name) for name in names]
        except PyloricDBError as error:
            self._complain(str(error))
            return None
        self._complain("")
        return found

    def _complain(self, sentence: str, *, circuit: bool = False) -> None:
        """Says what is wrong, at the top and, if it is about one circuit, where that is shown."""
        words = f"<span style='color:#a00'>{escape(sentence)}</span>" if sentence else ""
        self.problem.text = words
        self.wrong.text = words if circuit else ""

    # density

    def _make_density(self, x: str, y: str) -> None:
        self.x_menu = Select(title="across", value=x, options=self.bins.choices, name="density-x")
        self.y_menu = Select(title="up", value=y, options=self.bins.choices, name="density-y")
        self.density = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self.mapper = LogColorMapper(palette=Viridis256[::-1], low=1, high=2, nan_color="white")
        self.density_figure = figure(
            width=LEFT, height=430, tools="", toolbar_location=None, name="density",
            x_range=Range1d(0, 1), y_range=Range1d(0, 1),
            # room for the scale, also where there is nothing to scale
            min_border_right=80,
        )  # fmt: skip
        self.density_figure.image(
            "image", "x", "y", "dw", "dh", source=self.density, color_mapper=self.mapper
        )
        self.scale = ColorBar(color_mapper=self.mapper, title="circuits", width=12)
        self.density_figure.add_layout(self.scale, "right")
        for menu in (self.x_menu, self.y_menu):
            menu.on_change("value", self._choose_pair)
        self._place_density()
        self.density_layout = column(row(self.x_menu, self.y_menu), self.density_figure)

    def _place_density(self) -> None:
        x, y = self.cross.pair
        self.density.data = {
            "image": [np.zeros((y.n, x.n), np.float32)],
            "x": [x.edges[0]], "y": [y.edges[0]],
            "dw": [x.edges[-1] - x.edges[0]], "dh": [y.edges[-1] - y.edges[0]],
        }  # fmt: skip
        plot = self.density_figure
        for binned, axis, extent in (
            (x, plot.xaxis[0], plot.x_range), (y, plot.yaxis[0], plot.y_range),
        ):  # fmt: skip
            extent.update(start=binned.edges[0], end=binned.edges[-1])
            axis.axis_label = binned.title
            name_ticks(axis, binned)

    def _choose_pair(self, attr: str, old: str, new: str) -> None:
        shown = [binned.name for binned in self.cross.pair]
        if [self.x_menu.value, self.y_menu.value] == shown:
            return  # a menu that was set back, as below
        found = self._load(self.x_menu.value, self.y_menu.value)
        if found is None:
            self.x_menu.value, self.y_menu.value = shown
            return
        self.cross.replace([p.binned for p in self.panels], (found[0], found[1]))
        self._place_density()
        self._show(self.cross.linked())

    # the circuits selected

    def _make_list(self) -> None:
        self.listed = self.bins.first
        self.rows = ColumnDataSource({n: [] for n in ("circuit_id", *self.listed)})
        text, number = StringFormatter(), NumberFormatter(format="0.000", nan_format="–")
        formats = {"period_ms": NumberFormatter(format="0", nan_format="–")}
        texts = [c.name for c in self.db.manifest.columns if c.kind in ("string", "category")]
        formats |= dict.fromkeys(["circuit_id", *texts], text)
        # as wide as their heads
        widths = {"circuit_id": 75, "netcode": 85, "period_ms": 70, "duty_cycle_abpd": 106}
        widths = {n: widths.get(n, max(92, 7 * len(n))) for n in ("circuit_id", *self.listed)}
        columns = [
            TableColumn(field=n, title=n, formatter=formats.get(n, number), width=width)
            for n, width in widths.items()
        ]
        self.table = DataTable(
            source=self.rows, columns=columns, width=RIGHT, height=440, index_position=None,
            sortable=False, reorderable=False, selectable=True, name="circuits",
            # columns of many cells are scrolled, not made narrower than their values
            autosize_mode="none" if sum(widths.values()) > RIGHT + 50 else "force_fit",
        )  # fmt: skip
        self.rows.selected.on_change("indices", self._pick)
        self.list_layout = column(
            Div(text=f"The first {LISTED} circuits selected; click on one to see it.", width=700),
            self.table,
        )

    def _list(self) -> None:
        chosen = self.cross.first_rows(LISTED)
        ids = self.db.circuits["circuit_id"][chosen].values
        names = ["circuit_id", *self.listed]

        def read() -> "xr.Dataset":
            if not len(ids):
                return self.db.query("circuit_id < 0", columns=self.listed)
            return self.db.query(f"circuit_id in {ids.tolist()}", columns=self.listed)

        def show(found: "xr.Dataset") -> None:
            self.rows.selected.indices = []
            self.rows.data = {n: found[n].values for n in names}
            # a table with as many rows as before would not be drawn anew
            self.table.view.filter = AllIndices()

        self._later("list", read, show, self._complain)

    def _pick(self, attr: str, old: Sequence[int], new: Sequence[int]) -> None:
        ids = self.rows.data["circuit_id"]
        if len(new) and isinstance(new[0], int) and 0 <= new[0] < len(ids):
            self.number.value = ""  # the number that it holds can be typed again
            self._open_circuit(int(ids[new[0]]))

    # one circuit

    def _make_circuit(self) -> None:
        names = "circuit_id or netcode" if "netcode" in self.listed else "circuit_id"
        self.number = TextInput(title=f"or a {names}", width=160, name="number")
        self.number.on_change("value", self._type_number)
        self.parameters = Div(width=LEFT, name="parameters")
        cells = self.db.manifest.cells
        self.traces = {c: ColumnDataSource({"time": [], "V": []}) for c in cells}
        shared = Range1d(0, SHOWN_MS / 1000)
        self.trace_figures = []
        for place, cell in enumerate(cells):
            last = place == len(cells) - 1
            plot = figure(
                width=RIGHT, height=150 if last else 120, tools="", toolbar_location=None,
                x_range=shared, y_range=Range1d(-90, 70), y_axis_label=f"{label(cell)} (mV)",
                x_axis_label="time (s)" if last else None, name=f"trace-{cell}",
            )  # fmt: skip
            plot.yaxis.ticker = [-60, 0, 60]
            colour = colour_of(place)
            plot.line("time", "V", source=self.traces[cell], color=colour)
            plot.xaxis.visible = last
            self.trace_figures.append(plot)
        left = column(row(self.number, self.wrong), self.parameters)
        self.circuit_layout = row(left, column(*self.trace_figures))

    def _type_number(self, attr: str, old: str, new: str) -> None:
        text = str(new).strip()
        if not text:
            return
        self.rows.selected.indices = []  # the row that is selected can be clicked on again
        try:
            circuit = find_circuit(self.db, text[:40])
        except PyloricDBError as error:
            self._complain(str(error), circuit=True)
        else:
            self._open_circuit(circuit)

    def _open_circuit(self, circuit: int) -> None:
        for source in self.traces.values():
            source.data = {"time": [], "V": []}
        try:
            parameters = _parameters(self.db, circuit)
        except PyloricDBError as error:
            self.parameters.text = ""
            self._complain(str(error), circuit=True)
            return
        self.parameters.text = f"{parameters}<p>simulating …</p>"
        self._complain("")

        def show(simulation: "xr.Dataset") -> None:
            time_s, V = simulation["time"].values / 1000, simulation["V"].values[0]
            self.document.hold("combine")
            for place, source in enumerate(self.traces.values()):
                source.data = {"time": time_s, "V": V[place]}
            self.parameters.text = parameters
            self.document.unhold()

        def fail(sentence: str) -> None:
            self.parameters.text = parameters
            self._complain(sentence, circuit=True)

        self._later("circuit", lambda: self.simulate(circuit), show, fail)

    def _later(
        self,
        what: str,
        make: Callable[[], Any],
        show: Callable[[Any], None],
        fail: Callable[[str], None],
    ) -> None:
        """Makes an answer in a thread and shows it, or says why there is none.

        Neither where another was asked for since.
        """
        self._asked[what] += 1
        asked = self._asked[what]

        def done(future: Future[Any]) -> None:
            self.document.add_next_tick_callback(lambda: finish(future))

        def finish(future: Future[Any]) -> None:
            if asked != self._asked[what]:
                return
            try:
                show(future.result())
            except PyloricDBError as error:
                fail(str(error))
            except Exception as error:
                fail(f"this cannot be shown: {type(error).__name__}")
                raise

        self.workers.submit(make).add_done_callback(done)


def _text_of(words: Div, **styles: str) -> Pane:
    """Its text alone: the browser lays out the whole page anew when a Div that it shows changes."""
    text = ValueOf(obj=words, attr="text", formatter="printf", format="%s")
    return Pane(elements=[text], styles={"margin": "5px", **styles})


def _heading(db: Database) -> str:
    name, words = escape(db.manifest.name), escape(heading(db.manifest))
    state = "" if db.complete else "<br>The build is not complete."
    return f"<h2 style='margin:0'>{name}</h2>{words}{state}"


def _parameters(db: Database, circuit: int) -> str:
    """The conductances of a circuit as tables."""
    found = db.parameters([circuit]).isel(circuit=0)
    head = "".join(f"<th>{escape(str(c))}</th>" for c in found["channel"].values)
    rows = "".join(
        f"<tr><th>{escape(label(str(cell)))}</th>"
        + "".join(f"<td>{v:.4g}</td>" for v in found["gbar"].sel(cell=cell).values)
        + "</tr>"
        for cell in found["cell"].values
    )
    synapses = "".join(
        f"<tr><th>{escape(str(s))}</th><td>{float(found['gsyn'].sel(synapse=s)):.4g}</td></tr>"
        for s in found["synapse"].values
    )
    style = "style='border-spacing:10px 2px;text-align:right'"
    if synapses:
        synapses = f"<table {style}><tr><th>synapse</th><th>nS</th></tr>{synapses}</table>"
    # what does not fit beside the other table goes below it; neither reaches under the traces
    place = f"display:flex;flex-wrap:wrap;gap:20px;align-items:flex-start;width:{LEFT}px"
    return (
        f"<b>circuit {circuit}</b><div style='{place};overflow-x:auto'>"
        f"<table {style}><tr><th>mS/cm²</th>{head}</tr>{rows}</table>{synapses}</div>"
    )
