"""Execution of the stages of a night or patch on the results of its exposures."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.inputs.dust_map import dust_of
from flows.nights.cluster.memory import require_night_fit
from flows.pipeline.graph import Graph
from flows.pipeline.models import models_of
from flows.pipeline.night_work import NightWork, Work
from flows.pipeline.provenance import provenance_of
from flows.pipeline.stage_run import place_of_errors
from flows.runtime.parallel import single_thread
from flows.runtime.traces import Timer
from flows.storage.array_store import Allocate, ArrayStore, Scratch, room_for, scratch_folder
from flows.storage.atomic import remove
from flows.storage.catalog_store import CatalogStore, joined
from flows.storage.layout import tile_path
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from schemas.dataset import ArrayOf, Dataset, TableOf
from schemas.errors import BACKOFF_S, Misconfigured, NightstrideError, NoWork, Retryable
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.ledger import DatasetRecord, NightRecord
from schemas.patch import PatchKey
from schemas.pixels import SCIENCE, is_large
from schemas.settings import LinkNightsSettings, Settings
from schemas.stage import Context, Stage
from schemas.summary import Trouble
from schemas.tracklets import NIGHT_WINDOW
from stages import PIPELINE

Given = TypeVar("Given")


@dataclass(frozen=True)
class StoredPlane:
    """Plane of an exposure that is read in pieces, as ``plane[y0:y1, x0:x1]``."""

    store: TileStore
    name: str

    @property
    def shape(self) -> tuple[int, int]:
        """Return (ny, nx), px."""
        return self.store.info.shape

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[Any]:
        """Return pixels; raise as `TileStore.read` does."""
        (y0, y1, _), (x0, x1, _) = (one.indices(side) for one, side in zip(where, self.shape, strict=True))
        return self.store.read(self.name, y0, x0, y1, x1)


class StoredNight:
    """`schemas.stage.NightPixels` read from the tiles of published exposures.

    Parameters
    ----------
    out
        Output folder.
    keys
        Keys of the exposures.
    """

    def __init__(self, out: Path, keys: Sequence[ExposureKey]) -> None:
        self._out, self._keys = out, keys
        self._infos: tuple[ExposureInfo, ...] | None = None

    def exposures(self) -> tuple[ExposureInfo, ...]:
        """Return the exposures that have a science image, by visit and detector.

        Raises
        ------
        BadInput
            Tiles are missing or damaged.
        """
        if self._infos is None:
            infos = (self._open(key).info for key in self._keys)
            self._infos = tuple(info for info in infos if SCIENCE.name in info.planes)
        return self._infos

    def read(self, exposure: ExposureInfo, plane: str) -> Any:
        """Return a plane of one exposure, (ny, nx), a large one as a `StoredPlane`; raise as `TileStore.read` does."""
        store = self._open(exposure)
        return StoredPlane(store, plane) if is_large(store.info.shape) else store.read_all(plane)

    def identity(self, exposure: ExposureInfo) -> tuple[str, str]:
        """Return the location of an exposure's tiles, and the digest of their inputs; raise as `exposures` does."""
        store = self._open(exposure)
        return str(store.path), store.digest

    @contextmanager
    def room(self, exposure: ExposureInfo) -> Iterator[Allocate]:
        """Yield a function that allocates arrays for the planes of an exposure, mapped from files if it is large."""
        with room_for(exposure.shape, self._out) as allocate:
            yield allocate or np.zeros

    def rows(self, exposure: ExposureInfo, dataset: TableOf) -> pa.Table:
        """Return all rows of a dataset of one exposure; raise as `CatalogStore.read` does."""
        return CatalogStore(self._out).read(dataset, exposure)

    def _open(self, key: ExposureKey) -> TileStore:
        return TileStore.open(tile_path(self._out, key))


@dataclass
class StagesResult:
    """Result of the stages of a night or patch.

    Attributes
    ----------
    datasets
        Currently published files.
    not_run
        Stage -> reason why it had no input.
    failed
        Errors.
    seconds
        Time by stage, s.
    idle
        Dataset -> digest of its inputs, and reason why it is not made.
    """

    datasets: dict[str, DatasetRecord]
    not_run: dict[str, str]
    failed: list[Trouble] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)
    idle: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class NightResult:
    """Result of a night: of its patches and its stages as a whole; fields as in `StagesResult`.

    Attributes
    ----------
    rows
        Number of currently published rows, by dataset.
    patches, patches_failed
        Number of patches, and number of patches with errors.
    """

    not_run: dict[str, str]
    rows: dict[str, int]
    datasets: dict[str, DatasetRecord]
    failed: list[Trouble] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    patches: int = 0
    patches_failed: int = 0


class OverNights(NamedTuple):
    """Functions of `flows.nights.night_window` that read a window of nights and link it.

    They are passed in, because they use modules above this one.
    """

    read: Callable[[Path, str, LinkNightsSettings], pa.Table]
    link: Callable[[Any], Sequence[Any]]


class UnitStages:
    """Stages of a night or patch, run one after another in this process.

    When a stage fails, only stages that read its dataset fail too. Published files are replaced one by one, each in
    one step.

    Parameters
    ----------
    out, settings
        Output folder and settings of the run, which holds the lease of ``out``.
    work
        Work on the night or patch.
    label
        Name of the night or patch in messages.
    keys
        Keys of its exposures.
    """

    def __init__(self, out: Path, settings: Settings, work: Work, label: str, keys: Sequence[ExposureKey]) -> None:
        self._out, self._settings, self._work, self._label = out, settings, work, label
        self._tables, self._arrays = CatalogStore(out), ArrayStore(out)
        self._pixels = StoredNight(out, keys)
        self._inputs: dict[str, Any] = {}
        self.result = StagesResult(dict(work.kept), dict(work.graph.not_run))

    def run(self) -> StagesResult:
        """Run what is outdated and publish it.

        Raises
        ------
        Misconfigured
            No stage could succeed: a model is missing, the folder may not be written, ...
        """
        with Scratch(scratch_folder(self._out)) as scratch:
            self._arrays = ArrayStore(self._out, scratch.allocate)
            self._run()
        return self.result

    def _run(self) -> None:
        work, timer = self._work, Timer()
        lost: dict[str, str] = {}
        wanted = [name for name in work.digests if name not in work.kept]
        for stage in Graph(work.graph.stages, {}).towards(wanted, work.kept):
            name = stage.gives.name
            if missing := [one for one in _awaited(stage, self.result.idle) if one in lost]:
                self._leave(stage, lost[missing[0]], all(one in self.result.idle for one in missing))
            else:
                try:
                    self._persistently(partial(self._make, stage, timer))
                    continue
                except NoWork as error:
                    self._leave(stage, str(error), idle=True)
                except Misconfigured:
                    raise
                except Exception as error:  # a bug or a full disk: the rest of the night continues
                    self.result.failed.append(trouble_with(work.night, f"{self._label}, stage {stage.name}", error))
            lost[name] = f"no {name}: stage {stage.name} did not run"
        self.result.seconds = timer.seconds()

    def _leave(self, stage: Stage, reason: str, idle: bool) -> None:
        """Record why a stage does not run; if that follows from its inputs, a rerun need not check it again."""
        self.result.not_run[stage.name] = reason
        if idle:
            self.result.idle[stage.gives.name] = self._work.digests[stage.gives.name], reason

    def _persistently(self, call: Callable[[], Given]) -> Given:
        """Return the result of a call; retry if it may succeed later, as for exposures."""
        for attempt in range(self._settings.execution.retries):
            try:
                return call()
            except Retryable:
                sleep(BACKOFF_S * 2**attempt)
        return call()

    def _make(self, stage: Stage, timer: Timer) -> None:
        """Run a stage and publish its dataset."""
        inputs = {dataset.name: self._given(stage, dataset) for dataset in (*stage.needs, *stage.optional)}
        inputs = {name: value for name, value in inputs.items() if value is not None}
        models = {**models_of(stage, self._settings), **dust_of(stage, self._settings)}
        timer.lap("other")
        # Sums of several threads differ in their last bits with the number of cores; models are there, and so is torch,
        # whose threads are limited only then.
        with single_thread(), place_of_errors(stage):
            made = stage(inputs, self._context(stage, models)).rows
        timer.lap(stage.name)
        self._inputs[stage.gives.name] = made
        self._publish(stage, made, inputs)
        timer.lap("publish")

    def _context(self, stage: Stage, models: Mapping[str, Any]) -> Context:
        section = stage.section(self._settings)
        pixels = self._pixels if stage.pixels else None
        return Context(settings=section, models=models, pixels=pixels, allocate=self._arrays.allocate)

    def _given(self, stage: Stage, dataset: Dataset) -> Any:
        """Return a dataset in the form for a stage; None if there is none."""
        return self._input(dataset)

    def _input(self, dataset: Dataset) -> Any:
        """Return a dataset that was just made, kept from an earlier run, or made elsewhere; None if there is none."""
        name = dataset.name
        if name not in self._inputs:
            if name in self._work.kept:
                self._inputs[name] = self._read_kept(dataset)
            elif isinstance(dataset, TableOf) and name not in self._work.digests:
                self._inputs[name] = self._found(dataset)
        return self._inputs.get(name)

    def _read_kept(self, dataset: Dataset) -> Any:
        path = self._out / self._work.kept[dataset.name].path
        read = self._tables.read_path if isinstance(dataset, TableOf) else self._arrays.read_path
        return read(path, dataset)  # type: ignore[arg-type]

    def _found(self, dataset: TableOf) -> pa.Table | None:
        """Return the rows of a dataset made elsewhere; None if there are none."""
        raise NotImplementedError

    def _columns(self, dataset: TableOf) -> list[str]:
        """Return the columns of a dataset that any of the stages reads."""
        readers = [one for one in self._work.graph.stages if dataset in (*one.needs, *one.optional)]
        read = {name for one in readers for name in one.reads(dataset).schema.names}  # type: ignore[union-attr]
        return [name for name in dataset.schema.names if name in read]

    def _publish(self, stage: Stage, made: Any, inputs: Mapping[str, Any]) -> None:
        self.result.datasets[stage.gives.name] = self._published(stage, stage.gives, self._work.night, made, inputs)

    def _published(
        self, stage: Stage, dataset: TableOf | ArrayOf, key: PatchKey | str, made: Any, inputs: Mapping[str, Any]
    ) -> DatasetRecord:
        """Publish the result of a stage as ``dataset``."""
        digest = self._work.digests[stage.gives.name]
        if isinstance(dataset, TableOf):
            return self._tables.record(self._tables.publish(dataset, key, made, digest))
        # The rows of an array are those of the table that its first axis is named after.
        tables = [one for one in stage.needs if isinstance(one, TableOf) and one.name == dataset.dims[0]]
        ids = {one.ids: inputs[one.name][one.ids].to_numpy() for one in tables}
        section = stage.section(self._settings)
        settings = section.model_dump(mode="json") if section is not None else None
        return self._arrays.publish(dataset, key, made, digest, ids, settings)


class NightStages(UnitStages):
    """Stages of a whole night.

    Parameters
    ----------
    out, settings, work
        As in `UnitStages`.
    patched
        Datasets of its patches.
    before
        Functions for links with earlier nights, if wanted.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        work: NightWork,
        patched: Collection[str],
        before: OverNights | None,
    ) -> None:
        super().__init__(out, settings, work, "", work.keys())
        self._patched, self._before = patched, before

    def _context(self, stage: Stage, models: Mapping[str, Any]) -> Context:
        link = None if self._before is None else self._before.link
        return replace(super()._context(stage, models), link=link)

    def run(self) -> StagesResult:
        """Run what is outdated and publish it.

        Raises
        ------
        Misconfigured
            As in `UnitStages.run`.
        BadInput
            The data would not fit in memory.
        """
        require_night_fit(self._work.night, self._work.rows)
        return super().run()

    def _found(self, dataset: TableOf) -> pa.Table | None:
        if dataset.name == NIGHT_WINDOW.name:
            return self._before and self._before.read(self._out, self._work.night, self._settings.link_nights)
        columns = self._columns(dataset)
        if dataset.name in self._patched:
            return self._tables.read_night(dataset, self._work.night, columns)
        return joined(self._tables.read(dataset, key).select(columns) for key in self._work.keys(dataset.name))


def make_night(
    work: NightWork, out: Path, settings: Settings, patched: Collection[str], before: OverNights | None = None
) -> StagesResult:
    """Run the outdated stages of a whole night, and publish their datasets; parameters are those of `NightStages`."""
    return NightStages(out, settings, work, patched, before).run()


def record_night(
    work: NightWork,
    out: Path,
    settings: Settings,
    made: StagesResult,
    rows: Mapping[str, int],
    failed: Sequence[Trouble],
) -> None:
    """Withdraw datasets that are no longer made, and record the rest.

    Parameters
    ----------
    work, out, settings
        As in `NightStages`.
    made, rows
        Result of its stages; numbers of currently published rows of its patches, by dataset.
    failed
        Errors in its patches.
    """
    ledger, before = Ledger(out), work.record.datasets if work.record is not None else {}
    there = {entry.path for entry in made.datasets.values()}
    for entry in before.values():
        if entry.path not in there:
            remove(out / entry.path)
    if not (made.datasets or made.idle or made.failed or work.patches):
        ledger.remove_night(work.night)
        return
    ledger.put_night(
        NightRecord(
            night=work.night,
            datasets=dict(made.datasets),
            idle=made.idle,
            exposures=work.published,
            made_from=work.made_from,
            rows=dict(rows),
            patches=work.patch_digest,
            failed=(*failed, *made.failed),
            drawn=False,
            seconds=ledger_seconds(made.seconds),
            provenance=ledger.put_provenance(provenance_of(PIPELINE, settings)),
            software=version("nightstride"),
            finished_at=now(),
        )
    )


def _awaited(stage: Stage, idle: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the datasets without which a stage does not run: also optional ones, unless there can be nothing of them.

    Its digest covers all that it reads; made without, it would pass for made with it.
    """
    return [one.name for one in stage.needs] + [one.name for one in stage.optional if one.name not in idle]


def ledger_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return times as stored in the ledger."""
    return {name: round(value, 4) for name, value in seconds.items()}


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def trouble_with(night: str, what: str, error: Exception) -> Trouble:
    """Return the trouble for an error in a part of a night."""
    code = error.code if isinstance(error, NightstrideError) else type(error).__name__
    said = str(error) if isinstance(error, NightstrideError) else f"{code}: {' '.join(str(error).split())[:500]}"
    text = "; ".join([said, *getattr(error, "__notes__", ())])
    return Trouble(uri=f"night {night}", code=code, message=f"night {night}{what}: {text}")
