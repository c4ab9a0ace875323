"""The flow of a night: one Prefect task per visit, one or a few Dask tasks per exposure."""

import asyncio
import logging
from itertools import groupby

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.exposure_run import ExposureRun
from flows.night import Night
from flows.observe.traces import span
from flows.observe.where import Fields, bound
from flows.plan import Item
from flows.source_name import name_of
from schemas.settings import Settings
from schemas.summary import Trouble

# Says at exit, whatever the logging level, that it is still sending events.
logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)


@flow(name="nightly", validate_parameters=False)
async def nightly(night: Night) -> None:
    """Search all exposures of ``night``; what becomes of them is in ``night.tally``.

    Visits begin in order, each when the one before has handed out all its exposures: they overlap at their ends, so
    that every worker has work, and what is on its way at any time is bounded, and memory and disk with it. Asked to
    stop by a signal, it finishes what is on its way and begins nothing more.

    Raises
    ------
    ExceptionGroup of Misconfigured
        No exposure could succeed.
    """
    night.progress.begin()
    slots = asyncio.Semaphore(night.cluster.workers + 1)
    with night.drain.on_signals(), span("nightly", {"exposures": len(night.items)}):
        await _visits(night, slots)


async def _visits(night: Night, slots: asyncio.Semaphore) -> None:
    async with asyncio.TaskGroup() as group:
        for _, items in groupby(night.items, key=lambda item: (item.key.night, item.key.visit)):
            handed_out = asyncio.Event()
            budget = night.settings.execution.visit_deadline_s
            group.create_task(turn(night, list(items), slots, handed_out, budget))
            await handed_out.wait()
            if night.draining:
                return


async def turn(
    night: Night, items: list[Item], slots: asyncio.Semaphore, handed_out: asyncio.Event, budget_s: float | None
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
    night: Night, items: list[Item], slots: asyncio.Semaphore, handed_out: asyncio.Event, budget_s: float | None
) -> None:
    """Search the exposures of one visit within its time budget; record what is shed when that is used up.

    Parameters
    ----------
    night, items
        The night, and those of its exposures that are of this visit.
    slots
        One is held for each exposure on its way.
    handed_out
        Set as soon as none of the exposures waits for a slot.
    budget_s
        How long the visit may still take, s; None: as long as it does.
    """
    left = {item.key: item for item in items}
    async with night.cluster.client(asynchronous=True) as client:

        async def one(item: Item) -> None:
            # Made for each: towards the end of a night, and of a large visit, exposures are shared out.
            run = ExposureRun(
                client, night.out, night.settings, night.books, night.progress, night.tasks, night.cluster.terms
            )
            night.finished(await run(item))
            left.pop(item.key)

        try:
            async with asyncio.timeout(budget_s), asyncio.TaskGroup() as group:
                for item in items:
                    await slots.acquire()
                    if night.draining:
                        slots.release()
                        break
                    # Not in the task itself: one that is cancelled before it begins would keep its slot.
                    group.create_task(one(item)).add_done_callback(lambda _: slots.release())
                handed_out.set()
        except TimeoutError:
            for item in left.values():
                outcome = night.books.failed(item, _shed(item, night.settings))
                night.finished(outcome)
                night.progress.finished(outcome)


def _shed(item: Item, settings: Settings) -> Trouble:
    return Trouble(
        uri=name_of(item.source),
        code="deadline",
        message=f"{name_of(item.source)}: visit {item.key.visit} was not done within execution.visit_deadline_s = "
        f"{settings.execution.visit_deadline_s} s. To fix, run again, allow more time or add workers.",
    )
