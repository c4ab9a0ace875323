"""Bytes from local paths and URLs, with failures classified and sizes limited."""

import errno
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from flows.storage.object_store import PROTOCOL, configured
from schemas.errors import BadInput, Retryable, no_parts

Found = TypeVar("Found")

FITS, GZIP, _ZIP = b"SIMPLE  =", b"\x1f\x8b", b"PK\x03\x04"
"""First bytes of files, by kind."""

_FOREIGN = (b"BZh", b"\x1f\x9d", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""First bytes of files compressed with bzip2, compress, xz and zstd."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 10.0

PROBE = 2**16
"""Bytes fetched at once if little will be read: s3fs would fetch 50 MB for a header."""

STREAM = 2**22
"""Bytes fetched at once if a file is read completely."""

_LASTING = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


_NETWORK = {"aiohttp.client_exceptions": "ClientError", "botocore.exceptions": "BotoCoreError"}
"""Base classes of the errors that remote file systems raise."""


def outside() -> tuple[type[Exception], ...]:
    """Return the errors that file systems raise; a package that is not loaded cannot have raised any."""
    loaded = (getattr(sys.modules.get(module), error, None) for module, error in _NETWORK.items())
    return OSError, *(error for error in loaded if error is not None)


_NO_CREDENTIALS = r"NoCredentials|PartialCredentials"
_REASONS = (
    (_NO_CREDENTIALS, "there are no credentials for it"),
    (r"ConnectorDNSError|gaierror|[Nn]ame or service not known|name resolution", "its host has no known address"),
    (r"Certificate|SSL", "its certificate is not accepted"),
    (r"Connect call failed|ConnectionRefused|EndpointConnection", "its host does not accept the connection"),
    (r"Timeout|timed out", "there was no answer in time"),
)
"""Error of a file system -> what it means."""


def failure_words(error: Exception) -> str:
    """Return why a place cannot be read: in our words, in those of the operating system, or else the error itself.

    >>> failure_words(PermissionError(13, "Permission denied"))
    'Permission denied'
    """
    said = f"{type(error).__name__}: {error}"
    words = next((words for pattern, words in _REASONS if re.search(pattern, said)), None)
    return words or (error.strerror if isinstance(error, OSError) and error.strerror else said)


def no_credentials(error: Exception) -> bool:
    """Return whether a place cannot be read because no credentials were given."""
    return re.match(_NO_CREDENTIALS, type(error).__name__) is not None


def file_system(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and the path within it."""
    if "://" not in uri:  # fsspec would cut a path at "::"
        return LocalFileSystem(), str(LocalFileSystem._strip_protocol(uri))
    if uri.startswith(PROTOCOL):
        configured()
    return url_to_fs(uri)


def _regular(uri: str) -> tuple[Any, str]:
    fs, path = file_system(uri)
    if isinstance(fs, LocalFileSystem) and is_special(Path(path)):
        raise BadInput("not_a_file", uri, "is a pipe, a socket or a device, not a file.", "name an image file.")
    return fs, path


def is_special(path: Path) -> bool:
    """Return whether a path is a pipe, socket or device, whose bytes may never come or end; raise OSError as `stat`."""
    mode = path.stat().st_mode
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def read_failures(uri: str) -> Iterator[None]:
    """Convert failures of a file system to our errors.

    Raises
    ------
    BadInput
        ``unreadable_file``: the file does not exist, may not be read, or cannot be read in parts. ``not_a_file``: it is
        a pipe, socket or device, which may never deliver anything.
    Retryable
        ``io_error``: anything else, e.g. a timeout or a broken connection.
    """
    try:
        yield
    except outside() as error:
        lasting = isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError))
        if lasting or getattr(error, "errno", None) in _LASTING:
            raise BadInput(
                "unreadable_file",
                uri,
                f"cannot be read: {failure_words(error)}.",
                "check that the file exists and may be read.",
            ) from error
        raise Retryable("io_error", uri, f"reading failed: {failure_words(error)}.", "try again later.") from error
    except ValueError as error:
        if not no_parts(error):
            raise
        problem = "cannot be read: its server sends whole files alone, not parts of them."
        raise BadInput("unreadable_file", uri, problem, "fetch it, and name the copy.") from error


def read_bytes(uri: str) -> bytes:
    """Read a whole file in one transfer; retry if it is in an object store.

    Raises
    ------
    BadInput, Retryable
        See `read_failures`.
    """

    def once() -> bytes:
        with read_failures(uri):
            fs, path = _regular(uri)
            return bytes(fs.cat_file(path))

    return patient(uri, once)


def digested(uri: str, digest: Any) -> Any:
    """Return a copy of a digest updated with a file, read piece by piece; errors as for `read_bytes`."""

    def once() -> Any:
        total = digest.copy()
        with open_part(uri, STREAM) as file:
            while piece := file.read(STREAM):
                total.update(piece)
        return total

    return patient(uri, once)


class FileDigests:
    """SHA-256 of files that are read one after another."""

    def __init__(self) -> None:
        self._all, self._each = sha256(), list[tuple[str, "_Both"]]()

    def begin(self, uri: str) -> "_Both":
        """Return a digest for the next file, to be passed its bytes by ``update``."""
        both = _Both(self._all)
        self._each.append((uri, both))
        return both

    @property
    def of_all(self) -> str:
        """Return the digest of the bytes of all files, in the order in which they were read."""
        return self._all.hexdigest()

    @property
    def of_each(self) -> tuple[tuple[str, str], ...]:
        """Return URI and digest of each file, in that order."""
        return tuple((uri, one.own.hexdigest()) for uri, one in self._each)


class _Both:
    """Digest of one file that also updates the digest of all."""

    def __init__(self, total: Any) -> None:
        self._total, self.own = total, sha256()

    def update(self, data: bytes) -> None:
        self._total.update(data)
        self.own.update(data)


def patient(uri: str, read: Callable[[], Found]) -> Found:
    """Call ``read``; if ``uri`` is in an object store and the failure may be temporary, retry.

    Raises
    ------
    Retryable
        It still fails after ``store.patience_s``, or fails and ``uri`` is not in an object store.
    """
    end = monotonic() + (configured().patience_s if uri.startswith(PROTOCOL) else 0)
    wait = _FIRST_WAIT_S
    while True:
        try:
            return read()
        except Retryable:
            if monotonic() + wait > end:
                raise
        sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT_S)


@contextmanager
def open_part(uri: str, block: int = PROBE) -> Iterator[IO[bytes]]:
    """Open a file of which little will be read: only blocks of ``block`` bytes that are needed are fetched.

    Raises
    ------
    BadInput, Retryable
        See `read_failures`.
    """
    with read_failures(uri):
        fs, path = _regular(uri)
        with fs.open(path, "rb", block_size=block) as file:
            yield file


def content_kind(start: bytes, where: str) -> str:
    """Return the kind of a file from its first bytes: ``fits``, ``gzip`` or ``zip`` (an npz).

    Raises
    ------
    BadInput
        ``empty_file``, or ``not_fits``.
    """
    for magic, kind in ((FITS, "fits"), (GZIP, "gzip"), (_ZIP, "zip")):
        if start.startswith(magic):
            return kind
    if not start:
        raise BadInput("empty_file", where, "the file has no bytes.", "fetch it again.")
    raise BadInput(
        "not_fits",
        where,
        "is neither FITS, gzip-compressed FITS nor npz, by its first bytes.",
        "unpack it, or pack it with gzip or fpack." if start.startswith(_FOREIGN) else "name an image file.",
    )


def csv_separator(first: str) -> str:
    """Return the separator in the first line of a CSV file: comma, semicolon or tab."""
    return max(",;\t", key=first.count)
