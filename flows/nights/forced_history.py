"""Forced photometry by night: new objects on earlier exposures, and known objects on the night's exposures."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flows.nights.association import Association, note_published
from flows.nights.joined_catalogues import compacted
from flows.nights.progress import Progress
from flows.runtime.parallel import Caller
from flows.runtime.traces import bound, span
from flows.runtime.words import counted
from flows.storage.digest import digest
from flows.storage.ledger import Ledger
from schemas.dia_object import DIA_OBJECT
from schemas.errors import BadInput, Misconfigured, Retryable
from schemas.exposure import ExposureKey
from schemas.forced import FORCED_SOURCE
from schemas.ledger import PatchRecord
from schemas.night_range import nights_before, nights_followed
from schemas.patch import COVER_ORDER
from schemas.settings import Settings
from schemas.summary import RunSummary, Trouble

if TYPE_CHECKING:
    from flows.nights.cluster.cluster import Cluster
    from flows.results.forced.objects import ObjectsAsked, ObjectsMeasured

HERE = 64
"""Largest number of exposures measured without workers if none are running: starting workers takes longer."""

HISTORY_VERSION = "1"
"""Version of the selection of objects and exposures to measure; raised when it changes."""


def with_forced(
    summary: RunSummary, nights: Collection[str], out: Path, settings: Settings, progress: Progress,
    workers: "Cluster | None", call: Caller, found: Association,
) -> RunSummary:  # fmt: skip
    """Measure objects at rest of given nights as `ForcedSettings` asks for, and add the result to a summary.

    Later nights with one of these in their history are checked too. What was measured is kept; a failure counts for its
    night, and the next run tries again.

    Parameters
    ----------
    summary, out, settings, progress
        Summary so far, output folder, settings and progress of the run.
    nights
        Nights whose object catalogues are up to date.
    workers
        Running cluster, if there is one.
    call
        Calls functions that measure without workers or need the association store.
    found
        Current association.

    Raises
    ------
    Misconfigured
        Nothing can be written, or the ledger cannot be used.
    """
    if not (days := settings.forced.history_days):
        return summary
    if not found.digests:
        why = () if found.off is None else (f"forced.history_days: nothing is measured, {found.off}",)
        return summary.model_copy(update={"warnings": (*summary.warnings, *why)})
    start = perf_counter()
    with ExitStack() as up:
        work = _Work(out, settings, progress, workers, call, up)
        for night in nights_followed(Ledger(out).nights(), nights, days):
            work.measure(night)
    if not (work.nights or work.failed):
        return summary
    with suppress(BrokenProcessPool):  # the next run looks at them again
        call(note_published, out, settings.association, found, sorted(work.changed))
    # An exposure whose catalogues were joined now has a separate file as well.
    summary = compacted(summary, out, settings, progress, sorted(work.changed.difference(summary.nights)))
    return summary.model_copy(update={
        "night_failed": (*summary.night_failed, *work.failed),
        "warnings": (*summary.warnings, *work.warnings),
        "seconds": {**summary.seconds, "forced": round(perf_counter() - start, 3)},
    })  # fmt: skip


@dataclass(frozen=True)
class _OnExposure:
    """Task of a worker: measure objects on an exposure."""

    key: ExposureKey
    asked: "ObjectsAsked"

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of its logs and traces."""
        return {"night": self.key.night, "exposure": self.key.name}

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return f"exposure {self.key.name} of night {self.key.night}"

    def __call__(self, out: Path, settings: Settings) -> "ObjectsMeasured":
        from flows.results.forced.objects import measure_objects

        return measure_objects(out, self.key, self.asked)


@dataclass
class _Work:
    """Nights measured one after the other, and the results; parameters as in `with_forced`.

    Attributes
    ----------
    up
        Ends workers that were started because there was much to do.
    nights, changed
        Nights with something to measure; nights of exposures with new measurements.
    """

    out: Path
    settings: Settings
    progress: Progress
    workers: "Cluster | None"
    call: Caller
    up: ExitStack
    nights: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    failed: list[Trouble] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ledger, self._exposures = Ledger(self.out), dict[str, str]()
        self._of_night = dict[str, dict[tuple[int, int], tuple[str, str]]]()  # does not change during the run

    def measure(self, night: str) -> None:
        """Measure what is due in a night, unless nothing has changed since the last time."""
        try:
            whole, patches = self._ledger.night(night), self._patches(night)
            made_from = self._made_from(patches)
            if whole is None or whole.forced == made_from:
                return
            self.nights.append(night)
            with span("forced", {"night": night}):
                complete = self._all(night, self._tasks(night, patches))
        except (BadInput, Retryable) as error:
            self.failed.append(_trouble(night, "", error))
            return
        if complete:
            self._ledger.put_night(whole.model_copy(update={"forced": made_from}))
            self.changed.add(night)

    def _patches(self, night: str) -> dict[str, dict[tuple[int, int], tuple[str, str]]]:
        """Return the nights of a history and its own night, with (order, pixel) -> path and digest of the objects."""
        wanted = nights_before(self._ledger.nights(), night, self.settings.forced.history_days + 1)
        name = DIA_OBJECT.name
        for label in (one for one in wanted if one not in self._of_night):
            self._of_night[label] = {
                (one.order, one.pixel): (one.datasets[name].path, one.datasets[name].digest)
                for one in self._ledger.patches(label)
                if isinstance(one, PatchRecord) and name in one.datasets and one.datasets[name].rows
            }
        return {label: self._of_night[label] for label in wanted}

    def _made_from(self, patches: Mapping[str, Mapping[tuple[int, int], tuple[str, str]]]) -> str:
        """Return the digest of the exposures and objects of a history."""
        for night in patches.keys() - self._exposures.keys():
            known = [[one.visit, one.detector, one.status, one.finished_at] for one in self._ledger.briefs(night)]
            self._exposures[night] = digest({"exposures": known})
        objects = {night: [path + made for path, made in one.values()] for night, one in patches.items()}
        days = {"days": self.settings.forced.history_days}
        return digest(HISTORY_VERSION, days, {night: self._exposures[night] for night in patches}, objects)

    def _tasks(
        self, night: str, patches: Mapping[str, Mapping[tuple[int, int], tuple[str, str]]]
    ) -> Iterator[_OnExposure]:
        """Yield tasks for exposures that may show objects of the night: those of earlier nights, then its own."""
        from flows.results.forced.objects import ObjectsAsked

        orders = {order for one in patches.values() for order, _ in one}
        for label in patches:
            # Keys, not records: some records are replaced meanwhile.
            there = [(one.key, one.sky) for one in self._ledger.records(label) if one.status == "done"]
            for key, sky in there:
                touched = {(order, pixel >> 2 * (COVER_ORDER - order)) for order in orders for pixel in sky}
                around = {one: sorted(touched & found.keys()) for one, found in patches.items()}
                if around[night] or (label == night and any(around.values())):
                    paths = tuple(patches[one][place][0] for one, places in around.items() for place in places)
                    yield _OnExposure(key, ObjectsAsked(paths, None if label == night else night))

    def _all(self, night: str, tasks: Iterator[_OnExposure]) -> bool:
        """Measure on all exposures; return whether nothing failed."""
        rows, exposures, lacking, failed = 0, 0, 0, len(self.failed)
        for task, made in self._made(tasks):
            if isinstance(made, Misconfigured):
                raise made
            if isinstance(made, Exception):
                self.failed.append(_trouble(night, f", forced photometry on {task.name}", made))
                continue
            self._record(task.key, made)
            rows, exposures, lacking = rows + made.rows, exposures + bool(made.rows), lacking + made.no_tiles
        if rows:
            where = f"{counted(rows, 'row')} on {counted(exposures, 'exposure')}"
            self.progress.say(f"Night {night}: forced photometry, {where}.")
        if lacking:
            self.warnings.append(
                f"night {night}: {counted(lacking, 'exposure')} without tiles: objects are not measured there"
            )
        return len(self.failed) == failed

    def _made(self, tasks: Iterator[_OnExposure]) -> Iterator[tuple[_OnExposure, Any]]:
        """Yield each task with its result or its error, as soon as it is done."""
        first = [] if self.workers is not None else list(islice(tasks, HERE + 1))
        if self.workers is None and len(first) <= HERE:
            yield from self._here(first)
            return
        from flows.nights.cluster.cluster import cluster, on_workers  # slow to import, and not always needed

        if self.workers is None:
            self.workers = self.up.enter_context(cluster(self.settings, self.out))
        yield from on_workers(chain(first, tasks), self.out, self.settings, self.workers)

    def _here(self, tasks: Iterable[_OnExposure]) -> Iterator[tuple[_OnExposure, Any]]:
        for task in tasks:
            made: ObjectsMeasured | Exception
            try:
                with bound(task.labels):
                    made = self.call(task, self.out, self.settings)
            except Exception as error:
                made = error
            yield task, made
            if isinstance(made, BrokenProcessPool):  # all others would fail the same way
                return

    def _record(self, key: ExposureKey, made: "ObjectsMeasured") -> None:
        """Add the new dataset to the record of its exposure, so that it is removed together with it."""
        record = self._ledger.get(key) if made.dataset is not None else None
        if record is None or made.dataset is None or record.digest != made.of:
            return
        self._ledger.put(record.model_copy(update={"datasets": {**record.datasets, FORCED_SOURCE.name: made.dataset}}))
        self.changed.add(key.night)


def _trouble(night: str, what: str, error: Exception) -> Trouble:
    from flows.nights.night_stages import trouble_with

    return trouble_with(night, what, error)
