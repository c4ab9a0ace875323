"""Published exposures of an output folder, with the most recently used ones in memory."""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from flows.storage.catalog_store import CatalogStore
from flows.storage.ledger import Ledger
from kernels.sky.times import tai
from schemas.dia_source import DIA_SOURCE, DetectionFlag
from schemas.errors import Misconfigured, NightstrideError
from schemas.exposure import ExposureKey
from schemas.ledger import ExposureRecord, ProvenanceRecord
from schemas.night_range import EVERY_NIGHT, NightRange

F = TypeVar("F", bound=NightstrideError)

NO_NIGHT = "no_night"
"""Error code of a missing night."""

_EXPOSURES = 64  # kept in memory


class PublishedExposures:
    """Exposures whose detections are published.

    Parameters
    ----------
    out
        Output folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._ledger = Ledger(out)
        self.record = lru_cache(_EXPOSURES)(self._record)
        self.detections = lru_cache(_EXPOSURES)(self._detections)
        self.provenance = lru_cache(8)(self._provenance)

    def nights(self, chosen: NightRange = EVERY_NIGHT) -> tuple[str, ...]:
        """Return the chosen nights of the folder.

        Raises
        ------
        Misconfigured
            The folder has none of them, or no nights at all (``no_night``).
        """
        found = self._ledger.nights()
        if not found:
            raise Misconfigured(NO_NIGHT, str(self.out), "has no night.", "name the --out of a run that has ended.")
        return chosen.among(found, str(self.out))

    def exposures(self, night: str, visit: int | None = None) -> Iterator[ExposureRecord]:
        """Yield the exposures of a night, or of one visit, whose detections are published, by visit and detector."""
        if visit is None:
            yield from filter(_has_detections, self._ledger.records(night))
            return
        # A night has many records: only those of the visit are parsed.
        for key in list(self._ledger.of_visit(night, visit)):
            if (record := self.record(key)) is not None:
                yield record

    def processed(self, record: ExposureRecord) -> float:
        """Return the processing time of an exposure, MJD TAI, from the ledger, so that it never changes."""
        return _mjd_tai(record.finished_at)

    def _record(self, key: ExposureKey) -> ExposureRecord | None:
        """Return the record of an exposure; None if its detections are not, or no longer, published."""
        record = self._ledger.get(key)
        return record if record is not None and _has_detections(record) else None

    def _detections(self, key: ExposureKey) -> pa.Table:
        """Return the detections of an exposure; raise as `CatalogStore.read` does."""
        return CatalogStore(self.out).read(DIA_SOURCE, key)

    def _provenance(self, digest: str | None) -> ProvenanceRecord | None:
        """Return the record of what exposures were made with, by its digest."""
        return self._ledger.provenance(digest)


def with_place_and_time(rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """Return the rows of `DIA_SOURCE` with a position and a time, and the number of others by reason."""
    placed = rows.filter(pc.is_valid(rows["ra"]))
    known = placed.filter(pc.equal(pc.bit_wise_and(placed["flags"], int(DetectionFlag.NO_TIME)), 0))
    return known, Counter(no_position=len(rows) - len(placed), no_time=len(placed) - len(known))


MOST_NAMED = 100
"""Largest number of errors in a list."""


def name_failure(failed: list[F], error: F) -> None:
    """Add an error to a list, unless it is there or the list has `MOST_NAMED` errors."""
    if str(error) not in map(str, failed) and len(failed) < MOST_NAMED:
        failed.append(error)


def _has_detections(record: ExposureRecord) -> bool:
    return record.status == "done" and DIA_SOURCE.name in record.datasets


@lru_cache(1024)
def _mjd_tai(utc: str) -> float:
    return float(tai(utc.removesuffix("+00:00"), "isot", "utc").mjd)
