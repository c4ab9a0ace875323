"""Writes that hold only if nobody else has written meanwhile, and records of one writer."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import sleep
from uuid import uuid4

from flows.storage.atomic import write_file
from flows.storage.bucket_path import BucketPath, side_by_side
from flows.storage.object_store import configured
from schemas.errors import Misconfigured, Retryable
from schemas.settings import StoreSettings

ATTEMPTS, WAIT_S = 5, 0.5
"""Of a conditional write whose answer is lost, and the wait before the second; it doubles with each further one, s."""


@dataclass(frozen=True)
class WriteConditions:
    """What a store does about conditions.

    Attributes
    ----------
    enforced
        It refuses a put whose condition does not hold: ``If-None-Match: *`` and ``If-Match``.
    quoted
        It wants the version of ``If-Match`` in its quotes, as the standard has it; some want it without.
    """

    enforced: bool = False
    quoted: bool = True

    def write(self, path: BucketPath, content: bytes, replaces: str | None) -> str:
        """Put an object in place of the version ``replaces``, or where there is none; give its version.

        Where conditions are not enforced, it is put in place of anything.

        Raises
        ------
        FileExistsError
            There is another version.
        Misconfigured, Retryable
            As in `BucketPath.write`.
        """
        if not self.enforced:
            return path.write(content)
        for attempt in range(ATTEMPTS):
            try:
                return self._once(path, content, replaces)
            except (FileExistsError, Retryable) as error:
                # An earlier attempt may have come through, and only its answer been lost.
                if (version := _version_of(path, content)) is not None:
                    return version
                if isinstance(error, FileExistsError) or attempt == ATTEMPTS - 1:
                    raise
            sleep(WAIT_S * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, path: BucketPath, content: bytes, replaces: str | None) -> str:
        if replaces is None:
            return path.write(content, create=True)
        try:
            return path.write(content, replaces if self.quoted else replaces.strip('"'))
        except FileNotFoundError as error:  # AWS's answer to If-Match where there is no object
            raise FileExistsError(errno.EEXIST, "was removed by somebody else", str(path)) from error


def probe_store(out: BucketPath) -> WriteConditions:
    """Find out what the store of ``out`` does about conditions, by an object that is removed again.

    Raises
    ------
    Misconfigured, Retryable
        It may not be written, or does not answer.
    """
    path = out / "staging" / f"probe-{uuid4().hex}"
    try:
        version = path.write(b"1")
        if not _refused(path, create=True) or not _refused(path, replaces='"0123456789abcdef0123456789abcdef"'):
            return WriteConditions()
        for quoted in (True, False):
            if not _refused(path, replaces=version if quoted else version.strip('"')):
                return WriteConditions(True, quoted)
        return WriteConditions()
    finally:
        path.unlink()


def write_conditions(out: BucketPath) -> WriteConditions:
    """Return what the store of ``out`` does about conditions, which is found out once; errors as in `probe_store`."""
    return _probed(out, configured())


@cache
def _probed(out: BucketPath, _: StoreSettings) -> WriteConditions:
    return probe_store(out)


def _version_of(path: BucketPath, content: bytes) -> str | None:
    """Return the version of an object if it has this content."""
    try:
        found = path.read_versioned()
    except FileNotFoundError:
        return None
    return found.version if found.content == content else None


def _refused(path: BucketPath, *, replaces: str | None = None, create: bool = False) -> bool:
    try:
        path.write(b"1", replaces, create=create)
    except FileExistsError:
        return True
    return False


_seen: dict[str, str | None] = {}
"""Version of each record as this process last read or wrote it; None: there was none."""


_lost: set[str] = set()
"""Folders of which another run has taken over the lease."""


def forbid(out: BucketPath) -> None:
    """Let nothing be written to the ledger of ``out`` by this process any more: it has lost the lease."""
    _lost.add(str(out))


def permit(out: BucketPath) -> None:
    """Take `forbid` back: this process has the lease again."""
    _lost.discard(str(out))


def read_record(path: Path) -> bytes:
    """Read a record, and remember its version if it lies in a bucket.

    Raises
    ------
    FileNotFoundError
        There is none.
    Misconfigured, Retryable
        As in `BucketPath.read_bytes`.
    """
    if not isinstance(path, BucketPath):
        return path.read_bytes()
    try:
        found = path.read_versioned()
    except FileNotFoundError:
        _seen[str(path)] = None
        raise
    _seen[str(path)] = found.version
    return found.content


def read_records(paths: Iterable[Path]) -> list[tuple[Path, bytes]]:
    """Read records, those in a bucket side by side, and leave out what has gone; errors as in `read_record`."""
    listed = list(paths)
    contents = side_by_side(_read, listed, any(isinstance(path, BucketPath) for path in listed))
    return [(path, content) for path, content in zip(listed, contents, strict=True) if content is not None]


def write_record(path: Path, content: bytes, out: Path) -> None:
    """Write a record of the output folder ``out``; in a bucket only if it is as this process last saw it.

    Raises
    ------
    Misconfigured
        Another run has changed it meanwhile, or has the lease now (``taken_over``).
    Misconfigured, Retryable
        As in `flows.storage.atomic.write_file`.
    """
    if not isinstance(path, BucketPath) or not isinstance(out, BucketPath):
        write_file(path, content, out / "staging")
        return
    if str(out) in _lost:
        raise _taken_over(path)
    if str(path) not in _seen:
        _read(path)
    try:
        _seen[str(path)] = write_conditions(out).write(path, content, _seen[str(path)])
    except FileExistsError as error:
        raise _taken_over(path) from error


def remove_record(path: Path) -> None:
    """Remove a record, if it is there; errors as in `write_record`."""
    if any(str(path).startswith(f"{lost}/") for lost in _lost):
        raise _taken_over(path)
    path.unlink(missing_ok=True)
    if isinstance(path, BucketPath):
        _seen[str(path)] = None


def _taken_over(path: Path) -> Misconfigured:
    return Misconfigured(
        "taken_over",
        str(path),
        "cannot be written: another run has taken the folder over from this one.",
        "let one run at a time write to a folder, and see why this one gave no sign of life for two minutes.",
    )


def _read(path: Path) -> bytes | None:
    try:
        return read_record(path)
    except FileNotFoundError:
        return None
