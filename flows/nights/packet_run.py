"""Run over alert packets, whose difference stamps are searched on workers, one batch of packets per task."""

import logging
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flows.inputs.packet_files import read_records
from flows.inputs.source import Source
from flows.inputs.ztf_packets import identify, read_packet
from flows.nights.cluster.worker_check import task_call
from flows.nights.joined_catalogues import compacted, take_apart
from flows.nights.packet_plan import ListedPacket, PacketCatalogue, PacketPlan, plan_packets
from flows.nights.progress import Progress
from flows.nights.totals import NightTotals, rounded_seconds, summarise_run
from flows.pipeline.outcome import Item, Outcome, Plan, PublishedExposure
from flows.pipeline.packet_search import PacketResult, search_packet
from flows.runtime.traces import span
from flows.storage.holder import own_fence
from flows.storage.ledger import Ledger
from flows.storage.night_sums import settle
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.exposure import ExposureKey
from schemas.packet_source import ZTF_PACKET_SOURCE
from schemas.settings import Settings
from schemas.summary import STOPPED, RunSummary, Trouble

if TYPE_CHECKING:
    from rich.console import Console

    from flows.nights.cluster.cluster import Cluster
    from flows.nights.meter import Meter

BATCH = 32
"""Packets of a task: 2 MB, and about a second."""

HERE = 64
"""Largest number of packets searched in this process: starting workers takes longer."""

SAY_S = 10.0
"""How often the progress of the run is reported, s."""

Record = tuple[str, Mapping[str, Any]]
Found = PacketResult | BadInput | Trouble


def search_batch(batch: Sequence[Record], settings: Settings) -> list[Found]:
    """Search packets; return the row of each, or why it cannot be used (BadInput) or was given up (Trouble).

    Parameters
    ----------
    batch
        Name and Avro record of each packet.
    settings
        Settings of the run.

    Raises
    ------
    Misconfigured
        No packet could be searched: a model is missing.
    """
    return [_searched(name, record, settings) for name, record in batch]


def _searched(name: str, record: Mapping[str, Any], settings: Settings) -> Found:
    try:
        return search_packet(read_packet(record, name), identify(record, name), settings)
    except BadInput as error:
        return error
    except Misconfigured:
        raise
    except Exception as error:  # a bug: this packet fails, and the others continue
        return Trouble.of(name, error)


def search_packets(
    files: Sequence[str], out: Path, settings: Settings, console: "Console", meter: "Meter | None" = None
) -> RunSummary:
    """Search the unpublished packets of files; the caller must hold the lease of ``out``.

    Parameters
    ----------
    files
        Files from `flows.inputs.packet_files.packet_files`.
    out, settings
        Output folder and settings.
    console, meter
        Receive each step; without metrics there is no meter.

    Returns
    -------
    RunSummary
        Summary that counts packets.

    Raises
    ------
    Misconfigured
        No packet could be searched.
    """
    start = perf_counter()
    catalogue = PacketCatalogue(out, settings)
    plan = plan_packets(files, settings, catalogue)
    told = _as_plan(plan)
    with span("run", {"packets": len(plan.todo)}), _PacketProgress(console, len(plan.todo), meter) as progress:
        progress.planned(told)
        progress.say(f"{len(plan.todo)} of {told.seen} alert packets to be searched.")
        totals, stopped = NightTotals(), False
        planned = perf_counter() - start
        if plan.todo:
            take_apart(_changed(plan, catalogue), out)
            work = _PacketWork(plan, out, settings, catalogue, progress, totals)
            stopped = work.run()
        summary = summarise_run(told, totals)
        rows = sum(catalogue.count(key) for key in {one.key for one in (*plan.published, *plan.todo.values())})
        wall = perf_counter() - start
        summary = summary.model_copy(
            update={
                "nights": tuple(sorted(catalogue.nights)),
                "catalogues": {ZTF_PACKET_SOURCE.name: rows},
                "seconds": rounded_seconds(
                    {**summary.seconds, "startup": planned, "search": wall - planned, "wall": wall}
                ),
                "stopped": stopped,
            }
        )
        settle(Ledger(out), summary.nights)
        return compacted(summary, out, settings, progress)


def _item(one: ListedPacket) -> Item:
    return Item(Source(one.name), one.key, None)


def _as_plan(plan: PacketPlan) -> Plan:
    """Return the plan as a plan of exposures, from which a summary takes its counts."""
    return Plan(
        todo=tuple(_item(one) for one in plan.todo.values()),
        published=tuple(PublishedExposure(one.key, one.name, int(one.detected)) for one in plan.published),
        skipped=len(plan.published) + plan.copies,
        quarantined=tuple(plan.quarantined),
        failed=tuple(plan.failed),
    )


def _changed(plan: PacketPlan, catalogue: PacketCatalogue) -> list[Item]:
    """Return the exposures whose catalogue must be replaced."""
    keys = {one.key: one for one in plan.todo.values()}
    records = ((one, catalogue.record(key)) for key, one in keys.items())
    return [replace(_item(one), record=record) for one, record in records if record is not None]


@dataclass
class _Exposure:
    """Remaining packets of an exposure, and results so far: name -> row and outcome."""

    left: int = 0
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    source: str = ""


class _PacketWork:
    """Search of the packets of a plan; parameters are those of `search_packets`."""

    def __init__(
        self,
        plan: PacketPlan,
        out: Path,
        settings: Settings,
        catalogue: PacketCatalogue,
        progress: "_PacketProgress",
        totals: NightTotals,
    ) -> None:
        self._plan, self._out, self._settings = plan, out, settings
        self._catalogue, self._progress, self._totals = catalogue, progress, totals
        self._left = dict(plan.todo)
        self._exposures: dict[ExposureKey, _Exposure] = {}
        for one in plan.todo.values():
            self._exposures.setdefault(one.key, _Exposure(source=one.name)).left += 1

    def run(self) -> bool:
        """Search and publish; return whether a signal ended the work early."""
        with _stop_on_signals() as stopping:
            batches = self._batches(stopping)
            if len(self._plan.todo) <= HERE:
                for batch in batches:
                    self._take(batch, search_batch(batch, self._settings))
            else:
                self._on_workers(batches)
        for key in [*self._exposures]:
            self._publish(key)
        for one in [*self._left.values()]:
            stopped = f"{one.name}: was not begun, as the run was asked to stop. To fix, run again."
            gone = f"{one.name}: is not there any more, or has changed. To fix, run again."
            told = (STOPPED, stopped) if stopping.is_set() else ("changed_meanwhile", gone)
            self._finish(Outcome(_item(one), "failed", trouble=Trouble(uri=one.name, code=told[0], message=told[1])))
        return stopping.is_set()

    def _batches(self, stopping: threading.Event) -> Iterator[list[Record]]:
        """Yield batches of packets to search as they are read, with few in memory at a time."""
        waiting = (record for uri in self._files() for record in self._of_file(uri))
        while not stopping.is_set() and (batch := list(islice(waiting, BATCH))):
            yield batch

    def _files(self) -> list[str]:
        return list(dict.fromkeys(one.file for one in self._plan.todo.values()))

    def _of_file(self, uri: str) -> Iterator[Record]:
        given = set[str]()  # a tarball may hold a member twice
        for name, content in read_records(uri):
            planned = self._plan.todo.get(name)
            if planned is None or name in given or isinstance(content, NightstrideError):
                continue
            try:
                same = identify(content, name).digest == planned.content
            except BadInput:
                same = False
            if same:
                given.add(name)
                yield name, content

    def _on_workers(self, batches: Iterator[list[Record]]) -> None:
        """Search on workers, with one more batch in progress than there are workers."""
        from distributed import as_completed

        from flows.nights.cluster.cluster import cluster, warm_up_workers

        with cluster(self._settings, self._out) as workers, self._progress.watched(workers):
            warm_up_workers(workers, self._settings)
            with workers.client() as client:
                tasks = _Tasks(client, workers, self._out, self._settings)
                running = as_completed(
                    [tasks.submit(batch) for batch in islice(batches, workers.workers + 1)], loop=client.loop
                )
                suspects, alone = deque[Record](), ""
                for future in running:
                    batch, found = tasks.result(future)
                    if found is None:
                        suspects.extend(batch)
                    else:
                        self._take(batch, found)
                        for following in islice(batches, 1):
                            running.add(tasks.submit(following))
                    alone = "" if future.key == alone else alone
                    # One after another, since a batch that only waited on a dead worker is also a suspect.
                    if suspects and not alone:
                        again = tasks.submit([suspects.popleft()])
                        alone = again.key
                        running.add(again)

    def _take(self, batch: Sequence[Record], found: Sequence[Found]) -> None:
        """Record the outcomes of packets, and publish exposures without remaining packets."""
        for (name, _), result in zip(batch, found, strict=True):
            one = self._left.pop(name)
            exposure = self._exposures[one.key]
            exposure.left -= 1
            if isinstance(result, PacketResult):
                exposure.rows.append(result.row)
                exposure.outcomes.append(
                    Outcome(
                        _item(one),
                        "done",
                        windows=result.windows,
                        unscored=result.unscored,
                        detections=int(result.row["detected"]),
                        seconds=result.seconds,
                    )
                )
            elif isinstance(result, BadInput):
                exposure.gone.append(one.candid)
                trouble = Trouble.of(name, result)
                away = self._catalogue.quarantine(name, result, one.key)
                self._finish(Outcome(_item(one), "quarantined" if away else "failed", trouble=trouble))
            else:
                self._finish(Outcome(_item(one), "failed", trouble=result))
            if exposure.left == 0:
                self._publish(one.key)

    def _publish(self, key: ExposureKey) -> None:
        exposure = self._exposures.pop(key)
        if not (exposure.rows or exposure.gone):
            return
        try:
            self._catalogue.publish(key, exposure.source, exposure.rows, exposure.gone)
        except Misconfigured:
            raise
        except Exception as error:  # the disk is full
            for outcome in exposure.outcomes:
                name = outcome.item.source.uri
                self._finish(Outcome(outcome.item, "failed", trouble=Trouble.of(name, error)))
            return
        for outcome in exposure.outcomes:
            self._catalogue.done(outcome.item.source.uri)
            self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        self._totals.add(outcome)
        self._progress.finished(outcome)


class _Tasks:
    """Tasks of batches on workers."""

    def __init__(self, client: Any, workers: "Cluster", out: Path, settings: Settings) -> None:
        self._client, self._settings = client, settings
        name = settings.cluster.inference_resource
        self._resources = {name: 1} if name is not None else None
        self._call = task_call("packets", search_batch, own_fence(out), workers.terms)
        self._given: dict[str, Sequence[Record]] = {}
        self._killed = set[str]()

    def submit(self, batch: Sequence[Record]) -> Any:
        """Hand a batch to a worker."""
        key = f"packets-{uuid4().hex}"
        self._given[key] = batch
        return self._client.submit(*self._call, batch, self._settings, key=key, resources=self._resources)

    def result(self, future: Any) -> tuple[Sequence[Record], list[Found] | None]:
        """Return a batch and its results; None if its packets must be searched again, one by one."""
        from distributed import KilledWorker

        batch, error = self._given.pop(future.key), future.exception()
        found = future.result() if error is None else None
        future.release()
        if isinstance(error, Misconfigured):
            raise error
        if error is None or len(batch) > 1:
            return batch, found
        ((name, _),) = batch
        if isinstance(error, KilledWorker):
            if name not in self._killed:
                self._killed.add(name)
                return batch, None
            return batch, [_deadly(name, self._settings)]
        return batch, [Trouble.of(name, error)]


def _deadly(name: str, settings: Settings) -> BadInput:
    from flows.nights.cluster.memory import more_memory

    return BadInput("killed_workers", name, "workers have died that had it.", f"{more_memory(settings)}.")


class _PacketProgress(Progress):
    """Display of a run over packets: occasional progress, and errors."""

    _said = 0.0

    def finished(self, outcome: Outcome) -> None:
        """Count a packet with its outcome."""
        self._finished += 1
        self._count(outcome)
        self.stored(outcome.windows)
        self.searched(outcome.windows)
        self._show("measure", completed=self._finished)
        if outcome.trouble is not None:
            self.say(f"{outcome.status}: {outcome.trouble.message}", logging.WARNING)
        if monotonic() - self._said > SAY_S or self._finished == self._exposures:
            self._said = monotonic()
            self.say(f"{self._finished} of {self._exposures} packets.")


@contextmanager
def _stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets; a second one ends the process at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before: dict[int, Any] = {}

    def heard(number: int, _frame: object) -> None:
        stopping.set()
        signal.signal(number, signal.SIG_DFL)

    for one in (signal.SIGTERM, signal.SIGINT):
        before[one] = signal.signal(one, heard)
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
