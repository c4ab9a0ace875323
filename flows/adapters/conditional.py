"""Writes that hold only if nobody else has written meanwhile, as far as the store knows such conditions."""

import errno
from dataclasses import dataclass
from functools import cache
from time import sleep
from uuid import uuid4

from flows.adapters.bucket_path import BucketPath
from flows.adapters.object_store import configured
from schemas.errors import Retryable
from schemas.settings import StoreSettings

ATTEMPTS, WAIT_S = 5, 0.5
"""Of a conditional write whose answer is lost, and the wait before the second; it doubles with each further one, s."""


@dataclass(frozen=True)
class Conditions:
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


def probe(out: BucketPath) -> Conditions:
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
            return Conditions()
        for quoted in (True, False):
            if not _refused(path, replaces=version if quoted else version.strip('"')):
                return Conditions(True, quoted)
        return Conditions()
    finally:
        path.unlink()


def conditions_of(out: BucketPath) -> Conditions:
    """Give what the store of ``out`` does about conditions, which is found out once; errors as in `probe`."""
    return _probed(out, configured())


@cache
def _probed(out: BucketPath, _: StoreSettings) -> Conditions:
    return probe(out)


def _version_of(path: BucketPath, content: bytes) -> str | None:
    """Give the version of an object if it has this content."""
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
