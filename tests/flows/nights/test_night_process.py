import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from flows.nights import run
from flows.nights.night_process import night_process
from flows.nights.run import nothing_to_search
from flows.pipeline.outcome import Plan, PublishedExposure
from flows.runtime.parallel import here, teller
from schemas.cluster_settings import ClusterSettings
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import Trouble

SCRIPT = """
import os, sys
from pathlib import Path
from flows.nights.night_process import night_process
from flows.runtime.parallel import teller
from flows.nights.run import load
from flows.runtime.parallel import here
from schemas.errors import BadInput
from schemas.settings import Settings

def refuse():
    raise BadInput("bad", "here", "is bad.", "mend it.")

def work(say):
    for step in range(3):
        say(f"step {step}")
    return 7

if __name__ == "__main__":
    lines = []
    with night_process(Path(sys.argv[1]), Settings(), lines.append) as call:
        other = call(os.getpid)
        assert call(os.getpid) == other != os.getpid()
        assert "torch" not in sys.modules
        assert call(work, teller(call, print)) == 7
        assert lines == ['step 0', 'step 1', 'step 2']
        call(load)
        assert call(eval, "'flows.results.page.page' in __import__('sys').modules")
        try:
            call(refuse)
        except BadInput as error:
            print(error.code, error.remedy)
        try:
            call(os._exit, 1)
        except Exception as error:
            print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked there alone")
def test_what_a_night_needs_is_called_in_one_other_process_that_has_its_libraries_and_tells_how_far_it_is(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert ended.stdout == "bad mend it.\nBrokenProcessPool\n", ended.stderr


def test_lines_of_what_is_called_here_go_where_they_are_shown():
    assert teller(here, print) is print


def test_where_workers_are_elsewhere_there_is_a_process_too(tmp_path):
    settings = Settings(cluster=ClusterSettings(kind="address", address="tcp://127.0.0.1:9"))
    with night_process(tmp_path, settings, print) as call:
        assert call(os.getpid) not in (os.getpid(), os.getppid())


def test_of_many_exposures_nothing_is_read_here_where_none_is_searched(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run, "with_reports", lambda *arguments: given.append(arguments[4:5]) or arguments[0])
    published = (PublishedExposure(ExposureKey(night="20260101", visit=1, detector=0), "a"),)
    trouble = (Trouble(uri="b", code="truncated", message="b: ends too early."),)
    for skipped in (run.LARGE - 1, run.LARGE):
        plan = Plan((), published, skipped, trouble)
        nothing_to_search(plan, tmp_path, Settings(), Console(file=io.StringIO()))
    (few,), (many,) = given
    assert few is here
    assert many is not here
