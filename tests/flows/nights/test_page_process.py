import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from flows.nights import run
from flows.nights.run import nothing_to_search, page_process
from flows.pipeline.outcome import Plan, PublishedExposure
from flows.runtime.parallel import here
from schemas.cluster_settings import ClusterSettings
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import Trouble

SCRIPT = """
import os, sys
from flows.nights.run import _import_pages, page_process
from schemas.errors import BadInput
from schemas.settings import Settings

def refuse():
    raise BadInput("bad", "here", "is bad.", "mend it.")

if __name__ == "__main__":
    with page_process(Settings()) as call:
        other = call(os.getpid)
        assert call(os.getpid) == other != os.getpid()
        assert "torch" not in sys.modules
        call(_import_pages)
        assert call(eval, "'flows.results.page.page' in __import__('sys').modules")
        try:
            call(refuse)
        except BadInput as error:
            print(error.code, error.remedy)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked there alone")
def test_what_a_page_needs_is_called_in_one_other_process_that_has_its_libraries(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert ended.stdout == "bad mend it.\n", ended.stderr


def test_where_workers_are_elsewhere_pages_have_a_process_of_their_own_too():
    settings = Settings(cluster=ClusterSettings(kind="address", address="tcp://127.0.0.1:9"))
    with page_process(settings) as call:
        assert call(os.getpid) not in (os.getpid(), os.getppid())


def test_of_many_exposures_nothing_is_read_here_where_none_is_searched(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(run, "with_reports", lambda *arguments: given.append(arguments[4:]) or arguments[0])
    published = (PublishedExposure(ExposureKey(night="20260101", visit=1, detector=0), "a"),)
    trouble = (Trouble(uri="b", code="truncated", message="b: ends too early."),)
    for skipped in (run.LARGE - 1, run.LARGE):
        plan = Plan((), published, skipped, trouble)
        nothing_to_search(plan, tmp_path, Settings(), Console(file=io.StringIO()))
    (few,), (many,) = given
    assert few is here
    assert many is not here
