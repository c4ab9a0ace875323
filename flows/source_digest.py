"""Digest of the bytes of a source, as its reader computes it, without making an exposure of them."""

from hashlib import sha256

from flows.adapters.sources import Source
from schemas.settings import Settings


def sha256_of(source: Source, settings: Settings) -> str:
    """Give the SHA-256 of an exposure's files: difference, then siblings by plane; of an image of a stack, its own.

    Equal to the ``source_sha256`` of the exposure that is read from it.

    Raises
    ------
    BadInput, Retryable
        A file cannot be read.
    """
    if source.index is not None:
        from flows.adapters.probe import read

        return read(source, settings).source_sha256
    from flows.adapters.files import read_bytes

    total = sha256()
    for uri in (source.uri, *(uri for _, uri in sorted(source.siblings))):
        total.update(read_bytes(uri))
    return total.hexdigest()
