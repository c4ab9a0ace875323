"""What workers do for one exposure: store it, search its tiles, measure and publish."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.sources import Source
from flows.adapters.zarr_tiles import TileStore, write_exposure
from flows.graph import resolve
from flows.laps import Laps
from flows.lineage import Lineage, trace
from flows.model_cache import model_digests, models_of
from flows.source_name import name_of
from schemas.cause_count import CauseCount
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
    """What the stages of some tiles of one exposure gave."""

    tables: Mapping[str, pa.Table]
    windows: int
    unscored: int
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Published:
    """Files of one exposure, as they are now published, and its candidates by known cause of false streaks."""

    datasets: Mapping[str, DatasetRecord]
    seconds: Mapping[str, float]
    causes: Mapping[str, CauseCount] = field(default_factory=dict)


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
    laps = Laps()
    path, models = tile_path(out, key), model_digests(PIPELINE, settings)
    if sha256 is not None:
        lineage = trace(source, sha256, PIPELINE, models, settings)
        if (info := _stored(path, lineage.tiles)) is not None:
            return Stored(info, lineage, True, laps.seconds())
    from flows.adapters.probe import read
    from flows.ingest import described

    laps.lap("other")
    raw = read(source, settings)
    laps.lap("read")
    info, planes = described(raw, settings)
    laps.lap("inspect")
    if (info.night, info.visit, info.detector) != (key.night, key.visit, key.detector):
        raise BadInput(
            "changed_meanwhile",
            name_of(source),
            f"was exposure {key.name} of night {key.night} when the run was planned, is {info.name} of {info.night}.",
            "run again when the file is no longer being written.",
        )
    lineage = trace(source, info.source_sha256, PIPELINE, models, settings)
    laps.lap("other")
    write_exposure(path, info, planes, settings.tiles, lineage.tiles)
    laps.lap("write tiles")
    return Stored(info, lineage, False, laps.seconds())


def search(path: Path, tiles: Sequence[Tile], settings: Settings) -> Searched:
    """Run the stages of a tile on each of some tiles, on its own padded pixels.

    Raises
    ------
    BadInput
        The stored tiles are damaged.
    """
    laps = Laps()
    opened = TileStore.open(path)
    graph = resolve(PIPELINE, opened.planes)
    stages, names = graph.at("tile"), _planes(graph.at("tile"), opened)
    found: dict[str, list[pa.Table]] = {stage.gives.name: [] for stage in stages}
    for tile in tiles:
        laps.lap("other")
        inputs: dict[str, Any] = {name: opened.read(name, tile.y0, tile.x0, tile.y1, tile.x1) for name in names}
        laps.lap("read tiles")
        _run(stages, inputs, opened.info, tile, settings, laps)
        for name, tables in found.items():
            tables.append(inputs[name])
    windows, unscored = (_count(found, name) for name in (b"windows", b"unscored"))
    return Searched({name: _joined(tables) for name, tables in found.items()}, windows, unscored, laps.seconds())


def finish(path: Path, parts: Sequence[Searched], lineage: Lineage, out: Path, settings: Settings) -> Published:
    """Run the stages of a whole exposure on what its tiles gave, and publish.

    Raises
    ------
    BadInput
        The stored tiles are damaged, or there are more detections than any sky gives.
    """
    laps = Laps()
    opened = TileStore.open(path)
    graph = resolve(PIPELINE, opened.planes)
    names = _planes(graph.at("exposure"), opened)
    laps.lap("other")
    inputs: dict[str, Any] = {name: opened.read_all(name) for name in names}
    laps.lap("read tiles")
    for stage in graph.at("tile"):
        inputs[stage.gives.name] = _gathered(stage, parts)
    _run(graph.at("exposure"), inputs, opened.info, None, settings, laps)
    datasets = {
        stage.gives.name: _publish(stage, inputs[stage.gives.name], opened.info, lineage, out, settings)
        for stage in graph.results("exposure")
    }
    laps.lap("publish")
    causes = _causes(inputs[stage.gives.name] for stage in graph.at("exposure"))
    return Published(datasets, laps.seconds(), causes)


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
    stages: Sequence[Stage],
    inputs: dict[str, Any],
    info: ExposureInfo,
    tile: Tile | None,
    settings: Settings,
    laps: Laps,
) -> None:
    """Run stages in order and put what they give into ``inputs``."""
    for stage in stages:
        # Loading a model is paid once per worker, and is no part of the stage's time.
        models = models_of(stage, settings)
        section = getattr(settings, stage.name, None)
        laps.lap("other")
        inputs[stage.gives.name] = stage(inputs, Context(info, tile, section, models))
        laps.lap(stage.name)


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of those of several tiles, with the metadata of the first."""
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return whole.replace_schema_metadata(tables[0].schema.metadata)


def _gathered(stage: Stage, parts: Sequence[Searched]) -> pa.Table:
    """One table of all tiles; its order does not depend on how the image was tiled."""
    whole = _joined([part.tables[stage.gives.name] for part in parts] or [_table_of(stage).empty()])
    return whole.sort_by([(column, "ascending") for column in whole.column_names])


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


def _count(found: Mapping[str, Sequence[pa.Table]], name: bytes) -> int:
    return sum(int((table.schema.metadata or {}).get(name, 0)) for tables in found.values() for table in tables)


def _causes(tables: Iterable[pa.Table]) -> dict[str, CauseCount]:
    """Read what a stage has counted from the metadata of its table."""
    written = [(table.schema.metadata or {}).get(b"causes", b"{}") for table in tables]
    return {name: CauseCount(**counts) for text in written for name, counts in json.loads(text).items()}
