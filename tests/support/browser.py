"""Chromium for tests of pages."""

import shutil
from contextlib import contextmanager

from tests.support.services import absent

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
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
