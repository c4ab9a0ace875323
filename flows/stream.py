"""The flow of a stream: exposures are searched as they arrive, by the tasks that search those of a night."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from time import monotonic

from prefect import flow

from flows.memory import require_fit
from flows.nightly import turn
from flows.plan import Item, Plan
from flows.stream_night import StreamNight
from schemas.errors import NightstrideError, Retryable

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
