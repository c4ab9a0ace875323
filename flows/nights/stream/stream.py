"""Stream of exposures, searched as they arrive, and its results so far."""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import Literal

from prefect import flow

from flows.inputs.folder_arrivals import Arrivals
from flows.inputs.source import name_of
from flows.inputs.source_state import sha256_of
from flows.nights.cluster.cluster import Cluster
from flows.nights.cluster.startup import start_services
from flows.nights.joined_catalogues import compacted, take_apart
from flows.nights.meter import StreamMeter
from flows.nights.nightly import NightRun, Outlet, Shutdown, turn
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.nights.run import planner, with_catalogues, with_report
from flows.nights.stream.intake import Intake
from flows.nights.stream.stop import Stop
from flows.nights.totals import NightTotals, combined, summarise_run
from flows.pipeline.outcome import Item, Outcome, Plan
from flows.runtime.lag import Lag, lag_since
from flows.runtime.words import counted
from flows.storage.ledger import Ledger
from flows.storage.quarantine import Quarantine, is_gone
from schemas.errors import NightstrideError, Retryable, first_of
from schemas.exposure import ExposureKey
from schemas.ledger import WatchRecord
from schemas.settings import Settings
from schemas.summary import RunSummary, Trouble
from stages import PIPELINE

NOTHING = Plan((), (), 0)
"""Plan without sources."""

SETTLED_S = 60.0
"""How long a file must stay in quarantine before the metrics count it, s: a transfer may still be in progress."""


@dataclass(frozen=True)
class Bounds:
    """Times and limits of a stream.

    Attributes
    ----------
    queue
        Largest number of exposure files taken at a time.
    poll_s
        Time between two looks if nothing was found, s.
    quiet_s
        Time without an arrival after which nights are completed and their pages drawn, s.
    idle_exit_s
        Time without an arrival after which the stream ends, s; None: never.
    """

    queue: int
    poll_s: float
    quiet_s: float
    idle_exit_s: float | None


class StreamRecorder:
    """Recorder of a stream: adds up outcomes, and completes nights when no exposures arrive.

    Parameters
    ----------
    source
        Where exposures arrive, as the user wrote it.
    out, settings, progress
        Output folder, settings and progress of the run.
    """

    def __init__(self, source: str, out: Path, settings: Settings, progress: Progress) -> None:
        self._source, self._out, self._settings, self._progress = source, out, settings, progress
        self._since, self._said = _now(), ""
        self._totals = summarise_run(NOTHING, NightTotals())
        self._nights: dict[str, RunSummary] = {}
        self._touched: set[str] = set()
        self._listed: set[str] = set()
        self._lag, self._turnaround = Lag(), Lag()
        self._unsettled: dict[str, tuple[float, Trouble]] = {}
        self._settled: set[str] = set()

    def planned(self, plan: Plan) -> None:
        """Count sources that need no search: published before, unusable, or unreadable for now."""
        self._progress.planned(replace(plan, quarantined=()))
        for trouble in plan.quarantined:
            self._progress.say(
                f"quarantined: {trouble.message}", logging.WARNING, code=trouble.code, problem=trouble.message
            )
        refused = {trouble.uri for trouble in plan.quarantined}
        self._forgotten({name_of(one.source) for one in plan.todo} - refused, "is searched now")
        self._forgotten({name_of(one.source) for one in plan.published if one.source} - refused, "is published")
        self._forgotten(refused)
        self._put_aside(plan.quarantined)
        self._add(summarise_run(replace(plan, todo=(), published=(), withdrawn=()), NightTotals()))
        self._touched |= {record.night for item in plan.todo for record in item.superseded}
        self._touched |= {record.night for record in plan.withdrawn}
        self._listed |= {one.key.night for one in plan.published} - self._nights.keys()

    def trouble(self, text: str) -> None:
        """Report a trouble that is tried again, but not twice in a row."""
        if text != self._said:
            self._progress.say(f"waiting: {text}", logging.WARNING)
        self._said = text

    def finished(self, outcome: Outcome, waited_s: float) -> None:
        """Count an exposure with its outcome, ``waited_s`` after it arrived."""
        self._add(summarise_run(Plan((outcome.item,), (), 0), NightTotals([outcome])))
        self._touched.add(outcome.item.key.night)
        if outcome.status == "quarantined" and outcome.trouble is not None:
            self._put_aside([outcome.trouble])
        if outcome.status == "done":
            self._turnaround.add(waited_s)
            if outcome.exposure_ended is not None:
                self._lag.add(lag_since(outcome.exposure_ended))

    def settle(self, after_s: float = SETTLED_S) -> None:
        """Count files in the metrics once they have been in quarantine for ``after_s``."""
        self._forgotten({one.uri for one in self._totals.quarantined if is_gone(one.uri, one.code)}, "is gone")
        now = monotonic()
        final = [uri for uri, (since, _) in self._unsettled.items() if now - since >= after_s]
        self._progress.planned(replace(NOTHING, quarantined=tuple(self._unsettled.pop(uri)[1] for uri in final)))
        self._settled.update(final)

    def bring_together(self, workers: Cluster | None = None) -> None:
        """Run the stages of nights that have changed, and draw their pages.

        Parameters
        ----------
        workers
            Running cluster, if there is one.

        Notes
        -----
        A night for which this fails is counted as failed; if it may succeed later, the next call tries again.
        """
        touched, nights = self._touched, sorted(self._touched | self._listed)
        self._touched, self._listed = set(), set()
        for night in nights:
            empty = summarise_run(NOTHING, NightTotals()).model_copy(update={"nights": (night,)})
            try:
                made = with_catalogues(empty, self._out, self._settings, self._progress, workers)
            except NightstrideError as error:
                self._nights[night] = self._not_made(empty, night, error)
                continue
            if night in touched or "objects" in made.seconds:
                made = with_report(made, night, self._out, self._settings, of_run=False)
            self._tell_troubles(made, self._nights.get(night))
            self._nights[night] = compacted(made, self._out, self._settings, self._progress)

    def summary(self) -> RunSummary:
        """Return the summary so far."""
        nights = {*self._nights, *self._touched, *self._listed}
        return combined([self._totals, *self._nights.values()]).model_copy(update={"nights": tuple(sorted(nights))})

    def record(self, state: Literal["running", "draining", "ended"], on_the_way: int, waiting: int) -> WatchRecord:
        """Return a record of the state of the stream.

        Parameters
        ----------
        state
            What the stream is doing.
        on_the_way, waiting
            Exposures taken and not finished; files known to wait where they arrived.
        """
        return WatchRecord(
            state=state,
            source=self._source,
            host=socket.gethostname(),
            pid=os.getpid(),
            since=self._since,
            updated_at=_now(),
            on_the_way=on_the_way,
            waiting=waiting,
            exposures=self._totals.exposures,
            lag_s=self._lag.percentiles(),
            turnaround_s=self._turnaround.percentiles(),
        )

    def _forgotten(self, names: set[str], why: str = "") -> None:
        """Forget troubles with files that are gone or have arrived again: only the new outcome counts.

        ``why`` is reported for those that were quarantined; empty: nothing is reported.
        """
        for trouble in self._totals.quarantined if why else ():
            if trouble.uri in names:
                self._progress.say(f"out of quarantine: {trouble.uri} {why}")
        for name in names:
            self._unsettled.pop(name, None)
        totals = self._totals
        kept = {
            kind: tuple(one for one in getattr(totals, kind) if one.uri not in names)
            for kind in ("quarantined", "failed")
        }
        gone = {kind: len(getattr(totals, kind)) - len(left) for kind, left in kept.items()}
        counts = {"seen": totals.exposures.seen - sum(gone.values())}
        counts |= {kind: getattr(totals.exposures, kind) - number for kind, number in gone.items()}
        self._totals = totals.model_copy(update={**kept, "exposures": totals.exposures.model_copy(update=counts)})

    def _put_aside(self, quarantined: Sequence[Trouble]) -> None:
        """Hold quarantined files back from the metrics at first: they may soon be replaced."""
        now = monotonic()
        self._unsettled |= {one.uri: (now, one) for one in quarantined if one.uri not in self._settled}

    def _add(self, part: RunSummary) -> None:
        self._totals = combined([self._totals, part])

    def _tell_troubles(self, made: RunSummary, before: RunSummary | None) -> None:
        """Report failures of a night that were not reported the last time."""
        known = () if before is None else (*before.night_failed, *before.quality_failed)
        for trouble in (*made.night_failed, *made.quality_failed):
            if trouble not in known:
                self._progress.say(f"failed: {trouble.message}", logging.WARNING, code=trouble.code)

    def _not_made(self, summary: RunSummary, night: str, error: NightstrideError) -> RunSummary:
        if isinstance(error, Retryable):
            self._touched.add(night)
            self.trouble(f"night {night}: {error}")
        else:
            self._progress.say(f"failed: night {night}: {error}", logging.WARNING)
        trouble = Trouble(uri=f"night {night}", code=error.code, message=str(error))
        return summary.model_copy(update={"night_failed": (trouble,)})


class StreamNight(NightRun):
    """State of a stream: outcomes are added up, not kept.

    Parameters
    ----------
    intake, stream_recorder, bounds, stop
        Source of exposures, recorder, times and limits, and handling of signals. Others as in `NightRun`.
    """

    __slots__ = ("_arrived", "_meter", "bounds", "intake", "stream_recorder")

    def __init__(
        self,
        intake: Intake,
        stream_recorder: StreamRecorder,
        bounds: Bounds,
        out: Path,
        settings: Settings,
        recorder: Recorder,
        progress: Progress,
        cluster: Cluster,
        outlet: Outlet | None = None,
        stop: Stop | None = None,
    ) -> None:
        super().__init__((), out, settings, recorder, progress, lambda: cluster, outlet)
        if stop is not None:
            self.shutdown = Shutdown(stop.heard)
        self._arrived: dict[tuple[str, int], float] = {}
        self.intake, self.stream_recorder, self.bounds = intake, stream_recorder, bounds
        self._meter: StreamMeter | None = None
        if progress.meter is not None:
            self._meter = StreamMeter(
                progress.meter, lambda: intake.on_the_way, lambda: intake.arrivals.waiting, intake.oldest_s
            )

    def finished(self, outcome: Outcome) -> None:
        """Add an outcome."""
        waited = self.intake.waited(outcome.item)
        if self.outlet is not None:
            self._arrived.setdefault((outcome.item.key.night, outcome.item.key.visit), time() - waited)
        self.stream_recorder.finished(outcome, waited)
        if self._meter is not None and outcome.status == "done":
            self._meter.turned_around(waited)
        self.intake.finished(outcome.item)

    def visit_done(self, key: ExposureKey, outcomes: Sequence[Outcome]) -> None:
        """Associate what is published of a visit, and send its alerts; their delay counts from the first arrival."""
        self.send_alerts(key, self._arrived.pop((key.night, key.visit), None))

    def record(self, state: Literal["running", "draining", "ended"]) -> None:
        """Record the state of the stream for `nightstride status`."""
        record = self.stream_recorder.record(state, self.intake.on_the_way, self.intake.arrivals.waiting)
        Ledger(self.out).put_watch(record)


TICK_S = 5.0
"""How often the state of the stream is recorded, s."""


@flow(name="stream", validate_parameters=False)
async def stream(night: StreamNight) -> None:
    """Search what arrives until the stream is asked to stop or nothing has arrived for long enough.

    The number of exposures taken and not begun is limited; while they wait, nothing more is taken, and new files stay
    where they are. After a request to stop, exposures in progress are finished; waiting ones are left to the next run.

    Raises
    ------
    ExceptionGroup of Misconfigured
        No exposure could succeed.
    """
    slots = asyncio.Semaphore(night.cluster.workers + 1)
    with night.shutdown.on_signals():
        ticks = asyncio.create_task(_tick(night))
        try:
            async with asyncio.TaskGroup() as group:
                await _serve(night, slots, group)
        finally:
            ticks.cancel()


async def _serve(night: StreamNight, slots: asyncio.Semaphore, group: asyncio.TaskGroup) -> None:
    """Take, plan and hand out, again and again."""
    busy = monotonic()
    while not night.shutdown.asked:
        plan = await _take(night)
        night.stream_recorder.settle()
        if plan.todo:
            await asyncio.to_thread(take_apart, plan.todo, night.out)
            await _hand_out(night, plan.todo, slots, group)
        arrivals = night.intake.arrivals
        if plan.seen or night.intake.on_the_way or arrivals.waiting or not arrivals.ready:
            busy = monotonic()
        quiet = monotonic() - busy
        if quiet >= night.bounds.quiet_s:
            await asyncio.to_thread(night.stream_recorder.bring_together, night.cluster)
        if night.bounds.idle_exit_s is not None and quiet >= night.bounds.idle_exit_s:
            return
        if not plan.seen:
            await night.shutdown.sleep(night.bounds.poll_s)


async def _take(night: StreamNight) -> Plan:
    """Plan what has arrived; if the place cannot be listed, the next round tries again."""
    try:
        plan = await asyncio.to_thread(night.intake.take, night.bounds.queue)
    except Retryable as error:
        night.stream_recorder.trouble(str(error))
        return Plan((), (), 0)
    night.stream_recorder.planned(plan)
    if unread := night.intake.unread:
        night.stream_recorder.trouble(f"{len(unread)} of what arrived cannot be read now: {unread[0].message}")
    return plan


async def _hand_out(
    night: StreamNight, items: Sequence[Item], slots: asyncio.Semaphore, group: asyncio.TaskGroup
) -> None:
    """Start the visits of some exposures, each when the previous one has handed out all its exposures."""
    deadline = night.settings.execution.visit_deadline_s
    for _, together in groupby(items, key=lambda item: (item.key.night, item.key.visit)):
        if night.shutdown.asked:
            return
        visit = list(together)
        budget = None if deadline is None else max(0.0, deadline - night.intake.waited(visit[0]))
        handed_out = asyncio.Event()
        group.create_task(turn(night, visit, slots, handed_out, budget))
        await handed_out.wait()


async def _tick(night: StreamNight) -> None:
    while True:
        with suppress(NightstrideError, OSError):  # the next one may succeed
            await asyncio.to_thread(night.record, "draining" if night.shutdown.asked else "running")
        await asyncio.sleep(TICK_S)


def run_stream(
    source: str,
    arrivals: Arrivals,
    bounds: Bounds,
    out: Path,
    settings: Settings,
    progress: Progress,
    outlet: Outlet | None = None,
    stop: Stop | None = None,
) -> RunSummary:
    """Search what arrives until the stream is asked to stop or nothing has arrived for long enough.

    Parameters
    ----------
    source, arrivals, bounds
        Where exposures arrive as the user wrote it, the arrivals themselves, and times and limits.
    out, settings, progress
        Output folder, settings and progress of the run. The caller holds the lease of ``out``.
    outlet
        Sends the alerts of visits; None: no alerts are sent.
    stop
        Handles signals and limits the time to the end; None: the first signal lets work finish, the second kills.

    Raises
    ------
    Misconfigured
        No exposure could succeed.
    Retryable
        The orchestrator failed: published exposures are kept, and the same command continues.
    """
    start = perf_counter()
    server = start_services(settings)
    from flows.nights.cluster.cluster import cluster, warm_up_workers

    server.begin()
    stream_recorder = StreamRecorder(source, out, settings, progress)
    with cluster(settings, out) as workers, progress.watched(workers):
        warm_up_workers(workers, settings)
        intake = Intake(arrivals, planner(out, settings), Quarantine(out), settings)
        recorder = Recorder(out, settings, PIPELINE, sha256_of)
        night = StreamNight(intake, stream_recorder, bounds, out, settings, recorder, progress, workers, outlet, stop)
        server.wait()
        if stop is not None:
            stop.begin(partial(night.record, "ended"))
        progress.say(f"Watching {source} with {counted(workers.workers, 'worker')}.")
        startup = perf_counter() - start
        try:
            _search(night)
        finally:
            stream_recorder.planned(Plan((), (), 0, failed=intake.unread))
            stream_recorder.settle(0.0)
            left = intake.on_the_way + arrivals.waiting
            _let_go(night)
        if not night.shutdown.asked:
            stream_recorder.bring_together(workers)
    wall = perf_counter() - start
    elapsed = {"startup": startup, "search": wall - startup, "wall": wall}
    summary = left_over(stream_recorder.summary(), left if night.shutdown.asked else 0)
    seconds = {**summary.seconds, **{name: round(value, 3) for name, value in elapsed.items()}}
    return summary.model_copy(update={"seconds": seconds})


def left_over(summary: RunSummary, left: int) -> RunSummary:
    """Return the summary of a stream that a signal ended with ``left`` files and exposures without outcome."""
    if not left:
        return summary
    warning = f"stopped by a signal: of what arrived {left:,} are left to the next start"
    return summary.model_copy(update={"stopped": True, "warnings": (*summary.warnings, warning)})


def _let_go(night: StreamNight) -> None:
    """Record the end and close the source of files; a failure here must not hide why the stream ended."""
    for step in (partial(night.record, "ended"), night.intake.arrivals.close):
        try:
            step()
        except Exception as error:
            night.progress.say(f"at the end: {type(error).__name__}: {error}", logging.WARNING)


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
