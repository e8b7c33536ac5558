import base64
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import synthetic
from browsing import chromium

import pyloric_db
from pyloric_db.errors import ConfigError
from pyloric_db.report.facts import _times
from pyloric_db.report.page import report_html, write_report
from pyloric_db.store.ledger import Failure, Ledger, LedgerRows, record_failure
from pyloric_db.summary import shares, wilson

pytest.importorskip("jinja2")

#: The synthetic circuits can be simulated, from their random states, if a circuit is said.
RECIPE = {"name": "tiny", "circuit": {"preset": "prinz2004"}}
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(" ".join(data.split()))

    @property
    def text(self):
        return "\n".join(w for w in self.words if w)

    def images(self):
        return [a["src"] for tag, a in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database of seeded random features, and its report."""
    path = tmp_path_factory.mktemp("report") / "db"
    synthetic.build(path, synthetic.make_manifest(recipe=RECIPE))
    db = pyloric_db.open(path)
    return db, report_html(db)


def test_the_page_needs_nothing_else(made):
    page = Page(made[1])
    assert "http" not in re.sub(r'http-equiv="', "", made[1])
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "background", "poster"):
            assert attributes.get(name, "data:image/png;base64,").startswith(
                "data:image/png;base64,"
            ), tag
    (policy,) = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def test_figures_are_inline(made):
    images = Page(made[1]).images()
    assert len(images) == 5
    for image in images:
        assert base64.b64decode(image.partition(",")[2]).startswith(PNG)


def test_numbers_are_those_of_the_database(made):
    db, html = made
    text = Page(html).text
    assert "48 of 48 circuits" in text and "3 of 3 shards" in text
    for share in shares(db):
        assert f"{share.count} of 48" in text
    # published are shares of the whole grid, and this is a corner of it
    assert "19.99%" not in text and "pyloric-like\n–\n" in text
    assert db.manifest.recipe_hash in text
    assert "0, 0.1, 3, 30 nS" in text
    assert "dt_ms\n0.05" in text and "pyloric_db\n0" in text
    bursting = int((synthetic.expected(db.manifest)["activity_lp"] == "bursting").sum())
    assert re.search(rf"\nLP\n\d+\n\d+\n{bursting}\n\d+\n", text)


def test_a_sample_has_intervals_and_a_whole_grid_has_none(made, tmp_path, monkeypatch):
    monkeypatch.setattr("pyloric_db.report.page.pictures", lambda db: [])
    assert "interval" not in Page(made[1]).text
    sampled = synthetic.make_manifest(
        n_circuits=20,
        recipe={**RECIPE, "description": "All 48"},
        selection={"sample": 20, "seed": 0},
    )
    synthetic.build(tmp_path / "db", sampled)
    sample = pyloric_db.open(tmp_path / "db")
    text = Page(report_html(sample)).text
    assert "\nA random sample of 20 (seed 0) of: All 48\n" in text
    assert "95% interval" in text and "intervals are Wilson's" in text
    for share in shares(sample):
        low, high = (100 * end for end in share.interval)
        assert f"{low:.2f} – {high:.2f}%" in text


def test_times_are_those_of_the_receipts(made):
    db, html = made
    rows = Ledger(db.path).read().shards.values()
    text = Page(html).text
    assert f"work, summed over workers\n{sum(r['seconds'] for r in rows):,.0f} s" in text
    assert "No shard was set aside." in text


def test_from_the_first_start_to_the_last_end():
    ends = {0: ("2026-03-01T12:00:10+00:00", 10), 1: ("2026-03-01T12:01:00+00:00", 20)}
    shards = {
        k: {"finished_at": end, "seconds": s, "n_circuits": 30} for k, (end, s) in ends.items()
    }
    times = _times(LedgerRows(None, None, shards))
    assert (times.wall_s, times.work_s, times.circuits_per_work_s) == (60, 30, 2)


def test_text_of_a_database_is_escaped(tmp_path):
    nasty = "<script>alert('x')</script>"
    recipe = {**RECIPE, "name": nasty, "description": f"{nasty} & more", nasty: nasty}
    manifest = synthetic.make_manifest(recipe=recipe, versions={nasty: nasty})
    synthetic.build(tmp_path / "db", manifest, shards=[0, 1])
    record_failure(tmp_path / "db", Failure(2, f"OSError: {nasty}", 3))
    html = report_html(pyloric_db.open(tmp_path / "db"))
    page = Page(html)
    assert "<script" not in html
    assert page.text.count(nasty) >= 4  # as text: description, recipe, versions, failure
    assert "OSError" in page.text and "not complete" in page.text


def test_a_database_without_finished_circuits(tmp_path):
    synthetic.build(tmp_path / "db", shards=[])
    page = Page(report_html(pyloric_db.open(tmp_path / "db")))
    assert "0 of 48 circuits" in page.text and page.images() == []
    assert "no circuit is finished yet" in page.text
    assert "nothing to compare: no circuit is finished." in page.text


def test_circuits_without_pyloric_labels(tmp_path, monkeypatch):
    monkeypatch.setattr("pyloric_db.report.page.pictures", lambda db: [])
    prior = {"name": "tiny", "parameters": {"prior": {}}}
    synthetic.build(tmp_path / "db", replace(synthetic.other_cells(), recipe=prior))
    db = pyloric_db.open(tmp_path / "db")
    monkeypatch.setattr(type(db), "whole_grid", False)
    text = Page(report_html(db)).text
    tonic = db.count("activity_a == 'tonic'")
    low, high = (100 * end for end in wilson(tonic, 12))
    share = f"{100 * tonic / 12:.2f}%\n{low:.2f} – {high:.2f}%\n{tonic} of 12"
    assert tonic and f"\nA tonic\n{share}\n" in text and "Intervals are Wilson's." in text
    # neither another time as bare counts, nor beside what was published of other circuits
    assert "circuits in which the cell is" not in text and "ublished" not in text


def test_other_circuits_have_no_published_ranges(made, tmp_path, monkeypatch):
    synthetic.build(tmp_path / "db", synthetic.other_cells())
    monkeypatch.setattr(
        "pyloric_db.report.figures._inline", lambda figure: "data:image/png;base64,"
    )
    page = report_html(pyloric_db.open(tmp_path / "db"))
    assert "hatched the published ranges" in made[1] and "hatched" not in page
    assert "in front of them those of &#39;periodic&#39;." in page


def test_what_is_not_drawn_has_a_reason_and_no_words_below_it(tmp_path):
    synthetic.build(tmp_path / "db", synthetic.other_cells(), shards=[])
    page = report_html(pyloric_db.open(tmp_path / "db"))
    rhythm = page[page.index("<h3>Rhythm</h3>") :]
    rhythm = rhythm[: rhythm.index("</figure>")]
    assert "no circuit is finished yet" in rhythm and "figcaption" not in rhythm


@pytest.mark.slow
def test_circuits_that_are_no_grid(tmp_path):
    synthetic.build(tmp_path / "db", synthetic.make_manifest(axes=None, recipe=RECIPE))
    page = Page(report_html(pyloric_db.open(tmp_path / "db")))
    assert "are no grid: they cannot be stacked" in page.text and len(page.images()) == 4


def test_a_built_database_has_traces(tiny_db):
    seen = []
    html = report_html(pyloric_db.open(tiny_db), lambda *counts: seen.append(counts))
    traces = html[html.index("<h3>Traces</h3>") :]
    assert Page(traces).images()
    assert seen == [(k, 5) for k in range(1, 6)]


def test_the_same_page_every_time(made):
    assert report_html(made[0]) == made[1]


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_library_that_is_missing_is_named_with_the_extra_that_has_both(
    made, monkeypatch, library
):
    monkeypatch.setitem(sys.modules, library, None)  # cannot be found
    with pytest.raises(ConfigError, match=f"needs {library}: .* with the extra 'report'$"):
        report_html(made[0])


@pytest.mark.parametrize("name", ["x.pdf", "x", "html"])
def test_a_report_is_a_page(made, tmp_path, name):
    with pytest.raises(ConfigError, match=r"must end in \.html or \.htm"):
        write_report(made[0], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_narrow_window_is_not_scrolled_sideways(made):
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.set_content(made[1])
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_place_that_cannot_be_written(made, tmp_path):
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(made[0], tmp_path / "nowhere" / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command(inside, tiny_db, tmp_path, snapshot):
    before = snapshot(tiny_db)
    done = inside("report", tiny_db, cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "wrote report.html\n", done.stderr
    assert "24 of 24 circuits" in Page((tmp_path / "report.html").read_text()).text
    assert snapshot(tiny_db) == before
    done = inside("report", tiny_db, "-o", "x.pdf", cwd=tmp_path)
    assert done.returncode == 2 and "x.pdf must end in .html or .htm" in done.stderr
    done = inside("report", tmp_path, "-o", "x.html", cwd=tmp_path)
    assert done.returncode == 2 and "no database" in done.stderr
    assert not (tmp_path / "x.html").exists()
