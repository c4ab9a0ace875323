import io

import pytest
from rich.console import Console

from flows.night_work import nothing_to_search
from flows.plan import Plan
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.summary import Trouble


@pytest.mark.parametrize("bad", [0, 1])
def test_the_page_is_drawn_again_when_there_is_only_something_that_cannot_be_used(tmp_path, bad):
    record = ExposureRecord(
        night="20260101", visit=1, detector=0, source_uri="a", source_sha256="s", digest="d", software="0",
        finished_at="now",
    )  # fmt: skip
    page = tmp_path / "reports" / "20260101" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("old")
    troubles = (Trouble(uri="b", code="truncated", message="b: ends too early."),) * bad
    summary = nothing_to_search(Plan((), (record,), 1, troubles), tmp_path, Settings(), Console(file=io.StringIO()))
    assert (summary.report, summary.exit_code) == (str(page), bad)
    assert (page.read_text() == "old") is not bool(bad)
