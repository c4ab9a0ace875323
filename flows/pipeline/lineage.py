"""Lineage: digests of the inputs of each result, and detection of outdated published files."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.inputs.source import REFERENCE, Source, name_of
from flows.pipeline.graph import OF_EXPOSURE, PLANES, Graph, resolve
from flows.pipeline.outcome import NEW, Item, Stale
from flows.storage.bucket_path import folder_digest
from flows.storage.catalog_parts import Held, find
from flows.storage.digest import content_digest, digest
from flows.storage.layout import tile_path
from schemas.dataset import FileOf
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo
from schemas.ledger import DatasetRecord, ExposureRecord, SourceMemo
from schemas.settings import Settings
from schemas.stage import Stage
from stages import PIPELINE

INGEST_VERSION = "11"
"""Changes whenever the same file would be stored as other pixels or other metadata."""

SUBTRACTION_VERSION = "3"
"""Changes whenever the same template would leave another difference."""

KNOWN = 1000
"""Number of ways to read a file, and of stages with their settings, whose digests are kept."""

_known: dict[tuple[Any, ...], tuple[BaseModel | None, str]] = {}


@dataclass(frozen=True)
class Lineage:
    """Digests of one exposure's results.

    Attributes
    ----------
    tiles
        Digest of the stored pixels and their metadata.
    datasets
        Digest of each stage's dataset.
    final
        Digest of everything that is published; it changes if and only if the exposure must be processed again.
    """

    tiles: str
    datasets: Mapping[str, str]
    final: str


def trace(
    source: Source, sha256: str, pipeline: Sequence[Stage], models: Mapping[str, str], settings: Settings
) -> Lineage:
    """Return the digests of an exposure's results, chained from its file to the published datasets.

    Parameters
    ----------
    source, sha256
        Exposure, and SHA-256 of the bytes of its files.
    pipeline
        All stages, including those that will have no input; the planes in a file are covered by its bytes.
    models
        Digests of models and files, by the names used in stages; see `flows.pipeline.models.model_digests`.
    settings
        Settings of the run; a stage depends on the section of its own name.
    """
    files = {one.name for stage in pipeline for one in stage.needs if isinstance(one, FileOf)} & models.keys()
    graph = resolve(pipeline, PLANES | files, OF_EXPOSURE)
    tiles = digest("ingest", INGEST_VERSION, sha256, _reading(source, settings), settings.tiles)
    made = dict.fromkeys(PLANES, tiles) | {name: models[name] for name in files}
    for stage in graph.stages:
        inputs = [made[dataset.name] for dataset in (*stage.needs, *stage.optional) if dataset.name in made]
        weights = [models[model.name] for model in stage.models]
        made[stage.gives.name] = stage_digest(inputs, stage, weights, stage.section(settings))
    datasets = {stage.gives.name: made[stage.gives.name] for stage in graph.stages}
    return Lineage(tiles, datasets, _final(graph, datasets))


def verdict_digest(final: str, settings: Settings, code: str = "") -> str:
    """Return the digest of the verdict that an exposure cannot be used.

    It also depends on the flood guard; for a file that killed its workers, it depends on their memory.
    """
    guards: dict[str, Any] = {"max_detections": settings.execution.max_detections}
    if code == "killed_workers":
        guards["memory"] = [settings.execution.worker_memory_gib, settings.cluster.slurm.memory_gib]
    return digest("quarantined", final, guards)


def memo_name(source: Source, settings: Settings) -> str:
    """Return the name under which the ledger stores the content of a source, as read with these settings."""
    files = [list(sibling) for sibling in source.siblings]
    return f"{name_of(source)} {digest(_reading(source, settings), {'siblings': files})[:16]}"


def _reading(source: Source, settings: Settings) -> str:
    """Return the digest of the settings for reading a file, which most files of a night share."""
    planes = tuple(sorted(plane for plane, _ in source.siblings))  # without the folder: a night may move
    key = source.index, source.overrides, planes
    said: dict[str, Any] = {
        "fits": settings.fits,
        "index": source.index,
        "overrides": list(source.overrides),
        "planes": planes,
    }
    if REFERENCE in planes:
        said["subtraction"] = SUBTRACTION_VERSION
    return _kept_digest(settings.fits, ("reading", *key), said)


def _kept_digest(settings: BaseModel | None, key: tuple[Any, ...], said: Mapping[str, Any]) -> str:
    """Return the cached digest of ``said``, which depends on the settings and a key that many exposures share."""
    known = _known.get((id(settings), *key))
    if known is None:
        if len(_known) >= KNOWN:
            _known.clear()
        # While the settings are referenced, no other object has their id.
        known = _known[id(settings), *key] = settings, digest(said)
    return known[1]


def _final(graph: Graph, datasets: Mapping[str, str]) -> str:
    published = [datasets[stage.gives.name] for stage in graph.results("exposure")]
    return published[0] if len(published) == 1 else digest(*published)


def is_whole(path: Path, sha256: str) -> bool:
    """Return whether a published file, folder of files, or part's rows exist with unchanged bytes."""
    try:
        if path.suffix == ".zarr":
            return folder_digest(path) == sha256
        place = find(path)
        return (place.sha256 if isinstance(place, Held) else content_digest(place)) == sha256
    except (OSError, BadInput):
        return False


def up_to_date(record: ExposureRecord | None, lineage: Lineage, out: Path) -> dict[str, DatasetRecord]:
    """Return the published files that are intact and were made from the same inputs.

    Parameters
    ----------
    record
        Record of the exposure in the ledger.
    lineage
        Digests of its results.
    out
        Output folder.
    """
    published = record.datasets.items() if record is not None else ()
    return {
        name: entry
        for name, entry in published
        if entry.digest == lineage.datasets.get(name) and is_whole(out / entry.path, entry.sha256)
    }


def remaining(planes: Collection[str], kept: Collection[str], made: Collection[str] = ()) -> Graph:
    """Return the stages that must run to publish the results of an exposure.

    Parameters
    ----------
    planes
        Names of its planes, and of the files in the settings.
    kept
        Published datasets that are up to date.
    made
        Datasets that already exist and may have to be published.
    """
    graph = resolve(PIPELINE, planes, OF_EXPOSURE)
    wanted = [stage.gives.name for stage in graph.results("exposure") if stage.gives.name not in kept]
    return Graph(graph.towards(wanted, {*kept, *made}), graph.not_run)


def outdated(
    source: Source,
    sha256: str | None,
    record: ExposureRecord | None,
    pipeline: Sequence[Stage],
    models: Mapping[str, str],
    settings: Settings,
) -> Stale | None:
    """Return why an exposure is out of date, from digests only; published files are not read.

    Parameters
    ----------
    source, sha256
        Exposure, and SHA-256 of its files; None if the bytes of its files may differ from those of the last run.
    record
        Record of the exposure in the ledger.
    pipeline, models, settings
        Stages, digests of the models, and settings of this run.

    Returns
    -------
    Stale or None
        None if the record agrees with the results of this run.
    """
    if record is None:
        return NEW
    if record.status == "failed":
        return Stale("failed", f"given up on before: {record.reason}")
    if sha256 is None or record.source_sha256 != sha256:
        return Stale("input", "its files have other bytes than those that were searched")
    lineage = trace(source, sha256, pipeline, models, settings)
    if record.status != "done":
        if record.digest == verdict_digest(lineage.final, settings, (record.reason or "").partition(": ")[0]):
            return None
        return Stale("outdated", "put in quarantine with other settings, models or stages")
    if record.digest == lineage.final:
        return None
    stale = [name for name, entry in record.datasets.items() if entry.digest != lineage.datasets.get(name)]
    return Stale("outdated", f"settings, models or stages changed: {', '.join(stale) or 'all'} to be made again")


def damaged(record: ExposureRecord, out: Path) -> Stale | None:
    """Return why the published files of an exposure do not match its record; None if all are intact."""
    if record.status != "done":
        return None
    broken = [entry.path for entry in record.datasets.values() if not is_whole(out / entry.path, entry.sha256)]
    return Stale("damaged", f"missing or changed since it was published: {', '.join(broken)}") if broken else None


def without_tiles(record: ExposureRecord, out: Path) -> Stale | None:
    """Return why the tiles of an exposure do not match its record, chunk by chunk; None if all are intact."""
    from flows.storage.zarr_tiles import require_whole  # zarr is slow to import, and a plan rarely needs it

    try:
        found = require_whole(tile_path(out, record.key)).source_sha256
    except BadInput as error:
        return Stale("tiles", f"its tiles: {error.problem}")
    return None if found == record.source_sha256 else Stale("tiles", "its tiles are of files with other bytes")


def stage_digest(inputs: Sequence[str], stage: Stage, models: Sequence[str], settings: BaseModel | None) -> str:
    """Return the digest of the dataset that ``stage`` makes.

    Parameters
    ----------
    inputs
        Digests of the datasets it reads, in the declared order.
    stage
        Stage; its name and version are used, not its code, since a stage whose results change gets a new version.
    models
        Digests of its models, including cards, in the order of ``stage.models``.
    settings
        The stage's own section of the settings.
    """
    said = {"stage": stage.name, "version": stage.version, "models": list(models), "settings": settings}
    recipe = _kept_digest(settings, ("stage", stage.name, stage.version, *models), said)
    return digest(recipe, *inputs)


def memo_of(item: Item, sha256: str, settings: Settings) -> SourceMemo | None:
    """Return the memo of a source, which spares a rerun from reading it; None if its files were not seen."""
    if item.stat is None:
        return None
    return SourceMemo(**item.stat.model_dump(), uri=memo_name(item.source, settings), sha256=sha256, key=item.key)


@dataclass(frozen=True)
class Stored:
    """Exposure in its tile store, the digests of its results, and its position as in `schemas.ledger.ExposureRecord`.

    ``file_sha256`` is as in `flows.inputs.source.RawExposure`, and empty if the tiles were kept.
    """

    info: ExposureInfo
    lineage: Lineage
    seconds: Mapping[str, float]
    sky: tuple[int, ...] = ()
    file_sha256: tuple[tuple[str, str], ...] = ()
