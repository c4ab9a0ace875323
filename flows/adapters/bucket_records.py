"""Records in a bucket of which this process is the one writer, and finds out if it is not."""

from collections.abc import Iterable
from pathlib import Path

from flows.adapters.atomic import write_file
from flows.adapters.bucket_path import BucketPath, side_by_side
from flows.adapters.conditional import conditions_of
from schemas.errors import Misconfigured

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
        As in `flows.adapters.atomic.write_file`.
    """
    if not isinstance(path, BucketPath) or not isinstance(out, BucketPath):
        write_file(path, content, out / "staging")
        return
    if str(out) in _lost:
        raise _taken_over(path)
    if str(path) not in _seen:
        _read(path)
    try:
        _seen[str(path)] = conditions_of(out).write(path, content, _seen[str(path)])
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
