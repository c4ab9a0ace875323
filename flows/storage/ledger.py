"""Ledger: one small record per exposure of what is done."""

from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from flows.storage.atomic import read_record, read_records, remove, remove_record, write_file, write_record, writing
from flows.storage.layout import tile_path
from schemas.errors import BadInput, Misconfigured
from schemas.exposure import ExposureKey
from schemas.ledger import LEDGER_VERSION, ExposureRecord, NightRecord, ProvenanceRecord, SourceMemo, WatchRecord
from schemas.quality import QUALITY_VERSION, QualityRecord

Kept = TypeVar("Kept", bound=BaseModel)


class Ledger:
    """Records under ``OUT/ledger/<night>/``, of whole nights under ``OUT/ledger/nights/``, of sources beside them.

    Each record is one file that is replaced in one step. There is one writer: the holder of the lease.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._root = out, out / "ledger"

    def path(self, key: ExposureKey) -> Path:
        """Return the path of the record of an exposure."""
        return self._root / key.night / f"{key.name}.json"

    def get(self, key: ExposureKey) -> ExposureRecord | None:
        """Return the record of an exposure; None if there is none or it cannot be read, so that it is done again.

        Raises
        ------
        Misconfigured
            The record was written by another version.
        """
        try:
            return load(self.path(key))
        except (FileNotFoundError, BadInput):
            return None

    def put(self, record: ExposureRecord) -> None:
        """Write or replace a record; errors as in `flows.storage.atomic.write_record`."""
        write_record(self.path(record), record.model_dump_json(indent=1).encode(), self._out)

    def remove(self, key: ExposureKey) -> None:
        """Remove a record, if there is one."""
        remove_record(self.path(key))

    def files(self, night: str | None = None) -> list[Path]:
        """Return the files of the records, sorted: of one night or of all."""
        return sorted(self._root.glob(f"{night or '[0-9]' * 8}/*.json"))

    def records(self, night: str | None = None) -> list[ExposureRecord]:
        """Return the records that can be read, by night, visit and detector; errors as in `get`."""
        found = []
        for file, content in read_records(self.files(night)):
            try:
                found.append(_parsed(file, content, ExposureRecord))
            except BadInput:
                continue
        return sorted(found, key=lambda record: (record.night, record.visit, record.detector))

    def night_path(self, night: str) -> Path:
        """Return the path of the record of a whole night."""
        return self._root / "nights" / f"{night}.json"

    def night_files(self) -> list[Path]:
        """Return the files of the records of whole nights, sorted."""
        return sorted((self._root / "nights").glob("*.json"))

    def night(self, night: str) -> NightRecord | None:
        """Return what is published of a whole night; as `get`."""
        try:
            return load_night(self.night_path(night))
        except (FileNotFoundError, BadInput):
            return None

    def put_night(self, record: NightRecord) -> None:
        """Write or replace the record of a whole night; errors as in `put`."""
        write_record(self.night_path(record.night), record.model_dump_json(indent=1).encode(), self._out)

    def remove_night(self, night: str) -> None:
        """Remove the record of a whole night, if there is one."""
        remove_record(self.night_path(night))

    def quality_path(self, night: str) -> Path:
        """Return the path of the record of a night's quality."""
        return self._root / "quality" / f"{night}.json"

    def quality_nights(self) -> list[str]:
        """Return the nights whose quality is recorded, sorted."""
        return sorted(path.stem for path in (self._root / "quality").glob("*.json"))

    def quality(self, night: str) -> QualityRecord | None:
        """Return how good a night is; as `get`."""
        try:
            return load_quality(self.quality_path(night))
        except (FileNotFoundError, BadInput):
            return None

    def put_quality(self, record: QualityRecord) -> None:
        """Write or replace the record of a night's quality; errors as in `put`."""
        write_record(self.quality_path(record.night), record.model_dump_json().encode(), self._out)

    def remove_quality(self, night: str) -> None:
        """Remove the record of a night's quality, if there is one."""
        remove_record(self.quality_path(night))

    def remembered(self, source_uri: str) -> SourceMemo | None:
        """Return what a source held when it was last read; None if that is not known."""
        try:
            memo = SourceMemo.model_validate_json(self._memo(source_uri).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return memo if memo.uri == source_uri else None

    def remember(self, memo: SourceMemo | None) -> None:
        """Record what a source held, which spares a rerun from reading it; None: that is not known."""
        if memo is None:
            return
        write_file(self._memo(memo.uri), memo.model_dump_json().encode(), self._out / "staging")

    def provenance(self, digest: str | None) -> ProvenanceRecord | None:
        """Return what exposures were searched with; None if that is not known, or no digest is."""
        if digest is None:
            return None
        return self._read(self._root / "provenance" / f"{digest}.json", ProvenanceRecord)

    def put_provenance(self, record: ProvenanceRecord) -> str:
        """Record what exposures are searched with, once; return the digest that stands for it."""
        content = record.model_dump_json(indent=1).encode()
        digest = sha256(content).hexdigest()
        path = self._root / "provenance" / f"{digest}.json"
        if not path.exists():
            write_file(path, content, self._out / "staging")
        return digest

    def watch(self) -> WatchRecord | None:
        """Return how the last stream goes, or went; None if there was none."""
        return self._read(self._root / "watch.json", WatchRecord)

    def put_watch(self, record: WatchRecord) -> None:
        """Replace what is said of the stream."""
        write_file(self._root / "watch.json", record.model_dump_json(indent=1).encode(), self._out / "staging")

    def _read(self, path: Path, kind: type[Kept]) -> Kept | None:
        try:
            return kind.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def _memo(self, source_uri: str) -> Path:
        name = sha256(source_uri.encode()).hexdigest()[:32]
        return self._root / "sources" / name[:2] / f"{name}.json"


def load(path: Path) -> ExposureRecord:
    """Read one record.

    Raises
    ------
    FileNotFoundError
        There is none.
    BadInput
        It is damaged.
    Misconfigured
        It was written by another version.
    """
    return _parsed(path, read_record(path), ExposureRecord)


def load_night(path: Path) -> NightRecord:
    """Read the record of a whole night; errors as in `load`."""
    return _parsed(path, read_record(path), NightRecord)


def load_quality(path: Path) -> QualityRecord:
    """Read the record of a night's quality; errors as in `load`."""
    return _parsed(path, read_record(path), QualityRecord, QUALITY_VERSION)


def _parsed(path: Path, content: bytes, kind: type[Kept], known: int = LEDGER_VERSION) -> Kept:
    try:
        version = _Version.model_validate_json(content).schema_version
        if version != known:
            raise Misconfigured(
                "other_version",
                str(path),
                f"has schema version {version}, this nightstride reads version {known}.",
                "use the version of nightstride that wrote it, or another --out.",
            )
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise BadInput(
            "damaged_record",
            str(path),
            f"is no ledger record ({error.error_count()} errors, the first: {error.errors()[0]['msg']}).",
            "run the night again: what it is about is made again.",
        ) from error


class _Version(BaseModel):
    schema_version: int


def unpublish(record: ExposureRecord, out: Path) -> None:
    """Remove an exposure's catalogues and tiles, and its record last, so that a kill in between leaves it to be found.

    Nothing is removed if the ledger by now has the exposure from another source.

    Raises
    ------
    Retryable, Misconfigured
        As in `flows.storage.atomic.write_file`.
    """
    ledger = Ledger(out)
    now = ledger.get(record.key)
    if now is None or now.source_uri != record.source_uri:
        return
    with writing(ledger.path(record.key)):
        for dataset in now.datasets.values():
            remove(out / dataset.path)
        remove(tile_path(out, record.key))
        ledger.remove(record.key)
