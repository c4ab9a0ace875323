import io
from types import SimpleNamespace

import pytest
from rich.console import Console

import flows.nights.nightly
from flows.inputs.source import Source
from flows.nights.nightly import NightRun
from flows.nights.progress import Progress
from flows.nights.run import _search, first_of, nothing_to_search
from flows.pipeline.plan import Item, Plan
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord
from schemas.settings import Settings
from schemas.summary import Trouble


def test_a_flow_that_ends_early_leaves_a_warning_and_every_exposure_an_outcome(tmp_path, monkeypatch):
    async def broken(night):
        raise ConnectionError("the server went away")

    monkeypatch.setattr(flows.nights.nightly, "nightly", broken)
    items = [Item(Source(str(n)), ExposureKey(night="20260101", visit=n, detector=0), None) for n in range(2)]
    night = NightRun(items, tmp_path, Settings(), None, Progress(Console(file=io.StringIO()), 2), SimpleNamespace())
    assert _search(night) == ["the flow ended early: ConnectionError: the server went away"]
    assert (len(night.tally.finished), len(night.tally.failed)) == (2, 2)


def test_our_error_comes_out_of_a_group_as_it_is(tmp_path, monkeypatch):
    """On every Python: what is raised under ``except*`` is a group before 3.11.4, and itself since."""
    ours = Misconfigured("not_writable", "OUT", "cannot be written.", "mend it.")

    async def broken(night):
        raise ExceptionGroup("", [ValueError(), ExceptionGroup("", [ours])])

    monkeypatch.setattr(flows.nights.nightly, "nightly", broken)
    night = NightRun([], tmp_path, Settings(), None, Progress(Console(file=io.StringIO()), 0), SimpleNamespace())
    with pytest.raises(Misconfigured) as caught:
        _search(night)
    assert caught.value is ours


def test_first_error_of_a_kind():
    first, second = KeyError(1), KeyError(2)
    assert first_of(first, KeyError) is first
    assert first_of(ValueError(), KeyError) is None
    assert first_of(ExceptionGroup("", [ValueError(), ExceptionGroup("", [first]), second]), LookupError) is first


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
