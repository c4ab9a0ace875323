"""The scanning page at the size of a night of 50,000 detections:

    python -m benchmarks.scale.vetting

writes such a night (ready rows, one exposure with pixels) into a temporary folder, serves it as `nightstride vet` does,
and asks for it as a browser does. It prints how long the index takes, the list (by four selections), a candidate, and,
in Chromium where that is installed, the time from the key of a verdict to the next candidate on the screen. Exit code
1: a list takes 2 s or more, or a verdict 150 ms or more (the median).
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx
import numpy as np
import pyarrow as pa

from benchmarks.support.command_line import command_line
from benchmarks.support.page import machine
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.vetting.server import Workplace
from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.tracklets import TRACKLET, TRACKLET_SOURCE
from tests.flows.results.page.conftest import NIGHT
from tests.support.vetting import TOKEN, build, filled, serving

LIST_S, NEXT_MS = 2.0, 150.0
QUERIES = ("", "sort=snr&klass=trail&reliability_min=0.5", "state=open&sort=time&page=700", "linked=yes&known=no")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PRESSED = """() => new Promise(resolve => {
    const start = performance.now();
    const done = () => requestAnimationFrame(() => resolve(performance.now() - start));
    document.addEventListener('shown', done, {once: true});
    document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', bubbles: true}));
})"""


def main():
    chosen = command_line(__doc__, detections=50_000, verdicts=60)
    print(machine(1))
    with tempfile.TemporaryDirectory(prefix="nightstride-vetting-") as folder:
        out = fill(Path(folder) / "out", chosen.detections)
        start = perf_counter()
        place = Workplace(out, recheck=0.05)
        print(f"index of {len(place.index()):,} candidates: {perf_counter() - start:.2f} s")
        place.warm_up()
        with serving(place) as served:
            slow = lists(served) >= LIST_S
            slow |= verdicts(served, chosen.verdicts) >= NEXT_MS
    return int(slow)


def fill(out, detections):
    """Copies of the tests' night with its pixels under other visits, as many as have so many detections."""
    build(out)
    template = CatalogStore(out).read(DIA_SOURCE, ExposureKey(night=NIGHT, visit=101, detector=3))
    each, ledger, store, rng = 50, Ledger(out), CatalogStore(out), np.random.default_rng(1)
    base = template.take(rng.integers(0, len(template), each))
    ids, sky = [], ledger.get(ExposureKey(night=NIGHT, visit=101, detector=3)).sky
    for n in range(-(-detections // each)):
        key = ExposureKey(night=NIGHT, visit=1000 + n, detector=3)
        table = _as(base, key, rng)
        path = store.publish(DIA_SOURCE, key, table, f"{n:064}")
        tile_path(out, key).symlink_to(tile_path(out, ExposureKey(night=NIGHT, visit=101, detector=3)))
        ledger.put(ExposureRecord(
            **key.model_dump(), source_uri=f"file:///{n}.fits", source_sha256="0" * 64, digest=f"{n:064}",
            datasets={"dia_source": store.record(path)}, sky=sky, software="0", finished_at="2026-11-04T03:12:00+00:00",
        ))  # fmt: skip
        ids.extend(table["diaSourceId"].to_pylist())
    linked = [{"diaSourceId": one, "trackletId": ids[n // 3 * 3] if n % 10 < 3 else None} for n, one in enumerate(ids)]
    store.publish(TRACKLET_SOURCE, NIGHT, filled(TRACKLET_SOURCE, linked), "f" * 64)
    rows = [{"trackletId": one} for one in sorted({one["trackletId"] for one in linked if one["trackletId"]})]
    store.publish(TRACKLET, NIGHT, filled(TRACKLET, rows), "f" * 64)
    return out


def _as(table, key, rng):
    n = len(table)
    columns = {name: table[name] for name in table.schema.names}
    columns["diaSourceId"] = pa.array(key.visit << 21 | key.detector << 12 | np.arange(n))
    columns["visit"] = pa.array(np.full(n, key.visit))
    columns["reliability"] = pa.array(rng.random(n).astype(np.float32))
    columns["snr"] = pa.array(rng.lognormal(2.3, 0.6, n).astype(np.float32))
    columns["x"], columns["y"] = (pa.array(rng.uniform(30, side, n)) for side in (350.0, 390.0))
    return pa.table(columns, schema=DIA_SOURCE.schema)


def lists(served):
    """Print and return the slowest time of a page of the list, s; the first asking of each selection, which sorts."""
    times = []
    with httpx.Client(base_url=served.address, trust_env=False, timeout=60, follow_redirects=True) as client:
        client.get("/", params={"token": TOKEN})
        for query in QUERIES:
            start = perf_counter()
            client.get(f"/?{query}").raise_for_status()
            times.append(perf_counter() - start)
            print(f"list ?{query or '(all)'}: {1000 * times[-1]:.0f} ms")
    return max(times)


def verdicts(served, count):
    """Print median and 95th percentile of a verdict in Chromium, ms; return the median, 0 without Chromium."""
    if not CHROMIUM:
        print("Chromium is not installed: verdicts are not timed")
        return 0.0
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.goto(f"{served.address}/?token={TOKEN}")
        tab.locator("#user").fill("Annie")
        with tab.expect_navigation():
            tab.get_by_role("button", name="Save").click()
        start = perf_counter()
        tab.get_by_role("link", name="Begin with the first").click()
        tab.wait_for_selector("#stage canvas")
        print(f"list to the first candidate: {1000 * (perf_counter() - start):.0f} ms")
        times = []
        for _ in range(count):
            tab.wait_for_timeout(1000)  # who judges looks at least so long
            times.append(tab.evaluate(PRESSED))
        browser.close()
    middle, worst = median(times), float(np.percentile(times, 95))
    print(f"verdict to next candidate, {count} of them: median {middle:.0f} ms, 95th percentile {worst:.0f} ms")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return middle


if __name__ == "__main__":
    sys.exit(main())
