"""The page without a browser: what a menu does when a column cannot be shown."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from bokeh.document import Document

from pyloric_db.explorer.bins import Bins
from pyloric_db.explorer.page import Page


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
