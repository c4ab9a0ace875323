import io
import logging
import re
from datetime import UTC, datetime

import pytest
from rich.console import Console

from flows.runtime import log, traces
from flows.runtime.log import Origin, observed, origin, report_line, run_name
from flows.runtime.traces import bound, where
from tests.support.log import lines_of
from tests.support.otlp import receiver

START = "from flows.runtime.log import LOGGER, log_as_json, report_line\nrun = log_as_json()\n"


def test_words_go_to_the_console_without_passwords():
    text = io.StringIO()
    report_line(Console(file=text), "reading s3://me:hunter22@host/[b]", visit=7)
    assert text.getvalue() == "reading s3://host/[b]\n"
    assert run_name() is None


def test_a_quiet_console_tells_warnings_only():
    console = Console(file=io.StringIO(), quiet=True)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        report_line(console, logging.getLevelName(level), level)
    assert console.file.getvalue().split() == ["WARNING", "ERROR"]
    assert console.quiet


def test_a_line_says_when_what_where_and_who():
    (line,) = lines_of(
        START + "from flows.runtime.traces import bound\n"
        "with bound({'night': '20260101', 'visit': 7, 'detector': 3, 'exposure': '7-3'}):\n"
        "    report_line(None, 'exposure done', status='done', windows=10)\n"
    )
    time = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - time).total_seconds()) < 600
    assert re.fullmatch(r"[0-9a-f]{32}", line.pop("run"))
    assert line.pop("pid") > 0
    assert line == {
        "level": "info", "event": "exposure done", "night": "20260101", "visit": 7, "detector": 3, "exposure": "7-3",
        "logger": "nightstride", "status": "done", "windows": 10,
    }  # fmt: skip


def test_whatever_libraries_say_is_json_too():
    lines = lines_of(
        START + "import logging, warnings\n"
        "logging.getLogger('some.library').warning('odd: %s', 3)\n"
        "logging.getLogger('some.library').info('boring')\n"
        "warnings.warn('outdated')\n"
        "import distributed\n"
        "log_as_json()\n"
        "logging.getLogger('distributed.scheduler').info('Closing scheduler')\n"
        "logging.getLogger('distributed.scheduler').warning('Worker failed to heartbeat')\n"
        "raise RuntimeError('the end')\n"
    )
    events = [line["event"] for line in lines]
    assert events[0] == "odd: 3"
    assert "outdated" in events[1]
    assert events[2:] == ["Worker failed to heartbeat", "ended by an error"]
    assert len({line["run"] for line in lines}) == 1
    assert lines[-1]["level"] == "critical"
    assert "RuntimeError: the end" in lines[-1]["exc_info"]


def test_no_secret_is_in_any_field():
    lines = lines_of(
        START + "LOGGER.info('from s3://me:hunter22@host', extra={'deep': {'list': ['http://me:hunter22@host']}})\n"
        "try:\n    raise OSError('https://h/x?X-Amz-Signature=hunter22&y=1')\n"
        "except OSError:\n    LOGGER.exception('failed with swordfish')\n",
        AWS_SECRET_ACCESS_KEY="swordfish",
    )
    assert len(lines) == 2
    assert "hunter22" not in str(lines)
    assert "swordfish" not in str(lines)
    assert "OSError" in lines[1]["exc_info"]


def test_a_worker_takes_the_name_of_its_run():
    (line,) = lines_of("from flows.runtime.log import LOGGER, log_as_json\nlog_as_json('abc')\nLOGGER.info('x')\n")
    assert line["run"] == "abc"


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
    assert observed(Origin("abc", {"visit": 7}, None), "double", double, 4) == 8
    with pytest.raises(OSError, match="disk"):
        observed(Origin("abc", {"visit": 7}, None), "fail", fail)
    done, failed = caplog.records
    assert (done.levelname, done.message, done.task) == ("INFO", "double done", "double")
    assert (failed.levelname, failed.message) == ("WARNING", "fail failed: disk")
    assert where() == {}


@pytest.mark.parametrize("run", ["abc", None])
def test_a_task_knows_its_run_if_there_is_one(run):
    known = {} if run is None else {"run": run}
    assert observed(Origin(run, {"visit": 7}, None), "where", lambda: dict(where())) == {"visit": 7} | known


def test_a_task_is_a_span_of_what_handed_it_out(monkeypatch):
    with receiver() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        traces.start_traces()
        with bound({"visit": 7}), traces.span("exposure", {}):
            came = origin()
        assert came.run is None
        assert observed(came, "double", double, 4) == 8
        traces.stop_traces()
    (exposure,), (task,) = collector.named("exposure"), collector.named("double")
    assert (task.trace, task.parent) == (exposure.trace, exposure.id)
    assert task.attributes == {"nightstride.visit": 7}


def test_the_end_of_a_task_is_logged_with_its_time(caplog, monkeypatch):
    now = iter((100.0, 102.5, 200.0, 200.25))
    monkeypatch.setattr(log, "perf_counter", lambda: next(now))
    with caplog.at_level(logging.INFO, logger=log.LOGGER.name):
        observed(Origin("run", {}, None), "search", lambda: 7)
        with pytest.raises(KeyError):
            observed(Origin("run", {}, None), "search", {}.__getitem__, "gone")
    done, failed = caplog.records
    assert (done.seconds, done.levelno, done.task) == (2.5, logging.INFO, "search")
    assert (failed.seconds, failed.levelno) == (0.25, logging.WARNING)
