import logging

import pytest

from flows.observe import log, traces
from flows.observe.origin import Origin, observed, origin
from flows.observe.where import bound, where
from tests.flows.observe.otlp_support import receiver


def double(number):
    assert where()["visit"] == 7
    return 2 * number


def fail():
    raise OSError("disk")


def test_where_nobody_looks_a_task_is_handed_out_as_it_is():
    with bound({"visit": 7}):
        assert origin() is None


def test_it_takes_along_what_is_worked_on(monkeypatch):
    monkeypatch.setattr(log, "_run", "abc")
    with bound({"visit": 7}):
        assert origin() == Origin("abc", {"visit": 7}, None)


def test_a_task_gives_what_it_gives_and_its_end_is_logged(caplog):
    caplog.set_level(logging.INFO, "nightstride")
    assert observed(Origin("abc", {"visit": 7}, None), double, 4) == 8
    with pytest.raises(OSError, match="disk"):
        observed(Origin("abc", {"visit": 7}, None), fail)
    done, failed = caplog.records
    assert (done.levelname, done.message, done.task) == ("INFO", "double done", "double")
    assert (failed.levelname, failed.message) == ("WARNING", "fail failed: disk")
    assert where() == {}


def test_a_task_is_a_span_of_what_handed_it_out(monkeypatch):
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        traces.start_traces()
        with bound({"visit": 7}), traces.span("exposure", {}):
            came = origin()
        assert came.run is None
        assert observed(came, double, 4) == 8
        traces.stop_traces()
    (exposure,), (task,) = collector.named("exposure"), collector.named("double")
    assert (task.trace, task.parent) == (exposure.trace, exposure.id)
    assert task.attributes == {"nightstride.visit": 7}
