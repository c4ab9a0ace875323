"""Files, folders and records that are complete or absent, on this machine and in buckets."""

import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from uuid import uuid4

from flows.runtime.parallel import side_by_side
from flows.storage.bucket_path import BucketPath, files_below, publish_group, remove_group, remove_objects
from flows.storage.object_store import configured
from schemas.errors import Misconfigured, NightstrideError, Retryable
from schemas.settings import StoreSettings

ATTEMPTS, WAIT_S = 5, 0.5
"""Of a conditional write whose answer is lost, and the wait before the second; it doubles with each further one, s."""

_seen: dict[str, str | None] = {}
"""Version of each record as this process last read or wrote it; None: there was none."""

_lost: set[str] = set()
"""Folders of which another run has taken over the lease."""

_leases: dict[Path, tuple[int, int]] = {}
"""Device and inode of the lease that this process wrote, by the folder on this machine."""

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
    """Flush a complete file to disk, and move it to ``path`` in one step; both are on one file system.

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
    """Remove what killed runs left unpublished under ``out``; return the number of entries.

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
    """Convert the errors of a full disk and of a folder without write permission to our own, which name ``path``."""
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
    """Move the folder ``staged`` to ``path``; if there was one, ``staged`` then holds it."""
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
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class WriteConditions:
    """Support of a store for conditions.

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
        """Write an object in place of the version ``replaces``, or where there is none; return its version.

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


def forbid(out: Path) -> None:
    """Forbid this process to write to the ledger of ``out``: it has lost the lease."""
    _lost.add(str(out))


def permit(out: Path) -> None:
    """Undo `forbid`: this process has the lease again."""
    _lost.discard(str(out))


@contextmanager
def fenced(out: Path, lease: Path, descriptor: int) -> Iterator[None]:
    """Write records of a folder on this machine, within the block, only while ``lease`` is still the open file."""
    permit(out)
    found = os.fstat(descriptor)
    own = _leases[lease] = found.st_dev, found.st_ino
    try:
        yield
    finally:
        if _leases.get(lease) == own:
            del _leases[lease]


def is_lost(path: Path) -> bool:
    """Return whether another run has taken over, from this process, the folder in which ``path`` lies."""
    if any(str(path).startswith(f"{lost}/") for lost in _lost):
        return True
    return any(lease.parent in path.parents and _identity(lease) != own for lease, own in list(_leases.items()))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


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
        Another run has the lease now, or has changed the record in a bucket meanwhile (``taken_over``).
    Misconfigured, Retryable
        As in `flows.storage.atomic.write_file`.
    """
    if is_lost(path):
        raise _taken_over(path)
    if not isinstance(path, BucketPath) or not isinstance(out, BucketPath):
        write_file(path, content, out / "staging")
        return
    if str(path) not in _seen:
        _read(path)
    try:
        _seen[str(path)] = write_conditions(out).write(path, content, _seen[str(path)])
    except FileExistsError as error:
        raise _taken_over(path) from error


def remove_record(path: Path) -> None:
    """Remove a record, if it is there; errors as in `write_record`."""
    if is_lost(path):
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
