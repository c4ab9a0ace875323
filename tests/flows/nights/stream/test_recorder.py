import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.nights.progress import StreamProgress
from flows.nights.stream import recorder as stream_book
from flows.nights.stream.recorder import StreamRecorder
from flows.pipeline.outcome import Outcome
from flows.pipeline.plan import Item, Plan
from schemas.errors import Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import Trouble

NIGHT = "20260101"


@pytest.fixture
def book(tmp_path):
    return StreamRecorder("in", tmp_path, Settings(), StreamProgress(Console(file=io.StringIO())))


def item(visit):
    return Item(Source(f"{visit}.fits"), ExposureKey(night=NIGHT, visit=visit, detector=0), None)


def done(visit, lag=None):
    closed = None if lag is None else datetime.now(UTC) - timedelta(seconds=lag)
    return Outcome(item(visit), "done", 10, 1, 2, {"detect": 0.5}, shutter_closed=closed)


def test_everything_is_counted_once(book):
    trouble = Trouble(uri="x", code="deadline", message="late")
    book.planned(Plan((item(1), item(2)), (), 3, (Trouble(uri="y", code="bad", message="bad"),)))
    book.finished(done(1, lag=100.0), 5.0)
    book.finished(Outcome(item(2), "failed", trouble=trouble), 50.0)
    summary = book.summary()
    assert summary.exposures.model_dump() == {"seen": 6, "done": 1, "skipped": 3, "quarantined": 1, "failed": 1}
    assert (summary.windows, summary.detections, summary.seconds) == (10, 2, {"detect": 0.5})
    assert summary.failed == (trouble,)
    assert summary.nights == (NIGHT,)
    record = book.record("running", 4, 7)
    assert (record.on_the_way, record.waiting, record.exposures) == (4, 7, summary.exposures)
    assert record.turnaround_s.n == record.lag_s.n == 1  # of published exposures alone
    assert (record.turnaround_s.p99, record.lag_s.p50) == (5.0, pytest.approx(100.0, abs=30))


def test_nights_are_brought_together_once_and_pages_drawn_where_something_changed(book, monkeypatch):
    drawn, asked = [], []

    def with_catalogues(summary, *_):
        asked.extend(summary.nights)
        return summary.model_copy(update={"catalogues": {"object": 3}})

    monkeypatch.setattr(stream_book, "with_catalogues", with_catalogues)
    monkeypatch.setattr("flows.results.page.page.write_report", lambda out, night: drawn.append(night) or out / night)
    book.finished(done(1), 1.0)
    book.bring_together()
    book.bring_together()
    assert (asked, drawn) == ([NIGHT], [NIGHT])
    assert book.summary().catalogues == {"object": 3}
    book.finished(done(2), 1.0)
    book.bring_together()
    assert asked == [NIGHT, NIGHT]
    assert book.summary().catalogues == {"object": 3}


def test_no_page_is_a_warning(book, monkeypatch):
    def broken(*_):
        raise ValueError("no ink")

    monkeypatch.setattr(stream_book, "with_catalogues", lambda summary, *_: summary)
    monkeypatch.setattr("flows.results.page.page.write_report", broken)
    book.finished(done(1), 1.0)
    book.bring_together()
    assert "no ink" in book.summary().warnings[0]


@pytest.mark.parametrize(("kind", "times"), [(Retryable, 2), (Misconfigured, 1)])
def test_a_night_that_cannot_be_brought_together_ends_nothing(book, monkeypatch, kind, times):
    """What may succeed later is tried again, and then counted no more."""
    asked = []

    def failing(summary, *_):
        asked.extend(summary.nights)
        raise kind("full", "disk", "is full.", "make room.")

    monkeypatch.setattr(stream_book, "with_catalogues", failing)
    monkeypatch.setattr("flows.results.page.page.write_report", lambda out, night: out / night)
    book.finished(done(1), 1.0)
    book.bring_together()
    book.bring_together()
    assert asked == [NIGHT] * times
    assert [(one.uri, one.code) for one in book.summary().night_failed] == [(f"night {NIGHT}", "full")]
    assert book.summary().exit_code == 1
    monkeypatch.setattr(stream_book, "with_catalogues", lambda summary, *_: summary)
    book.finished(done(2), 1.0)
    book.bring_together()
    assert book.summary().night_failed == ()
