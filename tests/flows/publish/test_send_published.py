"""Alerts that are published by hand, of visits that a run has left owed."""

from types import SimpleNamespace

from flows.nights.association import associate
from flows.publish import publish as module
from flows.publish.delivery import opened_sink
from flows.publish.outbox import opened_outbox
from flows.publish.publish import PublishTotals, alert_packets
from flows.publish.sinks import Sent
from flows.storage.catalog_store import CatalogStore
from flows.storage.lease import lease
from schemas.dia_source import DIA_SOURCE
from schemas.night_range import EVERY_NIGHT
from schemas.summary import AlertCounts
from tests.flows.publish.test_visit_alerts import (
    DOWN,
    EMPTY,
    alerts_in,
    ids_of,
    published,
    run_of,
    settings_to,
    status_of,
)
from tests.support.alert_night import NIGHT, info_of, visit_of
from tests.support.cli import nightstride

pytest_plugins = ("tests.support.topic_fixture",)


def by_hand(out, to, *more, **environment):
    done = nightstride("alerts", "publish", out, "--to", to, *more, "--json", **environment)
    return done.code, done.summary["alerts"]


def owed_in(out):
    with opened_outbox(out) as box:
        return sum(states.get("owed", 0) for states in box.counts().values())


def owing(out, url, *visits, detectors=3):
    """Leave visits published and owed, as a run does that is killed before it sends; return its settings."""
    settings = settings_to(url)
    run = run_of(out, settings)
    for n in visits:
        run.begin(NIGHT, visit_of(n))
    published(out, *visits, detectors=detectors)
    associate(out, settings.association, {NIGHT})
    return settings


def test_what_is_owed_and_sent_by_hand_is_owed_no_more_and_sent_once(tmp_path, url, reader):
    out = tmp_path / "out"
    settings = owing(out, url, 0, 1)
    assert by_hand(out, url, "--visit", visit_of(0)) == (0, 18)
    assert owed_in(out) == 1  # the other was not asked for
    assert by_hand(out, url, "--night", NIGHT) == (0, 18)
    assert status_of(out)[:2] == (0, [])
    assert run_of(out, settings).added_to(EMPTY).alerts == AlertCounts()
    assert sorted(int(one.key()) for one in reader.until(36)) == ids_of((0, 1))
    assert reader.take(0.5) == 36


def test_what_is_not_sent_by_hand_stays_owed(tmp_path):
    out, down = tmp_path / "out", "kafka://127.0.0.1:1/alerts"
    owing(out, down, 0)
    assert by_hand(out, down, NIGHTSTRIDE_ALERTS__KAFKA__DELIVERY_TIMEOUT_S="1") == (1, 0)
    assert owed_in(out) == 1


def test_nothing_is_settled_after_a_failure_even_if_all_that_was_taken_has_arrived(tmp_path):
    out, to = tmp_path / "out", str(tmp_path / "sink")
    settings = owing(out, to, 0, detectors=1)
    with opened_sink(to, out, settings.alerts) as sink:
        fails = SimpleNamespace(
            owed=sink.owed, wanted=sink.wanted, send=lambda packets: Sent(bool(next(packets)), trouble=DOWN)
        )
        sent = module.send_published(fails, out, settings, "11.1", PublishTotals(), EVERY_NIGHT, None)
    assert (sent.left, sent.trouble, owed_in(out)) == (0, DOWN, 1)


def test_a_night_that_was_not_asked_for_stays_owed(tmp_path):
    out, sink = tmp_path / "out", tmp_path / "sink"
    run_of(out, owing(out, sink, 0, detectors=1)).begin("20270101", 5)
    assert by_hand(out, sink, "--night", NIGHT) == (0, 6)
    assert owed_in(out) == 1


def test_what_a_run_still_searches_stays_owed_by_it(tmp_path, url, reader):
    out = tmp_path / "out"
    with lease(out):
        settings = owing(out, url, 0, detectors=1)
        assert by_hand(out, url) == (0, 6)
        assert owed_in(out) == 1
        published(out, 0)  # the other two detectors; then it is killed
    associate(out, settings.association, {NIGHT})
    assert run_of(out, settings).added_to(EMPTY).alerts.sent == 12
    assert sorted(int(one.key()) for one in reader.until(18)) == ids_of((0,))
    assert owed_in(out) == 0


def test_a_visit_that_begins_again_while_it_is_sent_by_hand_stays_owed(tmp_path, url, monkeypatch):
    out = tmp_path / "out"
    run = run_of(out, owing(out, url, 0))

    def begun_again(*given, **named):
        run.begin(NIGHT, visit_of(0))
        return alert_packets(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, "alert_packets", begun_again)
        assert by_hand(out, url) == (0, 18)
    assert owed_in(out) == 1
    assert by_hand(out, url) == (0, 0)
    assert owed_in(out) == 0


def test_what_is_owed_and_cannot_be_sent_by_hand_either_is_given_up(tmp_path):
    out, sink = tmp_path / "out", tmp_path / "sink"
    settings = owing(out, sink, 0, 1, detectors=1)
    CatalogStore(out).path(DIA_SOURCE, info_of(1)).write_bytes(b"no Parquet")
    assert by_hand(out, sink) == (1, 6)
    assert status_of(out)[:2] == (3, [(visit_of(1), "unreadable_catalogue")])
    told = run_of(out, settings).added_to(EMPTY)
    assert (told.alerts, told.alerts_failed) == (AlertCounts(), ())


def test_a_container_with_alerts_of_an_exposure_that_cannot_be_read_is_kept(tmp_path):
    """It was replaced by one without them."""
    out, sink = tmp_path / "out", tmp_path / "sink"
    owing(out, sink, 0, detectors=2)
    assert by_hand(out, sink) == (0, 12)
    container = sink / f"{visit_of(0)}.avro"
    whole, path = container.read_bytes(), CatalogStore(out).path(DIA_SOURCE, info_of(0, detector=1))
    catalogue = path.read_bytes()
    path.write_bytes(b"no Parquet")
    for schema, kept in (("11.1", 6), ("ztf", 0)):
        done = nightstride("alerts", "publish", out, "--to", sink, "--schema", schema, "--json")
        counts = [done.summary[name] for name in ("alerts", "kept", "left", "exposures_failed")]
        assert (done.code, counts) == (1, [0, kept, 6 - kept, 1])
        assert container.read_bytes() == whole
    path.write_bytes(catalogue)
    assert by_hand(out, sink, "--schema", "ztf") == (0, 12)
    path.write_bytes(b"no Parquet")
    ztf = container.read_bytes()
    assert by_hand(out, sink) == (1, 0)
    assert container.read_bytes() == ztf
    container.write_bytes(ztf[:1000])  # damaged: there is nothing to keep
    by_hand(out, sink)
    assert {alert["diaSource"]["detector"] for alert in alerts_in(sink)} == {0}
