"""Stages of a patch of the sky: those that need only exposures, and those that need the association."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.nights.cluster.memory import require_history_fit, require_patch_fit
from flows.nights.night_stages import StagesResult, UnitStages
from flows.pipeline.night_work import MARGIN, PatchWork
from flows.storage.catalog_store import joined
from kernels.sky.patches import Patch
from schemas.dataset import Dataset, TableOf
from schemas.dia_object import ASSOCIATION
from schemas.errors import BadInput
from schemas.objects import OBJECT
from schemas.settings import Settings
from schemas.stage import Context, Stage
from schemas.static_object import STATIC_ASSOCIATION

NOTHING = "nothing of the night lies there"
"""Reason of a patch that lacks results."""


class PatchStages(UnitStages):
    """Stages of a patch of the sky. Parameters as in `UnitStages`."""

    def __init__(self, out: Path, settings: Settings, work: PatchWork) -> None:
        super().__init__(out, settings, work, f", patch {work.key.name}", work.keys())
        self._unit = work
        self._sky = Patch(work.key.order, work.key.pixel, settings.patches.margin_arcsec)

    def run(self) -> StagesResult:
        """Run the outdated stages and publish their datasets, unless no source of the night lies in the patch.

        Raises
        ------
        Misconfigured
            As in `UnitStages.run`.
        BadInput, Retryable
            Catalogues of exposures are damaged, or cannot be read now; the data would not fit in memory.
        """
        require_patch_fit(self._unit.key.name, max(self._shapes(), key=prod, default=(0, 0)), self._unit.rows)
        tables = {one.name: one for stage in self._work.graph.stages for one in stage.needs if isinstance(one, TableOf)}
        given = [self._input(tables[name]) for name in self._unit.exposures if name in tables]
        if self._work.kept or any(one is not None and len(one) for one in given):
            return super().run()
        return self._nothing()

    def _nothing(self) -> StagesResult:
        self.result.not_run = dict.fromkeys((stage.name for stage in self._work.graph.stages), NOTHING)
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
        if stage.margin or found is None or not has_place(dataset):
            return found
        return found.filter(pa.array(self._holds(found)))

    def _found(self, dataset: TableOf) -> pa.Table | None:
        return joined(self._near(self._tables.read(dataset, key), dataset) for key in self._unit.keys(dataset.name))

    def _near(self, rows: pa.Table, dataset: TableOf) -> pa.Table:
        """Return the rows that may belong to the patch or its margin."""
        return rows.filter(pa.array(self._holds(rows, 2 * self._sky.margin))) if has_place(dataset) else rows

    def _read_kept(self, dataset: Dataset) -> Any:
        found = super()._read_kept(dataset)
        around = self._work.kept.get(dataset.name + MARGIN)
        if around is None or not isinstance(dataset, TableOf):
            return found
        both = [found, self._tables.read_path(self._out / around.path, margin_of(dataset))]
        return pa.concat_tables(both).sort_by(dataset.ids)

    def _publish(self, stage: Stage, made: Any, inputs: Mapping[str, Any]) -> None:
        name, key = stage.gives.name, self._unit.key
        if stage.margin and has_place(stage.gives) and isinstance(stage.gives, TableOf):
            inside = self._holds(made)
            around = margin_of(stage.gives)
            rows = made.filter(pa.array(~inside))
            self.result.datasets[around.name] = self._published(stage, around, key, rows, inputs)
            made = made.filter(pa.array(inside))
        self.result.datasets[name] = self._published(stage, stage.gives, key, made, inputs)

    def _holds(self, rows: pa.Table, margin: float = 0.0) -> NDArray[np.bool_]:
        ra, dec = (rows[name].to_numpy().astype(np.float64) for name in ("ra", "dec"))
        return self._sky.holds(ra, dec, margin)


def has_place(dataset: Dataset) -> bool:
    """Return whether the rows of a dataset have positions on the sky."""
    return isinstance(dataset, TableOf) and {"ra", "dec"} <= set(dataset.schema.names)


def margin_of(dataset: TableOf) -> TableOf:
    """Return the schema of the published margin of a dataset around patches."""
    return replace(dataset, name=dataset.name + MARGIN)


def make_patch(work: PatchWork, out: Path, settings: Settings) -> StagesResult:
    """Run the outdated stages of a patch, and publish their datasets; raise as `PatchStages.run` does."""
    return PatchStages(out, settings, work).run()


@dataclass(frozen=True)
class Around:
    """Surroundings of a patch, as far as the association needs them.

    Attributes
    ----------
    beside
        Pixels outside all patches whose objects are its own: `kernels.sky.patches.Division`.
    files
        Dataset -> its published files, for the patch and for those that touch it.
    """

    beside: tuple[int, ...]
    files: Mapping[str, tuple[str, ...]]


class AssociatedStages(PatchStages):
    """Stages of a patch that read the association from its store.

    A detection may lie in another patch than its object, so datasets on detections are also read from the surrounding
    patches.

    Parameters
    ----------
    out, settings, work
        As in `PatchStages`, after the datasets that need only exposures are made for all patches.
    around
        Surroundings of the patch.
    """

    def __init__(self, out: Path, settings: Settings, work: PatchWork, around: Around) -> None:
        super().__init__(out, settings, work)
        self._around, self._sky = around, replace(self._sky, beside=around.beside)

    def run(self) -> StagesResult:
        """Run the outdated stages and publish their datasets, unless no object there was seen in the night.

        Raises
        ------
        Misconfigured
            As in `UnitStages.run`.
        BadInput, Retryable
            The store of the association does not answer, or is damaged; its detections would not fit in memory.
        """
        found = self._persistently(lambda: self._input(ASSOCIATION))
        return UnitStages.run(self) if len(found) or self._work.kept else self._nothing()

    def _found(self, dataset: TableOf) -> pa.Table | None:
        if dataset.name == ASSOCIATION.name:
            from flows.storage.association_store import opened_association  # SQLAlchemy is slow to import

            with opened_association(self._out, self._settings.association) as store:
                require_history_fit(self._unit.key.name, store.history_rows(self._work.night, self._sky))
                return store.history(self._work.night, self._sky)
        if dataset.name not in self._around.files:
            return super()._found(dataset)
        columns, paths = self._columns(dataset), self._around.files[dataset.name]
        return joined(self._tables.read_path(self._out / path, dataset).select(columns) for path in paths)


def make_associated(work: PatchWork, out: Path, settings: Settings, around: Around) -> StagesResult:
    """Run the stages of a patch on the association; parameters and errors are those of `AssociatedStages`."""
    return AssociatedStages(out, settings, work, around).run()


class StaticStages(PatchStages):
    """Stages of a patch that read the history of its objects in other nights from the store.

    Parameters
    ----------
    out, settings, work
        As in `PatchStages`, after the night's objects are associated.
    objects
        File of these objects; None: there are none.
    """

    def __init__(self, out: Path, settings: Settings, work: PatchWork, objects: str | None) -> None:
        super().__init__(out, settings, work)
        self._objects = objects

    def run(self) -> StagesResult:
        """Run the outdated stages and publish their datasets; raise as `AssociatedStages.run` does."""
        return UnitStages.run(self) if self._objects is not None and len(self._input(OBJECT)) else self._nothing()

    def _found(self, dataset: TableOf) -> pa.Table | None:
        if dataset.name == STATIC_ASSOCIATION.name:
            from flows.storage.association_store import opened_association
            from flows.storage.static_objects import StaticObjects

            with opened_association(self._out, self._settings.association) as store:
                static, key = StaticObjects(store), self._unit.key
                require_history_fit(key.name, static.history_rows(key))
                return static.history(key)
        if dataset.name == OBJECT.name and self._objects is not None:
            return self._tables.read_path(self._out / self._objects, OBJECT)
        return super()._found(dataset)


def make_static(work: PatchWork, out: Path, settings: Settings, objects: str | None) -> StagesResult:
    """Run the stages of a patch on permanent objects; parameters and errors are those of `StaticStages`."""
    return StaticStages(out, settings, work, objects).run()
