"""The site builds without a warning, leads nowhere that is not there, and needs no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import nightstride
from tests.support.browser import barriers, chromium, heard
from tests.support.shared import made_once

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ASSETS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
IN_STYLE = re.compile(r"""url\(\s*['"]?(?!data:|#)([^'")]+)|@import\s+['"]([^'"]+)""")


def build(source, folder):
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", str(ROOT / "docs/site")]
    command += ["-d", str(folder / "trees"), "-b", "html", str(source), str(folder / "site")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Page(HTMLParser):
    """Anchors, links and assets of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.assets = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if ASSETS.get(tag) in given and given.get("rel") not in ("canonical", "index", "search", "next", "prev"):
            self.assets.append(given[ASSETS[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    def make(folder):
        run = build(ROOT, folder)
        assert (run.returncode, run.stderr) == (0, ""), run.stderr

    return made_once(tmp_path_factory, "site", make) / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def broken(pages):
    """Links of pages, with the page, that lead to no file or anchor, or are no address."""
    for path, page in pages.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme in ("http", "https"):
                good = re.fullmatch(r"[\w.-]+\.\w+", address.hostname or "") and not re.search(r"\s", link)
            elif address.scheme == "mailto":
                good = "@" in link
            else:
                there = (path.parent / unquote(address.path)).resolve() if address.path else path
                anchor = unquote(address.fragment)
                good = (
                    not address.scheme
                    and there.is_file()
                    and (not anchor or anchor in getattr(pages.get(there), "ids", ()))
                )
            if not good:
                yield path.name, link


def test_every_link_and_anchor_leads_somewhere(pages):
    assert list(broken(pages)) == []


def test_broken_links_are_noticed(tmp_path):
    text = '<p id="a"><a href="#a"></a><a href="#b"></a><a href="x.html"></a><a href="https://no where"></a>'
    (tmp_path / "page.html").write_text(text)
    found = [link for _, link in broken({tmp_path / "page.html": Page(text)})]
    assert found == ["#b", "x.html", "https://no where"]


def test_a_warning_fails_the_build(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "index.md").write_text("# Index\n\n**Start**: [a](a.md)\n")
    (folder / "a.md").write_text("# A\n\n[b](b.md) [c](#nothing)\n")
    run = build(tmp_path, tmp_path / "built")
    assert run.returncode == 1
    assert "a.md:3: WARNING: 'myst' cross-reference target not found: 'b.md'" in run.stderr
    assert "a.md:3: WARNING: 'myst' cross-reference target not found: 'nothing'" in run.stderr


def test_every_page_of_the_documentation_is_on_it(site):
    built = {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")}
    assert {path.relative_to(ROOT) for path in [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]} <= built


def test_it_opens_at_the_index(site):
    assert 'url=docs/index.html"' in (site / "index.html").read_text()


def test_nothing_is_loaded_from_the_network(site, pages):
    assets = {asset for page in pages.values() for asset in page.assets}
    assert len(assets) > 10
    assert [one for one in assets if urlsplit(one).scheme not in ("", "data") or one.startswith("//")] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    named = [first or second for text in styles for first, second in IN_STYLE.findall(text)]
    assert [one for one in named if "//" in one] == []


def test_every_public_name_has_its_docstring(site, pages):
    path = site / "docs/reference/python.html"
    names = [name for name in nightstride.__all__ if not name.startswith("_")]
    assert [name for name in names if f"nightstride.{name}" not in pages[path].ids] == []
    text = re.sub(r"<[^>]+>", "", path.read_text())
    assert "Parameters" in text
    assert "nJy per pixel unit" in text or "AB magnitude" in text


@pytest.fixture(scope="module")
def browser():
    with chromium() as launched:
        yield launched


KINDS = ("docs/index", "docs/use/catalogues", "docs/develop/first_hour", "docs/reference/python", "search", "genindex")
"""Pages that have between them all that pages are made of: their styles are the same on each."""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_pages_can_be_read(site, browser, scheme, width):
    """Colours do not depend on the width, nor sizes on the colours."""
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844}) as context:
        tab = context.new_page()
        said = heard(tab)
        for name in KINDS:
            tab.goto(f"{site.as_uri()}/{name}.html")
            assert barriers(tab) == [], name
            assert said == [], name


def test_every_page_can_be_heard_and_used_by_keyboard_and_says_nothing(site, pages, browser):
    """On a telephone, where most has to be scrolled: each page downwards only, and what is wide within itself."""
    found = []
    with browser.new_context(viewport={"width": 390, "height": 844}) as context:
        tab = context.new_page()
        said = heard(tab)
        for path in sorted(pages.keys() - {site / "index.html"}):  # which leads on at once
            tab.goto(path.as_uri())
            found += [f"{path.relative_to(site)}: {one}" for one in barriers(tab, contrast=False)]
            if (wide := tab.evaluate("document.documentElement.scrollWidth")) > 390:
                found.append(f"{path.relative_to(site)}: {wide} px wide")
            found += [f"{path.relative_to(site)}: {said.pop()}" for _ in range(len(said))]
    assert found == []


def test_barriers_are_noticed(browser):
    page = browser.new_page()
    page.set_content(
        "<title>A</title><main><h1>A</h1><details><summary>B</summary><input></details>"
        "<p style='color: #aaa; background: #fff'>pale</p></main>"
    )
    assert {one.partition(":")[0] for one in barriers(page)} == {"html-has-lang", "label", "color-contrast"}


def test_the_search_works_from_a_folder(site, browser):
    with browser.new_page() as page:
        asked, said = [], heard(page)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{site.as_uri()}/docs/index.html")
        page.locator("input[name=q]").first.fill("quarantined")
        page.locator("input[name=q]").first.press("Enter")
        page.locator("#search-results").get_by_role("link", name="Failures", exact=True).first.wait_for()
        assert barriers(page) == []
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
