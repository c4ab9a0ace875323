import asyncio
import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.adapters.ledger import Ledger
from flows.observe.meter import Meter
from flows.progress import StreamProgress
from flows.stream_night import Bounds, StreamNight
from schemas.ledger import WatchRecord
from schemas.settings import Settings
from schemas.summary import ExposureCounts

COUNTS = ExposureCounts(seen=0, done=0, skipped=0, quarantined=0, failed=0)


@pytest.mark.parametrize("meter", [None, Meter()])
def test_outcomes_are_handed_on_and_not_kept(tmp_path, meter):
    told = []
    feed = SimpleNamespace(
        waited=lambda item: 7.0,
        finished=told.append,
        on_the_way=3,
        arrivals=SimpleNamespace(waiting=2),
        oldest_s=lambda: 8.5,
    )

    def record(state, on_the_way, waiting):
        return WatchRecord(
            state=state, source="in", host="h", pid=1, since="now", updated_at="now", on_the_way=on_the_way,
            waiting=waiting, exposures=COUNTS,
        )  # fmt: skip

    book = SimpleNamespace(finished=lambda *given: told.append(given), record=record)
    cluster = SimpleNamespace(workers=2)
    progress = StreamProgress(Console(file=io.StringIO()), meter)
    night = StreamNight(feed, book, Bounds(1, 1, 1, None), tmp_path, Settings(), None, progress, cluster)
    outcome = SimpleNamespace(item="item", status="done")
    night.finished(outcome)
    assert told == [(outcome, 7.0), "item"]
    assert not night.tally.finished
    night.record("draining")
    written = Ledger(tmp_path).watch()
    assert (written.state, written.on_the_way, written.waiting) == ("draining", 3, 2)
    if meter is not None:
        figures = {"on_the_way": 3, "waiting": 2, "oldest_seconds": 8.5}
        for name, value in figures.items():
            assert meter.registry.get_sample_value(f"nightstride_stream_{name}") == value
        assert meter.registry.get_sample_value("nightstride_turnaround_seconds_sum") == 7.0
    assert not night.draining
    asyncio.run(_ask(night))
    assert night.draining


async def _ask(night):
    night.drain.ask()
