"""A stream of exposures, searched as they arrive."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from time import monotonic, perf_counter
from typing import Literal

from prefect import flow

from flows.inputs.folder_arrivals import Arrivals
from flows.nights.cluster.cluster import Cluster
from flows.nights.cluster.local import start_worker_server
from flows.nights.cluster.memory import require_fit
from flows.nights.cluster.prefect_server import prefect_server
from flows.nights.nightly import NightRun, turn
from flows.nights.observation import StreamMeter
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.run import first_of, planner
from flows.nights.stream.intake import Intake
from flows.nights.stream.recorder import StreamRecorder
from flows.pipeline.outcome import Outcome
from flows.pipeline.plan import Item, Plan
from flows.pipeline.unpublish import SourceIndex
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine
from schemas.errors import NightstrideError, Retryable
from schemas.settings import Settings
from schemas.summary import RunSummary
from stages import PIPELINE


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


class StreamNight(NightRun):
    """Exposures as they arrive: what becomes of them is added up, and not kept.

    Parameters
    ----------
    feed, book, bounds
        What arrives, what it came to, times and bounds. Others as in `NightRun`.
    """

    __slots__ = ("_meter", "book", "bounds", "feed")

    def __init__(
        self,
        feed: Intake,
        book: StreamRecorder,
        bounds: Bounds,
        out: Path,
        settings: Settings,
        books: Recorder,
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


TICK_S = 5.0
"""How often it is written down how the stream goes, s."""


@flow(name="stream", validate_parameters=False)
async def stream(night: StreamNight) -> None:
    """Search what arrives, until it is asked to stop or nothing has arrived for long enough.

    What is taken and not begun is bounded, and nothing more is taken while it waits: what arrives meanwhile stays where
    it is. When it is asked to stop, exposures on their way are finished; those that wait are left to the next run.

    Raises
    ------
    ExceptionGroup of Misconfigured
        No exposure could succeed.
    """
    slots = asyncio.Semaphore(night.cluster.workers + 1)
    with night.drain.on_signals():
        ticks = asyncio.create_task(_tick(night))
        try:
            async with asyncio.TaskGroup() as group:
                await _serve(night, slots, group)
        finally:
            ticks.cancel()


async def _serve(night: StreamNight, slots: asyncio.Semaphore, group: asyncio.TaskGroup) -> None:
    """Take, plan and hand out, round after round."""
    busy, fits = monotonic(), False
    while not night.drain.asked:
        plan = await _take(night)
        if plan.todo:
            if not fits:
                require_fit(plan.todo[0].source, night.settings, night.cluster.memory_bytes)
                fits = True
            await _hand_out(night, plan.todo, slots, group)
        if plan.seen or night.feed.on_the_way or night.feed.arrivals.waiting:
            busy = monotonic()
        quiet = monotonic() - busy
        if quiet >= night.bounds.quiet_s:
            await asyncio.to_thread(night.book.bring_together)
        if night.bounds.idle_exit_s is not None and quiet >= night.bounds.idle_exit_s:
            return
        if not plan.seen:
            await night.drain.sleep(night.bounds.poll_s)


async def _take(night: StreamNight) -> Plan:
    """Plan what has arrived; a place that cannot be looked at is looked at again the next time."""
    try:
        plan = await asyncio.to_thread(night.feed.take, night.bounds.queue)
    except Retryable as error:
        night.book.trouble(str(error))
        return Plan((), (), 0)
    night.book.planned(plan)
    if unread := night.feed.unread:
        night.book.trouble(f"{len(unread)} of what arrived cannot be read now: {unread[0].message}")
    return plan


async def _hand_out(
    night: StreamNight, items: Sequence[Item], slots: asyncio.Semaphore, group: asyncio.TaskGroup
) -> None:
    """Begin the visits of some exposures, each when the one before has handed out all of its own."""
    deadline = night.settings.execution.visit_deadline_s
    for _, together in groupby(items, key=lambda item: (item.key.night, item.key.visit)):
        if night.drain.asked:
            return
        visit = list(together)
        budget = None if deadline is None else max(0.0, deadline - night.feed.waited(visit[0]))
        handed_out = asyncio.Event()
        group.create_task(turn(night, visit, slots, handed_out, budget))
        await handed_out.wait()


async def _tick(night: StreamNight) -> None:
    while True:
        with suppress(NightstrideError, OSError):  # the next may succeed
            await asyncio.to_thread(night.record, "draining" if night.drain.asked else "running")
        await asyncio.sleep(TICK_S)


def run_stream(
    source: str, arrivals: Arrivals, bounds: Bounds, out: Path, settings: Settings, progress: Progress
) -> RunSummary:
    """Search what arrives until it is asked to stop, or nothing has arrived for long enough.

    Parameters
    ----------
    source, arrivals, bounds
        Where exposures arrive, as the user wrote it and as it is read, and how much is taken at a time.
    out, settings, progress
        Of the run. The caller holds the lease of ``out``.

    Raises
    ------
    Misconfigured
        No exposure could succeed.
    Retryable
        The orchestrator failed: what is published is published, and the same command goes on.
    """
    start = perf_counter()
    server = prefect_server()
    if settings.cluster.kind == "local":
        start_worker_server()
    from flows.nights.cluster.cluster import cluster, warm_up

    book = StreamRecorder(source, out, settings, progress)
    with cluster(settings, out) as workers, progress.watched(workers):
        warm_up(workers, settings)
        index = SourceIndex(Ledger(out))
        feed = Intake(arrivals, planner(out, settings, index=index), index, Quarantine(out), settings)
        night = StreamNight(feed, book, bounds, out, settings, Recorder(out, settings, PIPELINE), progress, workers)
        server.wait()
        progress.say(f"Watching {source} with {workers.workers} workers.")
        startup = perf_counter() - start
        try:
            _search(night)
        finally:
            book.planned(Plan((), (), 0, failed=feed.unread))
            _let_go(night)
    if not night.drain.asked:
        book.bring_together()
    wall = perf_counter() - start
    elapsed = {"startup": startup, "search": wall - startup, "wall": wall}
    summary = book.summary()
    seconds = {**summary.seconds, **{name: round(value, 3) for name, value in elapsed.items()}}
    return summary.model_copy(update={"seconds": seconds})


def _let_go(night: StreamNight) -> None:
    """Leave the place where files arrive, and write down the end; what fails here must not hide why it ended."""
    for step in (night.feed.arrivals.close, partial(night.record, "ended")):
        try:
            step()
        except Exception as error:
            night.progress.say(f"at the end: {type(error).__name__}: {error}")


def _search(night: StreamNight) -> None:

    try:
        asyncio.run(stream(night))
    except Exception as group:
        if (ours := first_of(group, NightstrideError)) is not None:
            raise ours from group
        error = first_of(group, Exception)
        raise Retryable(
            "stream",
            "the stream",
            f"ended early: {type(error).__name__}: {error}.",
            "start it again: what is published is kept, and the rest is done.",
        ) from group
