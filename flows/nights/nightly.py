"""Flow of a night: one Prefect task per visit, one or a few Dask tasks per exposure."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Protocol

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.inputs.source import name_of
from flows.nights.association import STORE, associate
from flows.nights.cluster.cluster import Cluster
from flows.nights.exposure_run import MANY, ExposureRun
from flows.nights.exposure_work import Worked
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.totals import NightTotals
from flows.pipeline.outcome import Item, Outcome
from flows.runtime.traces import Fields, bound, span
from flows.storage.holder import own_fence
from schemas.exposure import ExposureKey
from schemas.settings import Settings
from schemas.summary import CLUSTER_LOST, Trouble

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Request to stop a run.

    Parameters
    ----------
    heard
        Receives each signal first.
    """

    def __init__(self, heard: Callable[[int], None] = lambda number: None) -> None:
        self._asked, self._told = asyncio.Event(), heard

    @property
    def asked(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask the run to stop."""
        self._asked.set()

    async def sleep(self, seconds: float) -> None:
        """Wait, at most until the run is asked to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT in the running loop; the second signal ends the process at once.

        Prefect's own handler would raise at an arbitrary point of the process. Outside the main thread, where Python
        handles no signals, this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            loop.add_signal_handler(number, self._heard, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, before[number])

    def _heard(self, number: int) -> None:
        self._told(number)
        if self.asked:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.ask()


LEAST_TASKS = 4
"""Tasks that search one exposure: few cost little, and the last exposures of a night still occupy several workers."""


class Outlet(Protocol):
    """Sender of the alerts of published visits; its failures do not affect the run."""

    def begin(self, night: str, visit: int) -> None:
        """Record, before a visit is searched, that its alerts must be sent."""

    def visit(self, night: str, visit: int, since: float | None) -> None:
        """Send the alerts of a visit that arrived, or ended, at a given time, s since 1970; None: not known."""


class NightRun:
    """State of the flow of a night.

    This is a class with slots, not a dataclass: Prefect would traverse a dataclass for each task, and store a copy of
    all of it as parameters of the flow.

    Parameters
    ----------
    items
        Exposures to search, by night and visit.
    out, settings, recorder, progress
        Destination of the results.
    started
        Called in a thread when the flow starts; waits for the cluster, and returns it each time.
    outlet
        Sender of alerts; None: none are sent.
    meanwhile
        Called in a thread once, when all exposures are handed out and the tiles of one of the last are searched, so
        that some workers are idle.
    ahead
        Exposures whose search has already started.

    Attributes
    ----------
    shutdown
        Request to stop.
    caught_up
        Nights whose earlier published detections are all associated.
    handed_out
        Whether all exposures are handed out and ``meanwhile`` has not been called yet.
    fence
        Lease of the run, without which its workers publish nothing; None: no process holds ``out``.
    totals
        Outcomes of finished exposures, stored here so that they survive a flow that ends in an error.
    """

    __slots__ = (
        "ahead",
        "caught_up",
        "fence",
        "handed_out",
        "items",
        "meanwhile",
        "out",
        "outlet",
        "progress",
        "recorder",
        "settings",
        "shutdown",
        "started",
        "totals",
    )

    def __init__(
        self,
        items: Sequence[Item],
        out: Path,
        settings: Settings,
        recorder: Recorder,
        progress: Progress,
        started: Callable[[], Cluster],
        outlet: Outlet | None = None,
        meanwhile: Callable[[], object] = lambda: None,
        ahead: MutableMapping[ExposureKey, Future[Worked]] | None = None,
    ) -> None:
        self.items, self.out, self.settings = items, out, settings
        self.outlet, self.meanwhile, self.started = outlet, meanwhile, started
        self.ahead = {} if ahead is None else ahead
        self.handed_out, self.caught_up = False, set[str]()
        self.recorder, self.progress = recorder, progress
        self.fence = own_fence(out)
        self.totals = NightTotals()
        self.shutdown = Shutdown()

    @property
    def cluster(self) -> Cluster:
        """Return the cluster that does the work."""
        return self.started()

    @property
    def stopping(self) -> bool:
        """Return whether no further exposure may start."""
        return self.shutdown.asked

    @property
    def cut_short(self) -> bool:
        """Return whether the association and night-level stages are left to the next run.

        Stationary objects take their ids from the first published detection, and exposures in progress may be published
        in any order.
        """
        return self.stopping or any(one.code == CLUSTER_LOST for one in self.totals.failed)

    def leaves_out(self, item: Item) -> bool:
        """Return whether an exposure may no longer start."""
        return self.stopping and item.key not in self.ahead

    def searched(self) -> None:
        """Call ``meanwhile``, the first time after all exposures were handed out."""
        if self.handed_out:
            self.handed_out = False
            threading.Thread(target=self.meanwhile).start()

    def finished(self, outcome: Outcome) -> None:
        """Record the outcome of an exposure."""
        self.totals.add(outcome)

    def visit_done(self, key: ExposureKey, outcomes: Sequence[Outcome]) -> None:
        """Associate the published detections of a visit, and send its alerts."""
        ended = [one.exposure_ended.timestamp() for one in outcomes if one.exposure_ended is not None]
        self.send_alerts(key, min(ended, default=None))

    def send_alerts(self, key: ExposureKey, since: float | None) -> None:
        """Associate what is published of a visit, and send its alerts.

        Of the night all is associated that was published before, the first time, and where the store has failed since.
        """
        visit = key.visit if key.night in self.caught_up else None
        made = associate(self.out, self.settings.association, {key.night}, others=0, visit=visit)
        for text in made.changed:  # the summary has it, with the catalogues of the night
            self.progress.say(f"warning: {text}", logging.WARNING)
        found = made.summary
        failed = any(one.uri == STORE for one in found.failed)
        (self.caught_up.discard if failed else self.caught_up.add)(key.night)
        self.progress.associated(found.known, found.new, found.left_out)
        if self.outlet is not None:
            self.outlet.visit(key.night, key.visit, since)

    @property
    def tasks(self) -> int:
        """Return the number of tasks that share the tiles of an exposure; more where workers outnumber exposures."""
        left, workers = len(self.items) - len(self.totals.finished), self.cluster.workers
        return 1 if left >= MANY * workers else max(LEAST_TASKS, ceil(workers / max(left, 1)))


# Prefect reports at exit, whatever the logging level, that it is still sending events.
logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)


async def nightly(night: NightRun) -> None:
    """Run the flow of a night: search all its exposures; their outcomes are in ``night.totals``.

    Visits start in order, each when the one before has handed out all its exposures. They overlap at their ends, so
    that every worker has work, while the exposures in progress, and with them memory and disk, are bounded. After a
    signal, exposures in progress are finished and no more are started.

    Raises
    ------
    ExceptionGroup of Misconfigured
        No exposure could succeed.
    """
    import prefect.flow_engine

    # Prefect's handler of SIGTERM raises at an arbitrary point, where the exception may be lost.
    prefect.flow_engine.capture_sigterm = nullcontext  # type: ignore[assignment, attr-defined]
    _NIGHT.set(night)
    await _nightly()


_NIGHT: ContextVar[NightRun] = ContextVar("night")
"""Night of the flow. No parameter: Prefect would import FastAPI to store it, which takes a quarter of a second."""


@flow(name="nightly")
async def _nightly() -> None:
    night = _NIGHT.get()
    with night.shutdown.on_signals(), span("nightly", {"exposures": len(night.items)}):
        cluster = await asyncio.to_thread(night.started)
        if not night.ahead:
            night.progress.begin()
        await _visits(night, asyncio.Semaphore(cluster.workers + 1))


async def _visits(night: NightRun, slots: asyncio.Semaphore) -> None:
    async with asyncio.TaskGroup() as group:
        for _, items in groupby(night.items, key=lambda item: (item.key.night, item.key.visit)):
            handed_out = asyncio.Event()
            budget = night.settings.execution.visit_deadline_s
            group.create_task(turn(night, list(items), slots, handed_out, budget))
            await handed_out.wait()
            if night.stopping and not night.ahead:
                return
        night.handed_out = True


async def turn(
    night: NightRun, items: list[Item], slots: asyncio.Semaphore, handed_out: asyncio.Event, budget_s: float | None
) -> None:
    """Run the task of a visit; ``handed_out`` is set when it ends, however it does. Parameters as in `visit`."""
    try:
        key = items[0].key
        named = visit.with_options(task_run_name=f"visit {key.visit}")
        fields: Fields = {"night": key.night, "visit": key.visit}
        with bound(fields), span("visit", fields):
            await named(night, items, slots, handed_out, budget_s)
    finally:
        handed_out.set()


@task(name="visit", cache_policy=NO_CACHE)
async def visit(
    night: NightRun, items: list[Item], slots: asyncio.Semaphore, handed_out: asyncio.Event, budget_s: float | None
) -> None:
    """Search the exposures of one visit within its time budget; record the exposures dropped when it is used up.

    Parameters
    ----------
    night, items
        State of the night, and its exposures of this visit.
    slots
        Semaphore; one slot is held for each exposure in progress.
    handed_out
        Set as soon as none of the exposures waits for a slot.
    budget_s
        Remaining time for the visit, s; None: no limit.
    """
    left, done = {item.key: item for item in items}, list[Outcome]()
    if night.outlet is not None:
        await asyncio.to_thread(night.outlet.begin, items[0].key.night, items[0].key.visit)
    async with night.cluster.client(asynchronous=True) as client:

        async def one(item: Item) -> None:
            # Made for each exposure, since near the end of a night or a large visit several tasks share an exposure.
            run = ExposureRun(
                client,
                night.out,
                night.settings,
                night.recorder,
                night.progress,
                night.tasks,
                night.cluster.terms,
                night.fence,
                night.ahead,
                night.searched,
            )
            outcome = await run(item)
            night.finished(outcome)
            left.pop(item.key)
            if outcome.status == "done":
                done.append(outcome)

        try:
            async with asyncio.timeout(budget_s), asyncio.TaskGroup() as group:
                for item in items:
                    if night.leaves_out(item):
                        continue
                    await slots.acquire()
                    if night.leaves_out(item):  # asked to stop meanwhile
                        slots.release()
                        continue
                    # Not in the task itself: a task cancelled before its start would keep its slot.
                    group.create_task(one(item)).add_done_callback(lambda _: slots.release())
                handed_out.set()
        except TimeoutError:
            for item in left.values():
                outcome = night.recorder.failed(item, _shed(item, night.settings))
                night.finished(outcome)
                night.progress.finished(outcome)
    if done and (night.outlet is not None or night.settings.association.each_visit):
        await asyncio.to_thread(night.visit_done, items[0].key, done)


def _shed(item: Item, settings: Settings) -> Trouble:
    return Trouble(
        uri=name_of(item.source),
        code="deadline",
        message=f"{name_of(item.source)}: visit {item.key.visit} was not done within execution.visit_deadline_s = "
        f"{settings.execution.visit_deadline_s} s. To fix, run again, allow more time or add workers.",
    )
