"""Log of verdicts: lines that are only ever added, by any number of servers at the same time."""

import json
import math
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Protocol
from uuid import uuid4

from pydantic import ValidationError

from flows.storage.atomic import write_conditions
from flows.storage.bucket_path import BucketPath
from flows.storage.file_lock import file_lock
from flows.storage.layout import refuse_release, verdict_log
from flows.storage.writing import writing
from schemas.errors import Misconfigured, Retryable
from schemas.vetting import SAME_PX, Verdict, VerdictRecord

WAIT_S = 5.0
"""How long to wait for others that are writing verdicts, s."""


class VerdictStore:
    """Verdicts in ``OUT/vetting/verdicts.jsonl``, one JSON object per line.

    A line is written under a lock and counts once it is flushed to disk; a partial line of a killed process is ended
    and ignored. In a bucket the object is replaced by one with another line, unless it has changed meanwhile. Lines
    from other processes are read when needed.

    Parameters
    ----------
    out
        Output folder, local or in a bucket.
    """

    def __init__(self, out: Path) -> None:
        path = verdict_log(out)
        self._out, self._mutex = out, Lock()
        self._log: _Lines = (
            _Object(path, out) if isinstance(path, BucketPath) and isinstance(out, BucketPath) else _File(path)
        )
        self._read, self._lines = 0, list[VerdictRecord]()
        self._undone, self._by_id = set[str](), dict[str, VerdictRecord]()
        self.unreadable = 0

    def add(
        self, user: str, night: str, source_id: int, place: tuple[float, float], verdict: Verdict, *, blind: bool
    ) -> VerdictRecord:
        """Write a verdict, unless it is already the user's verdict on that detection; return its record.

        Parameters
        ----------
        user, verdict
            Vetter and verdict.
        night, source_id, place
            Night and diaSourceId of the detection, and its x and y, px.
        blind
            Whether it is a re-check.

        Raises
        ------
        Retryable, Misconfigured
            It cannot be written (a full disk, no permission, a data release, a store that does not answer or has no
            conditional writes), or others keep the file locked.
        """
        last = self.last_of(user, night, source_id)
        same = last is not None and last.blind == blind and last.verdict == verdict
        if last is not None and same and math.dist((last.x, last.y), place) <= SAME_PX:
            return last
        x, y = place
        return self._append(
            VerdictRecord(
                id=uuid4().hex, at=_now(), user=user, night=night, diaSourceId=source_id, x=x, y=y, verdict=verdict,
                blind=blind,
            )
        )  # fmt: skip

    def last_of(self, user: str, night: str, source_id: int) -> VerdictRecord | None:
        """Return the last standing verdict of a user on a detection; None if there is none."""
        wanted = user, night, source_id
        own = (one for one in reversed(self.standing()) if (one.user, one.night, one.diaSourceId) == wanted)
        return next(own, None)

    def undo(self, user: str, record_id: str) -> VerdictRecord | None:
        """Take a verdict back and return it; None if it is not a standing verdict of this user."""
        self.refresh()
        found = self._by_id.get(record_id)
        if found is None or found.user != user or record_id in self._undone:
            return None
        self._append(found.model_copy(update={"id": uuid4().hex, "at": _now(), "undoes": record_id}))
        return found

    def standing(self) -> list[VerdictRecord]:
        """Return the verdicts that were not taken back, in order of time."""
        self.refresh()
        with self._mutex:
            return [one for one in self._lines if one.undoes is None and one.id not in self._undone]

    @property
    def version(self) -> int:
        """Return a number that grows with every line."""
        self.refresh()
        return self._read

    def refresh(self) -> None:
        """Read lines added since the last time."""
        with self._mutex:
            content = self._log.after(self._read)
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
            except (ValueError, RecursionError, ValidationError):
                self.unreadable += 1

    def _append(self, record: VerdictRecord) -> VerdictRecord:
        refuse_release(self._out)
        self._log.add(record.model_dump_json().encode() + b"\n")
        self.refresh()
        return record


class _Lines(Protocol):
    """Lines that are only ever added."""

    def after(self, read: int) -> bytes:
        """Return what follows after ``read`` bytes; empty if there is no more."""

    def add(self, line: bytes) -> None:
        """Add a line."""


class _File:
    """Lines of a file on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def after(self, read: int) -> bytes:
        try:
            if self._path.stat().st_size <= read:
                return b""
        except FileNotFoundError:
            return b""
        with self._path.open("rb") as file:
            file.seek(read)
            return file.read()

    def add(self, line: bytes) -> None:
        with writing(self._path.parent):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self._path.with_name(".lock"), WAIT_S), self._path.open("ab") as file:
                file.write(self._end_of_line() + line)
                file.flush()
                os.fsync(file.fileno())

    def _end_of_line(self) -> bytes:
        """Return a newline if the last line was not finished, as after a kill, else nothing."""
        with self._path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return b""
            file.seek(-1, os.SEEK_END)
            return b"" if file.read(1) == b"\n" else b"\n"


class _Object:
    """Lines of an object, which is read completely when it has a new version."""

    def __init__(self, path: BucketPath, out: BucketPath) -> None:
        self._path, self._out, self._version = path, out, ""

    def after(self, read: int) -> bytes:
        try:
            if self._path.version() == self._version:
                return b""
            found = self._path.read_versioned()
        except FileNotFoundError:
            return b""
        self._version = found.version
        return found.content[read:]

    def add(self, line: bytes) -> None:
        conditions, end = write_conditions(self._out), monotonic() + WAIT_S
        if not conditions.enforced:
            raise Misconfigured(
                "vet_bucket", str(self._path), "is in a store that knows no conditions: two who judge at once would "
                "lose verdicts.", "copy the nights to a local folder, and vet them there.",
            )  # fmt: skip
        while True:
            content, version = self._content()
            if line in content:  # an earlier write succeeded, but its answer was lost
                return
            try:
                conditions.write(self._path, content + line, version)
                return
            except FileExistsError as error:
                if monotonic() > end:
                    problem = f"was changed by others again and again for {WAIT_S:g} s."
                    raise Retryable("lock_held", str(self._path), problem, "judge it once more.") from error

    def _content(self) -> tuple[bytes, str | None]:
        try:
            found = self._path.read_versioned()
        except FileNotFoundError:
            return b"", None
        return found.content, found.version


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
