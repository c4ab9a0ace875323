import asyncio
import itertools
import subprocess
import sys
import threading
from threading import Event
from types import SimpleNamespace

import pytest

from flows.runtime import traces
from flows.runtime import traces as timer
from flows.runtime.traces import Timer, bound, of_exposure, where
from schemas.exposure import ExposureKey
from tests.support.otlp import receiver


@pytest.fixture
def collector(monkeypatch):
    for name in (*traces.ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        monkeypatch.delenv(name, raising=False)
    with receiver() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.url)
        yield server
        traces.stop_traces()


def test_spans_lie_within_each_other_and_say_where(collector):
    assert traces.start_traces() is None
    with traces.span("visit", {"night": "20260101", "visit": 7}):
        trace = traces.trace_id()
        with traces.span("exposure", {"detector": 3}):
            traces.note("status", "done")
            timer = Timer()
            timer.lap("read")
            timer.lap("other")
    traces.stop_traces()
    assert collector.paths == {"/v1/traces"}
    (visit,), (exposure,), (read,) = map(collector.named, ("visit", "exposure", "read"))
    assert len(collector.spans) == 3
    assert {one.trace for one in collector.spans} == {trace}
    assert (visit.parent, exposure.parent, read.parent) == ("", visit.id, exposure.id)
    assert visit.attributes == {"nightstride.night": "20260101", "nightstride.visit": 7}
    assert exposure.attributes == {"nightstride.detector": 3, "nightstride.status": "done"}
    assert visit.start <= exposure.start <= exposure.end <= visit.end
    assert read.start <= read.end <= exposure.end
    assert visit.resource["service.name"] == "nightstride"


def test_what_has_been_started_is_not_started_again(collector):
    assert traces.start_traces() is None
    with traces.span("night", {}):
        assert traces.start_traces() is None
        with traces.span("visit", {}):
            pass
    traces.stop_traces()
    (night,), (visit,) = map(collector.named, ("night", "visit"))
    assert visit.parent == night.id


def test_another_process_goes_on_with_a_trace(collector):
    traces.start_traces()
    with traces.span("here", {}):
        parent = traces.traceparent()
    with traces.span("there", {}, parent):
        pass
    traces.stop_traces()
    (here,), (there,) = collector.named("here"), collector.named("there")
    assert (there.trace, there.parent) == (here.trace, here.id)
    assert parent.startswith(f"00-{here.trace}-{here.id}-")


def test_an_error_marks_its_span_without_secrets(collector):
    traces.start_traces()
    with pytest.raises(OSError, match="hunter22"), traces.span("read", {}):
        raise OSError("no answer from s3://me:hunter22@host")
    traces.stop_traces()
    (read,) = collector.named("read")
    assert (read.error, read.events) == ("OSError: no answer from s3://host", [])


def test_a_lap_of_nothing_that_is_traced_is_no_trace(collector):
    traces.start_traces()
    Timer().lap("read")
    traces.stop_traces()
    assert collector.spans == []


@pytest.mark.parametrize(
    "off", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}]
)
def test_nothing_is_loaded_unless_it_is_asked_for(monkeypatch, off):
    for name in traces.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    for name, value in off.items():
        monkeypatch.setenv(name, value)
    code = (
        "import sys\nfrom flows.runtime import traces\nfrom flows.runtime.traces import Timer\n"
        "assert traces.start_traces() is None\n"
        "with traces.span('x', {}):\n"
        "    traces.note('a', 1); Timer().lap('read'); assert traces.traceparent() is None\n"
        "traces.stop_traces()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout == "[]\n", run.stderr


def test_laps_within_a_lap_are_none_of_their_own(collector):
    traces.start_traces()
    with traces.span("finish", {}):
        Timer(spans=False).lap("detect")
    traces.stop_traces()
    assert [one.name for one in collector.spans] == ["finish"]


def test_a_collector_that_does_not_answer_holds_nothing_up(monkeypatch):
    answered = Event()
    monkeypatch.setattr(traces, "_provider", SimpleNamespace(shutdown=answered.wait))
    monkeypatch.setattr(traces, "LAST_S", 0.01)
    before = set(threading.enumerate())
    traces.stop_traces()  # would not return
    assert traces.traceparent() is None
    assert [one.daemon for one in set(threading.enumerate()) - before] == [True]  # nor does it hold up the end
    answered.set()


def test_what_cannot_be_sent_is_said(collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert "asks for grpc" in traces.start_traces()
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert "pip install 'nightstride[observe]'" in traces.start_traces()
    assert traces.traceparent() is None


def test_parts_add_up_to_the_time_that_passed(monkeypatch):
    monkeypatch.setattr(timer, "perf_counter", itertools.accumulate([100.0, 1.0, 2.0, 4.0, 8.0]).__next__)
    watch = Timer()
    for part in ("read", "detect", "read"):
        watch.lap(part)
    assert watch.seconds() == {"read": 5.0, "detect": 2.0, "other": 8.0}


def test_fields_add_up_inside_and_are_gone_outside():
    with bound({"night": "20260101", "visit": 7}), bound({"detector": 3, "visit": 8}):
        assert where() == {"night": "20260101", "visit": 8, "detector": 3}
    assert where() == {}


def test_they_are_gone_after_an_error_too():
    with pytest.raises(OSError, match="disk"), bound({"visit": 7}):
        raise OSError("disk")
    assert where() == {}


def test_exposures_side_by_side_have_their_own():
    async def one(detector):
        with bound({"detector": detector}):
            await asyncio.sleep(0)
            return where()

    async def both():
        with bound({"visit": 7}):
            return await asyncio.gather(one(1), one(2))

    assert asyncio.run(both()) == [{"visit": 7, "detector": 1}, {"visit": 7, "detector": 2}]


def test_an_exposure_is_named_by_all_its_parts():
    key = ExposureKey(night="20260101", visit=7, detector=3)
    assert of_exposure(key) == {"night": "20260101", "visit": 7, "detector": 3, "exposure": "7-3"}


def test_a_lap_is_a_part_of_a_trace_as_long_as_it_took(monkeypatch):
    now, parts = iter((10.0, 11.5, 14.0, 20.0, 21.0)), []
    monkeypatch.setattr(traces, "perf_counter", lambda: next(now))
    monkeypatch.setattr(traces.traces, "part", lambda name, seconds: parts.append((name, seconds)))
    timer = Timer()
    for name in ("read", "other", "read"):
        timer.lap(name)
    assert timer.seconds() == {"read": 7.5, "other": 3.5}
    assert parts == [("read", 1.5), ("read", 6.0)]
