"""Run of one exposure on the cluster: all at once, or store, search tile by tile, measure and publish."""

import asyncio
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker
from distributed.client import FutureCancelledError

from flows.inputs.fits_header import exposure_end
from flows.inputs.source import name_of
from flows.nights.cluster.cluster import Cluster
from flows.nights.cluster.memory import more_memory
from flows.nights.cluster.worker_check import WorkerTerms, task_call
from flows.nights.exposure_work import (
    Left,
    Published,
    Searched,
    Worked,
    finish_exposure,
    inject_exposure,
    left_of,
    measure_exposure,
    run_beside,
    search_exposure,
    search_tiles,
    store_exposure,
    worked,
)
from flows.nights.progress import Progress
from flows.nights.recorder import Recorder
from flows.pipeline.graph import OF_EXPOSURE, PLANES, resolve
from flows.pipeline.lineage import Stored
from flows.pipeline.outcome import Item, Outcome, trouble_of
from flows.runtime.log import origin
from flows.runtime.traces import bound, note, of_exposure, span, wanted
from flows.storage.fence import Fence
from flows.storage.layout import tile_path
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BACKOFF_S, BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.pixels import Tile
from schemas.settings import Settings
from schemas.summary import CLUSTER_LOST
from stages import PIPELINE

_PUBLISHED = resolve(PIPELINE, PLANES, OF_EXPOSURE).results("exposure")

SYNTHETIC = tuple(one.gives.name for one in _PUBLISHED if isinstance(one.gives, TableOf) and one.gives.synthetic)
"""Published datasets for which copies are put through the networks again."""

DAMAGED = frozenset({"damaged_tiles", "unreadable_catalogue"})
"""Codes of faults in results kept from an earlier run: the exposure is searched again, from its source."""

MANY = 16
"""Number of exposures left per worker from which these alone keep all workers busy: each is searched by one task."""

_PARTS = 4  # number of tile groups of an exposure that starts ahead

# Tasks that finish an exposure precede tasks that start another, so few are in progress at any time.
_BESIDE, _STORE, _SEARCH, _FINISH = -1, 0, 1, 2


@dataclass(frozen=True)
class ExposureRun:
    """Exposures of a run, processed through one Dask client.

    Parameters
    ----------
    client
        Asynchronous client of the cluster.
    out, settings
        Of the run.
    recorder
        Recorder of the results.
    progress
        Receives each step.
    tasks
        Number of tasks that share the tiles of an exposure; if it is one, that task does everything.
    terms
        Requirements on workers; None: no requirements.
    fence
        Condition that must hold whenever a worker publishes; None: no condition.
    ahead
        Exposures whose search has already started; each is taken from here in its turn.
    searched
        Called whenever all tiles of an exposure are searched, after which some workers may be idle.
    """

    client: Client
    out: Path
    settings: Settings
    recorder: Recorder
    progress: Progress
    tasks: int = 1
    terms: WorkerTerms | None = None
    fence: Fence | None = None
    ahead: MutableMapping[ExposureKey, Future[Worked]] = field(default_factory=dict)
    searched: Callable[[], object] = lambda: None

    async def __call__(self, item: Item) -> Outcome:
        """Search one exposure; an error of only this exposure becomes its outcome.

        Raises
        ------
        Misconfigured
            No exposure could succeed.
        """
        fields = of_exposure(item.key)
        with bound(fields), span("exposure", fields):
            outcome = await self._outcome(item)
            note("status", outcome.status)
            self.progress.finished(outcome)
        return outcome

    async def _outcome(self, item: Item) -> Outcome:
        given, killed = item, 0
        while True:
            try:
                return self._done(given, await self._worked(given))
            except Misconfigured:
                raise
            except BadInput as error:
                if error.code not in DAMAGED or given is not item:
                    return self._quarantined(item, error)
                given = replace(item, sha256=None)  # kept files are damaged: start again from the source
            except KilledWorker as error:
                # Tasks that only waited on a dead worker are also suspects, so they are tried once more.
                killed += error.allowed_failures + 1
                if killed > error.allowed_failures + 1:
                    return self._quarantined(item, _deadly(item, killed, self.settings))
            except FutureCancelledError:
                return self.recorder.failed(item, trouble_of(item, _lost(item)))
            except Exception as error:  # a full disk, or a bug: this exposure fails, and the night continues
                return self.recorder.failed(item, trouble_of(item, error))

    def _quarantined(self, item: Item, error: BadInput) -> Outcome:
        try:
            return self.recorder.quarantined(item, error)
        except Misconfigured:
            raise
        except Exception as worse:  # the disk is full
            return self.recorder.failed(item, trouble_of(item, worse))

    def _done(self, item: Item, work: Worked) -> Outcome:
        outcome = Outcome(
            item,
            "done",
            searched=work.searched,
            windows=work.windows,
            unscored=work.unscored,
            detections=work.datasets[DIA_SOURCE.name].rows,
            causes=work.causes,
            seconds=work.seconds,
            not_run=work.not_run,
            exposure_ended=exposure_end(work.stored.info),
            flags=work.stored.info.flags,
        )
        self.recorder.done(item, work.stored, work.datasets, outcome)
        return outcome

    async def _worked(self, item: Item) -> Worked:
        """Search an exposure; if a search started ahead failed and may succeed later, start again."""
        if (begun := self.ahead.pop(item.key, None)) is not None:
            done = None
            with suppress(Retryable):
                done = await asyncio.wrap_future(begun)
            if done is not None:
                return self._noted(item, done)
        return await (self._shared(item) if self._shares else self._alone(item))

    def _noted(self, item: Item, done: Worked) -> Worked:
        self.recorder.stored(item, done.stored)
        self.progress.stored(done.windows)
        self.progress.searched(done.windows)
        self.searched()
        return done

    @property
    def _shares(self) -> bool:
        """Return whether several tasks share an exposure: for more workers, or so that a late visit can stop soon."""
        cluster, late = self.settings.cluster, self.settings.execution.visit_deadline_s
        return self.tasks > 1 or cluster.inference_resource != cluster.other_resource or late is not None

    async def _alone(self, item: Item) -> Worked:
        """Process an exposure in one task: the scheduler has a third of the work, and data stay on one worker."""
        given = (item.source, item.key, item.sha256, item.record, self.out, self.settings)
        try:
            done: Worked = await self._submit("work", _SEARCH, search_exposure, *given, inference=True, retries=0)
        except Retryable:
            # With separate steps, finished steps are not repeated, and each step has its own retries.
            return await self._shared(item)
        return self._noted(item, done)

    async def _shared(self, item: Item) -> Worked:
        stored = await self._stored(item)
        self.recorder.stored(item, stored)
        left = left_of(stored, item.record, self.out, self.settings)
        self.progress.stored(left.windows)
        path = tile_path(self.out, item.key)
        searches = [asyncio.ensure_future(self._searched(path, part)) for part in shared_out(left.tiles, self.tasks)]
        beside = self._beside(path, left)
        try:
            searched = await asyncio.gather(*searches)
            self.searched()
            whole = await self._measured(path, searched, left, beside)
            steps = await self._finished(path, searched, stored, left, whole)
        except BaseException:
            for one in (*searches, *beside):
                one.cancel()
            raise
        return worked(stored, item.record, left, searched, steps, whole)

    def _beside(self, path: Path, left: Left) -> list[asyncio.Future[Searched]]:
        """Start the stages that do not need the tiles, as separate tasks if several share an exposure."""
        if self.tasks < 2 or self._apart:
            return []
        given = (path, self.settings, left.kept, self.out)
        begun = (self._submit("beside", _SEARCH, run_beside, *given, names) for names in left.beside)
        return [asyncio.ensure_future(one) for one in begun]

    async def _measured(
        self, path: Path, searched: Sequence[Searched], left: Left, beside: Sequence[asyncio.Future[Searched]]
    ) -> list[Searched]:
        """Measure in a separate task if other stages run beside it; return the datasets of the whole exposure."""
        if not beside:
            return []
        given = (path, searched, self.settings, left.kept, self.out)
        measured: Searched = await self._submit("measurement", _FINISH, measure_exposure, *given)
        return [measured, *await asyncio.gather(*beside)]

    async def _stored(self, item: Item) -> Stored:
        given = (item.source, item.key, item.sha256, self.out, self.settings)
        stored: Stored = await self._submit("store", _STORE, store_exposure, *given)
        return stored

    async def _searched(self, path: Path, tiles: Sequence[Tile]) -> Searched:
        found: Searched = await self._submit(
            "search", _SEARCH, search_tiles, path, tiles, self.settings, inference=True
        )
        self.progress.searched(found.windows)
        return found

    @property
    def _apart(self) -> bool:
        """Return whether networks run on other workers than the rest."""
        return self.settings.cluster.inference_resource is not None

    async def _finished(
        self,
        path: Path,
        searched: Sequence[Searched],
        stored: Stored,
        left: Left,
        whole: Sequence[Searched],
    ) -> list[Published]:
        """Measure and publish; stages that run networks use the workers for that, if there are any."""
        rest: Sequence[Any] = (stored.lineage, self.out, self.settings)
        apart = self._apart and any(name not in left.kept for name in SYNTHETIC)
        ended = (path, whole or searched, *rest, left.kept, SYNTHETIC if apart else ())
        measured: Published = await self._submit("finish", _FINISH, finish_exposure, *ended)
        if not apart:
            return [measured]
        return [
            measured,
            await self._submit("inject", _FINISH, inject_exposure, path, *rest, measured.datasets, inference=True),
        ]

    async def _submit(
        self,
        name: str,
        priority: int,
        task: Callable[..., Any],
        *arguments: Any,
        inference: bool = False,
        retries: int | None = None,
    ) -> Any:
        """Run a task on a worker under its name in logs and traces; retry with backoff if it may succeed later."""
        left, wait = self.settings.execution.retries if retries is None else retries, BACKOFF_S
        call = task_call(name, task, self.fence, self.terms)
        resources = self._resources(inference)
        while True:
            key = f"{name}-{uuid4().hex}"
            future = self.client.submit(*call, *arguments, key=key, priority=priority, resources=resources)
            try:
                return await future
            except Retryable:
                if left == 0:
                    raise
            finally:
                # Nobody else waits for it: on an error, a time-out or at the end of the run it is dropped.
                future.release()
            await asyncio.sleep(wait)
            left, wait = left - 1, 2 * wait

    def _resources(self, inference: bool) -> dict[str, int] | None:
        cluster = self.settings.cluster
        name = cluster.inference_resource if inference else cluster.other_resource
        return {name: 1} if name is not None else None


@contextmanager
def begun_ahead(
    workers: Cluster,
    items: Sequence[Item],
    out: Path,
    settings: Settings,
    fence: Fence | None = None,
    searched: Callable[[], object] = lambda: None,
) -> Iterator[dict[ExposureKey, Future[Worked]]]:
    """Start to search the first exposures, one for each local worker, which are ready before the flow's server.

    Yield the outcomes. No exposure starts ahead if many exposures are left, whose tasks do everything at once; if
    traces or logs are on, where every task is part of its exposure; or if visits have a deadline. Searches still in
    progress at the end are abandoned. ``searched`` is called when the datasets that do not need the search are made
    for an exposure, if no others are left.
    """
    many, followed = len(items) >= MANY * workers.workers, origin() is not None or wanted()
    if (
        not items
        or many
        or followed
        or settings.cluster.kind != "local"
        or settings.execution.visit_deadline_s is not None
    ):
        yield {}
        return
    last = searched if len(items) <= workers.workers else lambda: None
    # The client ends first, so that tasks waiting for it are notified.
    with ThreadPoolExecutor(workers.workers) as waiting, workers.client() as client:
        begun = partial(_begun, client, out, settings, fence, workers.terms, last)
        yield {item.key: waiting.submit(begun, item) for item in items[: workers.workers]}


def _begun(
    client: Client,
    out: Path,
    settings: Settings,
    fence: Fence | None,
    terms: WorkerTerms | None,
    searched: Callable[[], object],
    item: Item,
) -> Worked:
    """Search an exposure before the flow has started, without retries."""

    def submit(name: str, priority: int, task: Callable[..., Any], *arguments: Any) -> Any:
        call = task_call(name, task, fence, terms)
        return client.submit(*call, *arguments, key=f"{name}-{uuid4().hex}", priority=priority)

    path, source = tile_path(out, item.key), (item.source, item.key, item.sha256)
    stored: Stored = submit("store", _STORE, store_exposure, *source, out, settings).result()
    left = left_of(stored, item.record, out, settings)
    parts = [submit("search", _SEARCH, search_tiles, path, part, settings) for part in shared_out(left.tiles, _PARTS)]
    begin = (submit("beside", _BESIDE, run_beside, path, settings, left.kept, out, names) for names in left.beside)
    found: list[Searched] = client.gather(parts[:-1])
    beside = list(islice(begin, 1))  # on the idle worker: tasks are assigned at once
    found += client.gather(parts[-1:])
    whole: list[Searched] = []
    if beside:
        measured = submit("measurement", _FINISH, measure_exposure, path, found, settings, left.kept, out)
        beside += begin
        beside[-1].add_done_callback(lambda _: searched())
        whole = client.gather([measured, *beside])
    given = (path, whole or found, stored.lineage, out, settings, left.kept, ())
    published = submit("finish", _FINISH, finish_exposure, *given).result()
    return worked(stored, item.record, left, found, [published], whole)


def _lost(item: Item) -> Retryable:
    remedy = "see to the scheduler, and run again: that run completes the night."
    return Retryable(CLUSTER_LOST, name_of(item.source), "was being searched when the cluster was lost.", remedy)


def _deadly(item: Item, workers: int, settings: Settings) -> BadInput:
    return BadInput(
        "killed_workers",
        name_of(item.source),
        f"{workers} workers in turn have died that had it.",
        f"see whether the file unpacks to more than it says; else {more_memory(settings)}: then it is tried again.",
    )


def shared_out(tiles: Sequence[Tile], tasks: int) -> list[Sequence[Tile]]:
    """Return the tiles of an exposure in at most ``tasks`` runs of neighbours, as equal in length as possible."""
    count = min(tasks, len(tiles))
    ends = [len(tiles) * place // count for place in range(count + 1)] if count else [0]
    return [tiles[start:end] for start, end in pairwise(ends)]
