"""Writing to local disks: files that are complete or absent, and errors of a full disk or missing permission."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import Misconfigured, NightstrideError, Retryable

_GOES_ON = "free space there or choose another --out, and run again: it goes on where it stopped."

TRAIN_AGAIN = "free space there, and train again: it continues."
"""Remedy for a full disk of a training that can be continued."""

BEGINS_AGAIN = "free space there or choose another --out, and run again: it begins from the beginning."
"""Remedy for a full disk if nothing of unfinished work is kept."""


@contextmanager
def writing(path: Path, full: str = _GOES_ON) -> Iterator[None]:
    """Convert errors of a full disk, a file size limit or missing write permission to our own, which name ``path``.

    ``full`` is the remedy for a full disk.
    """
    try:
        yield
    except NightstrideError:
        raise
    except Exception as error:
        translated = _translate(path, error, full)
        if translated is None:
            raise
        raise translated from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` for a file; if the block succeeds it becomes ``path`` in one step.

    Nothing is flushed to disk and no lease is checked: files published by a run are written by `flows.storage.atomic`.
    """
    staged = path.with_name(f".{path.name}.partial")
    try:
        yield staged
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, full: str) -> None:
    """Write a file in one step, as `replacing` does; raise as `writing` does."""
    with writing(path, full), replacing(path) as staged:
        staged.write_bytes(content)


def _translate(path: Path, error: Exception, full: str) -> NightstrideError | None:
    code = _errno(error)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return Retryable(
            "disk_full",
            str(path),
            f"could not be written: {os.strerror(code)}; {_free(path)} bytes are free. Nothing of it was published.",
            full,
        )
    if code == errno.EFBIG:
        return Misconfigured(
            "file_size_limit",
            str(path),
            "could not be written: the file would be larger than this process or file system allows.",
            "raise the limit (`ulimit -f unlimited`) or choose another --out, and run again.",
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return Misconfigured(
            "not_writable",
            str(path),
            f"could not be written: {os.strerror(code)}.",
            "make the folder writable or choose another --out.",
        )
    return None


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError) and "Not enough space on disk" in str(error):
        return errno.ENOSPC  # astropy raises it without a number
    if isinstance(error, OSError):
        return error.errno
    # zarrs reports a failed system call as a RuntimeError that ends in "(os error 28)".
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _free(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
