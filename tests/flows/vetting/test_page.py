"""The pages in a real browser: every interaction, two sizes, both schemes; a complaint of the console fails."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from flows.vetting.server import Workplace
from schemas.vetting import Verdict
from tests.support.browser import barriers, chromium
from tests.support.vetting import DOORS, KNOWN, TOKEN, source_id
from tests.support.wait import until

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 320, "height": 844}
"""The narrowest to which a page must flow (WCAG 1.4.10)."""

MOVER, STAR = source_id(101, 0), source_id(101, 1)
EXPOSURE = "/exposure/20261103/101-3"
PAGES = ("/", "/tracklets", "/agreement", f"/candidate/{MOVER}", f"/candidate/{STAR}", EXPOSURE, f"/explain/{MOVER}")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def signed_in(browser, served):
    """What a browser keeps of a vetter who came by the link with the token and gave a name."""
    with browser.new_context() as context:
        tab = context.new_page()
        tab.goto(f"{served.address}/?token={TOKEN}")
        tab.locator("#user").fill("Henrietta")
        with tab.expect_navigation():
            tab.get_by_role("button", name="Save").click()
        return context.storage_state()


@pytest.fixture
def visit(browser, served, place, signed_in):
    """Open pages as a vetter; whatever the console says or asks of elsewhere fails at the end."""
    contexts, complaints = [], []

    def elsewhere(url):
        return [] if url.startswith((served.address, "data:")) else [url]

    def opened(path="/", viewport=DESKTOP, scheme="light", named=True, **options):
        known = signed_in if named else None
        context = browser.new_context(viewport=viewport, color_scheme=scheme, storage_state=known, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda one: complaints.extend(elsewhere(one.url)))
        if not named:
            tab.goto(f"{served.address}/?token={TOKEN}")
        if named or path != "/":
            tab.goto(served.address + path)
        return tab

    opened.complaints = complaints
    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def shown(tab):
    return int(tab.locator("article.one").get_attribute("data-id"))


def press(tab, key):
    """Press a key and wait for the next candidate."""
    before = shown(tab)
    tab.keyboard.press(key)
    tab.wait_for_function("before => document.querySelector('article.one').dataset.id !== before", arg=str(before))


def standing(place):
    return [(one.diaSourceId, str(one.verdict)) for one in place.verdicts.standing()]


def test_the_token_goes_from_the_address_and_the_cookie_is_not_for_scripts(visit):
    tab = visit(named=False)
    assert "token" not in tab.url
    assert tab.evaluate("document.cookie") == ""
    (session,) = [one for one in tab.context.cookies() if one["name"].startswith("nightstride-vet-")]
    assert (session["httpOnly"], session["sameSite"]) == (True, "Strict")


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["light", "dark"])
def test_pages_render_without_a_complaint(visit, served, viewport, scheme, tmp_path):
    """Colours do not depend on the size, nor sizes on the colours."""
    tab = visit(viewport=viewport, scheme=scheme)
    for path in PAGES:
        tab.goto(served.address + path)
        tab.wait_for_load_state("networkidle")
        assert tab.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        assert tab.locator("h1").count() == 1
        assert all(tab.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)")), path
        image = np.array(Image.open(io.BytesIO(tab.screenshot())).convert("L"), float)
        assert (image.mean() > 128) == (scheme == "light") or path in (EXPOSURE, f"/candidate/{MOVER}")
        assert barriers(tab) == [], path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("path", "token", "status"), [("/nothing", True, 404), ("/", False, 401)])
def test_refusals_can_be_read(browser, served, path, token, status, scheme):
    with browser.new_context(viewport=PHONE, color_scheme=scheme) as context:
        tab = context.new_page()
        if token:
            tab.goto(f"{served.address}/?token={TOKEN}")
        assert tab.goto(served.address + path).status == status
        assert "token" in tab.locator("main").inner_text() or token
        assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert barriers(tab) == []


def test_a_night_is_judged_by_keys_alone(visit, place):
    tab = visit("/")
    tab.get_by_role("link", name="Begin with the first").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/candidate/*")
    seen = []
    for key in "rbsau":
        seen.append(shown(tab))
        press(tab, key)
    assert standing(place) == [(one, str(verdict)) for one, verdict in zip(seen, Verdict, strict=True)]
    assert seen[:3] == [source_id(visit, 0) for visit in (101, 102, 103)]
    assert f"/candidate/{shown(tab)}" in tab.url
    press(tab, "n")
    press(tab, "z")
    assert shown(tab) == seen[-1]
    assert len(standing(place)) == 4
    press(tab, "z")
    assert shown(tab) == seen[-2]
    tab.wait_for_function("() => document.getElementById('told').textContent.includes('taken back')")
    assert len(standing(place)) == 3


def test_buttons_do_what_keys_do(visit, place):
    tab = visit(f"/candidate/{MOVER}")
    tab.get_by_role("button", name="satellite").click()
    tab.wait_for_function("before => document.querySelector('article.one').dataset.id !== before", arg=str(MOVER))
    tab.get_by_role("button", name="undo").click()
    tab.wait_for_function("id => document.querySelector('article.one').dataset.id === id", arg=str(MOVER))
    assert standing(place) == []


def test_who_works_with_tab_and_enter_keeps_the_place(visit, place):
    tab = visit(f"/candidate/{MOVER}")
    tab.get_by_role("button", name="bogus").focus()
    press(tab, "Enter")
    press(tab, "Enter")
    assert [verdict for _, verdict in standing(place)] == ["bogus", "bogus"]
    tab.get_by_role("button", name="undo").focus()
    press(tab, "Enter")
    assert tab.evaluate("document.activeElement.dataset.do") == "undo"
    assert len(standing(place)) == 1


def test_a_verdict_that_was_given_before_is_shown_and_can_be_undone(visit, place):
    tab = visit(f"/candidate/{STAR}")
    press(tab, "b")
    tab.goto(re.sub(r"/candidate/.*", f"/candidate/{STAR}", tab.url))
    assert tab.get_by_role("button", name="bogus").get_attribute("aria-pressed") == "true"
    assert "Henrietta: bogus" in tab.locator(".said").inner_text()
    tab.keyboard.press("z")
    tab.wait_for_selector(".said", state="detached")
    assert standing(place) == []


def test_a_verdict_that_is_lost_comes_back(visit, place):
    tab = visit(f"/candidate/{MOVER}")
    tab.route("**/verdict", lambda route: route.fulfill(status=503, json={"error": "The disk is full."}))
    tab.keyboard.press("r")
    tab.wait_for_function("() => document.getElementById('told').textContent.includes('was not kept')")
    assert "The disk is full." in tab.locator("#told").inner_text()
    tab.wait_for_function("id => document.querySelector('article.one').dataset.id === id", arg=str(MOVER))
    assert standing(place) == []
    assert "503" in visit.complaints.pop()  # the browser's own word of it


def test_who_is_shut_out_by_a_new_start_of_the_server_is_told_the_way_back(visit, place):
    tab = visit(f"/candidate/{MOVER}")
    tab.wait_for_load_state("networkidle")
    tab.context.clear_cookies()
    tab.keyboard.press("r")
    told = "() => document.getElementById('told').textContent.includes('open the address that nightstride vet printed')"
    tab.wait_for_function(told)
    assert "was not kept" in tab.locator("#told").inner_text()
    assert shown(tab) == MOVER
    assert standing(place) == []
    assert all("401" in one for one in visit.complaints)
    visit.complaints.clear()


def test_the_end_of_a_list_is_told(visit, place):
    tab = visit(f"/candidate/{source_id(102, 3)}?known=yes")
    assert KNOWN in tab.locator("main").inner_text()
    tab.keyboard.press("r")
    told_of_the_end(tab)
    with tab.expect_response("**/verdict"):
        tab.keyboard.press("r")
    told_of_the_end(tab)
    assert len(standing(place)) == 1
    tab.keyboard.press("z")
    tab.wait_for_selector(".said", state="detached")
    assert standing(place) == []
    tab.keyboard.press("r")
    tab.get_by_role("link", name="Back to the list").click()
    assert tab.url.endswith("/?known=yes")


def told_of_the_end(tab):
    """Wait until the last candidate of a list shows its verdict, and that it is the last."""
    tab.wait_for_selector("button[data-verdict=real][aria-pressed=true]")
    tab.wait_for_function("() => document.getElementById('told').textContent.includes('real. Nothing else is left')")


def test_the_last_verdict_is_taken_back_after_a_page_is_loaded_again(visit, place):
    tab = visit(f"/candidate/{MOVER}")
    press(tab, "r")
    press(tab, "b")
    tab.reload()
    for left in (1, 0):
        tab.keyboard.press("z")
        tab.wait_for_function("() => document.getElementById('told').textContent.includes('taken back')")
        until(lambda left=left: len(standing(place)) == left)
        tab.reload()
    tab.keyboard.press("z")
    tab.wait_for_function("() => document.getElementById('told').textContent.includes('nothing to undo')")
    assert "404" in visit.complaints.pop()


def test_without_a_name_no_verdict_counts(visit, place):
    tab = visit(f"/candidate/{MOVER}", named=False)
    tab.keyboard.press("r")
    tab.wait_for_function("() => document.getElementById('told').textContent.includes('Give your name first')")
    tab.wait_for_function("id => document.querySelector('article.one').dataset.id === id", arg=str(MOVER))
    assert standing(place) == []
    assert "400" in visit.complaints.pop()


def canvas(tab):
    """Levels of the enlarged picture."""
    script = """() => { const c = document.querySelector('#stage canvas');
        return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, n) => n % 4 === 0); }"""
    return np.array(tab.evaluate(script))


def test_pictures_are_stretched_chosen_blinked_and_zoomed(visit):
    tab = visit(f"/candidate/{MOVER}")
    views = {}
    for name in ("asinh", "zscale", "linear"):
        assert tab.get_by_label("Stretch").input_value() == name
        views[name] = canvas(tab)
        tab.keyboard.press("c")
    assert len({view.tobytes() for view in views.values()}) == 3
    assert views["linear"].max() == 255
    assert (views["zscale"] == 255).sum() > (views["linear"] == 255).sum()
    tab.get_by_label("Stretch").select_option("zscale")
    np.testing.assert_array_equal(canvas(tab), views["zscale"])
    tab.locator("h1").click()
    tab.keyboard.press("2")
    assert tab.locator(".shot").nth(1).get_attribute("aria-pressed") == "true"
    science = canvas(tab)
    assert science.tobytes() != views["zscale"].tobytes()
    tab.keyboard.press("k")
    tab.wait_for_function("() => document.querySelectorAll('.shot')[2].ariaPressed === 'true'")
    tab.keyboard.press("k")
    assert tab.get_by_role("button", name="blink").get_attribute("aria-pressed") == "false"
    overlay = tab.locator("#stage svg")
    assert overlay.count() == 1
    tab.keyboard.press("t")
    assert overlay.count() == 0
    assert not tab.locator(".shot svg").first.is_visible()
    before = tab.locator("#stage").bounding_box()["width"]
    tab.keyboard.press("+")
    tab.keyboard.press("+")
    assert tab.locator("#stage").bounding_box()["width"] == pytest.approx(2 * before, rel=0.02)
    tab.keyboard.press("-")
    assert tab.locator("#zoom").inner_text() == "1.5×"
    tab.locator(".shot").nth(0).click()
    tab.locator("#stage canvas").hover()
    assert "adu" in tab.locator("#reading").inner_text()


def test_who_wants_no_motion_gets_none(visit):
    tab = visit(f"/candidate/{MOVER}", reduced_motion="reduce")
    tab.keyboard.press("k")
    assert tab.locator(".shot").nth(1).get_attribute("aria-pressed") == "true"
    assert tab.get_by_role("button", name="blink").get_attribute("aria-pressed") == "false"


def test_keys_give_a_verdict_after_a_stretch_was_chosen(visit, place):
    tab = visit(f"/candidate/{MOVER}")
    tab.get_by_label("Stretch").focus()
    tab.keyboard.press("ArrowDown")
    assert tab.get_by_label("Stretch").input_value() == "zscale"
    press(tab, "A")  # not asinh; with Caps Lock, too
    assert standing(place) == [(MOVER, "artefact")]
    assert tab.get_by_label("Stretch").input_value() == "zscale"


def test_help_and_details_open_and_close(visit):
    tab = visit(f"/candidate/{MOVER}")
    tab.keyboard.press("?")
    assert barriers(tab) == []
    tab.reload()
    tab.keyboard.press("?")
    assert tab.locator("dialog").is_visible()
    tab.keyboard.press("r")  # no verdict while it is open
    tab.keyboard.press("Escape")
    assert not tab.locator("dialog").is_visible()
    assert shown(tab) == MOVER
    tab.get_by_text("All columns").click()
    assert tab.get_by_role("row", name=re.compile("^psfFlux ")).inner_text().split("\t")[1] == "2510 ± 60 nJy"
    tab.get_by_text("Origin", exact=True).click()
    tab.get_by_role("link", name="All of it").click()
    assert "source_sha256" in tab.locator("pre").inner_text()


def test_points_of_the_tracklet_lead_on(visit):
    tab = visit(f"/candidate/{MOVER}")
    tab.locator(".plot a").nth(2).click()
    tab.wait_for_url(f"**/candidate/{source_id(103, 0)}")


def test_filters_and_pages_by_form(visit):
    tab = visit("/")
    tab.get_by_label("Sort by").select_option("snr")
    tab.get_by_label("S/N from").fill("20")
    tab.get_by_role("button", name="Show").click()
    values = [float(text) for text in tab.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert min(values) >= 20
    assert tab.get_by_label("Sort by").input_value() == "snr"
    tab.get_by_role("link", name="Reset").click()
    assert tab.locator("tbody tr").count() == 36


def test_the_viewer_moves_zooms_and_leads_to_candidates(visit):
    tab = visit(EXPOSURE)
    viewer = tab.locator("#viewer")
    idle = "() => document.getElementById('viewer').ariaBusy === 'false'"
    tab.wait_for_function(idle)
    assert tab.locator("#overlay a").count() == 12
    box = viewer.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = tab.locator("#overlay").get_attribute("viewBox")
    tab.mouse.move(*middle)
    tab.mouse.wheel(0, -300)
    tab.wait_for_function("before => document.getElementById('overlay').getAttribute('viewBox') !== before", arg=before)
    zoomed = [float(part) for part in tab.locator("#overlay").get_attribute("viewBox").split()]
    assert zoomed[2] < float(before.split()[2])
    tab.mouse.down()
    tab.mouse.move(middle[0] + 60, middle[1] + 40, steps=4)
    tab.mouse.up()
    assert "/exposure/" in tab.url  # a drag is not a click
    moved = [float(part) for part in tab.locator("#overlay").get_attribute("viewBox").split()]
    assert moved[0] < zoomed[0]
    viewer.focus()
    tab.keyboard.press("ArrowRight")
    assert float(tab.locator("#overlay").get_attribute("viewBox").split()[0]) > moved[0]
    tab.keyboard.press("0")
    assert tab.locator("#overlay").get_attribute("viewBox") == before
    tab.get_by_label("Plane").select_option("template")
    tab.wait_for_function(idle)
    assert all(
        "/template/" in one for one in tab.evaluate("[...document.querySelectorAll('#tiles img')].map(i => i.src)")
    )
    tab.get_by_role("button", name="marks").click()
    assert not tab.locator("#overlay").is_visible()
    tab.get_by_role("button", name="marks").click()
    tab.locator(f'#overlay a[href="/candidate/{MOVER}"] circle').click()
    tab.wait_for_url(f"**/candidate/{MOVER}")
    tab.get_by_role("link", name="whole detector").click()
    tab.wait_for_function(idle)
    assert "2.0 screen px" in tab.locator("#scale").inner_text()


def test_a_button_let_go_outside_the_viewer_ends_the_drag(visit):
    tab = visit(EXPOSURE)
    tab.wait_for_function("() => document.getElementById('viewer').ariaBusy === 'false'")
    box = tab.locator("#viewer").bounding_box()
    tab.mouse.move(box["x"] + 50, box["y"] + 3)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 50, box["y"] - 30)  # out at once
    tab.mouse.up()
    before = tab.locator("#overlay").get_attribute("viewBox")
    tab.mouse.move(box["x"] + 150, box["y"] + 150, steps=5)
    assert tab.locator("#overlay").get_attribute("viewBox") == before


def test_marks_lie_on_what_they_mark(visit):
    """The brightest pixels within a mark of the viewer are those of the source."""
    tab = visit(f"{EXPOSURE}?x=250&y=300")
    tab.wait_for_function("() => document.getElementById('viewer').ariaBusy === 'false'")
    tab.get_by_role("button", name="marks").click()
    box = tab.locator("#viewer").bounding_box()
    image = np.array(Image.open(io.BytesIO(tab.screenshot(clip=box))).convert("L"), float)
    y, x = (side // 2 for side in image.shape)
    around = image[y - 40 : y + 40, x - 40 : x + 40]
    rows, columns = np.nonzero(around > 250)
    assert (rows.mean(), columns.mean()) == pytest.approx((40, 40), abs=2.5)


def test_rechecks_come_and_agreement_shows_them(visit, served, place, out):
    served.place.__dict__.update(Workplace(out, recheck=0.5).__dict__)
    tab = visit(f"/candidate/{MOVER}")
    for _ in range(32):
        press(tab, "r")
    tab.wait_for_function("() => document.getElementById('told').textContent.includes(': real')")
    assert sum(one.blind for one in served.place.verdicts.standing()) >= 3
    tab.get_by_role("link", name="Agreement").click()
    assert "Henrietta, earlier and again" in tab.locator("main").inner_text()
    assert barriers(tab) == []


def test_another_site_can_neither_read_nor_write(visit, browser, served, place):
    """A page of elsewhere, in the browser of somebody who is in: no cookie goes along, and no answer is readable."""
    tab = visit("/")
    complaints = len(visit.complaints)
    other = tab.context.new_page()
    other.route("http://evil.example/", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html"))
    other.goto("http://evil.example/")
    script = """async ([address, csrf]) => {
        const tried = [];
        for (const [path, options] of [['/', {}], ['/verdict', {method: 'POST', body: '{}'}],
                ['/user', {method: 'POST', mode: 'no-cors', body: '{"user": "eve"}'}],
                ['/user', {method: 'POST', headers: {'X-CSRF-Token': csrf}, body: '{"user": "eve"}'}]]) {
            try { tried.push((await fetch(address + path, {credentials: 'include', ...options})).type); }
            catch (error) { tried.push('refused'); }
        }
        return tried; }"""
    assert set(other.evaluate(script, [served.address, DOORS.secret("csrf")])) <= {"refused", "opaque"}
    assert standing(place) == []
    tab.reload()
    assert tab.locator("#user").input_value() == "Henrietta"
    del visit.complaints[complaints:]
