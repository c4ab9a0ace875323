"""Chromium for tests of pages."""

import shutil
from contextlib import contextmanager

from tests.support.services import absent

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser")
"""The first takes half as much of a processor as the others."""

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync")  # fmt: skip


@contextmanager
def chromium():
    """Yield a browser; without one the test is skipped, or fails where services are required."""
    if not CHROMIUM:
        absent("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield launched
        launched.close()


def heard(page):
    """Return a list of what a page says on its console of errors and warnings, and of what it cannot load; it grows."""
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"{request.url}: {request.failure}"))
    return said


def barriers(page, *, contrast=True):
    """Return what axe-core finds serious or critical on a page: rule, element and what is wrong, a line each.

    What is folded is opened first. The rules about colours take half of the time. What lies outside of landmarks is
    only moderate.
    """
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    rules = {name: {"enabled": contrast} for name in ("color-contrast", "link-in-text-block")}
    rules["region"] = {"enabled": False}
    options = {"resultTypes": ["violations"], "preload": False, "rules": rules}
    return [
        f"{found['id']}: {node['target']}: {node['failureSummary']}"
        for found in Axe().run(page, options=options).response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]
