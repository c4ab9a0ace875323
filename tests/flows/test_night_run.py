import io
from types import SimpleNamespace

import pytest
from rich.console import Console

import flows.nightly
from flows.adapters.sources import Source
from flows.night import Night
from flows.night_run import _search, first_of
from flows.plan import Item
from flows.progress import Progress
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.settings import Settings


def test_a_flow_that_ends_early_leaves_a_warning_and_every_exposure_an_outcome(tmp_path, monkeypatch):
    async def broken(night):
        raise ConnectionError("the server went away")

    monkeypatch.setattr(flows.nightly, "nightly", broken)
    items = [Item(Source(str(n)), ExposureKey(night="20260101", visit=n, detector=0), None) for n in range(2)]
    night = Night(items, tmp_path, Settings(), None, Progress(Console(file=io.StringIO()), 2), SimpleNamespace())
    assert _search(night) == ["the flow ended early: ConnectionError: the server went away"]
    assert (len(night.tally.finished), len(night.tally.failed)) == (2, 2)


def test_our_error_comes_out_of_a_group_as_it_is(tmp_path, monkeypatch):
    """On every Python: what is raised under ``except*`` is a group before 3.11.4, and itself since."""
    ours = Misconfigured("not_writable", "OUT", "cannot be written.", "mend it.")

    async def broken(night):
        raise ExceptionGroup("", [ValueError(), ExceptionGroup("", [ours])])

    monkeypatch.setattr(flows.nightly, "nightly", broken)
    night = Night([], tmp_path, Settings(), None, Progress(Console(file=io.StringIO()), 0), SimpleNamespace())
    with pytest.raises(Misconfigured) as caught:
        _search(night)
    assert caught.value is ours


def test_first_error_of_a_kind():
    first, second = KeyError(1), KeyError(2)
    assert first_of(first, KeyError) is first
    assert first_of(ValueError(), KeyError) is None
    assert first_of(ExceptionGroup("", [ValueError(), ExceptionGroup("", [first]), second]), LookupError) is first
