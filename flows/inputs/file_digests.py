"""Digests of the files of an exposure: of all in order, and of each by itself."""

from hashlib import sha256
from typing import Any


class FileDigests:
    """SHA-256 of files that are read one after the other."""

    def __init__(self) -> None:
        self._all, self._each = sha256(), list[tuple[str, "_Both"]]()

    def begin(self, uri: str) -> "_Both":
        """Return what takes the bytes of the next file, by ``update``."""
        both = _Both(self._all)
        self._each.append((uri, both))
        return both

    @property
    def of_all(self) -> str:
        """Return the digest of the bytes of all files, in the order in which they were read."""
        return self._all.hexdigest()

    @property
    def of_each(self) -> tuple[tuple[str, str], ...]:
        """Return uri and digest of each file, in that order."""
        return tuple((uri, one.own.hexdigest()) for uri, one in self._each)


class _Both:
    """Digest of one file that adds its bytes to that of all files, too."""

    def __init__(self, total: Any) -> None:
        self._total, self.own = total, sha256()

    def update(self, data: bytes) -> None:
        self._total.update(data)
        self.own.update(data)
