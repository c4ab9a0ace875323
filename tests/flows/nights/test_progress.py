import io
import logging
import re
from dataclasses import replace

import pytest
from rich.console import Console

from flows.inputs.source import Source
from flows.nights import progress as progress_module
from flows.nights.progress import Progress
from flows.pipeline.outcome import Item, Outcome
from schemas.exposure import ExposureKey
from schemas.summary import Trouble


def outcome(visit, status="done"):
    item = Item(Source("a.fits"), ExposureKey(night="20260101", visit=visit, detector=4), None)
    trouble = None if status == "done" else Trouble(uri="a.fits", code="nan", message="a.fits: all pixels are NaN.")
    return Outcome(item, status, windows=1000, detections=3, trouble=trouble)


def play(console):
    with Progress(console, 2) as progress:
        progress.begin()
        progress.stored(windows=2000)
        progress.searched(1000)
        progress.searched(1000)
        progress.finished(outcome(7))
        progress.finished(outcome(8, "quarantined"))


def test_without_a_terminal_it_is_one_plain_line_per_exposure():
    text = io.StringIO()
    play(Console(file=text))
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    pattern = r"\[1/2\] exposure 7-4 done: 1000 windows, 3 detections; [\d,]+ windows/s, \d+ s left"
    assert re.fullmatch(pattern, lines[0])
    assert lines[1] == "quarantined: a.fits: all pixels are NaN."
    assert lines[2].startswith("[2/2] exposure 8-4 quarantined: ")
    assert "\x1b" not in text.getvalue()


def test_an_exposure_whose_search_was_kept_has_no_windows():
    text = io.StringIO()
    with Progress(Console(file=text), 1) as progress:
        progress.begin()
        progress.stored(windows=0)
        progress.finished(replace(outcome(7), windows=0, searched=False))
    assert text.getvalue() == "[1/1] exposure 7-4 done: its search was kept, 3 detections; 0 s left\n"


@pytest.mark.parametrize("stage", ["ingest", "detect", "measure"])
def test_on_a_terminal_there_is_a_bar_per_stage_with_rate_and_time_left(stage):
    text = io.StringIO()
    play(Console(file=text, force_terminal=True, width=100))
    assert stage in text.getvalue()
    assert "windows, " in text.getvalue()
    assert "/s" in text.getvalue()
    assert "all pixels are NaN" in text.getvalue()


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("flows.nights.progress.perf_counter", lambda: now[0])
    return now


def test_rates_and_time_left_are_counted_from_the_beginning_of_the_search(clock):
    text = io.StringIO()
    with Progress(Console(file=text, width=200), 5) as progress:
        clock[0] = 200.0
        progress.begin()
        clock[0] = 204.0
        progress.stored(2000)
        progress.searched(1500)
        progress.searched(500)
        progress.finished(outcome(7))
        clock[0] = 210.0
        progress.finished(outcome(8))
    first, second = text.getvalue().splitlines()
    assert first.endswith("[1/5] exposure 7-4 done: 1000 windows, 3 detections; 500 windows/s, 16 s left")
    assert second.endswith("[2/5] exposure 8-4 done: 1000 windows, 3 detections; 200 windows/s, 15 s left")


def test_bars_show_what_is_known_of_the_work(clock, monkeypatch):
    """Of 4 exposures 2 are stored, with 3000 windows: 6000 are expected of all."""
    shown = []
    monkeypatch.setattr(progress_module.Bars, "update", lambda self, row, **given: shown.append((int(row), given)))
    with Progress(Console(file=io.StringIO(), force_terminal=True), 4) as progress:
        progress.searched(10)
        progress.stored(1000)
        progress.stored(2000)
        clock[0] = 110.0
        progress.searched(990)
        progress.finished(outcome(7))
        progress.stored(0)
        progress.stored(0)
        progress.stored(0)
        progress.searched(0)
    ingest, detect, measure = 0, 1, 2
    totals = [given for row, given in shown if row == detect and "completed" in given]
    assert totals == [
        {"completed": 10, "total": 0},
        {"completed": 1000, "total": 6000},
        {"completed": 1000, "total": 3000},
    ]
    rates = [given["rate"] for row, given in shown if "rate" in given]
    assert rates[1:] == ["windows, 100/s", "windows, 100/s"]
    assert [given["completed"] for row, given in shown if row == ingest] == [1, 2, 3, 4, 5]
    assert [given for row, given in shown if row == measure] == [{"completed": 1, "total": None}]


class FakeMeter:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *given: self.told.append((name, *given))


def test_a_meter_is_told_each_step_and_how_many_are_left():
    meter = FakeMeter()
    with Progress(Console(file=io.StringIO()), 3, meter) as progress:
        ((_, left),) = meter.told
        progress.searched(12)
        progress.finished(outcome(7))
        progress.night_done(3.5)
        progress.planned("plan")
        assert left() == 2
    names = [name for name, *_ in meter.told]
    assert names == ["left", "searched", "finished", "night_done", "planned"]
    assert meter.told[1] == ("searched", 12)


def test_where_logs_are_json_an_exposure_is_a_line_with_fields(monkeypatch):
    said = []
    monkeypatch.setattr(progress_module, "run_name", lambda: "run")
    monkeypatch.setattr(
        progress_module, "report_line", lambda console, text, level, **fields: said.append((text, level, fields))
    )
    for progress in (
        Progress(Console(file=io.StringIO(), force_terminal=True), 2),
        progress_module.StreamProgress(Console(file=io.StringIO())),
    ):
        said.clear()
        with progress:
            progress.finished(outcome(7))
            progress.finished(outcome(8, "quarantined"))
        (text, level, fields), (other, warned, problem) = said
        assert (text, level, fields["status"], fields["windows"], fields["detections"]) == (
            "exposure done", logging.INFO, "done", 1000, 3,
        )  # fmt: skip
        assert (other, warned, problem["code"]) == ("exposure quarantined", logging.WARNING, "nan")
        assert problem["problem"] == "a.fits: all pixels are NaN."


def test_a_stream_tells_each_exposure_in_a_line():
    text = io.StringIO()
    with progress_module.StreamProgress(Console(file=text, width=200)) as progress:
        progress.finished(outcome(7))
        progress.finished(outcome(8, "quarantined"))
    assert text.getvalue().splitlines() == [
        "exposure 7-4 done: 3 detections", "quarantined: a.fits: all pixels are NaN.",
    ]  # fmt: skip


def test_without_a_meter_nothing_is_watched():
    progress = Progress(Console(file=io.StringIO()), 1)
    progress.planned(None)
    progress.night_done(1.0)
    with progress.watched(None) as nothing:
        assert nothing is None
