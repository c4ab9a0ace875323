import io
from types import SimpleNamespace

from rich.console import Console

import flows.nightly
from flows.adapters.sources import Source
from flows.night import Night
from flows.night_run import _search
from flows.plan import Item
from flows.progress import Progress
from schemas.exposure import ExposureKey
from schemas.settings import Settings


def test_a_flow_that_ends_early_leaves_a_warning_and_every_exposure_an_outcome(tmp_path, monkeypatch):
    async def broken(night):
        raise ConnectionError("the server went away")

    monkeypatch.setattr(flows.nightly, "nightly", broken)
    items = [Item(Source(str(n)), ExposureKey(night="20260101", visit=n, detector=0), None) for n in range(2)]
    night = Night(items, tmp_path, Settings(), None, Progress(Console(file=io.StringIO()), 2), SimpleNamespace())
    assert _search(night) == ["the flow ended early: ConnectionError: the server went away"]
    assert [outcome.status for outcome in night.outcomes] == ["failed", "failed"]
