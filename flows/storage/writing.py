"""Writing to this machine: files that are complete or absent; a full disk and a refusal in our words."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import Misconfigured, NightstrideError, Retryable

_GOES_ON = "free space there or choose another --out, and run again: it goes on where it stopped."

BEGINS_AGAIN = "free space there or choose another --out, and run again: it begins from the beginning."
"""What to do where the disk is full, of what keeps nothing that was begun."""


@contextmanager
def writing(path: Path, full: str = _GOES_ON) -> Iterator[None]:
    """Convert the errors of a full disk and of a folder without write permission to our own, which name ``path``.

    ``full`` tells what to do where the disk is full.
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
    """Return a hidden path beside ``path`` for a file; when the block ends well it becomes ``path`` in one step.

    Nothing is flushed to disk, and no lease is asked for: what a run publishes is written by `flows.storage.atomic`.
    """
    staged = path.with_name(f".{path.name}.partial")
    try:
        yield staged
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


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
        return errno.ENOSPC  # astropy's words, without a number
    if isinstance(error, OSError):
        return error.errno
    # zarrs reports a failed system call as a RuntimeError that ends in "(os error 28)".
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _free(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
