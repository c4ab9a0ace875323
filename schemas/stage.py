"""Stages of the pipeline and their declarations."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from schemas.dataset import ArrayOf, Dataset, DatasetError, TableOf
from schemas.errors import Misconfigured
from schemas.exposure import ExposureInfo
from schemas.model_card import ModelCard
from schemas.pixels import Box, SearchGrid, Tile, is_large
from schemas.settings import STAGES

EXPOSURE_PIXEL = 36
"""Bytes that a pixel of a whole exposure takes while candidates are merged and measured (13 measured), and while
sources are found on its science image (23 to 31)."""


def exposure_memory(shape: tuple[int, int], settings: Any) -> int:
    """Return the memory of a call on a whole exposure of (ny, nx) px, bytes; used as `Stage.memory`."""
    return shape[0] * shape[1] * EXPOSURE_PIXEL


MAPPED = 800 * 2**20
"""Memory of a call on a large exposure, bytes: mapped pages of planes, and data for hits and candidates, whose number
is limited. The longest trail takes most."""


def piecewise_memory(shape: tuple[int, int], settings: Any) -> int:
    """Return the same for stages that read an exposure in pieces; it is constant for large exposures."""
    return MAPPED if is_large(shape) else exposure_memory(shape, settings)


AUTO = "auto"
"""Value of a setting that takes the name of the model from another setting."""


class Search(Protocol):
    """Search of an image by the pipeline up to `dia_source`, for stages that run it themselves.

    Stages never import each other, so the caller passes the search in.
    """

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of the scores; copies that start at multiples of its stride are scored at the same places."""

    def __call__(self, planes: Mapping[str, Any], exposure: ExposureInfo, within: Box) -> pa.Table:
        """Return the `DIA_SOURCE` rows of an image.

        Parameters
        ----------
        planes
            Pixels by name, each of ``exposure.shape``.
        exposure
            Metadata with the PSF and the noise for the search.
        within
            Part of the image in which streaks are searched for; one that extends beyond may be cut.
        """


class SkyPart(Protocol):
    """Part of the sky that a stage works on."""

    @property
    def margin(self) -> float:
        """Return the largest margin around the part for which rows are available, arcsec."""

    def holds(self, ra: NDArray[np.float64], dec: NDArray[np.float64], margin: float = 0.0) -> NDArray[np.bool_]:
        """Return which positions, deg, lie in the part or within a margin around it, arcsec; False for NaN."""


class NightPixels(Protocol):
    """Pixels of the exposures of a night or patch, for stages that use them one exposure at a time."""

    def exposures(self) -> Sequence[ExposureInfo]:
        """Return the exposures of the night or patch that have a science image, by visit and detector."""

    def rows(self, exposure: ExposureInfo, dataset: TableOf) -> pa.Table:
        """Return all rows of a dataset of one exposure, including those outside the patch."""

    def read(self, exposure: ExposureInfo, plane: str) -> Any:
        """Return a plane of one exposure, (ny, nx): an array, or if large a reader of ``plane[y0:y1, x0:x1]``."""

    def identity(self, exposure: ExposureInfo) -> Hashable | None:
        """Return a unique identifier of the pixels of one exposure, also over changes; None if there is none."""

    def room(self, exposure: ExposureInfo) -> AbstractContextManager[Callable[[tuple[int, ...], str], Any]]:
        """Return a context with a function that allocates arrays of a shape and a dtype, even larger than memory.

        The arrays are freed with the context. One exposure is in memory at a time.
        """


@dataclass(frozen=True)
class Context:
    """Context of a stage: its inputs other than datasets.

    Attributes
    ----------
    exposure
        WCS, PSF, gain, zero point, background, times; None for a stage of a patch or a night.
    patch
        Part of the sky for which rows are wanted, for a patch-level stage; None: the whole sky.
    tile
        Tile of the exposure, for a tile-level stage.
    settings
        The stage's own section of the settings.
    models
        Loaded models by name (callables with a ``card``); loaded once per worker by the caller.
    numbers
        Dataset -> numbers that came with it, of the class declared by the stage that made it.
    search
        The pipeline's own search. Results made with it depend on everything that the search depends on. To have that
        in the digests, such a stage, or every stage that reads its dataset, must need `dia_source`.
    pixels
        Pixels of the patch or night, for stages of those levels. Results made with them depend on all of these pixels.
        To have that in its digest, such a stage must need `source`.
    allocate
        Function that returns an array of a shape and a dtype, for a result that may be larger than memory.
    link
        Function that returns the links of a window of nights, computed in another process: from
        `kernels.linking.nights.Window` to `kernels.linking.orbits.Link`.
    """

    exposure: ExposureInfo | None = None
    tile: Tile | None = None
    settings: Any = None
    models: Mapping[str, Any] = field(default_factory=dict)
    search: Search | None = None
    pixels: NightPixels | None = None
    allocate: Callable[[tuple[int, ...], str], Any] = np.zeros
    numbers: Mapping[str, Any] = field(default_factory=dict)
    patch: SkyPart | None = None
    link: Callable[[Any], Sequence[Any]] | None = None


class Result(NamedTuple):
    """Result of a stage: its dataset, and its declared numbers, if any."""

    rows: Any
    numbers: Any = None


class Weights(NamedTuple):
    """Stored weights of a model: its card, its arrays, their location, and the weights of its companion."""

    card: ModelCard
    arrays: Mapping[str, NDArray[Any]]
    location: str = ""
    companion: "Weights | None" = None


@dataclass(frozen=True)
class Model:
    """Trained model that a stage uses.

    Parameters
    ----------
    name
        Name in ``Context.models``; shipped weights lie in ``stages/weights/<name>/``.
    setting
        Setting that names the model, as ``section.field``: a shipped name, a folder or a URL.
    build
        Module-level function that makes the model from its `Weights` and the section of the setting.
    otherwise
        Setting that names the model if ``setting`` is ``auto``.
    companion
        Weights that may lie beside those of the model; used if they exist and fit it.
    """

    name: str
    setting: str
    build: Callable[[Weights, Any], Any]
    otherwise: str = ""
    companion: str = ""

    def named(self, settings: Any) -> str:
        """Return the shipped name, folder or URL of the model in the settings."""
        name = _setting(settings, self.setting)
        return str(_setting(settings, self.otherwise) if name == AUTO and self.otherwise else name)

    def section(self, settings: Any) -> Any:
        """Return the section of the settings that the model belongs to."""
        return getattr(settings, self.setting.partition(".")[0])


@dataclass(frozen=True)
class Stage:
    """Step of the pipeline: datasets in, one dataset out.

    A stage can be compared and printed, and called in a test without Prefect, Dask or a file system. Its ``run`` is a
    module-level function, so workers receive a name, not code.

    Parameters
    ----------
    name, version
        Name of the file that defines the stage, and a string that changes whenever its results do.
    per
        Scope of one call.
    needs, optional, gives
        Datasets read, read if present, and made.
    run
        Pure function ``run(inputs, context)`` of a mapping from dataset names and a `Context`; it returns the dataset,
        or a `Result` if numbers go with it.
    settings
        Class of its section of the settings, a `schemas.settings.Section`; the section has the name of the stage.
        None: there are no settings.
    models
        Models expected in ``context.models``. The caller loads them once per worker.
    numbers
        Class of the numbers that go with its dataset.
    memory
        Function that returns the memory of a call, bytes, from the (ny, nx) of its input and the stage's section;
        None: negligible. If ``searches`` is set, the memory of ``context.search`` is added.
    margin
        For a patch-level stage: whether it also reads rows around the patch. It may return rows with positions up to
        the patch's margin away, and receives rows of exposures from twice as far.
    searches
        Whether it runs ``context.search``.
    pixels
        For a patch-level stage: whether it reads exposures through ``context.pixels``, which is None otherwise.
    columns
        Table name -> columns that the stage reads; tables not named here are passed whole.
    warm_up
        Function that returns the result passed to the next stages when a worker warms up on a small exposure with
        trails; None: the warm-up skips the stage.
    """

    name: str
    version: str
    per: Literal["tile", "exposure", "patch", "night"]
    needs: tuple[Dataset, ...]
    gives: TableOf | ArrayOf
    run: Callable[[Mapping[str, Any], Context], Any]
    optional: tuple[Dataset, ...] = ()
    settings: type[BaseModel] | None = None
    models: tuple[Model, ...] = ()
    numbers: type | None = None
    memory: Callable[[tuple[int, int], Any], int] | None = None
    searches: bool = False
    pixels: bool = False
    margin: bool = False
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warm_up: Callable[[Result, "Rehearsal"], Result] | None = None

    def __hash__(self) -> int:
        """Return a hash of a few fields only; schemas are slow to hash."""
        return hash((self.name, self.version, self.per))

    def section(self, settings: Any) -> Any:
        """Return the stage's section of the settings; None if it has none.

        Raises
        ------
        Misconfigured
            The settings have no such section, or one of another class.
        """
        if self.settings is None:
            return None
        found = getattr(settings, self.name, None)
        if not isinstance(found, self.settings):
            raise Misconfigured(
                "settings_section",
                f"stage {self.name!r}",
                f"declares settings of class {self.settings.__name__}, the section [{self.name}] is "
                f"{'missing' if found is None else type(found).__name__}.",
                "name the stage like its section, and load the settings with all stages known.",
            )
        return found

    def __call__(self, inputs: Mapping[str, Any], context: Context) -> Result:
        """Check the inputs, run the stage, and return the checked result.

        Raises
        ------
        DatasetError
            A dataset or a model is missing, or a dataset or the numbers are not as declared.
        """
        needed = {dataset.name: dataset for dataset in self.needs}
        if missing := sorted(needed.keys() - inputs.keys()):
            raise DatasetError(
                f"stage {self.name!r} needs {missing}, got {sorted(inputs)}. To fix, run the stages that give them."
            )
        if absent := sorted({model.name for model in self.models} - context.models.keys()):
            raise DatasetError(f"stage {self.name!r} needs the models {absent}. To fix, load them into the context.")
        declared = needed | {dataset.name: dataset for dataset in self.optional if dataset.name in inputs}
        given = {name: self._part(dataset, inputs[name]) for name, dataset in declared.items()}
        made = self.run(given, context)
        result = made if isinstance(made, Result) else Result(made)
        self.gives.check(result.rows)
        if not isinstance(result.numbers, self.numbers or type(None)):
            expected = self.numbers.__name__ if self.numbers else "none"
            raise DatasetError(f"stage {self.name!r} declares numbers {expected}, got {type(result.numbers).__name__}")
        return result

    def _part(self, dataset: Dataset, value: Any) -> Any:
        """Return the checked part of a dataset that the stage reads."""
        form = self.reads(dataset)
        if form is not dataset and isinstance(form, TableOf) and isinstance(value, pa.Table):
            value = value.select([name for name in form.schema.names if name in value.schema.names])
        form.check(value)
        return value

    def reads(self, dataset: Dataset) -> Dataset:
        """Return the schema that the stage reads: all of a dataset, or some columns; raise as `TableOf.only` does."""
        if isinstance(dataset, TableOf) and dataset.name in self.columns:
            return dataset.only(self.columns[dataset.name])
        return dataset


class Rehearsal(NamedTuple):
    """Small exposure with trails on which workers warm up.

    Attributes
    ----------
    grid
        Grid of the search.
    shape
        (ny, nx), px.
    trails
        Centre (x, y), length and angle (px, radians) of each trail.
    """

    grid: SearchGrid
    shape: tuple[int, int]
    trails: tuple[tuple[tuple[float, float], float, float], ...]


def as_found(result: Result, rehearsal: Rehearsal) -> Result:
    """Return a result unchanged; the `Stage.warm_up` of stages whose result needs no change."""
    return result


@cache
def registered_stages() -> tuple[Stage, ...]:
    """Return the stages registered by installed packages, by the names of their entry points.

    Raises
    ------
    Misconfigured
        An entry point cannot be loaded, or is not a stage.
    """
    found = []
    for point in sorted(entry_points(group=STAGES), key=lambda one: one.name):
        where, remedy = place_of(point)
        try:
            stage = point.load()
        except (ImportError, AttributeError) as error:
            raise Misconfigured("bad_stage", where, f"cannot be loaded: {error}.", remedy) from error
        if not isinstance(stage, Stage):
            raise Misconfigured("bad_stage", where, f"is {type(stage).__name__}, not a Stage.", remedy)
        found.append(stage)
    return tuple(found)


def place_of(point: EntryPoint) -> tuple[str, str]:
    """Return the description of an entry point for messages, and the remedy if its package is at fault."""
    package = point.dist.name if point.dist else point.value
    return f"entry point {point.name!r} of {point.group}", f"correct or uninstall the package {package!r}."


def _setting(settings: Any, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(settings, section), name)
