"""Record of verdicts: lines that are only ever added, by any number of servers at once."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from uuid import uuid4

from pydantic import ValidationError

from flows.storage.atomic import writing
from flows.storage.bucket_path import BucketPath
from flows.storage.file_lock import file_lock
from flows.storage.layout import refuse_release, verdict_log
from schemas.errors import Misconfigured
from schemas.vetting import Verdict, VerdictRecord

WAIT_S = 5.0
"""How long a verdict waits for others that are being written."""


class VerdictStore:
    """Verdicts in ``OUT/vetting/verdicts.jsonl``, one JSON object a line.

    A line is written under a lock and flushed to the disk before it counts; what a killed process left of one is ended
    and passed over. What other processes add is read when it is asked for.

    Parameters
    ----------
    out
        Output folder.

    Raises
    ------
    Misconfigured
        It is in an object store, where nothing can be added to a file.
    """

    def __init__(self, out: Path) -> None:
        if isinstance(out, BucketPath):
            raise Misconfigured(
                "vet_bucket",
                str(out),
                "is in an object store, where verdicts cannot be added to a file.",
                "copy the nights to a local folder, and vet them there.",
            )
        self._out, self._path, self._mutex = out, verdict_log(out), Lock()
        self._read, self._lines = 0, list[VerdictRecord]()
        self._undone, self._by_id = set[str](), dict[str, VerdictRecord]()
        self.unreadable = 0

    def add(
        self, user: str, night: str, source_id: int, place: tuple[float, float], verdict: Verdict, *, blind: bool
    ) -> VerdictRecord:
        """Write a verdict.

        Parameters
        ----------
        user, verdict
            Who says what.
        night, source_id, place
            On which detection; its x and y, px.
        blind
            Whether it is a re-check.

        Raises
        ------
        Retryable, Misconfigured
            It cannot be written (a full disk, no permission, a data release), or others keep the file locked.
        """
        x, y = place
        return self._append(
            VerdictRecord(
                id=uuid4().hex, at=_now(), user=user, night=night, diaSourceId=source_id, x=x, y=y, verdict=verdict,
                blind=blind,
            )
        )  # fmt: skip

    def undo(self, user: str, record_id: str) -> VerdictRecord | None:
        """Take a verdict back; return it, or None if this user has none of that id that stands."""
        self.refresh()
        found = self._by_id.get(record_id)
        if found is None or found.user != user or record_id in self._undone:
            return None
        self._append(found.model_copy(update={"id": uuid4().hex, "at": _now(), "undoes": record_id}))
        return found

    def standing(self) -> list[VerdictRecord]:
        """Return the verdicts that were not taken back, in the order in which they were given."""
        self.refresh()
        with self._mutex:
            return [one for one in self._lines if one.undoes is None and one.id not in self._undone]

    @property
    def version(self) -> int:
        """Return a number that grows with every line."""
        self.refresh()
        return self._read

    def refresh(self) -> None:
        """Read what has been added since."""
        with self._mutex:
            try:
                if self._path.stat().st_size <= self._read:
                    return
            except FileNotFoundError:
                return
            with self._path.open("rb") as file:
                file.seek(self._read)
                content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._read += len(whole)
            for record in self._parsed(whole.splitlines()):
                self._lines.append(record)
                self._by_id[record.id] = record
                if record.undoes is not None:
                    self._undone.add(record.undoes)

    def _parsed(self, lines: list[bytes]) -> Iterator[VerdictRecord]:
        for line in lines:
            try:
                yield VerdictRecord.model_validate(json.loads(line))
            except (ValueError, ValidationError):
                self.unreadable += 1

    def _append(self, record: VerdictRecord) -> VerdictRecord:
        refuse_release(self._out)
        line = record.model_dump_json().encode() + b"\n"
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self._path.with_name(".lock"), WAIT_S), self._path.open("ab") as file:
                file.write(self._end_of_line() + line)
                file.flush()
                os.fsync(file.fileno())
        self.refresh()
        return record

    def _end_of_line(self) -> bytes:
        """Return what ends a line that a killed process did not finish."""
        with self._path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return b""
            file.seek(-1, os.SEEK_END)
            return b"" if file.read(1) == b"\n" else b"\n"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
