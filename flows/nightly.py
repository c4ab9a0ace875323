"""The flow of a night: one Prefect task per visit, a few Dask tasks per exposure."""

import asyncio
import logging
from itertools import groupby

from distributed import Client
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.exposure_run import ExposureRun
from flows.night import Night
from flows.outcome import Outcome
from flows.plan import Item
from flows.source_name import name_of
from schemas.settings import Settings
from schemas.summary import Trouble

# Says at exit, whatever the logging level, that it is still sending events.
logging.getLogger("EventsWorker").setLevel(logging.CRITICAL)


@flow(name="nightly", validate_parameters=False)
async def nightly(night: Night) -> None:
    """Search all exposures of ``night``; what becomes of them is in ``night.outcomes``.

    Visits begin in order, each when the one before has handed out all its exposures: they overlap at their ends, so
    that every worker has work, and what is on its way at any time is bounded, and memory and disk with it.

    Raises
    ------
    ExceptionGroup of Misconfigured
        No exposure could succeed.
    """
    night.progress.begin()
    slots = asyncio.Semaphore(night.cluster.workers + 1)
    async with asyncio.TaskGroup() as group:
        for _, items in groupby(night.items, key=lambda item: (item.key.night, item.key.visit)):
            handed_out = asyncio.Event()
            group.create_task(_turn(night, list(items), slots, handed_out))
            await handed_out.wait()


async def _turn(night: Night, items: list[Item], slots: asyncio.Semaphore, handed_out: asyncio.Event) -> None:
    try:
        await visit.with_options(task_run_name=f"visit {items[0].key.visit}")(night, items, slots, handed_out)
    finally:
        handed_out.set()


@task(name="visit", cache_policy=NO_CACHE)
async def visit(night: Night, items: list[Item], slots: asyncio.Semaphore, handed_out: asyncio.Event) -> None:
    """Search the exposures of one visit within its time budget; record what is shed when that is used up.

    Parameters
    ----------
    night, items
        The night, and those of its exposures that are of this visit.
    slots
        One is held for each exposure on its way.
    handed_out
        Set as soon as none of the exposures waits for a slot.
    """
    left = {item.key: item for item in items}
    async with Client(night.cluster.address, asynchronous=True, set_as_default=False) as client:
        run = ExposureRun(client, night.out, night.settings, night.books, night.progress, night.tasks)

        async def one(item: Item) -> None:
            night.outcomes.append(await run(item))
            left.pop(item.key)

        try:
            async with asyncio.timeout(night.settings.execution.visit_deadline_s), asyncio.TaskGroup() as group:
                for item in items:
                    await slots.acquire()
                    # Not in the task itself: one that is cancelled before it begins would keep its slot.
                    group.create_task(one(item)).add_done_callback(lambda _: slots.release())
                handed_out.set()
        except TimeoutError:
            for item in left.values():
                outcome = Outcome(item, "failed", trouble=_shed(item, night.settings))
                night.outcomes.append(outcome)
                night.progress.finished(outcome)


def _shed(item: Item, settings: Settings) -> Trouble:
    return Trouble(
        uri=name_of(item.source),
        code="deadline",
        message=f"{name_of(item.source)}: visit {item.key.visit} was not done within execution.visit_deadline_s = "
        f"{settings.execution.visit_deadline_s} s. To fix, run again, allow more time or add workers.",
    )
