"""From files that arrive to exposures that are to be searched."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flows.adapters.arrivals import Arrivals
from flows.adapters.sources import Source, list_sources
from flows.plan import Item, Plan, Planner
from flows.source_name import name_of
from flows.withdrawal import Name, SourceIndex, name_tuple
from schemas.errors import Misconfigured
from schemas.settings import Settings

VISITS = 1000
"""Of so many visits it is kept when their first exposure arrived."""


@dataclass
class Feed:
    """Takes what has arrived, and plans it.

    Parameters
    ----------
    arrivals
        Where files come from.
    planner
        Decides what is to be done with each.
    index
        The planner's, to be kept up to date.
    settings
        Of the run.
    clock
        Time, s.
    """

    arrivals: Arrivals
    planner: Planner
    index: SourceIndex
    settings: Settings
    clock: Callable[[], float] = time.monotonic
    _flying: dict[Name, str] = field(default_factory=dict, init=False)
    _held: list[Source] = field(default_factory=list, init=False)
    _since: dict[tuple[str, int], float] = field(default_factory=dict, init=False)

    @property
    def on_the_way(self) -> int:
        """Exposures handed out and not finished."""
        return len(self._flying)

    def take(self, room: int) -> Plan:
        """Plan what has arrived: at most ``room`` files, and second deliveries that had to wait.

        A delivery of an exposure that is on its way waits until that is finished; then the ledger says whether it is
        the same.

        Raises
        ------
        Retryable
            The place where files arrive cannot be looked at.
        Misconfigured
            A model or the ledger cannot be used.
        """
        uris = self.arrivals.poll(room)
        fresh = self._sources(uris)
        plan = self.planner.plan([*self._held, *fresh]) if fresh or self._held else Plan((), (), 0)
        todo = [item for item in plan.todo if name_tuple(item.key) not in self._flying]
        self._held = [item.source for item in plan.todo if name_tuple(item.key) in self._flying]
        now = self.clock()
        for item in todo:
            self._flying[name_tuple(item.key)] = item.source.uri
            self._since.setdefault((item.key.night, item.key.visit), now)
        while len(self._since) > VISITS:
            self._since.pop(next(iter(self._since)))
        self._settle(uris)
        return Plan(tuple(todo), plan.published, plan.skipped, plan.quarantined, plan.failed, plan.withdrawn)

    def waited(self, item: Item) -> float:
        """How long ago the first exposure of a visit arrived, s."""
        now = self.clock()
        return now - self._since.get((item.key.night, item.key.visit), now)

    def finished(self, item: Item) -> None:
        """Be told that an exposure that was handed out has its outcome."""
        self.index.add(name_of(item.source), item.key)
        uri = self._flying.pop(name_tuple(item.key), None)
        if uri is not None:
            self._settle([uri])

    def _settle(self, uris: Sequence[str]) -> None:
        """Tell the place of those files of which nothing is on its way or held."""
        still = {*self._flying.values(), *(source.uri for source in self._held)}
        for uri in uris:
            if uri not in still:
                self.arrivals.finished(uri)

    def _sources(self, uris: Sequence[str]) -> list[Source]:
        """Exposures in files; one that holds none is left out, one that is not there is quarantined with the reason."""
        found: list[Source] = []
        for uri in uris:
            try:
                found += list_sources([uri], self.settings)
            except Misconfigured as error:
                if error.code == "no_such_input":
                    found.append(Source(uri))
                elif error.code != "no_exposures":
                    raise
        return found
