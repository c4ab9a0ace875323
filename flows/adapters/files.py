"""Bytes from local paths and fsspec URLs, with their failures sorted."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import aiohttp
from fsspec.core import url_to_fs

from schemas.errors import BadInput, Retryable

_PROBE_BLOCK = 2**16  # s3fs would fetch 50 MB for a header
_LASTING = {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


def file_system(uri: str) -> tuple[Any, str]:
    """Give the fsspec file system of a path or URL, and the path in it."""
    return url_to_fs(uri)


@contextmanager
def failures(uri: str) -> Iterator[None]:
    """Turn failures of a file system into ours.

    Raises
    ------
    BadInput
        ``unreadable_file``: there is no such file, or it may not be read.
    Retryable
        ``io_error``: anything else, e.g. a time-out or a broken connection.
    """
    try:
        yield
    except (OSError, aiohttp.ClientError) as error:
        lasting = isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError))
        if lasting or getattr(error, "errno", None) in _LASTING:
            raise BadInput(
                "unreadable_file",
                uri,
                f"cannot be read: {type(error).__name__}: {error}.",
                "check that the file exists and may be read.",
            ) from error
        raise Retryable(
            "io_error", uri, f"reading failed: {type(error).__name__}: {error}.", "try again later."
        ) from error


def read_bytes(uri: str) -> bytes:
    """Read a whole file in one transfer.

    Raises
    ------
    BadInput, Retryable
        See `failures`.
    """
    with failures(uri):
        fs, path = file_system(uri)
        return bytes(fs.cat_file(path))


@contextmanager
def open_part(uri: str) -> Iterator[IO[bytes]]:
    """Open a file of which little will be read: small blocks, and only those that are asked for.

    Raises
    ------
    BadInput, Retryable
        See `failures`.
    """
    with failures(uri):
        fs, path = file_system(uri)
        with fs.open(path, "rb", block_size=_PROBE_BLOCK) as file:
            yield file
