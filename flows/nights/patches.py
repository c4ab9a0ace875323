"""Tasks of workers that make the datasets of the patches of a night, and of the night as a whole."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from flows.inputs.source import Source
from flows.nights.night_stages import (
    NightResult,
    OverNights,
    StagesResult,
    ledger_seconds,
    make_night,
    now,
    record_night,
    trouble_with,
)
from flows.nights.patch_stages import Around, has_place, make_associated, make_patch, make_static, margin_of
from flows.nights.patch_tiles import exposures_without_tiles, left_with, restore_tiles, tiles_lost
from flows.pipeline.graph import Graph, following
from flows.pipeline.lineage import is_whole
from flows.pipeline.night_plan import window_digest
from flows.pipeline.night_work import MARGIN, NightWork, PatchWork
from flows.runtime.parallel import Caller, here
from flows.runtime.traces import bound
from flows.storage.atomic import remove
from flows.storage.digest import digest
from flows.storage.hats import write_hats
from flows.storage.layout import patch_paths
from flows.storage.ledger import Ledger
from kernels.sky.patches import Division
from schemas.dataset import TableOf
from schemas.errors import Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import DatasetRecord, ExposureRecord, NightRecord, PatchRecord
from schemas.objects import OBJECT
from schemas.patch import PatchKey
from schemas.settings import Settings
from schemas.summary import Trouble
from schemas.tracklets import NIGHT_WINDOW, TRACKLET
from stages import PIPELINE

if TYPE_CHECKING:
    from flows.nights.cluster.cluster import Cluster

HERE = 4
"""Maximum number of patches made in this process if no workers are running: starting workers takes longer."""

SAY_S = 10.0
"""How often the progress of the patches is reported, s."""


@dataclass(frozen=True)
class _Task:
    """Part of the work on a night: function, work, output folder, settings, and further arguments.

    The work is on a patch or on the whole night, or restores the tiles of an exposure.
    """

    make: Callable[..., StagesResult]
    work: PatchWork | NightWork | ExposureKey
    more: tuple[Any, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of its logs and traces."""
        night = {"night": self.work.night}
        if isinstance(self.work, ExposureKey):
            return night | {"exposure": self.work.name}
        return night | {"patch": self.work.key.name} if isinstance(self.work, PatchWork) else night

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return " ".join([*self.labels.items()][-1])

    def __call__(self, out: Path, settings: Settings) -> StagesResult:
        return self.make(self.work, out, settings, *self.more)


def run_nights(
    works: Iterable[NightWork],
    out: Path,
    settings: Settings,
    workers: "Cluster | None" = None,
    say: Callable[[str], object] = lambda text: None,
    call: Caller = here,
    find: Callable[[ExposureRecord], Source | None] = lambda record: None,
    again: Callable[[str], NightWork | None] = lambda night: None,
    before: OverNights | None = None,
) -> dict[str, NightResult]:
    """Run the outdated stages of nights: first those of patches, then those of the whole night.

    Missing tiles that must be read are restored first.

    Parameters
    ----------
    works, out, settings
        Plans of nights, output folder and settings of the run, which holds the lease.
    workers
        Running cluster; None: there is none, and one is started if there are many patches.
    say
        Receives messages on progress.
    call
        Caller of work outside workers: work on the association, or all work if there are no workers.
    find
        Function that returns the source of a searched exposure, if it still exists unchanged.
    again
        Function that associates the objects of a night that are published by now, and plans it again.
    before
        Functions for links with earlier nights, if wanted.

    Returns
    -------
    dict
        Night -> result.

    Raises
    ------
    Misconfigured
        No stage could succeed.
    """
    due = [work for work in works if work.outdated]
    here = workers is not None or _few([patch.of_exposures for work in due for patch in work.patches], out)
    with nullcontext(workers) if here else _started(settings, out) as cluster:
        return {work.night: _Night(work, out, settings, cluster, say, call, find, again, before).run() for work in due}


def relink_nights(
    works: Iterable[NightWork],
    out: Path,
    settings: Settings,
    workers: "Cluster | None",
    call: Caller,
    before: OverNights,
) -> list[Trouble]:
    """Link nights again if the nights before them have changed; nothing else of them is changed.

    Nights that were not linked, or whose tracklets these settings would not make, are left to their own runs. Nights
    that cannot be linked keep their links.

    Parameters
    ----------
    works, out, settings, workers, call, before
        Plans of nights, and arguments as in `run_nights`.

    Returns
    -------
    list
        Errors.

    Raises
    ------
    Misconfigured
        No stage could succeed.
    """
    failed, after = [], following(PIPELINE, NIGHT_WINDOW.name)
    for work in works:
        record, digests = work.record, {name: one for name, one in work.digests.items() if name in after}
        if not isinstance(record, NightRecord) or TRACKLET.name not in work.kept or not after & record.datasets.keys():
            continue
        kept = {name: one for name, one in work.kept.items() if name in after | {TRACKLET.name}}
        graph = Graph(tuple(one for one in work.graph.stages if one.gives.name in after), {})
        own = replace(work, graph=graph, digests={TRACKLET.name: kept[TRACKLET.name].digest, **digests}, kept=kept)
        if not own.due:
            continue
        night = _Night(own, out, settings, workers, lambda text: None, call, lambda one: None, lambda one: None, before)
        made = night.whole({}, ())
        failed += made.failed
        datasets = {**record.datasets, **made.datasets}
        Ledger(out).put_night(record.model_copy(update={"datasets": datasets, "drawn": False}))
    return failed


def _few(parts: Sequence[PatchWork], out: Path) -> bool:
    """Return whether there is too little work for workers to be worthwhile."""
    patches = sum(part.due for part in parts)
    return patches <= HERE and patches + len(exposures_without_tiles(parts, out)) <= HERE


def _started(settings: Settings, out: Path) -> Any:
    from flows.nights.cluster.cluster import cluster  # takes a while, and is not needed where there is one

    return cluster(settings, out)


@dataclass
class _Night:
    """Work on one night; parameters are those of `run_nights`."""

    work: NightWork
    out: Path
    settings: Settings
    cluster: "Cluster | None"
    say: Callable[[str], object]
    call: Caller
    find: Callable[[ExposureRecord], Source | None]
    again: Callable[[str], NightWork | None]
    before: OverNights | None

    def run(self) -> NightResult:
        found = self._patches()
        self._lasting(found)
        self._withdraw(found)
        self._describe({key: made.datasets for key, made in found.items()})
        result = NightResult(
            {}, {}, {}, patches=len(found), patches_failed=sum(bool(one.failed) for one in found.values())
        )
        for made in found.values():
            result.failed += made.failed
            _add(result.seconds, made.seconds)
            _add(result.rows, {name: one.rows for name, one in made.datasets.items() if not name.endswith(MARGIN)})
        whole = self.whole(result.rows, [key.name for key, made in found.items() if made.failed])
        record_night(self.work, self.out, self.settings, whole, result.rows, result.failed)
        _add(result.seconds, whole.seconds)
        result.datasets, result.failed = whole.datasets, [*result.failed, *whole.failed]
        result.rows = result.rows | {name: entry.rows for name, entry in whole.datasets.items()}
        result.not_run = _everywhere([made.not_run for made in found.values()]) | whole.not_run
        return result

    def _patches(self) -> dict[PatchKey, StagesResult]:
        """Return the result of each patch.

        Datasets that need only exposures are made on workers, the largest patches first, so that workers finish
        together. Datasets that need the association follow in a process beside this one, since workers may be unable
        to reach its store or may not have its password.
        """
        found = {one.key: _known(one) for one in self.work.patches}
        parts = [one.of_exposures for one in self.work.patches]
        lacking = self._lacking(parts)
        former = self._former() if lacking else {}
        left, stay = left_with(lacking, found, former)
        due = sorted((one for one in parts if one.due and one.key not in left), key=lambda one: -one.rows)
        self._make(found, [_Task(make_patch, one) for one in due], self.cluster)
        self._make(found, list(self._associated(found, left)), None)
        for patch in self.work.patches:
            if patch.outdated and not patch.due and patch.key not in left:
                self._record(patch.key, found[patch.key])
        made = {key: one for key, one in found.items() if key not in left}
        made |= {key: StagesResult(one.datasets, {}, idle=one.idle) for key, one in former.items() if key in stay}
        for key, trouble in lacking.items():
            made.setdefault(key, StagesResult({}, {})).failed.append(trouble)
        return made

    def _lacking(self, parts: Sequence[PatchWork]) -> dict[PatchKey, Trouble]:
        """Restore tiles that patches must read; return the patches whose tiles cannot be restored, with reasons.

        These patches are kept as a whole, since their published datasets were made from existing tiles.
        """
        absent, lacking, tasks = exposures_without_tiles(parts, self.out), dict[PatchKey, Trouble](), list[_Task]()

        def lack(key: ExposureKey, trouble: Trouble) -> None:
            for one in absent[key]:
                said = trouble.message.removeprefix(f"{trouble.uri}, ")
                text = f"{trouble.uri}, patch {one.name}: stays as it was: {said}"
                lacking.setdefault(one, trouble.model_copy(update={"message": text}))

        for key in absent:
            if (record := self._ledger.get(key)) is None:
                continue  # withdrawn since the night was planned
            if (source := self.find(record)) is None:
                lack(key, trouble_with(self.work.night, f", exposure {key.name}", tiles_lost(record, self.out)))
            else:
                tasks.append(_Task(restore_tiles, key, (source, record.source_sha256)))
        if tasks:
            self.say(f"Night {self.work.night}: writing the tiles of {len(tasks)} exposures again.")
        for task, made in self._made(tasks, self.cluster):
            for trouble in made.failed:
                lack(task.work, trouble)  # type: ignore[arg-type]
        return lacking

    def _make(self, found: dict[PatchKey, StagesResult], tasks: list[_Task], cluster: "Cluster | None") -> None:
        """Make parts of patches; store and record the result of each as soon as it is done."""
        said = monotonic()
        for count, (task, made) in enumerate(self._made(tasks, cluster), 1):
            if isinstance(part := task.work, PatchWork):
                found[part.key] = _joined(found[part.key], part, made)
                self._record(part.key, found[part.key])
            if monotonic() - said > SAY_S:
                said = monotonic()
                self.say(f"Night {self.work.night}: {count} of {len(tasks)} patches of the sky.")

    def _former(self) -> dict[PatchKey, PatchRecord]:
        """Return the records of patches in the ledger, including those of an earlier division of the night."""
        return {one.key: one for one in self._ledger.patches(self.work.night) if isinstance(one, PatchRecord)}

    def _associated(self, found: Mapping[PatchKey, StagesResult], left: Collection[PatchKey]) -> Iterator[_Task]:
        """Yield the work on the association, except for patches that would read a failed dataset around them.

        The published datasets of these patches are kept; nothing is made for patches that are left unchanged.
        """
        patches = self.work.patches
        division = Division(tuple((one.key.order, one.key.pixel) for one in patches))
        made = {name for one in patches for name in one.of_exposures.digests}
        for number, part in enumerate(one.of_association for one in patches):
            if not part.due or part.key in left:
                continue
            near, beside = self._about(division, number)
            around = {patches[one].key: patches[one].digests.keys() for one in near}
            read = made & {one.name for stage in part.graph.stages for one in (*stage.needs, *stage.optional)}
            there = {key: found[key].datasets for key in around}
            lost = {
                name for key, own in around.items() for name in read & own - there[key].keys() - found[key].idle.keys()
            }
            if lost:
                reason = f"no {min(lost)} of a patch around"
                found[part.key].not_run.update((stage.name, reason) for stage in part.graph.stages)
                before = part.record.datasets if part.record is not None else {}
                found[part.key].datasets.update((name, one) for name, one in before.items() if name in part.digests)
                self._record(part.key, found[part.key])
                continue
            files = {name: tuple(one[name].path for one in there.values() if name in one) for name in read}
            yield _Task(make_associated, part, (Around(beside, files),))

    def _lasting(self, found: dict[PatchKey, StagesResult]) -> None:
        """Make the histories of permanent objects, for patches whose objects exist or that have none.

        If objects have been made, the work is planned again with their association.
        """
        if any(one.objects_due for one in self.work.patches):
            self.work = self.again(self.work.night) or self.work
        tasks = []
        for patch in self.work.patches:
            part, there = patch.of_static, found.get(patch.key)
            if there is None:
                continue
            there.datasets.update(part.kept)
            there.idle.update(_idle(part))
            if part.due and not patch.objects_due:
                entry = there.datasets.get(OBJECT.name)
                tasks.append(_Task(make_static, part, (None if entry is None else entry.path,)))
        self._make(found, tasks, None)

    def _about(self, division: Division, number: int) -> tuple[list[int], tuple[int, ...]]:
        """Return the surroundings of a patch, if possible from the process beside this one, which knows the sky."""
        about = partial(division.about, number)
        with suppress(Exception):
            near, beside = self.call(about)
            return near, beside
        return about()

    def whole(self, patched: Mapping[str, int], failed: Sequence[str]) -> StagesResult:
        """Return the result of the night as a whole.

        If patches are missing or earlier nights differ from the plan, the next run makes it again.
        """
        if not self.work.due:
            return _known(self.work)
        work = self.work
        if failed:
            work = replace(work, digests={name: digest(one, *sorted(failed)) for name, one in work.digests.items()})
        if (window := window_digest(self._ledger, work.night, self.settings)) != work.window:
            other = {name: digest(work.digests[name], window) for name in self._over_nights & work.digests.keys()}
            work = replace(work, digests={**work.digests, **other}, kept={**work.kept, **_as_recorded(work, other)})
            if not work.due:
                return _known(work)
        ((_, made),) = self._made([_Task(make_night, work, (tuple(patched), self.before))], self.cluster)
        return made

    def _made(self, tasks: list[_Task], cluster: "Cluster | None") -> Iterator[tuple[_Task, StagesResult]]:
        """Yield the result of each task as soon as it is done."""
        made = self._here(tasks)
        if cluster is not None and tasks:
            from flows.nights.cluster.cluster import on_workers

            made = on_workers(tasks, self.out, self.settings, cluster)
        for task, found in made:
            if isinstance(found, Misconfigured):
                raise found
            if isinstance(found, Exception):
                where = "" if isinstance(task.work, NightWork) else f", {task.name}"
                there = StagesResult({}, {}) if isinstance(task.work, ExposureKey) else _known(task.work)
                found = replace(there, failed=[trouble_with(self.work.night, where, found)], idle={})
            yield task, found

    def _here(self, tasks: Iterable[_Task]) -> Iterator[tuple[_Task, StagesResult | Exception]]:
        for task in tasks:
            made: StagesResult | Exception
            try:
                with bound(task.labels):
                    made = self.call(task.make, task.work, self.out, self.settings, *task.more)
            except Exception as error:
                made = error
            yield task, made

    def _record(self, key: PatchKey, made: StagesResult) -> None:
        record = PatchRecord(
            **key.model_dump(),
            datasets=made.datasets,
            idle=made.idle,
            seconds=ledger_seconds(made.seconds),
            software=version("nightstride"),
            finished_at=now(),
        )
        self._ledger.put_patch(record)

    def _withdraw(self, found: Mapping[PatchKey, StagesResult]) -> None:
        """Remove files in the folders of patches that belong to no patch, and their records."""
        published = {entry.path for made in found.values() for entry in made.datasets.values()}
        for path in list(patch_paths(self.out, self.work.night)):
            if path.relative_to(self.out).as_posix() not in published:
                remove(path)
        known = {key.name for key in found}
        for record in list(self._ledger.patches(self.work.night)):
            if isinstance(record, PatchRecord) and record.name not in known:
                self._ledger.remove_patch(record.key)

    def _describe(self, published: Mapping[PatchKey, Mapping[str, DatasetRecord]]) -> None:
        """Write the HATS metadata of the datasets of patches that have positions on the sky."""
        forms = [stage.gives for stage in PIPELINE if stage.per == "patch" and has_place(stage.gives)]
        reach = self.settings.patches.margin_arcsec
        for form in (one for one in forms if isinstance(one, TableOf)):
            for dataset, margin in ((form, None), (margin_of(form), (form.name, reach))):
                rows = {key: one[dataset.name].rows for key, one in published.items() if dataset.name in one}
                write_hats(self.out, self.work.night, dataset, rows, margin)

    @cached_property
    def _ledger(self) -> Ledger:
        return Ledger(self.out)

    @cached_property
    def _over_nights(self) -> set[str]:
        return following(PIPELINE, NIGHT_WINDOW.name)


def _as_recorded(work: NightWork, digests: Mapping[str, str]) -> dict[str, DatasetRecord]:
    """Return what an earlier run has made of a night from the same inputs, even if they differed from its plan."""
    known = work.record.datasets if work.record is not None else {}
    return {
        name: known[name]
        for name, one in digests.items()
        if name in known and known[name].digest == one and is_whole(work.out / known[name].path, known[name].sha256)
    }


def _known(work: NightWork | PatchWork) -> StagesResult:
    """Return the existing datasets of a night or patch before any work."""
    return StagesResult(dict(work.kept), work.not_run, idle=_idle(work))


def _idle(work: NightWork | PatchWork) -> dict[str, tuple[str, str]]:
    return {name: (work.digests[name], reason) for name, reason in work.idle.items()}


def _joined(before: StagesResult, part: PatchWork, made: StagesResult) -> StagesResult:
    """Return the datasets of a patch after a part of it is made."""
    stages = {stage.name for stage in part.graph.stages}
    seconds = dict(before.seconds)
    _add(seconds, made.seconds)
    return StagesResult(
        {**before.datasets, **made.datasets},
        {**{name: one for name, one in before.not_run.items() if name not in stages}, **made.not_run},
        [*before.failed, *made.failed],
        seconds,
        {**{name: one for name, one in before.idle.items() if name not in part.digests}, **made.idle},
    )


def _add(total: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        total[name] = total.get(name, 0) + value


def _everywhere(reasons: list[dict[str, str]]) -> dict[str, str]:
    """Return the stages that run in no patch, with reasons."""
    if not reasons:
        return {}
    names = set(reasons[0]).intersection(*reasons[1:])
    return {name: reasons[0][name] for name in sorted(names)}
