"""Patches of a night, and the night as a whole: tasks of workers that make what is known of what was seen."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from math import prod
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.nights.cluster.memory import require_patch_fit
from flows.nights.exposure_run import task_call
from flows.nights.night_stages import StagesResult, UnitStages, make_night, now, record_night, rounded, trouble_with
from flows.pipeline.night_plan import MARGIN, NightWork, PatchWork
from flows.runtime.parallel import single_thread
from flows.runtime.traces import bound
from flows.storage.atomic import remove
from flows.storage.hats import write_hats
from flows.storage.layout import patch_paths
from flows.storage.lease import own_fence
from flows.storage.ledger import Ledger
from kernels.sky.patches import Patch
from schemas.dataset import Dataset, TableOf
from schemas.errors import BadInput, Misconfigured
from schemas.ledger import DatasetRecord, PatchRecord
from schemas.settings import Settings
from schemas.stage import Context, Stage
from schemas.summary import Trouble
from stages import PIPELINE

if TYPE_CHECKING:
    from flows.nights.cluster.cluster import Cluster

HERE = 4
"""So many patches are made in this process, where no workers are at hand: starting some takes longer."""

SAY_S = 10.0
"""How often it is said how far the patches are, s."""


class PatchStages(UnitStages):
    """Stages of a patch of the sky. Parameters as in `UnitStages`."""

    def __init__(self, out: Path, settings: Settings, work: PatchWork) -> None:
        super().__init__(out, settings, work, f", patch {work.key.name}", work.keys())
        self._unit = work
        self._sky = Patch(work.key.order, work.key.pixel, settings.patches.margin_arcsec)

    def run(self) -> StagesResult:
        """Run what is outdated and publish it, unless nothing of the night lies in the patch.

        Raises
        ------
        Misconfigured
            As in `UnitStages.run`.
        BadInput, Retryable
            Catalogues of exposures are damaged, or cannot be read now; it would not fit the memory.
        """
        require_patch_fit(self._unit.key.name, max(self._shapes(), key=prod, default=(0, 0)), self._unit.rows)
        tables = {one.name: one for stage in self._work.graph.stages for one in stage.needs if isinstance(one, TableOf)}
        given = [self._input(tables[name]) for name in self._unit.exposures if name in tables]
        if self._work.kept or any(one is not None and len(one) for one in given):
            return super().run()
        self.result.idle = {name: (digest, NOTHING) for name, digest in self._work.digests.items()}
        return self.result

    def _shapes(self) -> list[tuple[int, int]]:
        try:
            return [info.shape for info in self._pixels.exposures()]
        except BadInput:  # the stages that read these pixels say so
            return []

    def _context(self, stage: Stage, models: Mapping[str, Any]) -> Context:
        return replace(super()._context(stage, models), patch=self._sky)

    def _given(self, stage: Stage, dataset: Dataset) -> Any:
        found = self._input(dataset)
        if stage.margin or found is None or not _has_place(dataset):
            return found
        return found.filter(pa.array(self._holds(found)))

    def _found(self, dataset: TableOf) -> pa.Table | None:
        found = []
        for key in self._unit.keys(dataset.name):
            rows = self._tables.read(dataset, key)
            near = self._holds(rows, 2 * self._sky.margin) if _has_place(dataset) else np.ones(len(rows), np.bool_)
            found.append(rows.filter(pa.array(near)))
        return pa.concat_tables(found) if found else None

    def _read_kept(self, dataset: Dataset) -> Any:
        found = super()._read_kept(dataset)
        around = self._work.kept.get(dataset.name + MARGIN)
        if around is None or not isinstance(dataset, TableOf):
            return found
        both = [found, self._tables.read_path(self._out / around.path, _margin_of(dataset))]
        return pa.concat_tables(both).sort_by(dataset.ids)

    def _publish(self, stage: Stage, made: Any, inputs: Mapping[str, Any]) -> None:
        name, key = stage.gives.name, self._unit.key
        if stage.margin and _has_place(stage.gives) and isinstance(stage.gives, TableOf):
            inside = self._holds(made)
            around = _margin_of(stage.gives)
            rows = made.filter(pa.array(~inside))
            self.result.datasets[around.name] = self._published(stage, around, key, rows, inputs)
            made = made.filter(pa.array(inside))
        self.result.datasets[name] = self._published(stage, stage.gives, key, made, inputs)

    def _holds(self, rows: pa.Table, margin: float = 0.0) -> NDArray[np.bool_]:
        ra, dec = (rows[name].to_numpy().astype(np.float64) for name in ("ra", "dec"))
        return self._sky.holds(ra, dec, margin)


NOTHING = "nothing of the night lies there"


def _has_place(dataset: Dataset) -> bool:
    return isinstance(dataset, TableOf) and {"ra", "dec"} <= set(dataset.schema.names)


def _margin_of(dataset: TableOf) -> TableOf:
    return replace(dataset, name=dataset.name + MARGIN)


def make_patch(work: PatchWork, out: Path, settings: Settings) -> StagesResult:
    """Run the stages of a patch that are outdated, and publish what they give; errors as in `PatchStages.run`."""
    return PatchStages(out, settings, work).run()


@dataclass(frozen=True)
class _Task:
    """A patch or a whole night to be made: what is called with the work, the output folder, the settings, and more."""

    make: Callable[..., StagesResult]
    work: PatchWork | NightWork
    more: tuple[Any, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """Return what its logs and traces are labelled with."""
        night = {"night": self.work.night}
        return night | {"patch": self.work.key.name} if isinstance(self.work, PatchWork) else night

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return " ".join([*self.labels.items()][-1])

    def __call__(self, out: Path, settings: Settings) -> StagesResult:
        # Sums of several threads differ in their last bits with the number of cores.
        with single_thread():
            return self.make(self.work, out, settings, *self.more)


@dataclass
class NightResult:
    """Result of a night: of its patches and its stages as a whole; fields as in `StagesResult`.

    Attributes
    ----------
    rows
        Of what is published now, by dataset.
    """

    not_run: dict[str, str]
    rows: dict[str, int]
    datasets: dict[str, DatasetRecord]
    failed: list[Trouble] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run_nights(
    works: Iterable[NightWork],
    out: Path,
    settings: Settings,
    workers: "Cluster | None" = None,
    say: Callable[[str], object] = lambda text: None,
) -> dict[str, NightResult]:
    """Run the stages of nights that are outdated: of their patches on workers, then those of a whole night here.

    Parameters
    ----------
    works, out, settings
        Plans of nights, output folder and settings of the run, which holds the lease.
    workers
        Cluster that is up; None: there is none, and one is started if there are many patches.
    say
        Receives how far it is.

    Returns
    -------
    dict
        Night -> result.

    Raises
    ------
    Misconfigured
        Nothing of this kind could succeed.
    """
    due = [work for work in works if work.outdated]
    patches = sum(patch.outdated for work in due for patch in work.patches)
    with nullcontext(workers) if workers is not None or patches <= HERE else _started(settings, out) as cluster:
        return {work.night: _Night(work, out, settings, cluster, say).run() for work in due}


def _started(settings: Settings, out: Path) -> Any:
    from flows.nights.cluster.cluster import cluster  # takes a while, and is not needed where there is one

    return cluster(settings, out)


@dataclass
class _Night:
    """Work on one night: parameters as of `run_nights`."""

    work: NightWork
    out: Path
    settings: Settings
    cluster: "Cluster | None"
    say: Callable[[str], object]

    def run(self) -> NightResult:
        published = {patch.key.name: dict(patch.kept) for patch in self.work.patches}
        reasons = {patch.key.name: patch.not_run for patch in self.work.patches}
        result = NightResult({}, {}, {})
        for patch, made in self._patches():
            self._record(patch, made)
            published[patch.key.name], reasons[patch.key.name] = made.datasets, made.not_run
            result.failed += made.failed
            _add(result.seconds, made.seconds)
        self._withdraw({entry.path for datasets in published.values() for entry in datasets.values()})
        self._describe(published)
        for datasets in published.values():
            _add(result.rows, {name: one.rows for name, one in datasets.items() if not name.endswith(MARGIN)})
        whole = self._whole(result.rows)
        record_night(self.work, self.out, self.settings, whole, result.rows)
        _add(result.seconds, whole.seconds)
        result.datasets, result.failed = whole.datasets, [*result.failed, *whole.failed]
        result.rows = result.rows | {name: entry.rows for name, entry in whole.datasets.items()}
        result.not_run = _everywhere(list(reasons.values())) | whole.not_run
        return result

    def _patches(self) -> Iterator[tuple[PatchWork, StagesResult]]:
        """Yield each outdated patch with what became of it, as soon as it is done."""
        said, night = monotonic(), self.work.night
        due = {patch.key.name: patch for patch in self.work.patches if patch.outdated}
        tasks = [_Task(make_patch, patch) for patch in due.values()]
        for count, (task, made) in enumerate(self._made(tasks, self.cluster), 1):
            yield due[task.labels["patch"]], made
            if monotonic() - said > SAY_S:
                said = monotonic()
                self.say(f"Night {night}: {count} of {len(due)} patches of the sky.")

    def _whole(self, patched: Mapping[str, int]) -> StagesResult:
        """Return what became of the night as a whole: on a worker, but for what is read from the association's store.

        Workers may be where that cannot be reached, or its password is not known.
        """
        whole = StagesResult(dict(self.work.kept), dict(self.work.graph.not_run))
        from_store = self.work.of_association
        for names, cluster in ((self.work.digests.keys() - from_store, self.cluster), (from_store, None)):
            if not names <= whole.datasets.keys():
                task = _Task(make_night, self.work.part(names, whole.datasets), (tuple(patched),))
                ((_, made),) = self._made([task], cluster)
                whole.datasets, whole.failed = made.datasets, [*whole.failed, *made.failed]
                whole.not_run |= made.not_run
                whole.idle |= made.idle
                whole.seconds = {**whole.seconds, **made.seconds}
        return whole

    def _made(self, tasks: list[_Task], cluster: "Cluster | None") -> Iterator[tuple[_Task, StagesResult]]:
        """Yield what becomes of each task, as soon as it is done."""
        for task, found in self._here(tasks) if cluster is None or not tasks else self._on_workers(tasks, cluster):
            if isinstance(found, Misconfigured):
                raise found
            if isinstance(found, Exception):
                where = f", {task.name}" if isinstance(task.work, PatchWork) else ""
                trouble = trouble_with(self.work.night, where, found)
                found = StagesResult(dict(task.work.kept), task.work.not_run, [trouble])
            yield task, found

    def _here(self, tasks: Iterable[_Task]) -> Iterator[tuple[_Task, StagesResult | Exception]]:
        for task in tasks:
            try:
                yield task, task(self.out, self.settings)
            except Exception as error:
                yield task, error

    def _on_workers(
        self, tasks: Iterable[_Task], cluster: "Cluster"
    ) -> Iterator[tuple[_Task, StagesResult | Exception]]:
        """Yield as above; few more tasks than workers are on their way at a time."""
        from distributed import KilledWorker, as_completed

        fence, name = own_fence(self.out), self.settings.cluster.other_resource
        resources = {name: 1} if name is not None else None
        waiting, given, killed = iter(tasks), dict[Any, _Task](), set[str]()
        with cluster.client() as client:

            def submit(task: _Task) -> Any:
                kind = [*task.labels][-1]
                with bound(task.labels):
                    call = task_call(kind, task, fence, cluster.terms)
                future = client.submit(*call, self.out, self.settings, key=f"{kind}-{uuid4().hex}", resources=resources)
                given[future.key] = task
                return future

            first = [submit(task) for task in islice(waiting, cluster.workers + 1)]
            running = as_completed(first, loop=client.loop)
            for future in running:
                error, task = future.exception(), given.pop(future.key)
                if isinstance(error, KilledWorker) and task.name not in killed:
                    # Tasks that only waited where a worker died count as suspects, too: one more time.
                    killed.add(task.name)
                    running.add(submit(task))
                    continue
                yield task, future.result() if error is None else _explained(task, error)
                future.release()
                for following in islice(waiting, 1):
                    running.add(submit(following))

    def _record(self, patch: PatchWork, made: StagesResult) -> None:
        key = patch.key
        record = PatchRecord(
            **key.model_dump(),
            datasets=made.datasets,
            idle=made.idle,
            seconds=rounded(made.seconds),
            software=version("nightstride"),
            finished_at=now(),
        )
        self._ledger.put_patch(record)

    def _withdraw(self, published: set[str]) -> None:
        """Remove what lies in the folders of patches and is of none, and the records of those."""
        for path in list(patch_paths(self.out, self.work.night)):
            if path.relative_to(self.out).as_posix() not in published:
                remove(path)
        known = {patch.key.name for patch in self.work.patches}
        for record in list(self._ledger.patches(self.work.night)):
            if isinstance(record, PatchRecord) and record.name not in known:
                self._ledger.remove_patch(record.key)

    def _describe(self, published: Mapping[str, Mapping[str, DatasetRecord]]) -> None:
        """Describe the datasets of patches that have a place on the sky as HATS catalogues."""
        forms = [stage.gives for stage in PIPELINE if stage.per == "patch" and _has_place(stage.gives)]
        reach = self.settings.patches.margin_arcsec
        for form in (one for one in forms if isinstance(one, TableOf)):
            for dataset, margin in ((form, None), (_margin_of(form), (form.name, reach))):
                rows = {
                    patch.key: published[patch.key.name][dataset.name].rows
                    for patch in self.work.patches
                    if dataset.name in published[patch.key.name]
                }
                write_hats(self.out, self.work.night, dataset, rows, margin)

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self.out)


def _explained(task: _Task, error: Exception) -> Exception:
    """Return what went wrong with a task, in our words if it killed its workers."""
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    remedy = "give workers more memory (execution.worker_memory_gib), or set a smaller patches.sources."
    return BadInput("killed_workers", task.name, "workers have died that had it.", remedy)


def _add(total: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        total[name] = total.get(name, 0) + value


def _everywhere(reasons: list[dict[str, str]]) -> dict[str, str]:
    """Return the stages that run in no patch, and why not."""
    if not reasons:
        return {}
    names = set(reasons[0]).intersection(*reasons[1:])
    return {name: reasons[0][name] for name in sorted(names)}
