"""Stages of the pipeline, and what they declare."""

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
from schemas.pixels import SearchGrid, Tile, is_large
from schemas.settings import STAGES

EXPOSURE_PIXEL = 36
"""Bytes that a pixel of a whole exposure takes while candidates are merged and measured (13 measured), and while
sources are found on its science image (23 to 31)."""


def exposure_memory(shape: tuple[int, int], settings: Any) -> int:
    """Return the bytes that a call takes for a whole exposure of (ny, nx) px: the `Stage.memory` of such stages."""
    return shape[0] * shape[1] * EXPOSURE_PIXEL


MAPPED = 800 * 2**20
"""Bytes that a call takes for a large exposure: pages of planes that are mapped from files, and what is made of hits
and candidates, whose number is limited. The longest trail takes most."""


def piecewise_memory(shape: tuple[int, int], settings: Any) -> int:
    """Return the same for stages that look at an exposure piece by piece: for a large one its size does not matter."""
    return MAPPED if is_large(shape) else exposure_memory(shape, settings)


AUTO = "auto"
"""Value of a setting that leaves the name of a model to another setting."""


class Search(Protocol):
    """Search by all of the pipeline up to `dia_source`, for a stage that has to run it on an image.

    Stages never import each other; the caller, which knows them all, passes it in.
    """

    @property
    def grid(self) -> SearchGrid:
        """Return the grid of its scores: copies that begin at multiples of its stride are scored at the same places."""

    def __call__(self, planes: Mapping[str, Any], exposure: ExposureInfo) -> pa.Table:
        """Return the `DIA_SOURCE` rows of an image: of the planes by name, all of ``exposure.shape``."""


class SkyPart(Protocol):
    """Part of the sky that a stage works on."""

    @property
    def margin(self) -> float:
        """Return how far around it rows may be asked for, arcsec."""

    def holds(self, ra: NDArray[np.float64], dec: NDArray[np.float64], margin: float = 0.0) -> NDArray[np.bool_]:
        """Return which positions, deg, lie in it or within a margin around it, arcsec; NaN lies nowhere."""


class NightPixels(Protocol):
    """Pixels of the exposures of a night, or of a patch of it, for a stage that uses them, one exposure at a time."""

    def exposures(self) -> Sequence[ExposureInfo]:
        """Return the exposures that have a science image, by visit and detector: those of the patch, if it is one."""

    def rows(self, exposure: ExposureInfo, dataset: TableOf) -> pa.Table:
        """Return all rows of a dataset of one of them, wherever they lie."""

    def read(self, exposure: ExposureInfo, plane: str) -> Any:
        """Return a plane of one of them, (ny, nx): an array; of a large one what reads ``plane[y0:y1, x0:x1]``."""

    def identity(self, exposure: ExposureInfo) -> Hashable | None:
        """Return what tells the pixels of one of them from all others that there are or were; None: nothing does."""

    def room(self, exposure: ExposureInfo) -> AbstractContextManager[Callable[[tuple[int, ...], str], Any]]:
        """Return a context of what makes arrays of a shape and a dtype, even larger than the memory; they end with it.

        One exposure is in memory at a time.
        """


@dataclass(frozen=True)
class Context:
    """Context of a stage: what it may know besides its datasets.

    Attributes
    ----------
    exposure
        WCS, PSF, gain, zero point, background, times; None for a stage of a patch or a night.
    patch
        Where rows are wanted, for a patch-level stage; None: wherever there are any.
    tile
        Tile of the exposure, for a tile-level stage.
    settings
        The stage's own section of the settings.
    models
        Loaded models by name (callables with a ``card``); loaded once per worker by the caller.
    numbers
        Numbers that came with the datasets that are given: dataset -> what the stage that made it declares.
    search
        The pipeline's own search. What a stage makes with it depends on all that the search depends on: such a stage,
        or all that read what it gives, must need `dia_source`, so that their digests do.
    pixels
        Pixels of the patch or night, for a stage of those. What a stage makes with them depends on all of them: such a
        stage must need `source`, so that its digest does.
    allocate
        Returns an array of a shape and a dtype to be filled with a result that may be larger than the memory.
    link
        Returns the links of a window of nights, which another process looks for: from `kernels.linking.nights.Window`
        to `kernels.linking.orbits.Link`.
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
    """Result of a stage: its dataset, and the numbers that it declares, if any."""

    rows: Any
    numbers: Any = None


class Weights(NamedTuple):
    """Weights of a model as they are stored: its card, its arrays, where they lie, and those of its companion."""

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
        In ``Context.models``; shipped weights lie in ``stages/weights/<name>/``.
    setting
        Setting that names it, as ``section.field``: a shipped name, a folder or a URL.
    build
        Module-level function that makes it of its `Weights` and the section of the setting.
    otherwise
        Setting that names it where ``setting`` is ``auto``.
    companion
        Weights that may lie beside it: used where they are there and fit it.
    """

    name: str
    setting: str
    build: Callable[[Weights, Any], Any]
    otherwise: str = ""
    companion: str = ""

    def named(self, settings: Any) -> str:
        """Return the shipped name, folder or URL that the settings give for it."""
        name = _setting(settings, self.setting)
        return str(_setting(settings, self.otherwise) if name == AUTO and self.otherwise else name)

    def section(self, settings: Any) -> Any:
        """Return the section of the settings that says how it is used."""
        return getattr(settings, self.setting.partition(".")[0])


@dataclass(frozen=True)
class Stage:
    """Step of the pipeline: datasets in, one dataset out.

    A stage is a value: it can be compared and printed, and called in a test without Prefect, Dask or a file
    system. Its ``run`` is a module-level function, so what travels to a worker is a name, not code.

    Parameters
    ----------
    name, version
        The file that defines it, and a string that changes whenever its results do.
    per
        Scope of one call.
    needs, optional, gives
        Datasets read, read if present, and made.
    run
        Pure function ``run(inputs, context)`` of a mapping from dataset names and a `Context`; it returns the dataset,
        or a `Result` if numbers go with it.
    settings
        Class of its section of the settings, a `schemas.settings.Section`, which has the stage's name; None if there
        is nothing to be set.
    models
        Models it expects in ``context.models``. The caller loads them, once per worker.
    numbers
        Class of the numbers that go with its dataset.
    memory
        Bytes that a call takes for an input of (ny, nx) pixels, with the stage's section; None: next to none.
        What ``context.search`` takes comes on top where ``searches`` says that it is used.
    margin
        Of a stage of a patch: whether it sees rows around the patch, too. Of a dataset with positions it may give rows
        up to the patch's margin away; those of exposures it gets from twice as far.
    searches
        Whether it puts images through ``context.search``.
    pixels
        Of a stage of a patch: whether it reads exposures through ``context.pixels``; others get none.
    columns
        Columns that it reads of a table, by the name of that; it gets a table that is not named here whole.
    warm_up
        Result passed on to the next stages when a worker warms up on a small exposure with trails; None: the stage
        is left out then.
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
        """Hash what equal stages have in common; a schema takes long to hash."""
        return hash((self.name, self.version, self.per))

    def section(self, settings: Any) -> Any:
        """Return its section of the settings; None if it has none.

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
        """Run, having checked what goes in; return the result, having checked that too.

        Raises
        ------
        DatasetError
            A dataset or a model is missing, or a dataset or the numbers have another form than declared.
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
        """Return what is read of a dataset, having checked that."""
        form = self.reads(dataset)
        if form is not dataset and isinstance(form, TableOf) and isinstance(value, pa.Table):
            value = value.select([name for name in form.schema.names if name in value.schema.names])
        form.check(value)
        return value

    def reads(self, dataset: Dataset) -> Dataset:
        """Return what it reads of a dataset: all of it, or the columns that are named; errors as in `TableOf.only`."""
        if isinstance(dataset, TableOf) and dataset.name in self.columns:
            return dataset.only(self.columns[dataset.name])
        return dataset


class Rehearsal(NamedTuple):
    """Exposure that workers warm up on: grid of the scores, and trails.

    Attributes
    ----------
    grid
        Grid of the search.
    shape
        (ny, nx), px.
    trails
        (x, y), length and angle (px, radians) of each trail.
    """

    grid: SearchGrid
    shape: tuple[int, int]
    trails: tuple[tuple[tuple[float, float], float, float], ...]


def as_found(result: Result, rehearsal: Rehearsal) -> Result:
    """Return a result as it is: the `Stage.warm_up` of a stage that only has to run."""
    return result


@cache
def registered_stages() -> tuple[Stage, ...]:
    """Return the stages that installed packages register, by the names of their entry points.

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
    """Return what messages call an entry point, and what helps where its package is at fault."""
    package = point.dist.name if point.dist else point.value
    return f"entry point {point.name!r} of {point.group}", f"correct or uninstall the package {package!r}."


def _setting(settings: Any, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(getattr(settings, section), name)
