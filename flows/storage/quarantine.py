"""Inputs that cannot be used, with the reason and the remedy."""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from flows.storage.atomic import write_file
from flows.storage.bucket_path import BucketPath
from flows.storage.layout import staging_folder
from schemas.errors import NightstrideError
from schemas.exposure import ExposureKey
from schemas.ledger import QuarantineRecord, file_of_source

NAMELESS = frozenset({"no_such_input", "not_allowed", "alert_message", "dead_letter", "bad_name"})
"""Error codes for names that need not belong to a file."""


class Quarantine:
    """Records under ``OUT/quarantine/``, one file per source."""

    def __init__(self, out: Path) -> None:
        self._root = out / "quarantine"
        self._staging = staging_folder(out)

    def put(self, error: NightstrideError, source_uri: str, key: ExposureKey | None = None) -> QuarantineRecord:
        """Record why ``source_uri`` cannot be used, replacing an earlier reason; return the record.

        Parameters
        ----------
        error
            Reason.
        source_uri
            Source at fault.
        key
            Its exposure, if known.
        """
        record = QuarantineRecord(
            code=error.code,
            where=error.where,
            problem=error.problem,
            remedy=error.remedy,
            source_uri=source_uri,
            key=key,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_file(self.path(source_uri), record.model_dump_json(indent=1).encode(), self._staging)
        if key is not None and not isinstance(self._root, BucketPath):
            self._clear_moved(record)
        return record

    def _clear_moved(self, now: QuarantineRecord) -> None:
        """Remove the records of a file of the same name and exposure that is not where it was: it was moved."""
        for file, record in self._found(f"{_stem(now.source_uri)}-*.json"):
            same = (record.key, PurePosixPath(record.source_uri).name) == (now.key, PurePosixPath(now.source_uri).name)
            if same and _is_lost(record.source_uri) and not _is_lost(now.source_uri):
                file.unlink(missing_ok=True)

    def path(self, source_uri: str) -> Path:
        """Return the path of the record of a source: its own name, made unique and safe."""
        return self._root / f"{_stem(source_uri)}-{sha256(source_uri.encode()).hexdigest()[:10]}.json"

    def clear(self, source_uri: str) -> int:
        """Remove the records of a source; return their number."""
        gone = [file for file, record in self._found() if record.source_uri == source_uri]
        for file in gone:
            file.unlink(missing_ok=True)
        return len(gone)

    def clear_all(self, source_uris: Iterable[str]) -> None:
        """Remove the records of sources; the folder is listed once and no record is read, as few sources have one."""
        if names := {self.path(uri).name for uri in source_uris}:
            for file in self._root.glob("*.json"):
                if file.name in names:
                    file.unlink(missing_ok=True)

    def gone(self) -> "list[QuarantineRecord]":
        """Return the records of files that no longer exist, by source; see `is_gone`."""
        return [record for record in self.list() if is_gone(record.source_uri, record.code)]

    def _found(self, names: str = "*.json") -> "list[tuple[Path, QuarantineRecord]]":
        found = []
        for file in sorted(self._root.glob(names)):
            try:
                found.append((file, QuarantineRecord.model_validate_json(file.read_bytes())))
            except (FileNotFoundError, IsADirectoryError, ValidationError):
                continue
        return found

    def list(self) -> "list[QuarantineRecord]":
        """Return all readable records, by source."""
        return sorted((record for _, record in self._found()), key=lambda record: record.source_uri)


def _stem(source_uri: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(source_uri).name)[-80:].lstrip(".") or "source"


def _is_lost(source_uri: str) -> bool:
    """Return whether a source is a file on this machine that is not there, whatever the reason."""
    if "://" in source_uri or not Path(source_uri).is_absolute():
        return False
    with suppress(OSError, ValueError):
        return not _is_there(Path(source_uri)) and not _is_there(Path(file_of_source(source_uri)))
    return False


def is_gone(source_uri: str, code: str) -> bool:
    """Return whether a quarantined file was on this machine and no longer exists.

    False if that is uncertain: the file is in an object store, or its folder is missing or empty, as when a disk is not
    mounted.
    """
    file = file_of_source(source_uri)
    if code in NAMELESS or "://" in source_uri or not Path(source_uri).is_absolute():
        return False
    with suppress(OSError, ValueError):  # it cannot be accessed, or is not a valid name
        return not _is_there(Path(source_uri)) and not _is_there(Path(file)) and any(Path(file).parent.iterdir())
    return False


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True
