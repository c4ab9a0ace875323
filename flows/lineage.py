"""What each result of an exposure is made from, as digests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.adapters.sources import Source
from flows.digest import digest, stage_digest
from flows.graph import OF_EXPOSURE, PLANES, Graph, resolve
from flows.source_name import name_of
from schemas.settings import Settings
from schemas.stage import Stage

INGEST_VERSION = "1"
"""Changes whenever the same file would be stored as other pixels or other metadata."""


@dataclass(frozen=True)
class Lineage:
    """Digests of one exposure's results.

    Attributes
    ----------
    tiles
        Of the stored pixels and their metadata.
    datasets
        Of each stage's dataset.
    final
        Of everything that is published: it changes if, and only if, the exposure must be done again.
    """

    tiles: str
    datasets: Mapping[str, str]
    final: str


def trace(
    source: Source, sha256: str, pipeline: Sequence[Stage], models: Mapping[str, str], settings: Settings
) -> Lineage:
    """Chain the digests from an exposure's file to what is published.

    Parameters
    ----------
    source, sha256
        The exposure, and the SHA-256 of the bytes of its files.
    pipeline
        All stages, also those that will have nothing to work on: what a file brings is a matter of its bytes.
    models
        SHA-256 of the weights, by the names that the stages use.
    settings
        Of the run; a stage depends on the section of its own name.
    """
    graph = resolve(pipeline, PLANES, OF_EXPOSURE)
    tiles = digest("ingest", INGEST_VERSION, sha256, _reading(source, settings), settings.tiles)
    made = dict.fromkeys(PLANES, tiles)
    for stage in graph.stages:
        inputs = [made[dataset.name] for dataset in (*stage.needs, *stage.optional) if dataset.name in made]
        weights = [models[name] for name in stage.weights]
        made[stage.gives.name] = stage_digest(inputs, stage, weights, getattr(settings, stage.name, None))
    datasets = {stage.gives.name: made[stage.gives.name] for stage in graph.stages}
    return Lineage(tiles, datasets, _final(graph, datasets))


def verdict_digest(final: str, settings: Settings) -> str:
    """Digest of the verdict that an exposure cannot be used: it also depends on the flood guard."""
    return digest("quarantined", final, {"max_detections": settings.execution.max_detections})


def memo_name(source: Source, settings: Settings) -> str:
    """Name under which the ledger remembers what a source held, as read with these settings."""
    files = [list(sibling) for sibling in source.siblings]
    return f"{name_of(source)} {digest(_reading(source, settings), {'siblings': files})[:16]}"


def _reading(source: Source, settings: Settings) -> str:
    """Digest of what decides how a file is read, beside its bytes."""
    planes = sorted(plane for plane, _ in source.siblings)  # not where they are: a night may move
    return digest({"fits": settings.fits, "index": source.index, "overrides": list(source.overrides), "planes": planes})


def _final(graph: Graph, datasets: Mapping[str, str]) -> str:
    published = [datasets[stage.gives.name] for stage in graph.results("exposure")]
    return published[0] if len(published) == 1 else digest(*published)
