import logging
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed
from prefect.types._datetime import now

from flows.nights.schedule import artifacts as notification
from flows.nights.schedule.artifacts import WEBHOOK, _plain, depth_plot, notify, page_url
from flows.nights.schedule.scheduled_night import NO_EXPOSURES, QUARANTINED, scheduled_night
from schemas.recovery import Limit, RecoveredShare, Recovery
from tests.support.webhook import webhook


@pytest.mark.parametrize(
    ("report", "pages", "url"),
    [
        ("/srv/out/reports/20250121/index.html", None, "file:///srv/out/reports/20250121/index.html"),
        ("/srv/o ut/reports/20250121/index.html", None, "file:///srv/o%20ut/reports/20250121/index.html"),
        ("/srv/out/reports/20250121/index.html", "https://host/nights/", "https://host/nights/20250121/index.html"),
        ("s3://bucket/out/reports/20250121/index.html", None, "s3://bucket/out/reports/20250121/index.html"),
        ("s3://bucket/out/reports/20250121/index.html", "https://host", "https://host/20250121/index.html"),
    ],
)
def test_the_link_leads_to_the_page(report, pages, url):
    assert page_url(report, pages) == url


def test_names_of_files_are_neither_markdown_nor_html():
    assert _plain("a_b*c\n <img src=x> [x](y)") == r"a\_b\*c \<img src=x\> \[x\](y)"


def night(*shares):
    return Recovery(
        night="20250121", exposures=1, hidden=0, n=sum(one.n for one in shares),
        recovered=sum(one.recovered for one in shares),
        by_snr=shares, by_length=shares, snr=Limit(n=0, reason="too few"),
    )  # fmt: skip


def picture(url):
    head, _, content = url.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(b64decode(content))).convert("L"), float)


NONE = RecoveredShare(lo=4, hi=7, n=0, recovered=0, interval=(0, 1))
HALF = RecoveredShare(lo=7, hi=None, n=10, recovered=5, interval=(0.19, 0.81))
ALL = RecoveredShare(lo=7, hi=None, n=10, recovered=10, interval=(0.69, 1.0))


def test_it_is_a_picture_that_shows_the_shares():
    half, everything = picture(depth_plot(night(NONE, HALF))), picture(depth_plot(night(NONE, ALL)))
    assert half.shape == (360, 900)
    assert half.min() < 100
    assert np.abs(half - everything).max() > 100
    assert depth_plot(night(NONE, HALF)) == depth_plot(night(NONE, HALF))


@pytest.mark.parametrize("shares", [(NONE,), (NONE, NONE)])
def test_of_nothing_it_is_empty(shares):
    assert picture(depth_plot(night(*shares))).shape == (360, 900)


UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def run():
    return FlowRun(id=UUID, flow_id=UUID, name="nightly 2025-01-21", created=now())


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(notification, "BACKOFF_S", 0.0)


def test_what_did_not_go_as_it_should_is_told(run, monkeypatch):
    with webhook() as (url, told):
        monkeypatch.setenv(WEBHOOK, url)
        for state in (Failed(message="why"), Crashed(), Completed(name=QUARANTINED), Completed(name=NO_EXPOSURES)):
            notify(scheduled_night, run, state)
        notify(scheduled_night, run, Completed(message="fine"))
    assert [one["state"] for one in told] == ["Failed", "Crashed", "Quarantined", "NoExposures"]
    assert told[0]["text"].startswith("nightstride, nightly 2025-01-21: Failed. why")
    assert (told[0]["flow_run"], told[0]["flow_run_id"], told[0]["message"]) == ("nightly 2025-01-21", UUID, "why")


def test_it_is_tried_again_and_the_address_is_never_logged(run, monkeypatch, caplog):
    logging.getLogger("prefect").propagate = True
    with webhook([500, 404, 500]) as (url, told):
        monkeypatch.setenv(WEBHOOK, url)
        with caplog.at_level(logging.WARNING):
            notify(scheduled_night, run, Failed())
    assert len(told) == 4
    assert "answered with 404" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/secret-token", "secret-token", "http://[secret-token", "ftp://secret-token/x"]
)
def test_a_webhook_that_is_not_there_hurts_nobody(run, monkeypatch, caplog, url):
    logging.getLogger("prefect").propagate = True
    monkeypatch.setenv(WEBHOOK, url)
    with caplog.at_level(logging.WARNING):
        notify(scheduled_night, run, Failed())
    assert caplog.text.count(WEBHOOK) == notification.ATTEMPTS
    assert "secret-token" not in caplog.text


def test_without_a_webhook_nobody_is_told(run, monkeypatch, caplog):
    monkeypatch.delenv(WEBHOOK, raising=False)
    notify(scheduled_night, run, Failed())
    assert caplog.text == ""
