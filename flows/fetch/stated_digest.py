"""The digest of a file that an archive states in its answer."""

import base64
import hashlib
from collections.abc import Mapping


def stated_digest(headers: Mapping[str, str], *, whole: bool) -> tuple[str, str] | None:
    """Read the digest of the file, if one is stated (RFC 9530, RFC 3230; RFC 1864, of what is sent)."""
    for field in (headers.get("Repr-Digest", ""), headers.get("Digest", "")):
        for entry in field.split(","):
            name, _, value = entry.strip().partition("=")
            algorithm = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5"}.get(name.lower())
            if algorithm and (digest := _hexadecimal(value.strip(":"), algorithm)):
                return algorithm, digest
    if whole and (digest := _hexadecimal(headers.get("Content-MD5", ""), "md5")):
        return "md5", digest
    return None


def _hexadecimal(encoded: str, algorithm: str) -> str | None:
    """Undo base64; None for what is no digest of this kind: some servers write hexadecimal digits."""
    try:
        digest = base64.b64decode(encoded)
    except ValueError:
        return None
    return digest.hex() if len(digest) == hashlib.new(algorithm).digest_size else None
