import asyncio
import io
import json
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
from rich.console import Console

from benchmarks.faults.kafka_broker import Broker
from flows.nights.meter import Meter
from flows.nights.progress import StreamProgress
from flows.nights.stream import stream
from flows.nights.stream.stream import Bounds, StreamNight
from flows.results.status import read_status
from flows.results.verify import verify_output
from flows.storage.ledger import Ledger
from schemas.dia_source import DIA_SOURCE
from schemas.errors import Misconfigured, Retryable
from schemas.injection import INJECTION
from schemas.ledger import WatchRecord
from schemas.negative import NEGATIVE
from schemas.settings import Settings
from schemas.summary import ExposureCounts
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
    if moment == "the search":
        assert json.loads((out / "ledger" / "watch.json").read_text())["state"] == "ended"


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


def test_it_does_not_end_for_silence_before_it_can_hear(monkeypatch):
    """A Kafka group gives its partitions after seconds, and after most of a minute where a reader was killed."""
    looks = []

    async def take(night):
        looks.append(night.intake.arrivals.ready)
        night.intake.arrivals.ready = len(looks) >= 5
        return stream.NOTHING

    async def rest(seconds):
        await asyncio.sleep(0.02)

    monkeypatch.setattr(stream, "_take", take)
    night = SimpleNamespace(
        intake=SimpleNamespace(arrivals=SimpleNamespace(ready=False, waiting=0), on_the_way=0),
        shutdown=SimpleNamespace(asked=False, sleep=rest), bounds=Bounds(1, 0.0, 9.0, 0.01),
        stream_recorder=SimpleNamespace(settle=lambda: None),
    )  # fmt: skip
    asyncio.run(asyncio.wait_for(stream._serve(night, None, None), 60))
    assert looks == [False] * 5


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
