"""Files, folders and records that are complete or absent, locally and in buckets."""

import ctypes
import errno
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from uuid import uuid4

from flows.storage.bucket_path import BucketPath, files_below, publish_group, remove_group, remove_objects
from flows.storage.fence import require_held, taken_over
from flows.storage.layout import staging_folder
from flows.storage.object_store import configured
from flows.storage.writing import writing
from schemas.errors import Misconfigured, Retryable
from schemas.settings import StoreSettings

ATTEMPTS, WAIT_S = 5, 0.5
"""Attempts at a conditional write without a clear answer, and the wait before the second, s; it doubles each time."""

_held: set[str] = set()
"""Folders whose lease this process has taken."""

_terms: Counter[str] = Counter()
"""Number of times that this process's knowledge of each folder was outdated."""

_lost: set[str] = set()
"""Folders whose lease another run has taken over."""

_leases: dict[Path, tuple[int, int]] = {}
"""Device and inode of each local lease file written by this process."""

STAGED = ".staging"
"""Suffix of files that are not published yet."""

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def write_file(path: Path, content: bytes, staging: Path, mode: int = 0o666) -> None:
    """Write ``content`` to a file in ``staging`` and move it to ``path`` in one step; both are on one file system.

    ``mode`` is the mode of the file before the umask. In a bucket a single put is that step, and nothing is staged.

    Raises
    ------
    Retryable
        The disk is full, or the object store does not answer.
    Misconfigured
        The folder cannot be written, a limit on file sizes is too small, or another run now holds the folder
        (``taken_over``, see `flows.storage.fence`).
    """
    if isinstance(path, BucketPath):
        require_held(path)
        path.write(content)
        return
    with writing(path):
        staging.mkdir(parents=True, exist_ok=True)
        make_folder(path.parent)
        staged = staging / f"{path.name}.{uuid4().hex}{STAGED}"
        try:
            with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            require_held(path)
            staged.replace(path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        sync(path.parent)


def publish_file(staged: Path, path: Path) -> None:
    """Flush a complete file to disk, and move it to ``path`` in one step; both are on one file system.

    Errors as in `write_file`.
    """
    with writing(path):
        sync(staged)
        staged.replace(path)
        sync(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``path`` to fill; if the block succeeds it becomes ``path`` in one step.

    An existing ``path`` is replaced. If the block fails, the new folder is removed. In a bucket ``path`` is a Zarr
    group, filled on this machine first: see `flows.storage.bucket_path`. Errors as in `write_file`.
    """
    if isinstance(path, BucketPath):
        with TemporaryDirectory(prefix="nightstride-") as folder, writing(Path(folder)):
            yield Path(folder)
            publish_group(Path(folder), path)
        return
    with writing(path):
        make_folder(path.parent)
        staged = path.parent / f".{path.name}.{uuid4().hex}{STAGED}"
        try:
            staged.mkdir()
            yield staged
            # In parallel: the disk then needs a third of the time.
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(sync, staged.rglob("*")))
            sync(staged)
            require_held(path)
            _move_folder(staged, path)
            sync(path.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a published file or folder, if it exists; errors as in `write_file`."""
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
            # It disappears under its name in one step; the next run removes what a killed process leaves.
            gone = path.parent / f".{path.name}.{uuid4().hex}{STAGED}"
            path.rename(gone)
            shutil.rmtree(gone)
        else:
            path.unlink(missing_ok=True)


def sweep(out: Path) -> None:
    """Remove unpublished leftovers of killed runs under ``out``.

    Only for the holder of the lease: for anybody else these may be files being written.
    """
    for entry in leftovers(out):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def leftovers(out: Path) -> list[Path]:
    """Return unpublished entries under ``out``: all of ``staging/``, and unfinished folders.

    None in a bucket, where unfinished objects are replaced when they are made again.
    """
    if isinstance(out, BucketPath):
        return []
    staging = staging_folder(out)
    staged = sorted(staging.iterdir()) if staging.is_dir() else []
    folders = ("tiles/*", "catalogs/*", "catalogs/*/*", "catalogs/*/*/dataset/*/*", "reports", "reports/*")
    return staged + [entry for folder in folders for entry in sorted(out.glob(f"{folder}/.*{STAGED}"))]


def make_folder(path: Path) -> None:
    """Make ``path`` and its parents, and flush the new names to disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def _move_folder(staged: Path, path: Path) -> None:
    """Move the folder ``staged`` to ``path``; an existing folder is swapped into ``staged``."""
    try:
        staged.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(staged, path)


def _exchange(one: Path, other: Path) -> None:
    """Swap two folders; in one step where the system supports it (renameat2, Linux)."""
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None), "renameat2", None)
        names = os.fsencode(one), os.fsencode(other)
        if rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
    # For a moment `other` does not exist; if killed here, a rerun makes it again.
    aside = one.with_name(f"{one.name}.old{STAGED}")
    other.rename(aside)
    one.rename(other)
    with suppress(OSError):
        aside.rename(one)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class WriteConditions:
    """How a store handles conditional writes.

    Attributes
    ----------
    enforced
        Whether it refuses a put whose condition fails: ``If-None-Match: *`` and ``If-Match``.
    quoted
        Whether it wants the version in ``If-Match`` in quotes, as in the standard; some stores want none.
    """

    enforced: bool = False
    quoted: bool = True

    def write(self, path: BucketPath, content: bytes, replaces: str | None) -> str:
        """Write an object if its version is ``replaces``, or if there is none (None); return the new version.

        If the store does not enforce conditions, any object is replaced.

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
                # An earlier attempt may have succeeded, and only its answer was lost.
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
        except FileNotFoundError as error:  # AWS's answer to If-Match if there is no object
            raise FileExistsError(errno.EEXIST, "was removed by somebody else", str(path)) from error


def probe_store(out: BucketPath) -> WriteConditions:
    """Find out how the store of ``out`` handles conditions, using a temporary object.

    Raises
    ------
    Misconfigured, Retryable
        It cannot be written, or does not answer.
    """
    path = staging_folder(out) / f"probe-{uuid4().hex}"
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
    """Return how the store of ``out`` handles conditions; tested only once; errors as in `probe_store`."""
    return _probed(out, configured())


@cache
def _probed(out: BucketPath, _: StoreSettings) -> WriteConditions:
    return probe_store(out)


def _version_of(path: BucketPath, content: bytes) -> str | None:
    """Return the version of an object if it has this content, else None."""
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
    """Stop this process from writing records of ``out``: it has lost the lease."""
    _lost.add(str(out))


def permit(out: Path) -> None:
    """Undo `forbid`: this process holds the lease again."""
    _lost.discard(str(out))
    _held.add(str(out))
    outdate(out)


def release(out: Path) -> None:
    """Note that this process no longer holds the lease of ``out``."""
    _held.discard(str(out))
    outdate(out)


def holds(out: Path) -> bool:
    """Return whether this process holds the lease of ``out``, as far as it knows."""
    return str(out) in _held


def outdate(out: Path) -> None:
    """Note that this process's knowledge of ``out`` is outdated."""
    _terms[str(out)] += 1


def term_of(out: Path) -> int:
    """Return how often ``out`` was outdated."""
    return _terms[str(out)]


@contextmanager
def fenced(out: Path, lease: Path, descriptor: int) -> Iterator[None]:
    """Allow writing records of a local folder within the block, as long as ``lease`` is still the open file."""
    permit(out)
    found = os.fstat(descriptor)
    own = _leases[lease] = found.st_dev, found.st_ino
    try:
        yield
    finally:
        if _leases.get(lease) == own:
            del _leases[lease]
            release(out)


def is_lost(path: Path) -> bool:
    """Return whether another run has taken over, from this process, the folder that contains ``path``."""
    if any(str(path).startswith(f"{lost}/") for lost in _lost):
        return True
    return any(lease.parent in path.parents and file_identity(lease) != own for lease, own in list(_leases.items()))


def require_lease(path: Path) -> None:
    """Raise `Misconfigured` (``taken_over``) if another run has taken over the folder that contains ``path``."""
    if is_lost(path):
        raise taken_over(path)
    require_held(path)  # for a task in another process


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file, which identify it; None if it does not exist."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def write_record(path: Path, content: bytes, out: Path, replaces: str | None = None) -> str:
    """Write a record of the output folder ``out``; return its version.

    Parameters
    ----------
    path, content
        Path of the record, and its complete content.
    out
        Its output folder.
    replaces
        In a bucket, the version that must exist now; None: none may exist.

    Raises
    ------
    Misconfigured
        Another run holds the lease now, or has changed the record in a bucket (``taken_over``).
    Misconfigured, Retryable
        As in `flows.storage.atomic.write_file`.
    """
    require_lease(path)
    if not isinstance(path, BucketPath) or not isinstance(out, BucketPath):
        write_file(path, content, staging_folder(out))
        return ""
    try:
        return write_conditions(out).write(path, content, replaces)
    except FileExistsError as error:
        raise lost_to_another(path, out) from error


def lost_to_another(path: Path, out: Path) -> Misconfigured:
    """Return the error for a writer to ``out`` after another run has taken it over.

    From now on this process writes no records there, until it takes the lease again.
    """
    if holds(out):
        forbid(out)
    return taken_over(path)
