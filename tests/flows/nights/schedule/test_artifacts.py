import logging
from base64 import b64decode
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed
from prefect.types._datetime import now

from flows.nights.schedule import artifacts as notification
from flows.nights.schedule.artifacts import WEBHOOK, _plain, depth_plot, leave, notify, page_url
from flows.nights.schedule.scheduled_night import NO_EXPOSURES, QUARANTINED, scheduled_night
from schemas.recovery import Limit, RecoveredShare, Recovery
from schemas.summary import RunSummary, Trouble
from tests.support.webhook import other_program, webhook


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
    "url",
    [
        "http://127.0.0.1:9/secret-token",
        "secret-token",
        "http://[secret-token",
        "ftp://secret-token/x",
        "http://127.0.0.1:9/of us/secret-token",
    ],
)
def test_a_webhook_that_is_not_there_hurts_nobody(run, monkeypatch, caplog, url):
    logging.getLogger("prefect").propagate = True
    monkeypatch.setenv(WEBHOOK, url)
    with caplog.at_level(logging.WARNING):
        notify(scheduled_night, run, Failed())
    assert caplog.text.count(WEBHOOK) == notification.ATTEMPTS
    assert "secret-token" not in caplog.text


def test_a_webhook_that_is_no_http_hurts_nobody(run, monkeypatch, caplog):
    logging.getLogger("prefect").propagate = True
    with other_program() as port, caplog.at_level(logging.WARNING):
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{port}/secret-token")
        notify(scheduled_night, run, Failed())
    assert caplog.text.count("BadStatusLine") == notification.ATTEMPTS


def test_without_a_webhook_nobody_is_told(run, monkeypatch, caplog):
    monkeypatch.delenv(WEBHOOK, raising=False)
    notify(scheduled_night, run, Failed())
    assert caplog.text == ""


def drawn(monkeypatch, recovery):
    """The figure that is drawn."""
    made = []

    def figure(**given):
        made.append((notification_figure(**given), given))
        return made[-1][0]

    notification_figure = notification.Figure
    monkeypatch.setattr(notification, "Figure", figure)
    depth_plot(recovery)
    return made[0]


def test_shares_are_drawn_with_their_intervals(monkeypatch):
    low = RecoveredShare(lo=4, hi=7, n=8, recovered=2, interval=(0.03, 0.65))
    figure, given = drawn(monkeypatch, night(low, NONE, HALF))
    assert given == {"figsize": (9, 3.6), "dpi": 100, "layout": "constrained"}
    assert figure.get_suptitle() == "Night 20250121: 7 of 18 synthetic streaks came back"
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("true signal to noise", "true length, px")
    assert (left.get_ylabel(), right.get_ylabel()) == ("share recovered", "")
    for axes in (left, right):
        (container,) = axes.containers
        points, _, (bars,) = container.lines
        assert points.get_xydata().tolist() == [[0, 0.25], [2, 0.5]]
        ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
        assert np.array(ends) == pytest.approx(np.array([[0.03, 0.65], [0.19, 0.81]]))
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 2.5), (-0.03, 1.03))
        assert axes.get_xticks().tolist() == [0, 1, 2]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["4–7", "4–7", "≥ 7"]
        assert {line.get_alpha() for line in axes.get_ygridlines()} == {0.3}
        assert {line.get_markersize() for line in container.lines[1]} == {6.0}


def test_an_interval_that_ends_at_its_share_is_drawn(monkeypatch):
    rounded = RecoveredShare(lo=4, hi=7, n=3, recovered=3, interval=(0.29, 1 - 1e-16))
    figure, _ = drawn(monkeypatch, night(rounded))
    assert figure.axes[0].containers[0].lines[0].get_ydata().tolist() == [1.0]


def test_attempts_are_ever_further_apart(run, monkeypatch):
    waits, asked = [], []
    monkeypatch.setattr(notification, "BACKOFF_S", 2.0)
    monkeypatch.setattr(notification, "sleep", waits.append)
    monkeypatch.setattr(notification, "_post", lambda url, message: asked.append(message) or "answered with 500")
    monkeypatch.setenv(WEBHOOK, "http://there")
    notify(scheduled_night, run, Failed())
    assert (waits, len(asked)) == ([2.0, 4.0, 8.0], 4)
    assert notification.TIMEOUT_S == 10.0


@pytest.mark.parametrize("pages", [None, "http://host:4200"])
def test_the_message_leads_to_the_run_where_there_are_pages(run, monkeypatch, pages):
    asked = []
    monkeypatch.setattr(notification, "get_current_settings", lambda: SimpleNamespace(ui_url=pages))
    monkeypatch.setattr(notification, "_post", lambda url, message: asked.append(message))
    monkeypatch.setenv(WEBHOOK, "http://there")
    notify(scheduled_night, run, Failed(message="why"))
    (message,) = asked
    page = pages and f"{pages}/runs/flow-run/{UUID}"
    assert message["url"] == page
    assert message["text"] == "nightstride, nightly 2025-01-21: Failed. why" + (f" {page}" if page else "")
    notify(scheduled_night, run, Failed())
    assert asked[1]["message"] == ""


@pytest.fixture
def left(monkeypatch):
    """What is left as artifacts: kind -> what it was given."""
    made = {}
    for kind in ("table", "markdown", "link", "image"):
        monkeypatch.setattr(
            notification,
            f"create_{kind}_artifact",
            lambda what, kind=kind, **given: made.setdefault(kind, (what, given)),
        )
    return made


def summary(**given):
    counts = {"seen": 1, "done": 1, "skipped": 0, "quarantined": 0, "failed": 0}
    values = {"exposures": counts, "windows": 9, "unscored": 1, "detections": 2, "not_run": {}, "seconds": {}}
    return RunSummary(**values, nights=("20250121",), **({"report": None} | given))


def test_artifacts_of_a_good_night_are_its_summary_page_and_depth(left):
    of_band = night(NONE, HALF).model_copy(update={"band": "r"})
    leave(summary(report="/srv/out/reports/20250121/index.html", injection=(night(HALF), of_band)), "The Night!", None)
    assert set(left) == {"table", "link", "image"}
    assert {given["key"] for _, given in left.values()} == {"the-night-summary", "the-night-page", "the-night-depth"}
    assert left["link"][0] == "file:///srv/out/reports/20250121/index.html"
    left.clear()
    leave(summary(injection=(of_band,)), "night", None)
    assert set(left) == {"table"}


@pytest.mark.parametrize("name", ["quarantined", "failed", "night_failed", "quality_failed", "alerts_failed"])
@pytest.mark.parametrize(("count", "lines"), [(1, 1), (notification.MOST, notification.MOST)])
def test_what_went_wrong_is_listed(left, name, count, lines):
    troubles = tuple(Trouble(uri="a", code=f"c{n}", message=f"{n} is_wrong") for n in range(count))
    leave(summary(**{name: troubles}), "night", None)
    text, given = left["markdown"]
    assert given["key"] == "night-troubles"
    assert text.splitlines() == [f"- `c{n}`: {n} is\\_wrong" for n in range(lines)]


def test_a_long_list_ends_with_how_many_more_there_are(left):
    count = notification.MOST + 2
    leave(summary(failed=tuple(Trouble(uri="a", code="c", message="m") for _ in range(count))), "night", None)
    lines = left["markdown"][0].splitlines()
    assert len(lines) == notification.MOST + 1
    assert lines[-1] == "- 2 more: `nightstride status OUT`"
