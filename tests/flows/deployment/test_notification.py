import logging

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Crashed, Failed
from prefect.types._datetime import now

from flows.deployment import notification
from flows.deployment.notification import WEBHOOK, notify
from flows.deployment.scheduled_night import NO_EXPOSURES, QUARANTINED, scheduled_night
from tests.flows.deployment.webhook import webhook

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
