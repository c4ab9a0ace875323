"""What a pipeline stage is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from schemas.dataset import Dataset, DatasetError
from schemas.exposure import ExposureInfo
from schemas.pixels import SearchGrid, Tile


class Search(Protocol):
    """All of the pipeline that leads to `dia_source`, for a stage that has to put an image through it.

    Stages never import each other; so the caller, who knows them all, hands it in.
    """

    @property
    def grid(self) -> SearchGrid:
        """Where it puts its scores: copies that begin at multiples of its stride are scored at the same places."""

    def __call__(self, planes: Mapping[str, Any], exposure: ExposureInfo) -> pa.Table:
        """Return the `DIA_SOURCE` rows of an image: of the planes by name, all of ``exposure.shape``."""


class NightPixels(Protocol):
    """Pixels of the exposures of a night, for a stage that works on all of them and can hold one at a time."""

    def exposures(self) -> Sequence[ExposureInfo]:
        """Return the exposures that have a science image, by visit and detector."""

    def read(self, exposure: ExposureInfo, plane: str) -> Any:
        """Return a plane of one of them, (ny, nx)."""


@dataclass(frozen=True)
class Context:
    """What a stage may know besides its datasets.

    Attributes
    ----------
    exposure
        WCS, PSF, gain, zero point, background, times; None for a night-level stage.
    tile
        Which tile of the exposure, for a tile-level stage.
    settings
        The stage's own section of the settings.
    models
        Loaded models by name (callables with a ``card``); loaded once per worker by the caller.
    search
        The pipeline's own search. What a stage makes with it depends on all that the search depends on: such a stage
        must need `dia_source`, so that its digest does.
    pixels
        Pixels of the night, for a night-level stage. What a stage makes with them depends on all of them: such a stage
        must need `source`, so that its digest does.
    allocate
        Gives an array of a shape and a dtype to be filled with a result that may be larger than the memory.
    """

    exposure: ExposureInfo | None = None
    tile: Tile | None = None
    settings: Any = None
    models: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    pixels: NightPixels | None = None
    allocate: Callable[[tuple[int, ...], str], Any] = np.zeros


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: datasets in, one dataset out.

    A stage is a value: it can be compared and printed, and called in a test without Prefect, Dask or a file
    system. Its ``run`` is a module-level function, so what travels to a worker is a name, not code.

    Parameters
    ----------
    name, version
        The file that defines it, and a string that changes whenever its results do.
    per
        What one call covers.
    needs, optional, gives
        Datasets read, read if present, and made.
    run
        Pure function ``run(inputs, context)`` of a mapping from dataset names and a `Context`.
    weights
        Models it expects in ``context.models``. The caller loads them, once per worker.
    """

    name: str
    version: str
    per: Literal["tile", "exposure", "night"]
    needs: tuple[Dataset, ...]
    gives: Dataset
    run: Callable[[Mapping[str, Any], Context], Any]
    optional: tuple[Dataset, ...] = ()
    weights: tuple[str, ...] = ()

    def __call__(self, inputs: Mapping[str, Any], context: Context) -> Any:
        """Run, having checked what goes in; give the result, having checked that too.

        Raises
        ------
        DatasetError
            A dataset or a model is missing, or a dataset has another form than declared.
        """
        needed = {dataset.name: dataset for dataset in self.needs}
        if missing := sorted(needed.keys() - inputs.keys()):
            raise DatasetError(
                f"stage {self.name!r} needs {missing}, got {sorted(inputs)}. To fix, run the stages that give them."
            )
        if absent := sorted(set(self.weights) - context.models.keys()):
            raise DatasetError(f"stage {self.name!r} needs the models {absent}. To fix, load them into the context.")
        declared = needed | {dataset.name: dataset for dataset in self.optional if dataset.name in inputs}
        for name, dataset in declared.items():
            dataset.check(inputs[name])
        result = self.run({name: inputs[name] for name in declared}, context)
        self.gives.check(result)
        return result
