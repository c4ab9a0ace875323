"""A night's work, and what has become of it so far."""

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from flows.books import Books
from flows.cluster import Cluster
from flows.drain import Drain
from flows.night_tally import NightTally
from flows.outcome import Outcome
from flows.plan import Item
from flows.progress import Progress
from schemas.settings import Settings

LEAST_TASKS = 4
"""Tasks that search one exposure: few cost little, and the last exposures of a night still occupy several workers."""

MANY = 16
"""Exposures left for each worker from which on these alone keep all workers busy: one task searches each of them."""


class Night:
    """What the flow works on.

    No dataclass, and with slots: Prefect would walk through it for each task, and store a copy of all of it as the
    parameters of the flow.

    Parameters
    ----------
    items
        Exposures to search, by night and visit.
    out, settings, books, progress, cluster
        Where results go, and what does the work.

    Attributes
    ----------
    drain
        Whether it has been asked to stop.
    tally
        What became of the exposures that are finished. Kept here and not returned, so that it outlives a flow that ends
        in an error.
    """

    __slots__ = ("books", "cluster", "drain", "items", "out", "progress", "settings", "tally")

    def __init__(
        self,
        items: Sequence[Item],
        out: Path,
        settings: Settings,
        books: Books,
        progress: Progress,
        cluster: Cluster,
    ) -> None:
        self.items, self.out, self.settings = items, out, settings
        self.books, self.progress, self.cluster = books, progress, cluster
        self.tally = NightTally()
        self.drain = Drain()

    @property
    def draining(self) -> bool:
        """Whether no further exposure is to be begun."""
        return self.drain.asked

    def finished(self, outcome: Outcome) -> None:
        """Take in what became of an exposure."""
        self.tally.add(outcome)

    @property
    def tasks(self) -> int:
        """Tasks among which the tiles of an exposure are shared out; more where workers outnumber exposures."""
        left, workers = len(self.items) - len(self.tally.finished), self.cluster.workers
        return 1 if left >= MANY * workers else max(LEAST_TASKS, ceil(workers / max(left, 1)))
