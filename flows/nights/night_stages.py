"""Stages of a whole night, run on the results of its exposures."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from math import prod
from pathlib import Path
from time import sleep
from typing import Any

import pyarrow as pa

from flows.inputs.dust_map import dust_of
from flows.nights.cluster.memory import host_memory, require_night_fit
from flows.nights.exposure_run import BACKOFF_S
from flows.pipeline.graph import Graph
from flows.pipeline.models import models_of
from flows.pipeline.night_plan import NightWork
from flows.pipeline.provenance import provenance_of
from flows.runtime.parallel import single_thread
from flows.runtime.traces import Timer
from flows.storage.array_store import ArrayStore
from flows.storage.atomic import remove
from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from flows.storage.zarr_tiles import TileStore
from schemas.dataset import ArrayOf, Dataset, TableOf
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput, Misconfigured, NightstrideError, NoWork, Retryable
from schemas.exposure import ExposureInfo
from schemas.ledger import DatasetRecord, ExposureRecord, NightRecord
from schemas.objects import SOURCE
from schemas.pixels import SCIENCE
from schemas.settings import Settings
from schemas.stage import Context, Stage
from schemas.summary import Trouble
from stages import PIPELINE


class StoredNight:
    """`schemas.stage.NightPixels` that reads from the tiles of published exposures.

    Parameters
    ----------
    out
        Output folder.
    records
        Of the exposures.
    """

    def __init__(self, out: Path, records: Sequence[ExposureRecord]) -> None:
        self._out, self._records = out, records
        self._infos: tuple[ExposureInfo, ...] | None = None

    def exposures(self) -> tuple[ExposureInfo, ...]:
        """Return the exposures that have a science image, by visit and detector.

        Raises
        ------
        BadInput
            Tiles are missing or damaged.
        """
        if self._infos is None:
            infos = (self._open(record.night, record.name).info for record in self._records)
            self._infos = tuple(info for info in infos if SCIENCE.name in info.planes)
        return self._infos

    def read(self, exposure: ExposureInfo, plane: str) -> Any:
        """Return a plane of one of them, (ny, nx); errors as in `TileStore.read`."""
        return self._open(exposure.night, exposure.name).read_all(plane)

    def _open(self, night: str, name: str) -> TileStore:
        return TileStore.open(self._out / "tiles" / night / f"{name}.zarr")


@dataclass
class NightResult:
    """Result of the stages of a night: files as published now, stages without work, failures, time by stage, s."""

    datasets: dict[str, DatasetRecord]
    not_run: dict[str, str]
    failed: list[Trouble] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)


class NightStages:
    """Stages of one night, run one after the other in this process.

    When a stage fails, those that read its dataset fail too, and no others. What is published is replaced file
    by file, each in one step; what has no input any more is withdrawn at the end.

    Parameters
    ----------
    out, settings
        Of the run; the caller holds the lease of ``out``.
    work
        The night.
    """

    def __init__(self, out: Path, settings: Settings, work: NightWork) -> None:
        self._out, self._settings, self._work = out, settings, work
        self._tables, self._arrays, self._ledger = CatalogStore(out), ArrayStore(out), Ledger(out)
        self._pixels = StoredNight(out, work.records)
        self._inputs: dict[str, Any] = {}
        self._result = NightResult(dict(work.kept), dict(work.graph.not_run))
        self._idle: dict[str, tuple[str, str]] = {}

    def run(self) -> NightResult:
        """Run what is outdated and publish it.

        Raises
        ------
        Misconfigured
            Nothing of this kind could succeed: a model is missing, the folder may not be written, ...
        """
        try:
            self._require_memory()
        except Misconfigured as error:  # other nights may be smaller
            self._result.failed.append(Trouble(uri=f"night {self._work.night}", code=error.code, message=str(error)))
            return self._result
        work, timer = self._work, Timer()
        lost: dict[str, str] = {}
        wanted = [name for name in work.digests if name not in work.kept]
        for stage in Graph(work.graph.stages, {}).towards(wanted, work.kept):
            name = stage.gives.name
            if missing := [one for one in _awaited(stage, self._idle) if one in lost]:
                self._leave(stage, lost[missing[0]], all(one in self._idle for one in missing))
            else:
                try:
                    self._persistently(stage, timer)
                    continue
                except NoWork as error:
                    self._leave(stage, str(error), idle=True)
                except Misconfigured:
                    raise
                except Exception as error:  # a defect or a full disk: the rest of the night goes on
                    self._result.failed.append(_trouble(work.night, stage, error))
            lost[name] = f"no {name}: stage {stage.name} did not run"
        self._result.seconds = timer.seconds()
        self._withdraw()
        return self._result

    def _require_memory(self) -> None:
        rows: Counter[str] = Counter()
        for record in self._work.records:
            rows.update({name: entry.rows for name, entry in record.datasets.items()})
        if not rows[SOURCE.name]:
            return
        try:
            shapes = [info.shape for info in self._pixels.exposures()]
        except (BadInput, Retryable):
            return  # the stages that read these pixels say so
        largest = max(shapes, key=prod, default=(0, 0))
        require_night_fit(self._work.night, largest, rows[SOURCE.name], rows[DIA_SOURCE.name], host_memory())

    def _leave(self, stage: Stage, reason: str, idle: bool) -> None:
        """Record why a stage does not run; where that follows from its inputs, a rerun need not find out again."""
        self._result.not_run[stage.name] = reason
        if idle:
            self._idle[stage.gives.name] = self._work.digests[stage.gives.name], reason

    def _persistently(self, stage: Stage, timer: Timer) -> None:
        """Run a stage and publish what it gives; try again what may succeed later, as for exposures."""
        for attempt in range(self._settings.execution.retries):
            try:
                return self._make(stage, timer)
            except Retryable:
                sleep(BACKOFF_S * 2**attempt)
        return self._make(stage, timer)

    def _make(self, stage: Stage, timer: Timer) -> None:
        inputs = {dataset.name: self._input(dataset) for dataset in (*stage.needs, *stage.optional)}
        inputs = {name: value for name, value in inputs.items() if value is not None}
        models = {**models_of(stage, self._settings), **dust_of(stage, self._settings)}
        timer.lap("other")
        section = stage.section(self._settings)
        context = Context(settings=section, models=models, pixels=self._pixels, allocate=self._arrays.allocate)
        made = stage(inputs, context).rows
        timer.lap(stage.name)
        self._inputs[stage.gives.name] = made
        self._result.datasets[stage.gives.name] = self._publish(stage, made)
        self._record(self._result.datasets)
        timer.lap("publish")

    def _input(self, dataset: Dataset) -> Any:
        """Return a dataset: made just now, kept from an earlier run, or of all exposures; None if there is none."""
        name = dataset.name
        if name not in self._inputs:
            if name in self._work.kept:
                path = self._out / self._work.kept[name].path
                read = self._tables.read_path if isinstance(dataset, TableOf) else self._arrays.read_path
                self._inputs[name] = read(path, dataset)  # type: ignore[arg-type]
            elif isinstance(dataset, TableOf) and dataset.name not in self._work.digests:
                self._inputs[name] = self._of_exposures(dataset)
        return self._inputs.get(name)

    def _of_exposures(self, dataset: TableOf) -> pa.Table | None:
        having = [record for record in self._work.records if dataset.name in record.datasets]
        tables = [self._tables.read(dataset, record.key) for record in having]
        return pa.concat_tables(tables) if tables else None

    def _publish(self, stage: Stage, made: Any) -> DatasetRecord:
        dataset, night = stage.gives, self._work.night
        digest = self._work.digests[dataset.name]
        if isinstance(dataset, ArrayOf):
            # The rows of an array are those of the table that its first axis is named after.
            tables = [one for one in stage.needs if isinstance(one, TableOf) and one.name == dataset.dims[0]]
            ids = {one.ids: self._inputs[one.name][one.ids].to_numpy() for one in tables}
            section = stage.section(self._settings)
            settings = section.model_dump(mode="json") if section is not None else None
            return self._arrays.publish(dataset, night, made, digest, ids, settings)
        return self._tables.record(self._tables.publish(dataset, night, made, digest))

    def _record(self, datasets: Mapping[str, DatasetRecord]) -> None:
        self._ledger.put_night(
            NightRecord(
                night=self._work.night,
                datasets=dict(datasets),
                idle=self._idle,
                exposures=len(self._work.records),
                seconds={name: round(value, 4) for name, value in self._result.seconds.items()},
                provenance=self._provenance,
                software=version("nightstride"),
                finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
        )

    @cached_property
    def _provenance(self) -> str:
        return self._ledger.put_provenance(provenance_of(PIPELINE, self._settings))

    def _withdraw(self) -> None:
        """Remove what is published and not given any more, then its record."""
        before = self._work.record.datasets if self._work.record is not None else {}
        now = {entry.path for entry in self._result.datasets.values()}
        for entry in before.values():
            if entry.path not in now:
                remove(self._out / entry.path)
        if self._result.datasets or self._idle:
            self._record(self._result.datasets)
        else:
            self._ledger.remove_night(self._work.night)


def run_nights(works: Iterable[NightWork], out: Path, settings: Settings) -> dict[str, NightResult]:
    """Run the stages of nights that are outdated; return night -> result. Errors as in `NightStages.run`."""
    # Sums of several threads differ in their last bits with the number of cores.
    with single_thread():
        return {work.night: NightStages(out, settings, work).run() for work in works if work.outdated}


def _awaited(stage: Stage, idle: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the datasets without which a stage does not run: also optional ones, unless there can be nothing of them.

    Its digest covers all that it reads; made without, it would pass for made with it.
    """
    return [one.name for one in stage.needs] + [one.name for one in stage.optional if one.name not in idle]


def _trouble(night: str, stage: Stage, error: Exception) -> Trouble:
    code = error.code if isinstance(error, NightstrideError) else type(error).__name__
    text = str(error) if isinstance(error, NightstrideError) else f"{code}: {' '.join(str(error).split())[:500]}"
    return Trouble(uri=f"night {night}", code=code, message=f"night {night}, stage {stage.name}: {text}")
