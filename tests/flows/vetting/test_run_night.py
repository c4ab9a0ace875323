"""The scanning page on what a run has published."""

import re

import httpx
import pytest

from flows.vetting.server import Workplace
from tests.support.vetting import TOKEN, serving

pytest_plugins = ("tests.support.night_fixture",)


@pytest.mark.slow
def test_every_detection_of_a_run_has_its_page(uninterrupted):
    run, out = uninterrupted
    place = Workplace(out)
    index = place.index()
    assert len(index) == run.summary["detections"] > 0
    assert index.damaged == ()
    with serving(place) as served, httpx.Client(base_url=served.address, trust_env=False, timeout=60) as client:
        client.get("/", params={"token": TOKEN})
        for source_id in index.columns["diaSourceId"][:: max(len(index) // 8, 1)].tolist():
            text = client.get(f"/candidate/{source_id}").text
            assert f'data-id="{source_id}"' in text
            assert re.search(r'<span class="name">difference</span>', text)
            assert "SHA-256" in text
            assert client.get(f"/explain/{source_id}").status_code == 200
        key = index.key(0)
        assert client.get(f"/exposure/{key.night}/{key.name}").status_code == 200
        tile = client.get(f"/tile/{key.night}/{key.name}/difference/0/0-0.png")
        assert tile.content.startswith(b"\x89PNG")
