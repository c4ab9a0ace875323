import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import urlparse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.results.evaluation.truth_table import read_truth
from flows.results.page.cards import LIMITS, Limits
from flows.results.page.night import read_night
from flows.results.page.page import Drawing, write_report
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dia_source import DetectionFlag
from schemas.exposure import PsfModel
from schemas.quality import BandQuality, Gate, QualityRecord
from schemas.tracklets import TRACKLET
from schemas.truth import TRUTH
from tests.support.browser import barriers, chromium
from tests.support.page import object_table, put_objects, spectral_table, star_galaxy_table
from tests.support.tracklets import publish_linked
from tests.support.vetting import build

SERVICES = {
    "www.minorplanetcenter.net", "ssp.imcce.fr", "simbad.cds.unistra.fr", "aladin.cds.unistra.fr",
}  # fmt: skip
"""What the page links to; nothing of it is loaded."""

DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


class Tags(HTMLParser):
    """Tags in order, and what is open at the end."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in {"meta", "link", "img", "br", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def values(self, name):
        return [attributes[name] for _, attributes in self.seen if name in attributes]


def make_truth(kit, path):
    rows = [row for visit in (101, 102) for row in kit.rows(kit.info(visit=visit), 9, 10 * visit + 3)]
    base = dict.fromkeys(TRUTH.schema.names, 0)
    base |= {"kind": "streak", "objectName": "", "visible": 1.0, "fwhm_px": 2.2, "beta": 3.0}
    streaks = [
        base
        | {name: row[name] for name in ("visit", "detector", "x", "y", "snr")}
        | {"length_px": row["trailLengthPx"], "angle_deg": row["trailAnglePx"]}
        for row in rows[::2]
    ]
    pq.write_table(pa.Table.from_pylist(streaks, schema=TRUTH.schema), path)


@pytest.fixture(scope="module")
def out(kit, tmp_path_factory):
    """A night of two exposures and their objects, one more in quarantine, with the truth."""
    folder = tmp_path_factory.mktemp("out")
    kit.night(folder, visits=2)
    kit.quarantine(folder)
    rng = np.random.default_rng(1)
    bands = {band: 19.0 + rng.normal(0, 0.3, 40) for band in "gri"}
    labels = ["star", "galaxy", "quasar", "unknown"] * 10
    put_objects(folder, kit.NIGHT, object_table(bands), star_galaxy_table([0.9, 0.2] * 20), spectral_table(labels))
    make_truth(kit, folder / "truth.parquet")
    return folder


@pytest.fixture(scope="module")
def full(kit, out):
    return write_report(out, kit.NIGHT, kit.summary(3, 1), read_truth([out / "truth.parquet"]))


@pytest.fixture(scope="module")
def browser():
    with chromium() as launched:
        yield launched


def visit(browser, page, viewport, scheme="light"):
    """Open a page, and gather what it asks of the network and what it complains of."""
    tab = browser.new_page(viewport=viewport, color_scheme=scheme)
    asked, complaints = [], []
    tab.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda request: complaints.append(f"failed: {request.url[:80]}"))
    tab.goto(page.as_uri())
    return tab, asked, complaints


def test_the_page_is_where_it_belongs_and_the_same_each_time(kit, out, full):
    assert full == out / "reports" / kit.NIGHT / "index.html"
    before = full.read_bytes()
    truth = read_truth([out / "truth.parquet"])
    assert write_report(out, kit.NIGHT, kit.summary(3, 1), truth).read_bytes() == before
    assert not list((out / "staging").iterdir())


def test_the_page_is_whole_and_needs_nothing_else(full):
    text = full.read_text()
    tags = Tags(text)
    assert tags.open == []
    assert all(value.startswith("data:") for value in tags.values("src"))
    outside = [
        attributes for tag, attributes in tags.seen if not attributes.get("href", "#").startswith(("#", "data:"))
    ]
    assert {urlparse(one["href"]).netloc for one in outside} == SERVICES
    assert all((one["target"], one["rel"]) == ("_blank", "noopener noreferrer") for one in outside)
    assert "script" not in {tag for tag, _ in tags.seen}
    assert not re.search(r"url\(|@import", text)


def test_anchors_lead_somewhere_and_ids_are_unique(full):
    tags = Tags(full.read_text())
    ids = tags.values("id")
    assert len(ids) == len(set(ids))
    targets = [value[1:] for value in tags.values("href") if value.startswith("#")]
    targets += tags.values("aria-labelledby")
    assert set(targets) <= set(ids)


def test_who_cannot_see_is_told(full):
    tags = Tags(full.read_text())
    images = [attributes for tag, attributes in tags.seen if tag == "img"]
    assert len(images) == 2 + 18
    assert all(len(attributes["alt"]) > 20 for attributes in images)
    for tag, attributes in tags.seen:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}


def test_text_from_outside_is_escaped(full):
    text = full.read_text()
    assert "MAGZP: is &lt;missing&gt; &amp; needed." in text
    assert "<missing>" not in text


def test_what_the_page_says(full):
    text = re.sub(r"<[^>]+>", " ", full.read_text())
    for words in (
        "Night of 3 November 2026",
        "2 of 3 exposures searched",
        "seeing 2.2″",
        "18 detections, not linked to movers: look here",
        "2 visits of 1 detector",
        "101_3.fits.fz",
        "Exposures published",
        "= 3 seen by this run",
        "To fix,",
        "add the keyword.",
        "False streaks against reliability",
        "40 objects on the science images in g, r, i.",
        "means a reliability below 0.5",
        "near bright star",
    ):
        assert words in text, words


def test_the_sections_come_in_the_order_in_which_they_are_asked_for(full):
    text = full.read_text()
    places = [text.index(f'<section id="{one}"') for one in ("problems", "found", "exposures", "table", "timing")]
    assert places == sorted(places)
    assert text.index('class="headline"') < places[0]
    assert re.search(r'class="headline">.*href="#trails"', text, re.DOTALL)


def test_a_page_at_its_limits_stays_small(kit, tmp_path):
    """Pictures of one exposure at its limits, and its marks, take what their share of 5 MB leaves for the rest."""
    info = kit.info(shape=(900, 900))
    rows = kit.rows(info, 500, 1)
    for row in rows:
        row |= {"bboxSize": 480, "trailLengthPx": 300.0, "flags": 511, "snr": 0.0}
    kit.publish(tmp_path, info, rows, 1)
    page = write_report(tmp_path, kit.NIGHT)
    text = page.read_text()
    pictures = [len(one) for one in re.findall('data:image/png[^"]+', text)]
    assert len(pictures) == LIMITS.cards
    assert sum(pictures) < LIMITS.pictures + 20_000
    assert len(text) < 3e6


@pytest.mark.parametrize("case", ["nothing", "quarantined", "no detection", "bare"])
def test_poor_nights_render(kit, tmp_path, browser, case):
    if case == "quarantined":
        kit.quarantine(tmp_path)
    if case == "no detection":
        kit.publish(tmp_path, kit.info(), [], 1)
    if case == "bare":
        info = kit.info(wcs_header=None, zero_point=None, flags=("no_wcs", "no_zero_point"))
        rows = kit.rows(info, 5, 3)
        for row in rows:
            row |= dict.fromkeys(("ra", "dec", "magAB", "magABErr", "trailLength", "trailAngle"))
        kit.publish(tmp_path, info, rows, 1)
    page = write_report(tmp_path, kit.NIGHT, kit.summary(1, 1) if case == "quarantined" else None)
    tab, asked, complaints = visit(browser, page, PHONE)
    assert (asked, complaints) == ([page.as_uri()], [])
    body = tab.inner_text("body")
    expected = {
        "nothing": "0 of 0 exposures searched.",
        "quarantined": "0 of 1 exposure searched.",
        "no detection": "nothing was detected.",
        "bare": "limit not known: no zero point",
    }
    assert expected[case] in body
    assert ("Nothing was detected." in body) == (case == "no detection")
    assert "None" not in body
    empty = "[...document.querySelectorAll('section, figure, table, dl, ul')].filter(e => !e.textContent.trim()).length"
    assert tab.evaluate(empty) == 0
    assert "nan" not in body.split()
    assert barriers(tab) == []


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders_without_a_complaint(browser, full, viewport, scheme):
    tab, asked, complaints = visit(browser, full, viewport, scheme)
    assert asked == [full.as_uri()]
    assert complaints == []
    sizes = tab.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(sizes) == 20
    assert all(complete and natural > 0 and shown > 0 for complete, natural, shown in sizes)
    assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    assert barriers(tab) == []


def test_marks_can_be_hidden(browser, full):
    tab, _, _ = visit(browser, full, DESKTOP)
    mark = tab.locator(".card svg.overlay").first
    assert mark.is_visible()
    tab.get_by_label("Show marks").uncheck()
    assert not mark.is_visible()
    assert not tab.locator(".frame svg.overlay").first.is_visible()
    tab.get_by_label("Show marks").check()
    assert mark.is_visible()


def test_a_mark_leads_to_its_card(browser, full):
    tab, _, _ = visit(browser, full, DESKTOP)
    link = tab.locator("a.mark").nth(3)
    target = link.get_attribute("href")
    link.focus()
    tab.keyboard.press("Enter")
    tab.wait_for_function("target => location.hash === target", arg=target)
    tab.wait_for_function(
        "id => { const box = document.getElementById(id).getBoundingClientRect();"
        " return box.top >= 0 && box.bottom <= innerHeight; }",
        arg=target[1:],
    )


def test_the_sentence_leads_to_the_list(browser, vetted):
    tab, asked, complaints = visit(browser, vetted, DESKTOP)
    tab.get_by_role("link", name="look here").click()
    tab.wait_for_function("() => location.hash === '#unknown'")
    assert tab.locator("#unknown .card").first.is_visible()
    assert not tab.locator("#rest table").is_visible()
    tab.locator("#rest > summary").click()
    assert tab.locator("#rest table").is_visible()
    assert (asked, complaints) == ([vetted.as_uri()], [])
    assert barriers(tab) == []


def test_the_page_of_a_linked_night_shows_all_planes_and_escapes_what_it_is_given(browser, vetted):
    text = vetted.read_text()
    assert "<script" not in text
    assert "script&gt;.fits" in text
    assert "mag r, r&lt;b&gt;&#34;&amp;" in text
    tab, _, _ = visit(browser, vetted, DESKTOP)
    captions = tab.locator("#known .card").first.locator(".shots figcaption").all_inner_texts()
    assert captions == ["difference", "science", "template"]
    tab.locator("#unknown .card summary").first.click()
    assert tab.locator("#unknown .card tbody tr").count() == 3


def test_coordinates_are_copied_at_a_click(browser, vetted):
    tab, _, _ = visit(browser, vetted, DESKTOP)
    code = tab.locator(".place code").first
    code.click()
    assert tab.evaluate("getSelection().toString()").strip() == code.inner_text()


@pytest.fixture(scope="module")
def vetted(kit, tmp_path_factory):
    """The page of a night with a mover, a known object and all planes."""
    return write_report(build(tmp_path_factory.mktemp("vetted") / "out"), kit.NIGHT)


def test_tables_keep_their_labels_beside_the_values_on_a_phone(kit, tmp_path, browser):
    kit.night(tmp_path, visits=1)
    put_quality(tmp_path, kit.NIGHT, r="no_history")
    tab, _, _ = visit(browser, write_report(tmp_path, kit.NIGHT), PHONE)
    assert not tab.locator("#quality table").is_visible()  # folded while there is no history
    tab.locator("#quality summary").first.click()
    cells = tab.locator("#quality tbody td")
    assert cells.first.is_visible()
    shown = "e => [getComputedStyle(e, '::before').content, e.getBoundingClientRect().right]"
    for place in range(cells.count()):
        told = cells.nth(place).evaluate(shown)
        assert told[0] == f'"{cells.nth(place).get_attribute("data-label")}"'
        assert told[1] <= PHONE["width"]
    assert tab.locator("#quality .scroll").evaluate("e => e.scrollWidth <= e.clientWidth")


def put_quality(out, night, **verdicts):
    """Publish the quality of a night with a verdict for each of some bands."""
    judged = []
    for band, verdict in verdicts.items():
        gate = Gate(metric="seeing", verdict=verdict, value=2.2, unit="arcsec")
        judged.append(BandQuality(instrument="ZTF", band=band, verdict=verdict, gates=(gate,), drifts=(), reference=()))
    quality = QualityRecord(night=night, digest="", rules="", measured=(), judged=tuple(judged), software="1")
    Ledger(out).put_quality(quality)


def test_verdicts_on_quality_can_be_read(kit, tmp_path, browser):
    kit.night(tmp_path, visits=1)
    put_quality(tmp_path, kit.NIGHT, g="pass", r="no_history", i="warn", z="fail")
    page = write_report(tmp_path, kit.NIGHT)
    for viewport, scheme in ((PHONE, "light"), (DESKTOP, "dark")):
        tab, _, _ = visit(browser, page, viewport, scheme)
        assert tab.locator("#quality .pill").count() == 4
        assert barriers(tab) == []


def test_assumed_values_look_assumed(kit, tmp_path, browser):
    info = kit.info(psf=PsfModel(fwhm_px=2.5, source="assumed"), flags=("assumed_psf", "assumed_site"))
    rows = kit.rows(info, 2, 1)
    for row in rows:
        row |= {"flags": int(DetectionFlag.ASSUMED_PSF), "magAB": 19.0}
    kit.publish(tmp_path, info, rows, 1)
    tab, _, _ = visit(browser, write_report(tmp_path, kit.NIGHT), DESKTOP)
    for where in ("h1", ".headline", ".card dd", "#table td"):
        marked = tab.locator(f"{where} .assumed").first
        assert marked.evaluate("e => getComputedStyle(e).borderBottomStyle") == "dotted"
        assert "assumed" in marked.inner_text()
    assert "no header tells the PSF, and there are no or too few stars" in tab.locator("#problems").inner_text()
    assert barriers(tab) == []


def test_a_click_on_a_source_hits_its_mark(browser, full):
    tab, _, _ = visit(browser, full, DESKTOP)
    tab.locator("a.mark rect").first.click()
    tab.wait_for_function("() => location.hash.startsWith('#d')")


def test_text_can_be_read(browser, full):
    """WCAG 2.2: contrast of 4.5 to 1 for text, in both schemes."""
    for scheme in ("light", "dark"):
        tab, _, _ = visit(browser, full, DESKTOP, scheme)
        for selector in (".figures dt", ".card dt", ".pill", ".flags span", ".code", "thead th", "a", ".id"):
            for text, ground in json.loads(tab.evaluate(COLOURS, selector)):
                assert contrast(text, ground) >= 4.5, (scheme, selector, text, ground)


COLOURS = """selector => JSON.stringify([...document.querySelectorAll(selector)]
  .filter(e => !e.closest('svg, .skip, .masthead')).slice(0, 30).map(e => {
    const numbers = colour => {
      const found = colour.match(/[0-9.]+/g).map(Number);
      return colour.startsWith('color(') ? found.map((v, i) => i < 3 ? 255 * v : v) : found;
    };
    let ground = e;
    while (ground && (numbers(getComputedStyle(ground).backgroundColor)[3] === 0)) ground = ground.parentElement;
    return [getComputedStyle(e).color, getComputedStyle(ground).backgroundColor].map(c => numbers(c).slice(0, 3));
  }))"""


def contrast(first, second):
    """Ratio of relative luminances, WCAG 2.2."""

    def luminance(colour):
        scaled = np.array(colour) / 255
        linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_prints_without_the_bar(browser, full):
    tab, _, _ = visit(browser, full, DESKTOP)
    tab.emulate_media(media="print")
    assert not tab.locator(".topbar").is_visible()
    assert tab.locator(".card").first.is_visible()
    assert len(tab.pdf()) > 100_000


def test_shows_what_was_refused_and_why(kit, tmp_path):
    info = kit.info()
    causes = {"cosmic_ray": {"refused": 1234, "published": 2}, "ghost": {"refused": 0, "published": 0}}
    kit.publish(tmp_path, info, kit.rows(info, 3, 1), 1, causes=causes)
    page = write_report(tmp_path, kit.NIGHT).read_text()
    assert "Known causes of false streaks" in page
    row = re.search(r'<tr role="row"><th scope="row" role="rowheader">cosmic ray</th>(.*)</tr>', page).group(1)
    assert re.sub("<[^>]+>", " ", row).split() == ["1,234", "2"]
    assert "ghost</th>" not in page
    assert ">cosmic ray 1,234</td>" in page


def made(kit, out, limits=None, summary=None):
    return Drawing(out, read_night(out, kit.NIGHT, summary), limits or Limits()).content(None)


def test_a_large_night_is_shown_in_part_and_says_so(kit, tmp_path):
    kit.night(tmp_path, visits=5, each=6)
    page = made(kit, tmp_path, Limits(panels=2, cards=3, rows=3))
    drawn = Drawing(tmp_path, read_night(tmp_path, kit.NIGHT, None), Limits())
    first = drawn.found.table["exposure"].unique().to_pylist()[:2]
    assert page.panel_names == {drawn.night.exposures[one].record.name for one in first}
    assert [panel.name for panel in page.panels] == sorted(page.panel_names)
    assert page.pictured.startswith("2 of 5 exposures: those whose detections come first in the list")
    assert len(page.rows) == 3
    assert page.rows_left_out == "The first 3 of 5 exposures, by visit and detector."
    assert {len(part.cards) for part in page.parts if not part.folded} == {3}
    assert page.lists == 1
    assert sum(int(figure.value) for figure in page.figures if figure.name == "Detections") == 30


def test_a_small_night_is_shown_in_full(kit, tmp_path):
    kit.night(tmp_path, visits=2)
    page = made(kit, tmp_path)
    assert (page.rows_left_out, page.troubles_left_out, page.notes) == ("", "", ())
    assert page.pictured == "All 2 exposures, by visit and detector."
    assert page.title == "3 November 2026"
    assert page.made_at == "As of 2026-11-04 03:12:42 UTC"
    assert page.colophon == "Made by nightstride 0.1.0; reliability from basic_cnn 1 + reliability 1."


@pytest.mark.parametrize("gone", ["", "difference/c/0/0"])
def test_tiles_may_be_gone(kit, tmp_path, gone):
    kit.night(tmp_path, visits=2)
    place = tmp_path / "tiles" / kit.NIGHT / "101-3.zarr" / gone
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    page = made(kit, tmp_path)
    assert [panel.name for panel in page.panels] == ["102-3"]
    assert page.pictured.startswith("1 of 2 exposures")
    assert len(page.rows) == 2


@pytest.mark.parametrize("flag", ["", "assumed_site", "no_time", "no_wcs"])
def test_why_it_may_be_another_night(kit, tmp_path, flag):
    kit.publish(tmp_path, kit.info(flags=(flag,) if flag else ()), [], 1)
    said = {"": "", "assumed_site": "site assumed", "no_time": "time not known", "no_wcs": ""}
    assert made(kit, tmp_path).night_assumed == said[flag]


def test_what_was_not_run_and_warnings_are_told(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    summary = kit.summary(1, 0).model_copy(update={"not_run": {"vet": "no template."}, "warnings": ("Slow disk.",)})
    page = made(kit, tmp_path, summary=summary)
    assert (page.notes, page.not_run) == (("Slow disk.",), ("vet: no template.",))
    assert page.elapsed == "3.1 s to start, 14 s in all by the clock"


def test_waiting_is_shown_where_the_run_made_all_of_the_night(kit, tmp_path):
    kit.night(tmp_path, visits=1)
    seconds = {"detect": 4.0, "waiting": 1.0, "startup": 3.1, "search": 2.5}
    summary = kit.summary(1, 0, seconds)
    assert "waiting" not in {part.stage for part in made(kit, tmp_path, summary=summary).timing.stages}
    page = made(kit, tmp_path, summary=summary.model_copy(update={"nights": (kit.NIGHT,)}))
    assert [part.stage for part in page.timing.stages] == ["detect", "waiting"]
    assert page.elapsed == "3.1 s to start, 2.5 s to search"


def test_sections_are_those_that_are_there(kit, tmp_path):
    assert made(kit, tmp_path).sections == ()
    kit.quarantine(tmp_path)
    assert [anchor for anchor, _ in made(kit, tmp_path).sections] == ["problems"]
    kit.night(tmp_path, visits=1)
    anchors = [anchor for anchor, _ in made(kit, tmp_path).sections]
    assert anchors == ["problems", "found", "exposures", "detections", "table", "timing"]


def test_a_damaged_catalogue_of_motion_is_a_note(kit, tmp_path):
    publish_linked(tmp_path)
    path = CatalogStore(tmp_path).night_path(TRACKLET, kit.NIGHT)
    path.write_bytes(path.read_bytes()[:100])
    page = made(kit, tmp_path)
    assert "unknown" not in {part.anchor for part in page.parts}
    assert any("tracklet.parquet" in note for note in page.notes)
    assert "not linked to movers" in page.look
