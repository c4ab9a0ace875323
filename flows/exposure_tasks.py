"""What workers do for one exposure: store it, search its tiles, measure and publish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.sources import Source
from flows.adapters.zarr_tiles import TileStore, write_exposure
from flows.graph import resolve
from flows.lineage import Lineage, trace
from flows.model_cache import model_digests, models_of
from flows.source_name import name_of
from schemas.dataset import DatasetError, TableOf
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo, ExposureKey
from schemas.ledger import DatasetRecord
from schemas.settings import Settings
from schemas.stage import Context, Stage
from schemas.tiles import Tile
from stages import PIPELINE


@dataclass(frozen=True)
class Stored:
    """An exposure in its tile store, and the digests of what will come of it."""

    info: ExposureInfo
    lineage: Lineage
    reused: bool
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Searched:
    """What the stages of one tile gave."""

    tables: Mapping[str, pa.Table]
    windows: int
    unscored: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Published:
    """Files of one exposure, as they are now published."""

    datasets: Mapping[str, DatasetRecord]
    seconds: Mapping[str, float]


def tile_path(out: Path, key: ExposureKey) -> Path:
    """Where the pixels of an exposure are."""
    return out / "tiles" / key.night / f"{key.name}.zarr"


def store(source: Source, key: ExposureKey, sha256: str | None, out: Path, settings: Settings) -> Stored:
    """Read an exposure and store its pixels as tiles; tiles that are already there are kept.

    Parameters
    ----------
    source, key
        The exposure, as planned.
    sha256
        Of its files, if that is known: then tiles made from them need not be made again.
    out, settings
        Of the run.

    Raises
    ------
    BadInput
        The exposure cannot be used.
    Retryable
        It cannot be read or written now.
    """
    start = perf_counter()
    path, models = tile_path(out, key), model_digests(PIPELINE, settings)
    if sha256 is not None:
        lineage = trace(source, sha256, PIPELINE, models, settings)
        if (info := _stored(path, lineage.tiles)) is not None:
            return Stored(info, lineage, True, {"ingest": perf_counter() - start})
    from flows.ingest import prepare

    info, planes = prepare(source, settings)
    if (info.night, info.visit, info.detector) != (key.night, key.visit, key.detector):
        raise BadInput(
            "changed_meanwhile",
            name_of(source),
            f"was exposure {key.name} of night {key.night} when the run was planned, is {info.name} of {info.night}.",
            "run again when the file is no longer being written.",
        )
    lineage = trace(source, info.source_sha256, PIPELINE, models, settings)
    write_exposure(path, info, planes, settings.tiles, lineage.tiles)
    return Stored(info, lineage, False, {"ingest": perf_counter() - start})


def search(path: Path, tile: Tile, settings: Settings) -> Searched:
    """Run the stages of a tile on its own padded pixels.

    Raises
    ------
    BadInput
        The stored tiles are damaged.
    """
    opened = TileStore.open(path)
    graph = resolve(PIPELINE, opened.planes)
    inputs: dict[str, Any] = {
        name: opened.read(name, tile.y0, tile.x0, tile.y1, tile.x1) for name in _planes(graph.at("tile"), opened)
    }
    seconds = _run(graph.at("tile"), inputs, opened.info, tile, settings)
    tables = {stage.gives.name: inputs[stage.gives.name] for stage in graph.at("tile")}
    return Searched(tables, _count(tables, b"windows"), _count(tables, b"unscored"), seconds)


def finish(path: Path, tiles: Sequence[Searched], lineage: Lineage, out: Path, settings: Settings) -> Published:
    """Run the stages of a whole exposure on what its tiles gave, and publish.

    Raises
    ------
    BadInput
        The stored tiles are damaged, or there are more detections than any sky gives.
    """
    opened = TileStore.open(path)
    graph = resolve(PIPELINE, opened.planes)
    inputs: dict[str, Any] = {name: opened.read_all(name) for name in _planes(graph.at("exposure"), opened)}
    for stage in graph.at("tile"):
        inputs[stage.gives.name] = _gathered(stage, tiles)
    seconds = _run(graph.at("exposure"), inputs, opened.info, None, settings)
    start = perf_counter()
    datasets = {
        stage.gives.name: _publish(stage, inputs[stage.gives.name], opened.info, lineage, out, settings)
        for stage in graph.results("exposure")
    }
    return Published(datasets, {**seconds, "publish": perf_counter() - start})


def _stored(path: Path, digest: str) -> ExposureInfo | None:
    """Metadata of the tiles at ``path`` if they are there, whole, and made from the same."""
    try:
        opened = TileStore.open(path)
    except BadInput as error:
        if error.code == "future_schema":
            raise
        return None
    return opened.info if opened.digest == digest else None


def _planes(stages: Sequence[Stage], opened: TileStore) -> list[str]:
    wanted = {dataset.name for stage in stages for dataset in (*stage.needs, *stage.optional)}
    return [name for name in opened.planes if name in wanted]


def _run(
    stages: Sequence[Stage], inputs: dict[str, Any], info: ExposureInfo, tile: Tile | None, settings: Settings
) -> dict[str, float]:
    """Run stages in order, put what they give into ``inputs``; give the seconds each took."""
    seconds = {}
    for stage in stages:
        # Loading a model is paid once per worker, and is no part of the stage's time.
        models = models_of(stage, settings)
        start = perf_counter()
        section = getattr(settings, stage.name, None)
        inputs[stage.gives.name] = stage(inputs, Context(info, tile, section, models))
        seconds[stage.name] = perf_counter() - start
    return seconds


def _gathered(stage: Stage, tiles: Sequence[Searched]) -> pa.Table:
    """One table of all tiles; its order does not depend on how the image was tiled."""
    tables = [tile.tables[stage.gives.name] for tile in tiles] or [_table_of(stage).empty()]
    metadata = tables[0].schema.metadata
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    ordered = whole.sort_by([(column, "ascending") for column in whole.column_names])
    return ordered.replace_schema_metadata(metadata)


def _publish(
    stage: Stage, table: pa.Table, info: ExposureInfo, lineage: Lineage, out: Path, settings: Settings
) -> DatasetRecord:
    if len(table) > settings.execution.max_detections:
        raise BadInput(
            "flood",
            info.source_uri,
            f"{len(table)} rows of {stage.gives.name}, more than execution.max_detections = "
            f"{settings.execution.max_detections}.",
            "look at the image: its subtraction or its mask is at fault; if it is not, raise the limit.",
        )
    catalogue = CatalogStore(out)
    key = ExposureKey(night=info.night, visit=info.visit, detector=info.detector)
    return catalogue.record(catalogue.publish(_table_of(stage), key, table, lineage.datasets[stage.gives.name]))


def _table_of(stage: Stage) -> TableOf:
    if not isinstance(stage.gives, TableOf):
        raise DatasetError(f"stage {stage.name!r} gives pixels; only tables are gathered and published")
    return stage.gives


def _count(tables: Mapping[str, pa.Table], name: bytes) -> int:
    return sum(int((table.schema.metadata or {}).get(name, 0)) for table in tables.values())
