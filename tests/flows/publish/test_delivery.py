from pathlib import Path
from threading import Thread
from time import monotonic

import fastavro
import pytest

from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Plan
from flows.publish import publish as module
from flows.publish.delivery import opened_sink, replay
from flows.publish.outbox import OwedVisits, opened_outbox
from flows.publish.publish import VisitAlerts
from flows.publish.sinks import Sent
from flows.storage.bucket_path import located
from schemas.alert_settings import AlertSettings
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.settings import Settings
from schemas.summary import AlertCounts, AlertLag
from tests.support.packets import packets

DOWN = Retryable("kafka_down", "kafka://h/t", "is down.", "see to it.")


def read(folder):
    found = {}
    for path in sorted(Path(folder).glob("*.avro")):
        with path.open("rb") as file:
            found[path.name] = [record["diaSourceId"] for record in fastavro.reader(file)]
    return found


def send(to, out, count, settings=None, **options):
    with opened_sink(str(to), out, settings or AlertSettings()) as sink:
        return sink.send(packets(count, first=1, **options))


def test_a_container_is_written_whole_and_its_alerts_are_recorded(tmp_path):
    sink = tmp_path / "sink"
    sent = send(sink, tmp_path / "out", 450)
    assert (sent.alerts, sent.kept, sent.exit_code) == (450, 0, 0)
    assert len(sent.times) == 450
    assert read(sink) == {"77.avro": list(range(1, 451))}
    before = (sink / "77.avro").read_bytes()
    again = send(sink, tmp_path / "out", 450)
    assert (again.alerts, again.kept) == (0, 450)
    assert (sink / "77.avro").read_bytes() == before


def test_a_visit_that_is_searched_again_replaces_its_container(tmp_path):
    sink = tmp_path / "sink"
    send(sink, tmp_path / "out", 3)
    anew = send(sink, tmp_path / "out", 2, made_from="another search", snr=8.0)
    assert (anew.alerts, anew.kept, anew.held) == (2, 0, 0)
    assert read(sink) == {"77.avro": [1, 2]}


def test_a_container_that_cannot_be_finished_leaves_the_one_before_and_marks_nothing(tmp_path):
    sink, out = tmp_path / "sink", tmp_path / "out"
    send(sink, out, 3)

    def broken():
        yield from packets(505, first=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), opened_sink(str(sink), out, AlertSettings()) as opened:
        opened.send(broken())
    assert read(sink) == {"77.avro": [1, 2, 3]}
    with opened_sink(str(sink), out, AlertSettings()) as opened:
        assert opened.owed("11.1").all() == {("20260102", 77)}
    assert (send(sink, out, 505).alerts, read(sink)) == (502, {"77.avro": list(range(1, 506))})


def test_without_an_outbox_folders_are_written_and_topics_are_refused(tmp_path):
    out = located("s3://bucket/out")
    assert send(tmp_path / "sink", out, 3).alerts == 3
    with (
        pytest.raises(Misconfigured, match=r"alerts\.outbox") as caught,
        opened_sink("kafka://h:1/t", out, AlertSettings()),
    ):
        pass
    assert caught.value.code == "outbox_in_bucket"
    elsewhere = AlertSettings(outbox=tmp_path / "box.sqlite")
    assert send(tmp_path / "sink", out, 4, elsewhere).alerts == 4
    assert send(tmp_path / "sink", out, 4, elsewhere).kept == 4


@pytest.mark.parametrize("to", ["ftp://host/x", "s3://", "kafka://host", "kafka://user:pass@host/t"])
def test_a_sink_that_is_none_is_refused(tmp_path, to):
    with pytest.raises(Misconfigured), opened_sink(to, tmp_path, AlertSettings()):
        pass


def test_letters_go_to_topics_only(tmp_path):
    with pytest.raises(Misconfigured, match="is no topic"):
        replay(tmp_path, str(tmp_path / "folder"), AlertSettings())


@pytest.mark.parametrize("code", ["alert_schema", "no_ztf_form"])
def test_what_was_never_made_into_a_message_is_not_replayed(tmp_path, code):
    url = "kafka://127.0.0.1:9/alerts"
    (one,) = packets(1)
    with opened_sink(url, tmp_path, AlertSettings()) as sink:
        sink.bury(one, BadInput(code, "alert", "is none.", "make it anew."))
    found, sent = replay(tmp_path, url, AlertSettings())
    assert (found.letters, found.sent, found.left, sent.trouble) == (0, 0, 0, None)
    with opened_outbox(tmp_path) as outbox:
        assert [letter.code for letter in outbox.letters()] == [code]


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

    def make(*answers):
        sinks = Sinks(*answers)
        monkeypatch.setattr(module, "opened_sink", sinks)
        monkeypatch.setattr(module, "alert_packets", lambda *_, night, visit, complete: [(night, visit)])
        return VisitAlerts(tmp_path, Settings(alerts={"to": "kafka://h/t"}), lambda _: None), sinks

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
def test_what_goes_on_failing_is_told_by_the_summary_and_the_exit_code(alerts, failure):
    made, _ = alerts(failure, failure)
    made.visit("20260101", 1, None)
    found = made.added_to(EMPTY)
    assert len(found.alerts_failed) == 1
    assert "night 20260101" in found.alerts_failed[0].message
    assert found.exit_code == 1


def test_a_run_that_is_stopped_does_not_wait_for_a_broker(alerts):
    made, sinks = alerts(Sent(left=4, trouble=DOWN))
    made.visit("20260101", 1, 100.0)
    found = made.added_to(EMPTY.model_copy(update={"stopped": True}))
    assert (len(sinks.asked), found.alerts.left, found.exit_code) == (1, 4, 1)


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
    with pytest.raises(Misconfigured, match="is no URL of a topic"):
        VisitAlerts(tmp_path, Settings(alerts={"to": "kafka://h"}), lambda _: None)
    with opened_outbox(tmp_path):
        pass
