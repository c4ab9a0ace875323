"""The exposures that the quality of a night is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from flows.adapters.bucket_path import BucketPath, side_by_side
from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.adapters.zarr_tiles import TileStore
from flows.digest import digest
from flows.exposure_tasks import tile_path
from schemas.dia_source import DIA_SOURCE
from schemas.errors import BadInput
from schemas.exposure import ExposureInfo
from schemas.ledger import ExposureRecord, ProvenanceRecord

MOST = 2000
"""Exposures of a night that are looked at; of more, so many, evenly spread."""

SEARCH_MODELS = ("detect", "reliability")
SEARCH_STAGES = ("detect", "merge", "measure")


@dataclass(frozen=True)
class Looked:
    """A published exposure: its record, metadata and detections, and what it was searched with."""

    record: ExposureRecord
    info: ExposureInfo
    sources: pa.Table
    search: str
    models: tuple[str, ...]


def look(out: Path, records: Sequence[ExposureRecord]) -> list[Looked]:
    """Read exposures of a night; those whose tiles or detections cannot be read are left out."""
    chosen = [records[place * len(records) // MOST] for place in range(MOST)] if len(records) > MOST else list(records)
    ledger = Ledger(out)
    digests = sorted({record.provenance for record in chosen if record.provenance})
    known = {one: _search(ledger.provenance(one)) for one in digests}

    def read(record: ExposureRecord) -> Looked | None:
        try:
            info = TileStore.open(tile_path(out, record.key)).info
            sources = CatalogStore(out).read(DIA_SOURCE, record.key)
        except BadInput:
            return None
        return Looked(record, info, sources, *known.get(record.provenance or "", ("", ())))

    found = side_by_side(read, chosen, isinstance(out, BucketPath))
    return [one for one in found if one is not None]


def _search(made: ProvenanceRecord | None) -> tuple[str, tuple[str, ...]]:
    """Give a digest of all that detections depend on beside the pixels, and the models in words."""
    if made is None:
        return "", ()
    cards = {name: made.models[name] for name in SEARCH_MODELS if name in made.models}
    stages = {name: made.stages.get(name, "") for name in SEARCH_STAGES}
    sections = {name: made.settings.get(name) or {} for name in SEARCH_STAGES}
    words = tuple(f"{name} {card.name} {card.version} ({card.sha256[:12]})" for name, card in cards.items())
    return digest(cards, stages, sections), words
