"""Files and folders that are there whole or not at all, on this machine and in buckets."""

import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from flows.storage.bucket_path import BucketPath, files_below, publish_group, remove_group, remove_objects
from schemas.errors import Misconfigured, NightstrideError, Retryable

STAGED = ".staging"
"""Ending of what is not published yet."""

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def write_file(path: Path, content: bytes, staging: Path) -> None:
    """Write ``content`` under ``staging`` and move it to ``path`` in one step; both are on one file system.

    In a bucket one put is that step, and nothing is staged.

    Raises
    ------
    Retryable
        The disk is full, or the object store does not answer.
    Misconfigured
        The folder may not be written, or a limit on file sizes is too small.
    """
    if isinstance(path, BucketPath):
        path.write(content)
        return
    with writing(path):
        staging.mkdir(parents=True, exist_ok=True)
        _make_folder(path.parent)
        staged = staging / f"{path.name}.{uuid4().hex}{STAGED}"
        try:
            with staged.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def publish_file(staged: Path, path: Path) -> None:
    """Put a file that is whole on disk, and move it to ``path`` in one step; both are on one file system.

    Errors as in `write_file`.
    """
    with writing(path):
        _sync(staged)
        staged.replace(path)
        _sync(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Return a hidden folder beside ``path`` to fill; when the block ends well it becomes ``path`` in one step.

    What was at ``path`` before is replaced. If the block fails, nothing is left of the new folder. In a bucket it is a
    Zarr group, filled on this machine first: see `flows.storage.bucket_path`. Errors as in `write_file`.
    """
    if isinstance(path, BucketPath):
        with TemporaryDirectory(prefix="nightstride-") as folder, writing(Path(folder)):
            yield Path(folder)
            publish_group(Path(folder), path)
        return
    with writing(path):
        _make_folder(path.parent)
        staged = path.parent / f".{path.name}.{uuid4().hex}{STAGED}"
        try:
            staged.mkdir()
            yield staged
            # Side by side: the disk takes what waits for it together in a third of the time.
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(_sync, staged.rglob("*")))
            _sync(staged)
            _move_folder(staged, path)
            _sync(path.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a published file or folder, if it is there; errors as in `write_file`."""
    if isinstance(path, BucketPath):
        if path.suffix == ".zarr":
            remove_group(path)
        elif path.suffix:
            path.unlink(missing_ok=True)
        else:
            remove_objects(files_below(path))
        return
    with writing(path):
        if path.is_dir():
            # Under its name it is whole or gone; what a killed process leaves of it, the next run sweeps away.
            gone = path.parent / f".{path.name}.{uuid4().hex}{STAGED}"
            path.rename(gone)
            shutil.rmtree(gone)
        else:
            path.unlink(missing_ok=True)


def sweep(out: Path) -> int:
    """Remove what killed runs left unpublished under ``out``; give the number of entries.

    Only for the holder of the lease: to anybody else these may be files that are being written.
    """
    found = leftovers(out)
    for entry in found:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return len(found)


def leftovers(out: Path) -> list[Path]:
    """Return what lies unpublished under ``out``: all of ``staging/``, and folders that were never finished.

    In a bucket nothing does: what is not finished there is replaced when it is made again.
    """
    if isinstance(out, BucketPath):
        return []
    staging = out / "staging"
    staged = sorted(staging.iterdir()) if staging.is_dir() else []
    folders = ("tiles/*", "catalogs/*/*", "reports")
    return staged + [entry for folder in folders for entry in sorted(out.glob(f"{folder}/.*{STAGED}"))]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk and a folder that may not be written into our own errors, which name ``path``."""
    try:
        yield
    except NightstrideError:
        raise
    except Exception as error:
        translated = _translate(path, error)
        if translated is None:
            raise
        raise translated from error


def _translate(path: Path, error: Exception) -> NightstrideError | None:
    code = _errno(error)
    if code in (errno.ENOSPC, errno.EDQUOT):
        return Retryable(
            "disk_full",
            str(path),
            f"could not be written: {os.strerror(code)}; {_free(path)} bytes are free. Nothing was published.",
            "free space there or choose another --out, and run again: it goes on where it stopped.",
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
    if isinstance(error, OSError):
        return error.errno
    # zarrs reports a failed system call as a RuntimeError that ends in "(os error 28)".
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _free(path: Path) -> int:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def _make_folder(path: Path) -> None:
    """Make ``path`` and its parents, and put the new names on disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync(folder.parent)


def _move_folder(staged: Path, path: Path) -> None:
    """Put the folder ``staged`` at ``path``; if there was one, ``staged`` then holds it."""
    try:
        staged.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staged, path)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders; in one step where the system can (renameat2, Linux)."""
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        names = os.fsencode(one), os.fsencode(other)
        if rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
    # For a moment there is nothing at `other`: a rerun makes it again.
    aside = one.with_name(f"{one.name}.old{STAGED}")
    other.rename(aside)
    one.rename(other)
    with suppress(OSError):
        aside.rename(one)


def _sync(path: Path) -> None:
    """Put a file, or the names in a folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
