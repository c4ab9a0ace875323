"""From the id of a detection back to its pixels, and to all that made it what it is."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc

from flows.adapters.catalog_store import CatalogStore
from flows.adapters.ledger import Ledger
from flows.adapters.sources import Source, list_sources
from flows.adapters.zarr_tiles import TileStore
from flows.exposure_tasks import tile_path
from flows.source_digest import sha256_of
from flows.source_name import name_of
from schemas.dia_source import DIA_SOURCE, exposure_of
from schemas.errors import BadInput, Misconfigured, NightstrideError
from schemas.ledger import ExposureRecord, ProvenanceRecord
from schemas.settings import Settings


@dataclass(frozen=True)
class Cutout:
    """The pixels of a detection: first and one past the last, 0-based, in x and y; and as a FITS image section."""

    x: tuple[int, int]
    y: tuple[int, int]
    section: str


@dataclass(frozen=True)
class Explanation:
    """Where a detection comes from.

    Attributes
    ----------
    detection
        Its row of `dia_source`.
    source_uri, source_sha256, source_state
        File of the exposure, SHA-256 of the bytes that were searched, and whether the file still has them.
    cutout
        Its pixels in that file.
    tiles, tiles_digest
        The tile store, relative to the output folder, and the digest in it; None where it was pruned.
    catalogues
        Dataset -> file, relative to the output folder, and digest.
    record
        The ledger record of the exposure.
    provenance
        Models with their cards, settings, versions of stages and of the code; None if the ledger has none.
    """

    detection: dict[str, Any]
    source_uri: str
    source_sha256: str
    source_state: Literal["unchanged", "changed", "unreachable"]
    cutout: Cutout
    tiles: str
    tiles_digest: str | None
    catalogues: dict[str, tuple[str, str]]
    record: ExposureRecord
    provenance: ProvenanceRecord | None

    def values(self) -> dict[str, Any]:
        """Everything, as values that JSON knows."""
        made = self.provenance.model_dump(mode="json") if self.provenance else None
        given = {**self.__dict__, "record": None, "provenance": None}
        return {**asdict(Explanation(**given)), "record": self.record.model_dump(mode="json"), "provenance": made}


def explain(out: Path, source_id: int) -> Explanation:
    """Follow a `diaSourceId` back to pixels, models, settings and code.

    Parameters
    ----------
    out
        Output folder.
    source_id
        Of a published detection.

    Raises
    ------
    Misconfigured
        There is no such detection.
    BadInput
        A catalogue cannot be read.
    """
    visit, detector = exposure_of(source_id)
    ledger = Ledger(out)
    for file in ledger.files():
        if file.stem == f"{visit}-{detector}" and (
            found := _in(out, ledger, file.parent.name, visit, detector, source_id)
        ):
            return found
    raise Misconfigured(
        "no_detection",
        str(out),
        f"holds no detection {source_id} (exposure {visit}-{detector}).",
        "give the diaSourceId of a published row; `nightstride status OUT` says what there is.",
    )


def _in(out: Path, ledger: Ledger, night: str, visit: int, detector: int, source_id: int) -> Explanation | None:
    from schemas.exposure import ExposureKey

    record = ledger.get(ExposureKey(night=night, visit=visit, detector=detector))
    if record is None or DIA_SOURCE.name not in record.datasets:
        return None
    table = CatalogStore(out).read(DIA_SOURCE, record.key)
    rows = table.filter(pc.equal(table["diaSourceId"], source_id)).to_pylist()
    if not rows:
        return None
    tiles = tile_path(out, record.key)
    provenance = ledger.provenance(record.provenance) if record.provenance else None
    return Explanation(
        detection=rows[0],
        source_uri=record.source_uri,
        source_sha256=record.source_sha256,
        source_state=_state(record, provenance),
        cutout=cutout_of(rows[0]["x"], rows[0]["y"], rows[0]["bboxSize"]),
        tiles=tiles.relative_to(out).as_posix(),
        tiles_digest=_tiles_digest(tiles),
        catalogues={name: (entry.path, entry.digest) for name, entry in record.datasets.items()},
        record=record,
        provenance=provenance,
    )


def cutout_of(x: float, y: float, size: int) -> Cutout:
    """Give the square of a side about a position, 0-based px; at the edge it reaches beyond the image.

    The FITS section counts from 1, and both its ends belong to it.
    """
    x0, y0 = round(x - (size - 1) / 2), round(y - (size - 1) / 2)
    return Cutout((x0, x0 + size), (y0, y0 + size), f"[{x0 + 1}:{x0 + size},{y0 + 1}:{y0 + size}]")


def _tiles_digest(path: Path) -> str | None:
    try:
        return TileStore.open(path).digest
    except BadInput:
        return None


def _state(
    record: ExposureRecord, provenance: ProvenanceRecord | None
) -> Literal["unchanged", "changed", "unreachable"]:
    """Read the files of the exposure again and compare."""
    settings = Settings.model_validate(provenance.settings) if provenance else Settings()
    try:
        for source in _candidates(record.source_uri, settings):
            if sha256_of(source, settings) == record.source_sha256:
                return "unchanged"
    except NightstrideError:
        return "unreachable"
    return "changed"


def _candidates(uri: str, settings: Settings) -> list[Source]:
    """Files that the name of a source stands for: with those beside it, and alone."""
    file = uri.rpartition("[")[0] if uri.endswith("]") else uri
    found = [source for source in list_sources([file], settings) if name_of(source) == uri]
    return [*found, *(Source(source.uri, index=source.index) for source in found if source.siblings)]
