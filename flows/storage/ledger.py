"""Ledger: one small record for each processed exposure, and records of nights, patches and sources."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from flows.storage.atomic import remove, write_file
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import ledger_folder, other_version, staging_folder, tile_path
from flows.storage.ledger_bucket import BucketRecords
from flows.storage.ledger_local import COLUMNS, LocalRecords
from flows.storage.writing import writing
from schemas.errors import BadInput, NightstrideError
from schemas.exposure import ExposureKey
from schemas.ledger import (
    LEDGER_VERSION,
    ExposureRecord,
    NightRecord,
    NightSums,
    PatchRecord,
    ProvenanceRecord,
    SourceMemo,
    WatchRecord,
)
from schemas.patch import PatchKey
from schemas.quality import QUALITY_VERSION, QualityRecord

Kept = TypeVar("Kept", bound=BaseModel)


class Brief(NamedTuple):
    """Outcome of an exposure, without its files; fields as in `schemas.ledger.ExposureRecord`."""

    visit: int
    detector: int
    status: str
    source_uri: str
    detections: int
    provenance: str | None
    shutter_closed_at: str | None
    finished_at: str
    reason: str | None


class Ledger:
    """Records under ``OUT/ledger/``: of exposures by night, of whole nights, of patches and of sources.

    A change is completely on disk when its method returns. Only the holder of the lease writes. At most a part of a
    night is in memory at a time. Each method raises `Misconfigured` if the ledger was written by another version, is
    damaged or cannot be read; writing methods also if another run holds the lease now.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._records = BucketRecords(out) if isinstance(out, BucketPath) else LocalRecords(out)

    def get(self, key: ExposureKey) -> ExposureRecord | None:
        """Return the record of an exposure; None if it does not exist or is damaged, so that the exposure is redone."""
        return self._kept(self._records.get(key), ExposureRecord)

    def put(self, record: ExposureRecord) -> None:
        """Write or replace a record."""
        self._records.put(record, record.model_dump_json().encode())

    def remove(self, key: ExposureKey) -> None:
        """Remove a record, if there is one."""
        self._records.remove(key)

    def nights(self) -> list[str]:
        """Return the nights with records of exposures, sorted."""
        return self._records.nights()

    def count(self) -> int:
        """Return the number of exposures with a record."""
        return sum(self._records.count(night) for night in self.nights())

    def records(self, night: str | None = None) -> Iterator[ExposureRecord]:
        """Yield the undamaged records of one night or of all, by night, visit and detector."""
        for found in self.entries(night):
            if isinstance(found, ExposureRecord):
                yield found
            elif not isinstance(found, BadInput):
                raise found

    def entries(self, night: str | None = None) -> Iterator[ExposureRecord | NightstrideError]:
        """Yield the records by night, visit and detector; errors in place of those that cannot be read."""
        for label in self.nights() if night is None else (night,):
            for name, content in self._records.contents(label):
                where = self._records.place(label, name)
                try:
                    record = _parsed(where, content, ExposureRecord)
                except NightstrideError as error:
                    yield error
                    continue
                yield record if (record.night, record.name) == (label, name) else _misfiled(where, record)

    def briefs(self, night: str) -> Iterator[Brief]:
        """Yield the outcomes of a night's exposures without parsing their records, by visit and detector."""
        if isinstance(self._records, LocalRecords):
            yield from map(Brief._make, self._records.columns(night))
        else:
            for one in self.records(night):
                yield Brief(one.visit, one.detector, *(getattr(one, name) for name in COLUMNS))

    def of_visit(self, night: str, visit: int) -> Iterator[ExposureKey]:
        """Yield the exposures of a visit by detector, without parsing records."""
        for one in self.briefs(night):
            if one.visit == visit:
                yield ExposureKey(night=night, visit=visit, detector=one.detector)

    def troubled(self, night: str) -> Iterator[Brief]:
        """Yield the exposures of a night that have a reason: quarantined, failed, or not made again."""
        if isinstance(self._records, LocalRecords):
            yield from map(Brief._make, self._records.columns(night, "reason IS NOT NULL"))
        else:
            yield from (one for one in self.briefs(night) if one.reason is not None)

    def stamp(self, night: str) -> str:
        """Return a value that changes with each change of the night's records; empty if there is none."""
        return self._records.stamp(night)

    def settle(self) -> list[str]:
        """Merge the many objects of a ledger in a bucket; return the nights that this changes."""
        return self._records.settle() if isinstance(self._records, BucketRecords) else []

    def sums(self, night: str) -> NightSums | None:
        """Return the stored sums of a night; None if there are none."""
        return _valid(self._records.document("sums", night), NightSums)

    def put_sums(self, night: str, sums: NightSums) -> None:
        """Store the sums of a night."""
        self._records.put_document("sums", night, sums.model_dump_json().encode())

    def from_source(self, source_uri: str) -> list[ExposureRecord]:
        """Return the records whose current source is this one, by night, visit and detector."""
        found = map(self.get, self._records.sources(source_uri))
        return [record for record in found if record is not None and record.source_uri == source_uri]

    def damage(self, night: str | None = None) -> Iterator[BadInput]:
        """Yield an error for each damaged file of the ledger: of a night, or of all."""
        for where, what, remedy in self._records.damage(night):
            yield BadInput("damaged_ledger", where, f"is damaged: {what.removesuffix('.')}.", remedy)

    def named_nights(self) -> list[str]:
        """Return the nights with a record of the whole night, sorted."""
        return self._records.documents("night")

    def night(self, night: str) -> NightRecord | None:
        """Return the record of a whole night; None as in `get`."""
        return self._kept(self._records.document("night", night), NightRecord)

    def whole_nights(self, nights: Iterable[str] | None = None) -> Iterator[NightRecord | NightstrideError]:
        """Yield the records of given whole nights, or of all; errors in place of those that cannot be read."""
        return self._documents("night", self.named_nights() if nights is None else nights, NightRecord, LEDGER_VERSION)

    def put_night(self, record: NightRecord) -> None:
        """Write or replace the record of a whole night."""
        self._records.put_document("night", record.night, record.model_dump_json().encode())

    def remove_night(self, night: str) -> None:
        """Remove the record of a whole night, if there is one."""
        self._records.remove_document("night", night)

    def patches(self, night: str) -> Iterator[PatchRecord | NightstrideError]:
        """Yield the records of the patches of a night; errors in place of those that cannot be read."""
        for name, content in self._records.patches(night):
            try:
                yield _parsed(self._records.place(night, name), content, PatchRecord)
            except NightstrideError as error:
                yield error

    def put_patch(self, record: PatchRecord) -> None:
        """Write or replace the record of a patch; the night must have exposures."""
        self._records.put_patch(record.night, record.name, record.model_dump_json().encode())

    def remove_patch(self, key: PatchKey) -> None:
        """Remove the record of a patch, which must exist."""
        self._records.remove_patch(key.night, key.name)

    def quality_nights(self) -> list[str]:
        """Return the nights whose quality is recorded, sorted."""
        return self._records.documents("quality")

    def quality(self, night: str) -> QualityRecord | None:
        """Return the record of a night's quality; None as in `get`."""
        return self._kept(self._records.document("quality", night), QualityRecord, QUALITY_VERSION)

    def qualities(self, nights: Iterable[str]) -> Iterator[QualityRecord | NightstrideError]:
        """Yield the quality records of some nights; errors in place of those that cannot be read."""
        return self._documents("quality", nights, QualityRecord, QUALITY_VERSION)

    def put_quality(self, record: QualityRecord) -> None:
        """Write or replace the record of a night's quality."""
        self._records.put_document("quality", record.night, record.model_dump_json().encode())

    def remove_quality(self, night: str) -> None:
        """Remove the record of a night's quality, if there is one."""
        self._records.remove_document("quality", night)

    def remembered(self, source_uri: str) -> SourceMemo | None:
        """Return what a source contained when it was last read; None if unknown."""
        memo = _valid(self._records.memo(source_uri), SourceMemo)
        return memo if memo is not None and memo.uri == source_uri else None

    def remember(self, memo: SourceMemo | None) -> None:
        """Record what a source contains, so that a rerun need not read it; None: nothing is recorded."""
        if memo is not None:
            self._records.put_memo(memo, memo.model_dump_json().encode())

    def remembered_nights(self) -> list[str]:
        """Return the nights with any entry: records, remembered sources, sums or quality; sorted."""
        kinds = ("night", "quality", "sums")
        named = (name for kind in kinds for name in self._records.documents(kind))
        return sorted({*self._records.nights(), *self._records.memo_nights(), *named})

    def forget(self, night: str) -> None:
        """Forget the remembered sources and the sums of a night without records; a run would read the sources again."""
        self._records.forget(night)
        self._records.remove_document("sums", night)

    def provenance(self, digest: str | None) -> ProvenanceRecord | None:
        """Return the provenance with this digest; None if it is unknown or ``digest`` is None."""
        return None if digest is None else _valid(self._records.document("provenance", digest), ProvenanceRecord)

    def provenances(self) -> list[str]:
        """Return the digests of all stored provenance, sorted."""
        return self._records.documents("provenance")

    def remove_provenance(self, digest: str) -> None:
        """Remove the provenance with this digest, if it exists."""
        self._records.remove_document("provenance", digest)

    def put_provenance(self, record: ProvenanceRecord) -> str:
        """Store provenance once; return its digest."""
        content = record.model_dump_json().encode()
        digest = sha256(content).hexdigest()
        if self._records.document("provenance", digest) is None:
            self._records.put_document("provenance", digest, content)
        return digest

    def watch(self) -> WatchRecord | None:
        """Return the record of the current or last stream; None if there was none."""
        try:
            return _valid(self._watch.read_bytes(), WatchRecord)
        except FileNotFoundError:
            return None

    def put_watch(self, record: WatchRecord) -> None:
        """Replace the record of the stream."""
        write_file(self._watch, record.model_dump_json(indent=1).encode(), staging_folder(self._out))

    @property
    def _watch(self) -> Path:
        return ledger_folder(self._out) / "watch.json"

    def _documents(
        self, kind: str, names: Iterable[str], model: type[Kept], known: int
    ) -> Iterator[Kept | NightstrideError]:
        for name in names:
            content = self._records.document(kind, name)
            try:
                if content is not None:
                    yield _parsed(self._records.place(kind, name), content, model, known)
            except NightstrideError as error:
                yield error

    def _kept(self, content: bytes | None, kind: type[Kept], known: int = LEDGER_VERSION) -> Kept | None:
        try:
            return None if content is None else _parsed(str(ledger_folder(self._out)), content, kind, known)
        except BadInput:
            return None


def _valid(content: bytes | None, kind: type[Kept]) -> Kept | None:
    try:
        return None if content is None else kind.model_validate_json(content)
    except ValidationError:
        return None


def _parsed(where: str, content: bytes, kind: type[Kept], known: int = LEDGER_VERSION) -> Kept:
    try:
        found = kind.model_validate_json(content)
        _require_version(where, getattr(found, "schema_version", known), known)
        return found
    except ValidationError as error:
        with suppress(ValidationError):  # a record of another version may have other fields
            _require_version(where, _Version.model_validate_json(content).schema_version, known)
        raise BadInput(
            "damaged_record",
            where,
            f"is not a ledger record ({error.error_count()} errors, the first: {error.errors()[0]['msg']}).",
            "run the night again: what it is about is made again.",
        ) from error


def _require_version(where: str, version: int, known: int) -> None:
    if version != known:
        raise other_version(where, version, known)


def _misfiled(where: str, record: ExposureRecord) -> BadInput:
    return BadInput(
        "misfiled_record",
        where,
        f"is the record of exposure {record.name} of night {record.night}.",
        "remove it and run the night again.",
    )


class _Version(BaseModel):
    schema_version: int


def unpublish(record: ExposureRecord, out: Path) -> None:
    """Remove an exposure's catalogues and tiles, and last its record, so that an interrupted removal can be found.

    Nothing is removed if the exposure's record in the ledger now has another source.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.storage.atomic.write_file`.
    """
    from flows.storage.catalog_parts import withdraw  # Arrow is slow to import, and readers do not need it

    ledger = Ledger(out)
    now = ledger.get(record.key)
    if now is None or now.source_uri != record.source_uri:
        return
    with writing(ledger_folder(out)):
        withdraw(out / dataset.path for dataset in now.datasets.values())
        remove(tile_path(out, record.key))
        ledger.remove(record.key)
