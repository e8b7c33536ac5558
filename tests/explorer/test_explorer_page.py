"""The page in a real browser: brushing, choosing, clicking."""

import re

import numpy as np
import pytest
import synthetic

import pyloric_db
from pyloric_db.explorer.bins import Bins
from pyloric_db.explorer.page import _parameters

pytestmark = pytest.mark.browser

#: A model of the page by name, as the browser has it.
GET = "name => { const m = Bokeh.documents[0].get_model_by_name(name); return %s }"


@pytest.fixture(scope="module")
def window(browser):
    """Its pages share what the browser keeps, as those of a person do: scripts are read once."""
    return browser.new_context(viewport={"width": 1320, "height": 1450})


@pytest.fixture
def page(window, address):
    """A new page that is drawn; it fails the test if it says an error or asks elsewhere."""
    page = window.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on(
        "request",
        lambda r: wrong.append(r.url) if not r.url.startswith((address, "data:", "blob:")) else 0,
    )
    page.goto(address)
    page.wait_for_function(
        "() => window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle"
    )
    page.wait_for_selector(".slick-row")
    yield page
    page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def bins(explorer_db):
    return Bins(explorer_db)


def get(page, name, what):
    return page.evaluate(GET % what, name)


def selected(page):
    return int(re.match(r"([\d,]+) of", get(page, "selected", "m.text"))[1].replace(",", ""))


def drag(page, bins, place, name, start, end):
    """Brush a histogram between two shares of its width; which rows lie in the brush."""
    figure = page.locator(".bk-Figure").nth(place)
    box = figure.bounding_box()
    left, width, y = box["x"] + 60, box["width"] - 75, box["y"] + 90
    xs = [left + start * width, left + end * width]
    page.mouse.move(xs[0], y)
    page.mouse.down()
    page.mouse.move(sum(xs) / 2, y, steps=4)
    page.mouse.move(xs[1], y, steps=4)
    page.mouse.up()
    places = page.evaluate(
        """([name, ...xs]) => {
            const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name(name));
            return xs.map(x => view.frame.x_scale.invert(x));
        }""",
        [f"histogram-{place}", *(x - box["x"] for x in xs)],
    )
    binned = bins.load(name)
    first, last = binned.bins_between(*places)
    assert 0 <= first < last <= binned.n
    ends = [float(binned.edges[first]), float(binned.edges[last])]
    page.wait_for_function(
        "([name, left, right]) => { const m = Bokeh.documents[0].get_model_by_name(name); "
        "return m.visible && m.left === left && m.right === right }",
        arg=[f"brush-{place}", *ends],
    )
    return (binned.codes >= first) & (binned.codes < last)


def settle(page, count):
    """Wait until the page says that so many circuits are selected."""
    page.wait_for_function(
        f"() => ({GET % 'm.text'})('selected').startsWith('{count:,} of')", timeout=20_000
    )


def heights(page, place):
    """The blue bars of a histogram."""
    return get(page, f"histogram-{place}", "Array.from(m.renderers[1].data_source.data.top)")


def test_a_brush_filters_the_other_histograms_the_density_and_the_list(page, bins, explorer_db):
    assert selected(page) == 600
    rows = drag(page, bins, 1, "period_ms", 0.3, 0.7)
    settle(page, rows.sum())
    assert 0 < rows.sum() < 600
    duty = bins.load("duty_cycle_abpd")
    expected = np.bincount(duty.codes[rows], minlength=duty.n + 1)[: duty.n]
    assert heights(page, 2) == expected.tolist()
    assert heights(page, 1) == bins.load("period_ms").whole.tolist()
    image = get(
        page, "density", "Array.from(m.renderers[0].data_source.data.image[0]).filter(v => v > 0)"
    )
    x, y = bins.load("phase_start_lp"), bins.load("phase_start_py")
    both = rows & (x.codes < x.n) & (y.codes < y.n)
    assert sum(image) == both.sum()
    ids = explorer_db.circuits["circuit_id"].values[rows][:50]
    page.wait_for_function(
        f"() => ({GET % 'Number(m.source.data.circuit_id[0])'})('circuits') === {ids[0]}"
    )
    shown = page.locator(".slick-row").first.inner_text().split()
    assert shown[0] == str(ids[0])


def test_two_brushes_meet_and_are_lifted_one_by_one(page, bins):
    period = drag(page, bins, 1, "period_ms", 0.2, 0.8)
    settle(page, period.sum())
    duty = drag(page, bins, 2, "duty_cycle_abpd", 0.4, 0.95)
    settle(page, (period & duty).sum())
    box = page.locator(".bk-Figure").nth(1).bounding_box()
    page.mouse.dblclick(box["x"] + 150, box["y"] + 90)
    settle(page, duty.sum())
    assert not get(page, "brush-1", "m.visible")
    page.get_by_text("lift all brushes").click()
    settle(page, 600)
    assert not get(page, "brush-2", "m.visible")


def test_classes_can_be_brushed(page, bins):
    rows = drag(page, bins, 0, "rhythm", 0.02, 0.15)
    settle(page, rows.sum())
    assert rows.sum() == bins.load("rhythm").whole[0]
    assert get(page, "brush-0", "[m.left, m.right]") == [-0.5, 0.5]


def test_brushes_stand_as_an_expression_that_can_be_selected(page, bins, explorer_db):
    rows = drag(page, bins, 1, "period_ms", 0.3, 0.7)
    rows &= drag(page, bins, 0, "rhythm", 0.02, 0.5)
    settle(page, rows.sum())
    text = get(page, "expression", "m.text")
    assert " <= period_ms < " in text and "pyloric" in text
    assert explorer_db.count(text) == rows.sum()
    shown = page.get_by_text(text, exact=True)
    box = shown.evaluate("e => e.getRootNode().host.getBoundingClientRect().toJSON()")
    page.mouse.click(box["x"] + 20, box["y"] + 8, click_count=3)
    assert shown.evaluate("e => String(e.getRootNode().getSelection())").strip() == text
    page.get_by_text("lift all brushes").click()
    settle(page, 600)
    assert get(page, "expression", "m.text") == ""


def test_a_click_takes_one_bin(page, bins):
    box = page.locator(".bk-Figure").nth(1).bounding_box()
    page.mouse.click(box["x"] + 150, box["y"] + 90)
    page.wait_for_function(f"() => ({GET % 'm.visible && m.right > m.left'})('brush-1')")
    left, right = get(page, "brush-1", "[m.left, m.right]")
    binned = bins.load("period_ms")
    place = int(np.searchsorted(binned.edges, left))
    assert (left, right) == (binned.edges[place], binned.edges[place + 1])
    settle(page, binned.whole[place])
    page.wait_for_timeout(500)  # or the first of the next clicks would be the second
    page.mouse.dblclick(box["x"] + 150, box["y"] + 90)
    settle(page, 600)
    assert not get(page, "brush-1", "m.visible")


def test_where_nothing_is_selected_ticks_are_whole_and_no_colour_has_a_number(page, bins):
    binned = bins.load("period_ms")
    width = "Bokeh.index.find_one(m).frame.bbox.width"
    before = get(page, "density", width)
    place = int(np.argmin(binned.whole))
    assert binned.whole[place] == 0
    at = float(binned.edges[place : place + 2].mean())
    x = get(page, "histogram-1", f"Bokeh.index.find_one(m).frame.x_scale.compute({at})")
    box = page.locator(".bk-Figure").nth(1).bounding_box()
    page.mouse.click(box["x"] + x, box["y"] + 90)
    settle(page, 0)
    axis = "Bokeh.index.find_one(m).views.find_one(m.left[0])"
    assert get(page, "histogram-0", f"Array.from({axis}.tick_coords.major[1], Number)") == [0, 1]
    assert not get(page, "density", "m.right[0].visible")
    assert get(page, "density", width) == before  # nothing moves


def test_another_column_can_be_chosen(page, bins):
    settle(page, drag(page, bins, 1, "period_ms", 0.3, 0.7).sum())
    page.locator("select").nth(1).select_option("v_min_lp_mV")
    settle(page, 600)  # the brush went with its column
    assert heights(page, 1) == bins.load("v_min_lp_mV").whole.tolist()
    settle(page, drag(page, bins, 1, "v_min_lp_mV", 0.1, 0.5).sum())
    page.locator("select").nth(1).select_option("duty_cycle_abpd")
    page.wait_for_function(f"() => ({GET % 'm.text'})('problem').includes('already shown')")


def test_another_density_can_be_chosen(page, bins):
    page.locator("select").nth(8).select_option("v_min_lp_mV")
    page.wait_for_function(
        f"() => ({GET % 'm.below[0].axis_label'})('density') === "
        "'LP lowest membrane potential (mV)'"
    )
    page.locator("select").nth(9).select_option("pyloric")
    page.wait_for_function(
        f"() => String(({GET % 'm.left[0].ticker.ticks'})('density')) === '0,1'"
    )  # no and yes, and nothing between


def test_a_click_shows_a_circuit_and_its_traces(page, explorer_db):
    row = page.locator(".slick-row").nth(2)
    circuit = int(row.inner_text().split()[0])
    row.click()
    page.wait_for_function(
        f"() => ({GET % 'm.renderers[0].data_source.data.V.length'})('trace-lp') > 1000",
        timeout=60_000,
    )
    page.wait_for_function(f"() => !({GET % 'm.text'})('parameters').includes('simulating')")
    text = get(page, "parameters", "m.text")
    assert f"circuit {circuit}<" in text
    parameters = explorer_db.parameters([circuit]).isel(circuit=0)
    assert f"<td>{float(parameters.gbar.sel(cell='lp', channel='Kd')):g}</td>" in text
    assert f"<td>{float(parameters.gsyn.sel(synapse='lp_py')):g}</td>" in text
    V = get(page, "trace-lp", "Array.from(m.renderers[0].data_source.data.V)")
    expected = explorer_db.simulate([circuit], duration_ms=3000.0)["V"].sel(cell="lp").values[0]
    np.testing.assert_allclose(V, expected, rtol=1e-5)


def test_typed_circuits(page):
    number = page.locator("input").first
    number.fill("599")
    number.press("Enter")
    page.wait_for_function(f"() => ({GET % 'm.text'})('parameters').includes('circuit 599<')")
    number.fill("600")
    number.press("Enter")
    page.wait_for_function(f"() => ({GET % 'm.text'})('problem').includes('circuit 600 is not in')")
    said = page.get_by_text("circuit 600 is not in")
    said.nth(1).wait_for()  # beside the field, and above the page
    places = [m.bounding_box() for m in said.all()]
    beside = max(places, key=lambda place: place["y"])
    typed = number.bounding_box()
    assert len(places) == 2 and abs(beside["y"] - typed["y"]) < typed["height"]
    assert typed["x"] + typed["width"] <= beside["x"]
    assert beside["x"] + beside["width"] <= page.locator(".bk-Figure").nth(9).bounding_box()["x"]
    number.fill("<img src=x onerror=alert(1)>")
    number.press("Enter")
    page.wait_for_function(f"() => ({GET % 'm.text'})('problem').includes('is no circuit id')")
    assert "<img" not in get(page, "problem", "m.text")
    assert page.locator("img[src=x]").count() == 0


def test_a_circuit_can_be_asked_for_again_after_another(page):
    def shown(circuit):
        page.wait_for_function(
            f"() => ({GET % 'm.text'})('parameters').includes('circuit {circuit}<')"
        )

    number, row = page.locator("input").first, page.locator(".slick-row").nth(2)
    circuit = int(row.inner_text().split()[0])
    for _ in range(2):
        number.fill("599")
        number.press("Enter")
        shown(599)
        row.click()
        shown(circuit)


def test_a_window_of_1280_pixels_holds_the_page(page):
    page.set_viewport_size({"width": 1265, "height": 700})  # 15 are its scroll bar
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1265
    widths = page.locator(".slick-header-column").evaluate_all(
        "heads => heads.map(h => [h.firstElementChild.offsetWidth, h.clientWidth])"
    )
    assert len(widths) == 8 and all(words < head for words, head in widths)


def test_a_page_that_sends_what_no_menu_offers(page, bins):
    """A page may send anything: it gets a sentence, and the server lives on."""
    change = "name => { Bokeh.documents[0].get_model_by_name(name).value = '%s' }"
    for name, value in (
        ("column-1", "netcode"),
        ("column-2", "1; drop table circuits"),
        ("density-x", "__class__"),
    ):
        page.evaluate(change % value, name)
        page.wait_for_function(
            f"() => ({GET % 'm.text'})('problem').includes('there is no column')"
        )
    settle(page, drag(page, bins, 1, "period_ms", 0.3, 0.7).sum())


def test_text_of_a_database_is_escaped(page):
    assert page.get_by_text("<script>alert(1)</script> & co").count() == 1


def test_tables_of_long_numbers_do_not_reach_under_the_traces(page, tmp_path, monkeypatch):
    """Conductances that a prior drew, in place of those of a grid."""
    shard_data = synthetic.shard_data

    def drawn(manifest, shard, ids=None):
        ids, columns, states = shard_data(manifest, shard, ids)
        columns |= {n: v / 99_991 for n, v in columns.items() if n.startswith(("gbar_", "gsyn_"))}
        return ids, columns, states

    monkeypatch.setattr(synthetic, "shard_data", drawn)
    synthetic.build(tmp_path / "db", synthetic.make_manifest(None, 20))
    text = _parameters(pyloric_db.open(tmp_path / "db"), 3)
    numbers = re.findall(r"<td>([^<]*)</td>", text)
    assert len(numbers) == 24 + 7
    assert all(n == f"{float(n):.4g}" for n in numbers)
    page.evaluate("t => { Bokeh.documents[0].get_model_by_name('parameters').text = t }", text)
    cells, synapses = (
        page.locator(f"table:has(th:text-is('{head}'))").bounding_box() for head in ("KCa", "pd_py")
    )
    traces = page.locator(".bk-Figure").nth(9).bounding_box()
    beside = cells["x"] + cells["width"] <= synapses["x"]
    assert beside or cells["y"] + cells["height"] <= synapses["y"]
    for table in (cells, synapses):
        assert table["x"] + table["width"] <= traces["x"]
