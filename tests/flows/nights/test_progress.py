import io
import re

import pytest
from rich.console import Console

from flows.inputs.source import Source
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


@pytest.mark.parametrize("stage", ["ingest", "detect", "measure"])
def test_on_a_terminal_there_is_a_bar_per_stage_with_rate_and_time_left(stage):
    text = io.StringIO()
    play(Console(file=text, force_terminal=True, width=100))
    assert stage in text.getvalue()
    assert "windows, " in text.getvalue()
    assert "/s" in text.getvalue()
    assert "all pixels are NaN" in text.getvalue()
