"""A night without an end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.adapters.ledger import Ledger
from flows.books import Books
from flows.cluster import Cluster
from flows.feed import Feed
from flows.night import Night
from flows.observe.meter import StreamMeter
from flows.outcome import Outcome
from flows.progress import Progress
from flows.stream_book import StreamBook
from schemas.settings import Settings


@dataclass(frozen=True)
class Bounds:
    """Times and bounds of a stream.

    Attributes
    ----------
    queue
        Exposure files that are taken at a time, at most.
    poll_s
        Between two looks where nothing was found, s.
    quiet_s
        Without an arrival for so long, nights are brought together and their pages drawn, s.
    idle_exit_s
        Without an arrival for so long, the stream ends, s; None: never.
    """

    queue: int
    poll_s: float
    quiet_s: float
    idle_exit_s: float | None


class StreamNight(Night):
    """Exposures as they arrive: what becomes of them is added up, and not kept.

    Parameters
    ----------
    feed, book, bounds
        What arrives, what it came to, times and bounds. Others as in `Night`.
    """

    __slots__ = ("_meter", "book", "bounds", "feed")

    def __init__(
        self,
        feed: Feed,
        book: StreamBook,
        bounds: Bounds,
        out: Path,
        settings: Settings,
        books: Books,
        progress: Progress,
        cluster: Cluster,
    ) -> None:
        super().__init__((), out, settings, books, progress, cluster)
        self.feed, self.book, self.bounds = feed, book, bounds
        self._meter: StreamMeter | None = None
        if progress.meter is not None:
            self._meter = StreamMeter(
                progress.meter, lambda: feed.on_the_way, lambda: feed.arrivals.waiting, feed.oldest_s
            )

    def finished(self, outcome: Outcome) -> None:
        """Add an outcome up."""
        waited = self.feed.waited(outcome.item)
        self.book.finished(outcome, waited)
        if self._meter is not None and outcome.status == "done":
            self._meter.turned_around(waited)
        self.feed.finished(outcome.item)

    def record(self, state: Literal["running", "draining", "ended"]) -> None:
        """Write down how the stream goes, for `nightstride status`."""
        record = self.book.record(state, self.feed.on_the_way, self.feed.arrivals.waiting)
        Ledger(self.out).put_watch(record)
