"""Worker tasks for one exposure: store it, search its tiles, measure and publish."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flows.inputs.source import Source, name_of
from flows.pipeline.graph import OF_EXPOSURE, Graph, following, resolve
from flows.pipeline.lineage import Lineage, Stored, remaining, trace, up_to_date
from flows.pipeline.models import file_paths, model_digests, setting_files
from flows.pipeline.outcome import total_causes, total_seconds
from flows.pipeline.search_pixels import CopySearch
from flows.pipeline.stage_run import as_results, gathered, run_on_tiles, run_stages, search_grid, table_of
from flows.runtime.traces import Timer
from flows.storage.array_store import room_for, scratch_folder
from flows.storage.catalog_store import CatalogStore
from flows.storage.layout import tile_path
from flows.storage.zarr_tiles import TileStore, write_exposure
from kernels.sky.patches import cover
from schemas.dataset import TableOf
from schemas.dia_source import DIA_SOURCE, SearchCounts, most_hits
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.ledger import DatasetRecord, ExposureRecord
from schemas.pixels import Tile
from schemas.settings import Settings
from schemas.stage import Result, Stage
from schemas.summary import CauseCount, Causes
from stages import PIPELINE


@dataclass(frozen=True)
class Searched:
    """Dataset -> result of stages of some tiles of an exposure, or of the whole exposure if ``of_tiles`` is false."""

    results: Mapping[str, Result]
    seconds: Mapping[str, float]
    of_tiles: bool = True

    @property
    def windows(self) -> int:
        """Return the number of windows searched."""
        return sum(counts.windows for counts in self._counts)

    @property
    def unscored(self) -> int:
        """Return the number of windows that could not be scored."""
        return sum(counts.unscored for counts in self._counts)

    @property
    def _counts(self) -> list[SearchCounts]:
        return [one.numbers for one in self.results.values() if isinstance(one.numbers, SearchCounts)]


@dataclass(frozen=True)
class Published:
    """Published files of one exposure, and its candidates by known cause of false streaks.

    Files kept from an earlier run are included; causes only count candidates measured now.
    """

    datasets: Mapping[str, DatasetRecord]
    seconds: Mapping[str, float]
    causes: Mapping[str, CauseCount] = field(default_factory=dict)


def store_exposure(source: Source, key: ExposureKey, sha256: str | None, out: Path, settings: Settings) -> Stored:
    """Read an exposure and store its pixels as tiles; tiles that are up to date are kept.

    Parameters
    ----------
    source, key
        The exposure, as planned.
    sha256
        SHA-256 of its files, if known: then existing tiles made from them are kept.
    out, settings
        Output folder and settings of the run.

    Raises
    ------
    BadInput
        The exposure cannot be used.
    Retryable
        It cannot be read or written now.
    """
    timer = Timer()
    path, models = tile_path(out, key), model_digests(PIPELINE, settings)
    if sha256 is not None:
        lineage = trace(source, sha256, PIPELINE, models, settings)
        if (info := _stored(path, lineage.tiles)) is not None:
            return Stored(info, lineage, timer.seconds(), _sky(info))
    from flows.inputs.described import described
    from flows.inputs.probe import read
    from flows.nights.cluster.memory import require_fit_here

    require_fit_here(source, settings)
    timer.lap("other")
    raw = read(source, settings, scratch_folder(out))
    timer.lap("read")
    info, planes = described(raw)
    timer.lap("inspect")
    if (info.night, info.visit, info.detector) != (key.night, key.visit, key.detector):
        raise BadInput(
            "changed_meanwhile",
            name_of(source),
            f"was exposure {key.name} of night {key.night} when the run was planned, is {info.name} of {info.night}.",
            "run again when the file is no longer being written.",
        )
    lineage = trace(source, info.source_sha256, PIPELINE, models, settings)
    timer.lap("other")
    write_exposure(path, info, planes, settings.tiles, lineage.tiles)
    timer.lap("write tiles")
    return Stored(info, lineage, timer.seconds(), _sky(info), raw.file_sha256)


def _sky(info: ExposureInfo) -> tuple[int, ...]:
    return () if info.wcs_header is None else cover(info.wcs_header, info.shape)


def search_tiles(path: Path, tiles: Sequence[Tile], settings: Settings) -> Searched:
    """Run the tile stages on each of the given tiles, on its own padded pixels.

    Raises
    ------
    BadInput
        The stored tiles are damaged, or there are more hits than `most_hits` (``flood``).
    """
    timer = Timer()
    opened = TileStore.open(path)
    graph = resolve(PIPELINE, opened.planes, OF_EXPOSURE)
    stages, names = graph.at("tile"), _planes(graph.at("tile"), opened)

    def read(tile: Tile) -> Mapping[str, Any]:
        timer.lap("other")
        pixels = {name: opened.read(name, tile.y0, tile.x0, tile.y1, tile.x1) for name in names}
        timer.lap("read tiles")
        return pixels

    found = run_on_tiles(stages, tiles, read, opened.info, settings, timer, most=most_hits(opened.info.shape))
    return Searched(found, timer.seconds())


def run_beside(
    path: Path, settings: Settings, kept: Mapping[str, DatasetRecord], out: Path, wanted: Collection[str]
) -> Searched:
    """Run exposure stages that do not depend on the search of the tiles.

    Parameters
    ----------
    path, settings, kept, out
        As in `finish_exposure`.
    wanted
        Datasets to make: one of the groups in `Left.beside`.

    Raises
    ------
    BadInput
        The stored tiles or a kept file are damaged.
    """
    timer = Timer()
    opened = TileStore.open(path)
    graph = remaining({*opened.planes, *file_paths(PIPELINE, settings)}, kept)
    stages = [stage for stage in graph.at("exposure") if stage.gives.name in wanted]
    results = _of_exposure(stages, opened, {}, kept, out, settings, timer)
    return Searched({stage.gives.name: results[stage.gives.name] for stage in stages}, timer.seconds(), of_tiles=False)


def measure_exposure(
    path: Path,
    parts: Sequence[Searched],
    settings: Settings,
    kept: Mapping[str, DatasetRecord],
    out: Path,
) -> Searched:
    """Run the exposure stages on the results of the tiles, except those that depend on what `run_beside` makes.

    Returns results that are published or needed by the remaining stages; `finish_exposure` publishes them all or none.

    Parameters
    ----------
    path, parts, settings, kept, out
        As in `finish_exposure`.

    Raises
    ------
    BadInput
        The stored tiles or a kept file are damaged.
    """
    timer = Timer()
    opened = TileStore.open(path)
    graph = remaining({*opened.planes, *file_paths(PIPELINE, settings)}, kept)
    beside = frozenset[str]().union(*graph.beside())
    apart = beside.union(*(following(graph.stages, name) for name in beside))
    stages = [stage for stage in graph.at("exposure") if stage.gives.name not in apart]
    results = _of_exposure(stages, opened, _of_tiles(graph, parts), kept, out, settings, timer)
    wanted = {stage.gives.name for stage in graph.results("exposure")}.union(
        dataset.name
        for stage in graph.stages
        if stage.gives.name in apart
        for dataset in (*stage.needs, *stage.optional)
    )
    made = {stage.gives.name for stage in (*graph.at("tile"), *stages)}
    return Searched({name: results[name] for name in made & wanted}, timer.seconds(), of_tiles=False)


def _of_tiles(graph: Graph, parts: Sequence[Searched]) -> dict[str, Result]:
    return {
        stage.gives.name: gathered(stage, [part.results[stage.gives.name] for part in parts if part.of_tiles])
        for stage in graph.at("tile")
    }


def finish_exposure(
    path: Path,
    parts: Sequence[Searched],
    lineage: Lineage,
    out: Path,
    settings: Settings,
    kept: Mapping[str, DatasetRecord] | None = None,
    later: Collection[str] = (),
) -> Published:
    """Run the exposure stages on the results of the tiles, and publish.

    Parameters
    ----------
    path, parts
        Stored tiles, and the results of their search, if a stage that has to run needs them; or results of
        `measure_exposure` and `run_beside`.
    lineage, out, settings
        Digests of the datasets, output folder and settings.
    kept
        Published files that are up to date: they are kept, and stages that only they need do not run.
    later
        Datasets that another task makes, together with what only they need.

    Raises
    ------
    BadInput
        The stored tiles or a kept file are damaged, or there are more detections than the limit (``flood``).
    """
    timer = Timer()
    kept = kept or {}
    opened = TileStore.open(path)
    brought = {*opened.planes, *file_paths(PIPELINE, settings)}
    made = {name: one for part in parts if not part.of_tiles for name, one in part.results.items()}
    graph = remaining(brought, {*kept, *later}, made)
    given = {**_of_tiles(graph, parts), **made}
    results = _of_exposure(graph.at("exposure"), opened, given, kept, out, settings, timer)
    published = {
        stage.gives.name: _publish(stage, results[stage.gives.name].rows, opened.info, lineage, out, settings)
        for stage in resolve(PIPELINE, brought, OF_EXPOSURE).results("exposure")
        if stage.gives.name not in {*kept, *later}
    }
    timer.lap("publish")
    counted = (one.numbers for one in results.values())
    causes = total_causes(numbers.counts for numbers in counted if isinstance(numbers, Causes))
    return Published({**kept, **published}, timer.seconds(), causes)


def _of_exposure(
    stages: Sequence[Stage],
    opened: TileStore,
    given: Mapping[str, Result],
    kept: Collection[str],
    out: Path,
    settings: Settings,
    timer: Timer,
) -> dict[str, Result]:
    """Run exposure stages on the planes, the given results and the kept datasets of an earlier run.

    The planes are not returned: their arrays last only as long as this call.
    """
    before = as_results({**_read_kept(opened, kept, out), **setting_files(stages, settings)})
    with room_for(opened.info.shape, out) as allocate:
        timer.lap("other")
        planes = {name: opened.read_all(name, allocate) for name in _planes(stages, opened)}
        timer.lap("read tiles")
        inputs, search = {**as_results(planes), **before, **given}, CopySearch(settings)
        found = run_stages(stages, inputs, opened.info, None, settings, timer, search, None, allocate or np.zeros)
    return {name: result for name, result in found.items() if name not in planes}


def inject_exposure(
    path: Path, lineage: Lineage, out: Path, settings: Settings, kept: Mapping[str, DatasetRecord]
) -> Published:
    """Make and publish the datasets that `finish_exposure` left for later, from published ones; same errors."""
    return finish_exposure(path, (), lineage, out, settings, kept)


def _stored(path: Path, digest: str) -> ExposureInfo | None:
    """Return the metadata of the tiles at ``path`` if they are complete and made from the same input."""
    try:
        opened = TileStore.open(path)
    except BadInput as error:
        if error.code == "other_version":
            raise
        return None
    return opened.info if opened.digest == digest else None


def _read_kept(opened: TileStore, kept: Collection[str], out: Path) -> dict[str, pa.Table]:
    """Read the published catalogues that are kept: stages may need them."""
    producers = {stage.gives.name: stage for stage in PIPELINE}
    return {name: CatalogStore(out).read(table_of(producers[name]), opened.info) for name in kept}


def _planes(stages: Sequence[Stage], opened: TileStore) -> list[str]:
    wanted = {dataset.name for stage in stages for dataset in (*stage.needs, *stage.optional)}
    return [name for name in opened.planes if name in wanted]


def _publish(
    stage: Stage, table: pa.Table, info: ExposureInfo, lineage: Lineage, out: Path, settings: Settings
) -> DatasetRecord:
    form = table_of(stage)
    if form.name == DIA_SOURCE.name and len(table) > settings.execution.max_detections:
        raise BadInput(
            "flood",
            info.source_uri,
            f"{len(table)} rows of {stage.gives.name}, more than execution.max_detections = "
            f"{settings.execution.max_detections}.",
            "look at the image: its subtraction or its mask is at fault; if it is not, raise the limit.",
        )
    catalogue = CatalogStore(out)
    key = ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
    return catalogue.record(catalogue.publish(form, key, table, lineage.datasets[form.name]))


@dataclass(frozen=True)
class Left:
    """Work left to do on a stored exposure.

    Attributes
    ----------
    kept
        Published files that stay as they are.
    graph
        Stages that have to run.
    tiles
        Tiles to search: all or none.
    """

    kept: Mapping[str, DatasetRecord]
    graph: Graph
    tiles: tuple[Tile, ...]

    @property
    def windows(self) -> int:
        """Return the number of windows of the tiles."""
        return sum(tile.rows * tile.columns for tile in self.tiles)

    @property
    def beside(self) -> tuple[frozenset[str], ...]:
        """Return the groups of datasets for `run_beside`; none if no tile is searched or a stage gives pixels."""
        tables = all(isinstance(stage.gives, TableOf) for stage in self.graph.at("exposure"))
        return self.graph.beside() if self.tiles and tables else ()


@dataclass(frozen=True)
class Worked:
    """Finished exposure, and what it cost.

    Attributes
    ----------
    stored, datasets
        Its tiles, and its published files.
    windows, unscored
        Windows searched now, and those that could not be scored.
    searched
        Whether its tiles were searched; if not, earlier detections were kept.
    causes
        Known cause of false streaks -> candidates that have it.
    seconds
        Stage -> worker time, s.
    not_run
        Stage -> reason why it had no input.
    """

    stored: Stored
    datasets: Mapping[str, DatasetRecord]
    windows: int
    unscored: int
    searched: bool
    causes: Mapping[str, CauseCount]
    seconds: Mapping[str, float]
    not_run: Mapping[str, str]


def search_exposure(
    source: Source,
    key: ExposureKey,
    sha256: str | None,
    record: ExposureRecord | None,
    out: Path,
    settings: Settings,
) -> Worked:
    """Store an exposure, search its tiles, measure and publish.

    Parameters
    ----------
    source, key, sha256
        As in `store_exposure`.
    record
        Ledger record of the exposure; None: there is none.
    out, settings
        Output folder and settings of the run.

    Raises
    ------
    BadInput, Retryable
        As in `store_exposure`, `search_tiles` and `finish_exposure`.
    """
    stored = store_exposure(source, key, sha256, out, settings)
    left = left_of(stored, record, out, settings)
    path = tile_path(out, key)
    searched = [search_tiles(path, left.tiles, settings)] if left.tiles else []
    published = finish_exposure(path, searched, stored.lineage, out, settings, left.kept, ())
    return worked(stored, record, left, searched, [published])


def left_of(stored: Stored, record: ExposureRecord | None, out: Path, settings: Settings) -> Left:
    """Return the work left to do on a stored exposure, given its ledger record."""
    kept = up_to_date(record, stored.lineage, out)
    graph = remaining(("difference", "mask", *stored.info.planes, *file_paths(PIPELINE, settings)), kept)
    tiling = search_grid(settings.detect).tiling(stored.info.shape, settings.tiles.tile)
    return Left(kept, graph, tiling.tiles() if graph.at("tile") else ())


def worked(
    stored: Stored,
    record: ExposureRecord | None,
    left: Left,
    searched: Sequence[Searched],
    steps: Sequence[Published],
    whole: Sequence[Searched] = (),
) -> Worked:
    """Return the sum of the work on an exposure; the last published step lists all files, the first the causes.

    ``whole`` holds the results of `measure_exposure` and `run_beside`.
    """
    kept = record is not None and DIA_SOURCE.name in left.kept
    published = [one.seconds for one in steps]
    return Worked(
        stored,
        steps[-1].datasets,
        windows=sum(one.windows for one in searched),
        unscored=sum(one.unscored for one in searched),
        searched=bool(left.graph.at("tile")),
        causes=record.causes if record is not None and kept else steps[0].causes,
        seconds=total_seconds([stored.seconds, *(one.seconds for one in [*searched, *whole]), *published]),
        not_run=dict(left.graph.not_run),
    )
