import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.nights.meter import Meter
from flows.nights.progress import StreamProgress
from flows.nights.stream import stream
from flows.nights.stream.stream import StreamRecorder
from flows.pipeline.outcome import Item, Outcome, Plan, PublishedExposure
from schemas.errors import Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import Trouble

NIGHT = "20260101"


@pytest.fixture
def stream_recorder(tmp_path):
    return StreamRecorder("in", tmp_path, Settings(), StreamProgress(Console(file=io.StringIO())))


def item(visit):
    return Item(Source(f"{visit}.fits"), ExposureKey(night=NIGHT, visit=visit, detector=0), None)


def done(visit, lag=None):
    closed = None if lag is None else datetime.now(UTC) - timedelta(seconds=lag)
    return Outcome(item(visit), "done", 10, 1, 2, {"detect": 0.5}, exposure_ended=closed)


def test_everything_is_counted_once(stream_recorder):
    trouble = Trouble(uri="x", code="deadline", message="late")
    stream_recorder.planned(Plan((item(1), item(2)), (), 3, (Trouble(uri="y", code="bad", message="bad"),)))
    stream_recorder.finished(done(1, lag=100.0), 5.0)
    stream_recorder.finished(Outcome(item(2), "failed", trouble=trouble), 50.0)
    summary = stream_recorder.summary()
    assert summary.exposures.model_dump() == {"seen": 6, "done": 1, "skipped": 3, "quarantined": 1, "failed": 1}
    assert (summary.windows, summary.detections, summary.seconds) == (10, 2, {"detect": 0.5})
    assert summary.failed == (trouble,)
    assert summary.nights == (NIGHT,)
    record = stream_recorder.record("running", 4, 7)
    assert (record.on_the_way, record.waiting, record.exposures) == (4, 7, summary.exposures)
    assert record.turnaround_s.n == record.lag_s.n == 1  # of published exposures alone
    assert (record.turnaround_s.p99, record.lag_s.p50) == (5.0, pytest.approx(100.0, abs=30))


def test_quarantines_are_said_as_they_happen_and_forgotten_when_they_are_mended(tmp_path):
    text = io.StringIO()
    recorder = StreamRecorder("in", tmp_path, Settings(), StreamProgress(Console(file=text, width=200)))
    bad = tuple(Trouble(uri=f"{n}.fits", code="bad", message=f"{n}.fits: is bad.") for n in (1, 2))
    recorder.planned(Plan((), (), 0, bad))
    assert text.getvalue().splitlines() == ["quarantined: 1.fits: is bad.", "quarantined: 2.fits: is bad."]
    recorder.planned(Plan((), (), 0, bad[:1]))  # delivered again, and as bad as before
    assert recorder.summary().exposures.model_dump() == {
        "seen": 2, "done": 0, "skipped": 0, "quarantined": 2, "failed": 0,
    }  # fmt: skip
    recorder.planned(Plan((item(1),), (), 0))
    recorder.finished(done(1), 1.0)
    summary = recorder.summary()
    assert summary.exposures.model_dump() == {"seen": 2, "done": 1, "skipped": 0, "quarantined": 1, "failed": 0}
    assert summary.quarantined == bad[1:]
    assert recorder.record("running", 0, 0).exposures.quarantined == 1
    assert text.getvalue().splitlines()[3:] == ["out of quarantine: 1.fits is searched now"]
    recorder.planned(Plan((), (PublishedExposure(item(2).key, "2.fits", source=item(2).source),), 1))  # as it was
    summary = recorder.summary()
    assert summary.exposures.model_dump() == {"seen": 2, "done": 1, "skipped": 1, "quarantined": 0, "failed": 0}
    assert text.getvalue().splitlines()[4:] == ["out of quarantine: 2.fits is published"]


def test_a_file_in_quarantine_that_is_deleted_does_not_count(tmp_path):
    text = io.StringIO()
    recorder = StreamRecorder("in", tmp_path, Settings(), StreamProgress(Console(file=text, width=400)))
    files = [tmp_path / f"{n}.fits" for n in (1, 2)]
    for file in files:
        file.write_text("no image")
    bad = tuple(Trouble(uri=str(file), code="bad", message="is bad.") for file in files)
    recorder.planned(Plan((), (), 0, bad))
    recorder.settle()
    assert recorder.summary().exposures.quarantined == 2
    files[0].unlink()
    recorder.settle()
    assert (recorder.summary().exposures.quarantined, recorder.summary().quarantined) == (1, bad[1:])
    assert text.getvalue().splitlines()[2:] == [f"out of quarantine: {files[0]} is gone"]


def counted(meter):
    name = "nightstride_exposures_total"
    states = ("done", "skipped", "quarantined", "failed")
    return {state: int(meter.registry.get_sample_value(name, {"state": state})) for state in states}


def test_a_file_that_is_written_slowly_is_not_counted_as_quarantined(tmp_path, monkeypatch):
    meter, now = Meter(), [0.0]
    monkeypatch.setattr(stream, "monotonic", lambda: now[0])
    progress = StreamProgress(Console(file=io.StringIO()), meter)
    recorder = StreamRecorder("in", tmp_path, Settings(), progress)
    slow, bad = (Trouble(uri=f"{n}.fits", code="truncated", message="ends too early") for n in (1, 2))
    for _ in range(5):  # each time it has grown
        recorder.planned(Plan((), (), 0, (slow,)))
        now[0] += 10.0
        recorder.settle()
    recorder.planned(Plan((item(1),), (), 0))
    recorder.finished(done(1), 1.0)
    progress.finished(done(1))
    searched_and_bad = Outcome(item(2), "quarantined", trouble=bad)
    progress.finished(searched_and_bad)
    recorder.finished(searched_and_bad, 1.0)
    assert counted(meter) == {"done": 1, "skipped": 0, "quarantined": 0, "failed": 0}
    now[0] += stream.SETTLED_S
    recorder.settle()
    recorder.planned(Plan((), (), 0, (bad,)))  # once more, and no better
    recorder.settle(0.0)
    assert counted(meter) == recorder.summary().exposures.model_dump(exclude={"seen"})
    assert counted(meter)["quarantined"] == 1


def test_what_is_wrong_is_said_on_a_quiet_console_too(tmp_path):
    text = io.StringIO()
    progress = StreamProgress(Console(file=text, width=200, quiet=True))
    recorder = StreamRecorder("in", tmp_path, Settings(), progress)
    recorder.planned(Plan((item(1),), (), 0, (Trouble(uri="2.fits", code="bad", message="2.fits: is bad."),)))
    progress.say("Watching in.")
    progress.finished(done(1))
    recorder.trouble("the store is down.")
    assert text.getvalue().splitlines() == ["quarantined: 2.fits: is bad.", "waiting: the store is down."]


def test_what_fails_of_a_night_is_said_when_it_happens_and_once_also_on_a_quiet_console(tmp_path, monkeypatch):
    text = io.StringIO()
    progress = StreamProgress(Console(file=text, width=200, quiet=True))
    recorder = StreamRecorder("in", tmp_path, Settings(), progress)
    troubles = [Trouble(uri=name, code="x", message=f"{name}: is down.") for name in ("association", "quality")]

    def fails(summary, *_, **__):
        return summary.model_copy(update={"night_failed": troubles[:1], "quality_failed": troubles[1:]})

    monkeypatch.setattr(stream, "with_catalogues", fails)
    monkeypatch.setattr(stream, "with_report", lambda summary, *_, **__: summary)
    monkeypatch.setattr(stream, "compacted", lambda summary, *_: summary)
    recorder.finished(done(1), 1.0)
    recorder.bring_together()
    assert text.getvalue().splitlines() == ["failed: association: is down.", "failed: quality: is down."]
    recorder.finished(done(2), 1.0)
    recorder.bring_together()
    assert len(text.getvalue().splitlines()) == 2


def test_nights_are_brought_together_once_and_pages_drawn_where_something_changed(stream_recorder, monkeypatch):
    drawn, asked = [], []

    def with_catalogues(summary, *_):
        asked.extend(summary.nights)
        return summary.model_copy(update={"catalogues": {"object": 3}})

    monkeypatch.setattr(stream, "with_catalogues", with_catalogues)
    monkeypatch.setattr(
        "flows.results.page.page.write_report", lambda out, night, _, **__: drawn.append(night) or out / night
    )
    stream_recorder.finished(done(1), 1.0)
    stream_recorder.bring_together()
    stream_recorder.bring_together()
    assert (asked, drawn) == ([NIGHT], [NIGHT])
    assert stream_recorder.summary().catalogues == {"object": 3}
    stream_recorder.finished(done(2), 1.0)
    stream_recorder.bring_together()
    assert asked == [NIGHT, NIGHT]
    assert stream_recorder.summary().catalogues == {"object": 3}


def of_night(night):
    return SimpleNamespace(night=night, key=SimpleNamespace(night=night), source=None)


def test_nights_that_lose_or_replace_an_exposure_are_changed_and_those_that_are_as_before_only_looked_at(
    stream_recorder, monkeypatch
):
    drawn, asked = [], []

    def with_catalogues(summary, *_):
        asked.extend(summary.nights)
        again = {"objects": 1.0} if summary.nights == ("20260105",) else {}
        return summary.model_copy(update={"seconds": again})

    monkeypatch.setattr(stream, "with_catalogues", with_catalogues)
    monkeypatch.setattr(
        "flows.results.page.page.write_report", lambda out, night, _, **__: drawn.append(night) or out / night
    )
    replacing = replace(item(1), superseded=(of_night("20260102"),))
    kept = (of_night("20260104"), of_night("20260105"))  # of the second, objects were missing
    stream_recorder.planned(Plan((replacing,), kept, 2, withdrawn=(of_night("20260103"),)))
    stream_recorder.planned(Plan((), (), 0, withdrawn=(of_night("20260106"),)))
    nights = [f"2026010{day}" for day in range(2, 7)]
    assert list(stream_recorder.summary().nights) == nights
    assert stream_recorder.summary().exposures.skipped == 2
    stream_recorder.bring_together()
    assert asked == nights
    assert drawn == ["20260102", "20260103", "20260105", "20260106"]
    stream_recorder.planned(Plan((), kept, 2))  # looked at before
    stream_recorder.bring_together()
    assert asked == nights


def test_no_page_is_a_warning(stream_recorder, monkeypatch):
    def broken(*_, **__):
        raise ValueError("no ink")

    monkeypatch.setattr(stream, "with_catalogues", lambda summary, *_: summary)
    monkeypatch.setattr("flows.results.page.page.write_report", broken)
    stream_recorder.finished(done(1), 1.0)
    stream_recorder.bring_together()
    assert "no ink" in stream_recorder.summary().warnings[0]


@pytest.mark.parametrize(("kind", "times"), [(Retryable, 2), (Misconfigured, 1)])
def test_a_night_that_cannot_be_brought_together_ends_nothing(stream_recorder, monkeypatch, kind, times):
    """What may succeed later is tried again, and then counted no more."""
    asked = []

    def failing(summary, *_):
        asked.extend(summary.nights)
        raise kind("full", "disk", "is full.", "make room.")

    monkeypatch.setattr(stream, "with_catalogues", failing)
    monkeypatch.setattr("flows.results.page.page.write_report", lambda out, night, _, **__: out / night)
    stream_recorder.finished(done(1), 1.0)
    stream_recorder.bring_together()
    stream_recorder.bring_together()
    assert asked == [NIGHT] * times
    assert [(one.uri, one.code) for one in stream_recorder.summary().night_failed] == [(f"night {NIGHT}", "full")]
    assert stream_recorder.summary().exit_code == 1
    monkeypatch.setattr(stream, "with_catalogues", lambda summary, *_: summary)
    stream_recorder.finished(done(2), 1.0)
    stream_recorder.bring_together()
    assert stream_recorder.summary().night_failed == ()


@pytest.mark.parametrize(("left", "exit_code", "warned"), [(0, 0, ()), (6, 1, ("6 are left",))])
def test_what_a_signal_leaves_to_the_next_start_is_told(stream_recorder, left, exit_code, warned):
    found = stream.left_over(stream_recorder.summary(), left)
    assert (found.stopped, found.exit_code) == (bool(left), exit_code)
    assert all(words in line for words, line in zip(warned, found.warnings, strict=True))
