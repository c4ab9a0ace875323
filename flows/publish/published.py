"""Published exposures of an output folder; those looked at last are kept in memory."""

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
"""Code of a night that is not there."""

_EXPOSURES = 64  # in memory


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
        """Return the nights that it has, or those of them that are chosen.

        Raises
        ------
        Misconfigured
            It has none of these, or none at all (``no_night``).
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
        # Records of a night are many: only those of the visit are parsed.
        for key in list(self._ledger.of_visit(night, visit)):
            if (record := self.record(key)) is not None:
                yield record

    def processed(self, record: ExposureRecord) -> float:
        """Return when an exposure was processed, MJD TAI: as the ledger says, so that it is the same ever after."""
        return _mjd_tai(record.finished_at)

    def _record(self, key: ExposureKey) -> ExposureRecord | None:
        """Return the record of an exposure; None where its detections are not published (any more)."""
        record = self._ledger.get(key)
        return record if record is not None and _has_detections(record) else None

    def _detections(self, key: ExposureKey) -> pa.Table:
        """Return the detections of an exposure; errors as in `CatalogStore.read`."""
        return CatalogStore(self.out).read(DIA_SOURCE, key)

    def _provenance(self, digest: str | None) -> ProvenanceRecord | None:
        """Return what exposures were made with."""
        return self._ledger.provenance(digest)


def with_place_and_time(rows: pa.Table) -> tuple[pa.Table, Counter[str]]:
    """Return the rows of `DIA_SOURCE` that can be told to others, and how many lack what, by reason."""
    placed = rows.filter(pc.is_valid(rows["ra"]))
    known = placed.filter(pc.equal(pc.bit_wise_and(placed["flags"], int(DetectionFlag.NO_TIME)), 0))
    return known, Counter(no_position=len(rows) - len(placed), no_time=len(placed) - len(known))


MOST_NAMED = 100
"""Failures that are kept word for word."""


def name_failure(failed: list[F], error: F) -> None:
    """Add what was wrong to a list, once, and no more than `MOST_NAMED`."""
    if str(error) not in map(str, failed) and len(failed) < MOST_NAMED:
        failed.append(error)


def _has_detections(record: ExposureRecord) -> bool:
    return record.status == "done" and DIA_SOURCE.name in record.datasets


@lru_cache(1024)
def _mjd_tai(utc: str) -> float:
    return float(tai(utc.removesuffix("Z").removesuffix("+00:00"), "isot", "utc").mjd)
