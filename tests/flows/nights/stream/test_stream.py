import asyncio
import io
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from benchmarks.faults.kafka_broker import Broker
from flows.inputs.source import Source
from flows.nights.meter import Meter
from flows.nights.progress import StreamProgress
from flows.nights.stream import stream
from flows.nights.stream.stream import Bounds, StreamNight, StreamRecorder
from flows.pipeline.outcome import Item, Outcome, Plan
from flows.results.status import read_status
from flows.results.verify import verify_output
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.injection import INJECTION
from schemas.ledger import WatchRecord
from schemas.negative import NEGATIVE
from schemas.settings import Settings
from schemas.summary import ExposureCounts, Trouble
from tests.support.night import DETECTORS, VISITS, catalogues
from tests.support.wait import until

pytest_plugins = ("tests.support.night_fixture",)


ALL = VISITS * DETECTORS
TABLES = {"dia_source": DIA_SOURCE, "injection": INJECTION, "negative": NEGATIVE}


@pytest.fixture(scope="module")
def watch(nightstride_run):
    """Ends by itself when nothing has arrived for a while."""
    options = ("--still", "0.2", "--poll", "0.1", "--quiet", "600", "--idle-exit", "4")
    return replace(nightstride_run, verb="watch", arguments=options)


@pytest.fixture
def arriving(tmp_path):
    folder = tmp_path / "arriving"
    folder.mkdir()
    return folder


def deliver(raw, folder, keep=lambda name: True):
    """Move files in as a careful writer does: under another name first, what goes with an image before the image."""
    for path in sorted(raw.glob("ztf_*"), key=lambda path: "scimrefdiffimg" in path.name):
        if keep(path.name):
            shutil.copyfile(path, folder / f".{path.name}")
            (folder / f".{path.name}").rename(folder / path.name)


@pytest.mark.slow
def test_what_arrives_in_pieces_and_twice_gives_the_bytes_of_a_run(watch, raw_night, uninterrupted, arriving, tmp_path):
    out = tmp_path / "out"
    process = watch.start(arriving, "--out", out)
    until((out / "ledger" / "watch.json").exists, process=process)
    deliver(raw_night, arriving, lambda name: "_q1_" in name)
    until(lambda: Ledger(out).count() == VISITS, process=process)
    deliver(raw_night, arriving, lambda name: "_q2_" in name)
    first = min(raw_night.glob("*scimrefdiffimg*"))
    shutil.copyfile(first, arriving / f"again_{first.name}")
    (arriving / "half.fits").write_bytes(first.read_bytes()[:5000])
    _, stderr = process.communicate(timeout=1800)
    assert process.returncode == 3, stderr  # for the half file
    assert catalogues(out) == catalogues(uninterrupted[1])
    assert verify_output(out, TABLES).problems == ()
    status = read_status(out)
    assert [one.exposures for one in status.nights if one.night != "unknown"] == [{"done": ALL}]
    counts = status.watch.exposures
    assert (counts.seen, counts.done, counts.skipped, counts.quarantined) == (ALL + 2, ALL, 1, 1)
    assert (status.watch.state, status.watch.on_the_way, status.watch.waiting) == ("ended", 0, 0)
    assert status.watch.lag_s.n == status.watch.turnaround_s.n == ALL
    assert 0 < status.watch.turnaround_s.p50 <= status.watch.turnaround_s.p99


@pytest.mark.slow
@pytest.mark.faults
def test_a_signal_lets_finish_what_is_on_its_way_and_the_next_watch_does_the_rest(
    watch, raw_night, uninterrupted, arriving, tmp_path
):
    out = tmp_path / "out"
    deliver(raw_night, arriving)
    process = watch.start(arriving, "--out", out, "--queue", "1", NIGHTSTRIDE_WATCH__STOP_S="600")
    until(lambda: list(out.glob("tiles/*/*.zarr")), process=process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=1800)
    assert process.returncode == 1, stderr
    assert '"stopped":true' in stdout
    _, left = psutil.wait_procs(children, timeout=60)
    assert left == []
    done = Ledger(out).count()
    assert 0 < done < ALL
    assert f'"done":{done}' in stdout
    assert verify_output(out, TABLES).problems == ()
    again = watch.here(arriving, "--out", out)
    assert again.counts == (ALL, ALL - done, done, 0, 0), again.stderr
    assert catalogues(out) == catalogues(uninterrupted[1])


def started_with(name, value):
    """All processes, whose ever children, that have such a variable in their environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(name) == value:
                yield process


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("moment", ["the start", "the search", "twice"])
def test_it_ends_soon_after_a_signal_whenever_and_however_often_it_is_signalled(
    watch, raw_night, arriving, tmp_path, moment
):
    out = tmp_path / "out"
    deliver(raw_night, arriving)
    process = watch.start(arriving, "--out", out, NIGHTSTRIDE_WATCH__STOP_S="3", STARTED_BY=str(tmp_path))
    if moment == "the start":
        until(lambda: psutil.Process(process.pid).children(), process=process)
    else:
        until(lambda: list(out.glob("tiles/*/*.zarr")), process=process)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM)[: 3 if moment == "twice" else 1]:
        with suppress(ProcessLookupError):
            process.send_signal(number)
    process.wait(timeout=60)
    assert psutil.wait_procs(list(started_with("STARTED_BY", str(tmp_path))), timeout=10)[1] == []
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    if (out / "ledger").exists():
        assert {one.code for one in verify_output(out, TABLES).problems} <= {"leftover", "unknown_file"}


@pytest.mark.slow
def test_what_is_too_late_is_shed_and_recorded_and_a_run_does_it(
    watch, nightstride_run, raw_night, uninterrupted, arriving, tmp_path
):
    out = tmp_path / "out"
    deliver(raw_night, arriving)
    run = watch.here(arriving, "--out", out, "--deadline", "0.001")
    assert run.counts == (ALL, 0, 0, 0, ALL), run.stderr
    assert {one["code"] for one in run.summary["failed"]} == {"deadline"}
    (night,) = read_status(out).nights
    assert night.exposures == {"failed": ALL}
    assert {trouble.code for trouble in night.troubles} == {"deadline"}
    assert nightstride_run.here(raw_night, "--out", out).counts == (ALL, ALL, 0, 0, 0)
    assert catalogues(out) == catalogues(uninterrupted[1])


@pytest.mark.slow
def test_a_topic_announces_exposures_twice_and_nonsense_and_is_read_once(watch, raw_night, uninterrupted, tmp_path):
    broker, out = Broker(), tmp_path / "out"
    files = [str(path) for path in sorted(raw_night.glob("*scimrefdiffimg*"))]
    broker.send("exposures", *files, *files[:2], "no such file")
    source = f"kafka://{broker.address}/exposures?group=night"
    run = watch.here(source, "--out", out)
    assert run.code == 3, run.stderr
    assert run.counts == (ALL + 1 + run.counts[2], ALL, run.counts[2], 1, 0)
    assert [one["code"] for one in run.summary["quarantined"]] == ["not_allowed"]
    assert catalogues(out) == catalogues(uninterrupted[1])
    again = watch.here(source, "--out", out)
    assert again.counts == (0, 0, 0, 0, 0), again.stderr  # everything was committed


def failing(error):
    async def flow(night):
        async with asyncio.TaskGroup():
            raise error

    return flow


def test_what_no_exposure_could_survive_is_told_as_it_is(monkeypatch):
    monkeypatch.setattr(stream, "stream", failing(Misconfigured("memory", "here", "too little.", "add some.")))
    with pytest.raises(Misconfigured, match="too little"):
        stream._search(SimpleNamespace())


def test_a_failing_orchestrator_is_something_to_try_again(monkeypatch):
    monkeypatch.setattr(stream, "stream", failing(ConnectionError("the server went away")))
    with pytest.raises(Retryable, match=r"the server went away.*To fix, start it again"):
        stream._search(SimpleNamespace())


def test_what_fails_at_the_end_is_said_and_hides_nothing():
    said, asked = [], []

    def close():
        raise RuntimeError("gone")

    def record(state):
        asked.append(state)
        raise Retryable("full", "disk", "is full.", "make room.")

    arrivals = SimpleNamespace(close=close)
    stream._let_go(
        SimpleNamespace(
            intake=SimpleNamespace(arrivals=arrivals),
            record=record,
            progress=SimpleNamespace(say=lambda text, _: said.append(text)),
        )
    )
    assert asked == ["ended"]
    assert ["disk is full" in said[0].replace(":", ""), "gone" in said[1]] == [True, True]


@pytest.mark.parametrize(("left", "exit_code", "warned"), [(0, 0, ()), (6, 1, ("6 are left",))])
def test_what_a_signal_leaves_to_the_next_start_is_told(stream_recorder, left, exit_code, warned):
    found = stream.left_over(stream_recorder.summary(), left)
    assert (found.stopped, found.exit_code) == (bool(left), exit_code)
    assert all(words in line for words, line in zip(warned, found.warnings, strict=True))


@pytest.mark.parametrize("error", [Retryable("full", "disk", "is full.", "make room."), OSError("disk full")])
def test_how_it_goes_is_written_down_again_after_a_failure(monkeypatch, error):
    monkeypatch.setattr(stream, "TICK_S", 0.0)
    states = []

    def record(state):
        states.append(state)
        if len(states) == 1:
            raise error
        if len(states) == 3:
            raise EOFError

    night = SimpleNamespace(record=record, shutdown=SimpleNamespace(asked=False))
    with pytest.raises(EOFError):
        asyncio.run(stream._tick(night))
    assert states == ["running"] * 3


COUNTS = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)


@pytest.mark.parametrize("meter", [None, Meter()])
def test_outcomes_are_handed_on_and_not_kept(tmp_path, meter):
    told = []
    intake = SimpleNamespace(
        waited=lambda item: 7.0,
        finished=told.append,
        on_the_way=3,
        arrivals=SimpleNamespace(waiting=2),
        oldest_s=lambda: 8.5,
    )

    def record(state, on_the_way, waiting):
        return WatchRecord(
            state=state, source="in", host="h", pid=1, since="now", updated_at="now", on_the_way=on_the_way,
            waiting=waiting, exposures=COUNTS,
        )  # fmt: skip

    stream_recorder = SimpleNamespace(finished=lambda *given: told.append(given), record=record)
    cluster = SimpleNamespace(workers=2)
    progress = StreamProgress(Console(file=io.StringIO()), meter)
    night = StreamNight(intake, stream_recorder, Bounds(1, 1, 1, None), tmp_path, Settings(), None, progress, cluster)
    outcome = SimpleNamespace(item="item", status="done")
    night.finished(outcome)
    assert told == [(outcome, 7.0), "item"]
    assert not night.totals.finished
    night.record("draining")
    written = Ledger(tmp_path).watch()
    assert (written.state, written.on_the_way, written.waiting) == ("draining", 3, 2)
    if meter is not None:
        figures = {"on_the_way": 3, "waiting": 2, "oldest_seconds": 8.5}
        for name, value in figures.items():
            assert meter.registry.get_sample_value(f"nightstride_stream_{name}") == value
        assert meter.registry.get_sample_value("nightstride_turnaround_seconds_sum") == 7.0
    assert not night.stopping
    asyncio.run(_ask(night))
    assert night.stopping


async def _ask(night):
    night.shutdown.ask()


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
    return SimpleNamespace(night=night, key=SimpleNamespace(night=night))


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
