"""A night's work, and what has become of it so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.books import Books
from flows.cluster import Cluster
from flows.outcome import Outcome
from flows.plan import Item
from flows.progress import Progress
from schemas.settings import Settings


@dataclass
class Night:
    """What the flow works on.

    Attributes
    ----------
    items
        Exposures to search, by night and visit.
    out, settings, books, progress, cluster
        Where results go, and what does the work.
    outcomes
        One for each exposure that is finished, in the order in which they finished. Kept here and not returned, so
        that it outlives a flow that ends in an error.
    """

    items: Sequence[Item]
    out: Path
    settings: Settings
    books: Books
    progress: Progress
    cluster: Cluster
    outcomes: list[Outcome] = field(default_factory=list)
