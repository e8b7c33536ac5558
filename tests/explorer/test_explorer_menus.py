"""The page without a browser: columns that cannot be shown, circuits that are asked for."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import synthetic
from bokeh.document import Document

import pyloric_db
from pyloric_db.errors import DatabaseError
from pyloric_db.explorer.bins import Bins
from pyloric_db.explorer.page import Page, _heading


@pytest.fixture
def page(explorer_db):
    with ThreadPoolExecutor(1) as workers:
        yield Page(Document(), explorer_db, Bins(explorer_db), lambda circuit: None, workers)


@pytest.mark.parametrize("name", ["x_menu", "y_menu"])
def test_a_density_that_cannot_be_shown_is_said_and_its_menu_set_back(page, name):
    menu = getattr(page, name)
    before = menu.value
    menu.value = "nothing"
    assert "there is no column" in page.problem.text and menu.value == before
    menu.value = "v_min_lp_mV"
    assert "v_min_lp_mV" in [binned.name for binned in page.cross.pair]
    assert "there is no column" not in page.problem.text


def test_a_circuit_can_be_asked_for_again_after_another(page, monkeypatch):
    opened = []
    monkeypatch.setattr(page, "_open_circuit", opened.append)
    page.rows.data = {"circuit_id": [7, 8]}
    page.number.value = "599"
    page.rows.selected.indices = [1]
    assert page.number.value == ""  # so that the same number is a change
    page.number.value = "599"
    assert page.rows.selected.indices == []  # and the same row
    page.rows.selected.indices = [1]
    assert opened == [599, 8, 599, 8]


@pytest.mark.parametrize(
    "error, says",
    [(DatabaseError("its states are damaged"), "its states are"), (OSError(), "shown: OSError")],
)
def test_a_circuit_that_cannot_be_simulated_is_not_simulated_for_ever(explorer_db, error, says):
    def simulate(circuit):
        raise error

    with ThreadPoolExecutor(1) as workers:
        page = Page(Document(), explorer_db, Bins(explorer_db), simulate, workers)
        page.number.value = "599"
        assert "simulating" in page.parameters.text
    for answer in page.document.session_callbacks:  # what the server would call
        with suppress(OSError):  # which it logs
            answer.callback()
    assert "simulating" not in page.parameters.text and "circuit 599<" in page.parameters.text
    assert says in page.problem.text and says in page.wrong.text


def test_the_head_says_what_was_selected(tmp_path):
    recipe = {"name": "tiny", "description": "All circuits & more"}
    selection = {"sample": 20, "seed": 1}
    manifest = synthetic.make_manifest(n_circuits=20, recipe=recipe, selection=selection)
    synthetic.build(tmp_path / "db", manifest)
    head = _heading(pyloric_db.open(tmp_path / "db"))
    assert "A random sample of 20 (seed 1) of: All circuits &amp; more" in head


def test_netcodes_can_be_typed(named_db):
    db = pyloric_db.open(named_db)
    with ThreadPoolExecutor(1) as workers:
        page = Page(Document(), db, Bins(db), lambda circuit: None, workers)
        for typed in ("1013111220", "15"):
            page.number.value = typed
            assert "circuit 15<" in page.parameters.text and page.problem.text == ""
        page.number.value = "1013111229"
        assert "netcode 1013111229" in page.problem.text
        assert page.wrong.text == page.problem.text
        page.number.value = "15"
        assert page.wrong.text == page.problem.text == ""


def test_the_list_reads_no_column_of_all_circuits(explorer_db):
    db = pyloric_db.open(explorer_db.path)
    with ThreadPoolExecutor(1) as workers:
        Page(Document(), db, Bins(db), lambda circuit: None, workers)
    assert db._table._loaded == {}


def test_five_cells_have_a_colour_each_and_two_others_no_published_range(tmp_path):
    def page_of(cells):
        synthetic.build(tmp_path / cells[0], synthetic.other_cells(cells))
        db = pyloric_db.open(tmp_path / cells[0])
        return Page(Document(), db, Bins(db), lambda circuit: None, workers)

    with ThreadPoolExecutor(1) as workers:
        page = page_of(("abpd", "lp", "py", "ic", "vd"))
        assert len({f.renderers[0].glyph.line_color for f in page.trace_figures}) == 5
        assert [p.binned.name for p in page.panels if p.published.visible][0] == "period_ms"
        page = page_of(("a", "b"))
        of_each = ["activity_a", "duty_cycle_a", "activity_b", "duty_cycle_b"]
        assert [p.binned.name for p in page.panels[:6]] == ["rhythm", "period_ms", *of_each]
        assert page.listed[-5:] == [*of_each, "phase_start_b"] and len(page.panels) == 8
        assert not [p for p in page.panels if p.published.visible]


def test_what_was_wrong_is_no_longer_said_when_brushes_move(page):
    first, second = page.panels[1:3]
    for act in (lambda: page._brush(second, (0, 3), False), page._clear):
        first.menu.value = second.binned.name
        assert page.problem.text.count("is already shown") == 1
        act()
        assert page.problem.text == ""
