"""Alerts of a run, visit by visit: with brokers and databases that fail, processes that end, clocks that jump."""

import io
from collections import Counter
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic

import fastavro
import pytest
from rich.console import Console

from flows.nights.association import associate
from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Plan
from flows.publish import publish as module
from flows.publish.delivery import RecordedFolder
from flows.publish.outbox import opened_outbox
from flows.publish.publish import VisitAlerts, alert_packets
from flows.publish.published import NO_NIGHT
from flows.publish.rubin_schema import deserialise
from flows.publish.sinks import OwedVisits, Sent
from flows.runtime.log import report_line
from flows.storage.association_links import ExposureLinks
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.settings import Settings
from schemas.summary import AlertCounts, AlertLag
from tests.support.alert_night import MJD, NIGHT, info_of, places, put, rows_of, visit_of
from tests.support.cli import nightstride
from tests.support.services import association_database

pytest_plugins = ("tests.support.topic_fixture",)

DOWN = Retryable("kafka_down", "kafka://h/t", "is down.", "see to it.")


class Sinks:
    """Stands in for `opened_sink`: says what becomes of each attempt, and which they were."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def owed(self, _):
        return OwedVisits(None)

    def send(self, asked):
        self.asked += asked
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def alerts(tmp_path, monkeypatch):
    """Return a function that makes the alerts of a run whose sink gives some answers."""

    def make(*answers, say=lambda *_: None):
        sinks = Sinks(*answers)
        monkeypatch.setattr(module, "opened_sink", sinks)
        monkeypatch.setattr(module, "alert_packets", lambda *_, nights, visit, complete: [(nights.first, visit)])
        return VisitAlerts(tmp_path, Settings(alerts={"to": "kafka://h/t"}), say), sinks

    return make


EMPTY = summarise_run(Plan((), (), 0), NightTotals())


def test_alerts_of_visits_are_added_up_with_their_lag(alerts):
    made, sinks = alerts(Sent(2, 10, times=(105.0, 106.0)), Sent(1, 5, dead=1, held=3, times=(112.0,)))
    made.visit("20260101", 1, 100.0)
    made.visit("20260101", 2, 110.0)
    found = made.added_to(EMPTY)
    assert found.alerts == AlertCounts(sent=3, dead=1, held=3, lag_s=AlertLag(n=3, p50=5.0, p95=6.0, p99=6.0))
    assert (found.alerts_failed, found.exit_code) == ((), 0)
    assert sinks.asked == [("20260101", 1), ("20260101", 2)]
    assert made.added_to(EMPTY).alerts == AlertCounts()


def test_a_failure_fails_nothing_rests_and_is_tried_once_more(alerts):
    made, sinks = alerts(Sent(left=4, trouble=DOWN), Sent(4, kept=1, times=(120.0,)), Sent(5, times=(150.0,)))
    made.visit("20260101", 1, 100.0)
    made.visit("20260101", 2, 110.0)  # not tried: the broker was down a moment ago
    assert sinks.asked == [("20260101", 1)]
    found = made.added_to(EMPTY)
    assert sinks.asked[1:] == [("20260101", 1), ("20260101", 2)]
    assert (found.alerts.sent, found.alerts.left, found.alerts_failed, found.exit_code) == (9, 0, (), 0)
    assert found.alerts.lag_s == AlertLag(n=2, p50=20.0, p95=40.0, p99=40.0)  # those that came late, too


def test_what_could_not_be_sent_goes_with_the_next_visit_that_can(alerts, monkeypatch):
    made, sinks = alerts(Sent(left=4, trouble=DOWN), Sent(5), Sent(4))
    made.visit("20260101", 1, None)
    monkeypatch.setattr(module, "monotonic", lambda: monotonic() + module.REST_S)
    made.visit("20260101", 2, None)
    assert sinks.asked == [("20260101", one) for one in (1, 2, 1)]
    found = made.added_to(EMPTY)
    assert (found.alerts.sent, found.alerts.left, found.alerts_failed) == (9, 0, ())


def test_what_is_wrong_with_one_visit_is_told_and_its_broker_asked_for_the_next(alerts):
    made, sinks = alerts(BadInput("x", "visit 1", "z.", "w."), Sent(5))
    made.visit("20260101", 1, None)
    made.visit("20260101", 2, None)
    found = made.added_to(EMPTY)
    assert sinks.asked == [("20260101", 1), ("20260101", 2)]
    assert (found.alerts.sent, [one.code for one in found.alerts_failed]) == (5, ["x"])


@pytest.mark.parametrize("failure", [DOWN, BadInput("x", "y", "z.", "w."), RuntimeError("a defect")])
def test_what_succeeds_in_the_end_is_no_failure(alerts, monkeypatch, failure):
    made, _ = alerts(failure, Sent(4))
    made.visit("20260101", 1, None)
    monkeypatch.setattr(module, "monotonic", lambda: monotonic() + module.REST_S)
    made.visit("20260101", 1, None)
    found = made.added_to(EMPTY)
    assert (found.alerts.sent, found.alerts_failed) == (4, ())


@pytest.mark.parametrize("failure", [DOWN, BadInput("x", "y", "z.", "w."), RuntimeError("a defect")])
def test_what_goes_on_failing_is_told_by_the_summary_and_the_exit_code(alerts, failure):
    made, _ = alerts(failure, failure)
    made.visit("20260101", 1, None)
    found = made.added_to(EMPTY)
    assert len(found.alerts_failed) == 1
    assert "night 20260101" in found.alerts_failed[0].message
    assert found.exit_code == 1


@pytest.mark.parametrize("failure", [DOWN, RuntimeError("a defect")])
def test_a_visit_that_cannot_be_noted_is_searched_and_told(alerts, monkeypatch, failure):
    made, sinks = alerts()

    def fail(_):
        raise failure

    monkeypatch.setattr(sinks, "owed", fail)
    made.begin("20260101", 1)
    assert [one.uri for one in made.added_to(EMPTY.model_copy(update={"stopped": True})).alerts_failed] == [
        "alerts of night 20260101"
    ]


def test_a_run_that_is_stopped_does_not_wait_for_a_broker(alerts):
    made, sinks = alerts(Sent(left=4, trouble=DOWN))
    made.visit("20260101", 1, 100.0)
    found = made.added_to(EMPTY.model_copy(update={"stopped": True}))
    assert (len(sinks.asked), found.alerts.left, found.exit_code) == (1, 4, 1)


def test_what_is_not_sent_is_said_when_it_happens_also_on_a_quiet_console(alerts):
    text = io.StringIO()
    made, _ = alerts(
        Sent(3), Sent(left=4, trouble=DOWN), say=partial(report_line, Console(file=text, quiet=True, width=300))
    )
    made.visit("20260101", 1, None)
    assert text.getvalue() == ""
    made.visit("20260101", 2, None)
    assert text.getvalue().startswith("not sent: alerts of night 20260101: kafka://h/t: is down.")


def test_what_each_attempt_finds_again_counts_once(alerts):
    made, _ = alerts(Sent(2, dead=1, held=3, left=4, trouble=DOWN), Sent(4, dead=1, held=3))
    made.visit("20260101", 1, None)
    assert made.added_to(EMPTY).alerts == AlertCounts(sent=6, dead=1, held=3)


def test_what_a_broker_that_is_down_does_not_take_stays_owed(tmp_path):
    out, settings = tmp_path / "out", settings_to(tmp_path / "sink")
    published(out, 0, detectors=1)
    run = run_of(out, settings)
    run.begin(NIGHT, visit_of(0))
    associate(out, settings.association, {NIGHT})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RecordedFolder, "send", lambda *_: Sent(trouble=DOWN))
        run.visit(NIGHT, visit_of(0), None)
    assert run_of(out, settings).added_to(EMPTY).alerts.sent == 6


def test_a_refusal_is_told_unless_the_night_has_no_results(alerts, monkeypatch):
    for code, told in (("apart", ["apart"]), (NO_NIGHT, [])):
        made, _ = alerts(Sent(), Sent())

        def refused(*_, code=code, **__):
            raise Misconfigured(code, "here", "is not so.", "change it.")
            yield

        monkeypatch.setattr(module, "alert_packets", refused)
        made.visit("20260101", 1, None)
        assert [one.code for one in made.added_to(EMPTY).alerts_failed] == told


def test_nights_add_up(alerts):
    one = EMPTY.model_copy(update={"alerts": AlertCounts(sent=2, lag_s=AlertLag(n=2, p50=1, p95=2, p99=2))})
    other = EMPTY.model_copy(update={"alerts": AlertCounts(sent=5, left=1, lag_s=AlertLag(n=5, p50=3, p95=4, p99=4))})
    assert combined([one, EMPTY, other]).alerts == AlertCounts(sent=7, left=1, lag_s=other.alerts.lag_s)
    assert combined([EMPTY, EMPTY]).alerts is None


def test_visits_that_end_together_are_sent_one_after_the_other(alerts):
    made, sinks = alerts(*[Sent(1) for _ in range(8)])
    threads = [Thread(target=made.visit, args=("20260101", number, None)) for number in range(8)]
    begun = monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert monotonic() - begun < 10
    assert sorted(visit for _, visit in sinks.asked) == list(range(8))
    assert made.added_to(EMPTY).alerts.sent == 8


def test_a_place_that_is_none_is_refused_when_the_run_begins(tmp_path):
    with pytest.raises(Misconfigured, match="is not a URL of a topic"):
        VisitAlerts(tmp_path, Settings(alerts={"to": "kafka://h"}), lambda *_: None)
    with opened_outbox(tmp_path):
        pass


def published(out, *visits, night=NIGHT, count=6, detectors=3, hours=None):
    """Publish visits to one field, as the workers of a run do, but for their association and alerts."""
    x, y = places(count, (280, 300))
    for n in visits:
        when = MJD + (n / 48 if hours is None else hours[n] / 24)
        for detector in range(detectors):
            info = info_of(n, detector, planes=(), night=night, midpoint_mjd_tai=when)
            put(out, info, rows_of(info, x, y))


def settings_to(to, store="auto", **alerts):
    return Settings(alerts={"to": str(to), **alerts}, association={"store": store})


def run_of(out, settings):
    return VisitAlerts(out, settings, lambda *_: None)


def alerts_in(folder):
    found = []
    for path in sorted(Path(folder).glob("*.avro")):
        with path.open("rb") as file:
            found += fastavro.reader(file)
    return found


def ids_of(visits, count=6, detectors=3):
    return sorted(
        (visit_of(n) << 21) | (d << 12) | rank for n in visits for d in range(detectors) for rank in range(count)
    )


def test_what_a_run_that_was_killed_owed_the_next_one_sends(tmp_path):
    out, sink = tmp_path / "out", tmp_path / "sink"
    settings, killed = settings_to(sink), run_of(tmp_path / "out", settings_to(tmp_path / "sink"))
    for n in range(3):
        killed.begin(NIGHT, visit_of(n))
    published(out, 0, 1)  # the third visit is searched when the process is killed, the second has just been published
    associate(out, settings.association, {NIGHT})
    killed.visit(NIGHT, visit_of(0), None)
    assert [path.name for path in sink.iterdir()] == [f"{visit_of(0)}.avro"]
    found = run_of(out, settings).added_to(EMPTY)
    assert (found.alerts.sent, found.alerts_failed) == (18, ())
    assert sorted(one["diaSourceId"] for one in alerts_in(sink)) == ids_of((0, 1))
    assert run_of(out, settings).added_to(EMPTY).alerts == AlertCounts()
    published(out, 2)
    resumed = run_of(out, settings)
    resumed.begin(NIGHT, visit_of(2))
    associate(out, settings.association, {NIGHT})
    resumed.visit(NIGHT, visit_of(2), None)
    assert sorted(one["diaSourceId"] for one in alerts_in(sink)) == ids_of((0, 1, 2))
    assert resumed.added_to(EMPTY).alerts.sent == 18


def test_a_stream_that_begins_again_sends_what_was_owed_with_its_first_visit(tmp_path):
    out, settings = tmp_path / "out", settings_to(tmp_path / "sink")
    published(out, 0, 1)
    run_of(out, settings).begin(NIGHT, visit_of(0))
    again = run_of(out, settings)
    again.begin(NIGHT, visit_of(1))
    associate(out, settings.association, {NIGHT})
    again.visit(NIGHT, visit_of(1), None)
    assert sorted(one["diaSourceId"] for one in alerts_in(tmp_path / "sink")) == ids_of((0, 1))


def test_an_exposure_that_is_not_associated_waits_for_its_objects(tmp_path):
    out, settings = tmp_path / "out", settings_to(tmp_path / "sink")
    published(out, 0, 1, detectors=1)
    run = run_of(out, settings)
    run.visit(NIGHT, visit_of(0), 0.0)
    assert alerts_in(tmp_path / "sink") == []
    assert run.added_to(EMPTY.model_copy(update={"stopped": True})).alerts_failed[0].code == "not_associated"
    run.visit(NIGHT, visit_of(1), 0.0)
    associate(out, settings.association, {NIGHT})
    record = Ledger(out).get(info_of(1))
    renewed = record.datasets["dia_source"].model_copy(update={"digest": "another search"})
    Ledger(out).put(record.model_copy(update={"datasets": {"dia_source": renewed}}))
    found = run.added_to(EMPTY)  # the second has changed since
    assert (found.alerts.sent, [one.code for one in found.alerts_failed]) == (0, ["not_associated"])
    associate(out, settings.association, {NIGHT})
    run.visit(NIGHT, visit_of(1), 0.0)
    assert {one["diaSource"]["diaObjectId"] is None for one in alerts_in(tmp_path / "sink")} == {False}


def test_a_visit_of_which_nothing_was_published_is_not_owed_for_ever(tmp_path):
    settings, run = settings_to(tmp_path / "sink"), run_of(tmp_path / "out", settings_to(tmp_path / "sink"))
    run.begin("20270101", 5)
    published(tmp_path / "out", 0)
    run.begin(NIGHT, visit_of(7))
    associate(tmp_path / "out", settings.association, {NIGHT})
    found = run.added_to(EMPTY)
    assert (found.alerts, found.alerts_failed) == (AlertCounts(), ())
    with opened_outbox(tmp_path / "out") as box:
        assert all("owed" not in states for states in box.counts().values())


def status_of(out):
    found = nightstride("alerts", "status", out, "--json")
    return found.code, [(one["visit"], one["code"]) for one in found.summary["given_up"]], found.stderr


def test_a_visit_that_cannot_be_associated_is_told_once_listed_and_sent_when_it_can(tmp_path, monkeypatch):
    out, settings = tmp_path / "out", settings_to(tmp_path / "sink")
    published(out, 0, 1, detectors=2)
    own = ExposureLinks.associate

    def refuses(links, *given):
        if links._key.name == info_of(1).name:
            raise BadInput("no_id_left", "exposure 101-0", "has no id left.", "rebuild.")
        return own(links, *given)

    run = run_of(out, settings)
    for n in (0, 1):
        run.begin(NIGHT, visit_of(n))
    with monkeypatch.context() as patch:
        patch.setattr(ExposureLinks, "associate", refuses)
        associate(out, settings.association, {NIGHT})
        for n in (0, 1):
            run.visit(NIGHT, visit_of(n), None)
        told = run.added_to(EMPTY)
        assert (told.alerts.sent, [one.code for one in told.alerts_failed]) == (18, ["no_id_left"])
        assert "Given up until its exposures or their association change; `nightstride alerts publish" in str(
            told.alerts_failed[0].message
        )
        for _ in range(2):  # as it was
            associate(out, settings.association, {NIGHT})
            again = run_of(out, settings).added_to(EMPTY)
            assert (again.alerts, again.alerts_failed) == (AlertCounts(), ())
        code, given_up, said = status_of(out)
        assert (code, given_up) == (3, [(visit_of(1), "no_id_left")])
        assert f"given up: visit {visit_of(1)} of night {NIGHT}" in said
    associate(out, settings.association, {NIGHT})
    found = run_of(out, settings).added_to(EMPTY)
    assert (found.alerts.sent, found.alerts_failed) == (6, ())
    alerts = alerts_in(tmp_path / "sink")
    assert sorted(one["diaSourceId"] for one in alerts) == ids_of((0, 1), detectors=2)
    assert {one["diaSource"]["diaObjectId"] is None for one in alerts} == {False}
    assert status_of(out)[:2] == (0, [])


def test_a_visit_with_a_damaged_catalogue_is_given_up_until_it_is_asked_for_or_searched_again(tmp_path):
    out, settings = tmp_path / "out", settings_to(tmp_path / "sink")
    published(out, 0, 1, detectors=2)
    path = CatalogStore(out).path(DIA_SOURCE, info_of(1))
    whole = path.read_bytes()
    path.write_bytes(b"no Parquet")
    associate(out, settings.association, {NIGHT})
    run = run_of(out, settings)
    run.begin(NIGHT, visit_of(1))
    run.visit(NIGHT, visit_of(1), None)
    told = run.added_to(EMPTY)
    assert (told.alerts.sent, [one.code for one in told.alerts_failed]) == (6, ["unreadable_catalogue"])
    assert run_of(out, settings).added_to(EMPTY).alerts_failed == ()
    publish = ("alerts", "publish", out, "--to", tmp_path / "sink", "--json")
    assert nightstride(*publish).code == 1
    assert status_of(out)[:2] == (3, [(visit_of(1), "unreadable_catalogue")])
    path.write_bytes(whole)  # from a backup: what was recorded of it is the same
    associate(out, settings.association, {NIGHT})
    assert nightstride(*publish, "--visit", visit_of(0)).code == 0
    assert status_of(out)[0] == 3  # nothing was asked of the other
    assert nightstride(*publish).code == 0
    assert status_of(out)[:2] == (0, [])
    assert sorted(one["diaSourceId"] for one in alerts_in(tmp_path / "sink")) == ids_of((0, 1), detectors=2)


@pytest.fixture(scope="module")
def database():
    """A server that a test stops and starts, and the URL of its database."""
    with association_database() as (server, url), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", server.folder.database_password)
        yield server, url


@pytest.mark.slow
@pytest.mark.services
def test_a_database_that_stops_in_the_middle_of_a_visit_loses_and_doubles_nothing(
    tmp_path, database, url, reader, monkeypatch
):
    (server, store), out = database, tmp_path / "out"
    settings, told = settings_to(url, store), []
    published(out, 0, 1, 2)
    run = VisitAlerts(out, settings, lambda text, _: told.append(text))
    for n in range(3):
        run.begin(NIGHT, visit_of(n))
    assert associate(out, settings.association, {NIGHT}).digests is not None
    run.visit(NIGHT, visit_of(0), None)

    def stops(*given, **named):
        for number, packet in enumerate(alert_packets(*given, **named)):
            yield packet
            if number == 7:  # of the second exposure of three
                server.stop()

    with monkeypatch.context() as patch:
        patch.setattr(module, "alert_packets", stops)
        patch.setattr("flows.publish.kafka_sink.AT_ONCE", 4)
        run.visit(NIGHT, visit_of(1), None)
    assert associate(out, settings.association, {NIGHT}).digests is None
    run.visit(NIGHT, visit_of(2), None)
    assert "association_down" in {one.code for one in run.added_to(EMPTY).alerts_failed}
    reader.until(30)
    assert reader.take(0.5) == 30  # two exposures of the second visit were packaged
    server.start()
    assert associate(out, settings.association, {NIGHT}).digests is not None
    found = run_of(out, settings).added_to(EMPTY)
    assert (found.alerts.sent, found.alerts.left, found.alerts_failed) == (24, 0, ())
    times = Counter(int(message.key()) for message in reader.until(54))
    assert reader.take(0.5) == 54
    assert sorted(times) == ids_of(range(3))
    assert set(times.values()) == {1}
    for message in reader.messages:
        assert deserialise(message.value()[5:], "11.1")["diaObject"] is not None
    assert run_of(out, settings).added_to(EMPTY).alerts == AlertCounts()


def test_visits_whose_time_runs_back_have_the_alerts_they_would_have_in_order(tmp_path, monkeypatch):
    """A visit after another may have been before it: its clock was wrong, or its files came late."""
    hours, jumps = {0: 5.0, 1: 1.0, 2: 3.0, 3: 3.0}, iter([4e9, 10.0, 3e9, -5.0] * 50)
    monkeypatch.setattr("flows.publish.outbox.time", lambda: next(jumps))
    out, settings = tmp_path / "out", settings_to(tmp_path / "sink")
    run = run_of(out, settings)
    for n in range(4):
        published(out, n, detectors=1, hours=hours)
        run.begin(NIGHT, visit_of(n))
        associate(out, settings.association, {NIGHT})
        run.visit(NIGHT, visit_of(n), 0.0)
    assert run.added_to(EMPTY).alerts.sent == 24
    found = alerts_in(tmp_path / "sink")
    assert sorted(one["diaSourceId"] for one in found) == ids_of(range(4), detectors=1)
    before = {n: [m for m in range(n) if hours[m] < hours[n]] for n in range(4)}  # known then, and earlier
    for alert in found:
        n = alert["diaSource"]["visit"] - visit_of(0)
        times = [one["midpointMjdTai"] for one in alert["prvDiaSources"] or []]
        assert times == sorted(times)
        assert [one["visit"] for one in alert["prvDiaSources"] or []] == [
            visit_of(m) for m in sorted(before[n], key=hours.get)
        ]
        assert all(one < alert["diaSource"]["midpointMjdTai"] for one in times)
    assert len({alert["diaObject"]["diaObjectId"] for alert in found}) == 6
    assert run_of(out, settings).added_to(EMPTY).alerts == AlertCounts()


def test_the_first_time_that_a_visit_ended_counts(alerts):
    made, _ = alerts(Sent(left=1, trouble=DOWN), Sent(1, times=(130.0,)))
    made.visit("20260101", 1, 100.0)
    made.visit("20260101", 1, 120.0)
    assert made.added_to(EMPTY).alerts.lag_s.p50 == 30.0


def test_alerts_in_ztfs_form_need_no_schema_of_rubins(tmp_path, monkeypatch):
    def unread(version):
        raise AssertionError(version)

    monkeypatch.setattr(module, "parsed", unread)
    VisitAlerts(tmp_path, Settings(alerts={"to": str(tmp_path / "sent"), "form": "ztf"}), lambda *_: None)
    with pytest.raises(AssertionError, match=r"11\.1"):
        VisitAlerts(tmp_path, Settings(alerts={"to": str(tmp_path / "sent")}), lambda *_: None)
