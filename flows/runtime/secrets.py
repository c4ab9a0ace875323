"""Passwords and signatures, and how they are removed from output."""

import os
import re
from base64 import b64encode
from functools import lru_cache

from schemas.errors import Misconfigured

_IN_QUERY = re.compile(
    r"(?i)[?&;#]([^=&;#/]*(signature|credential|token|secret|passw|(access|api)[-_]?key)|sig|key|auth|pwd|jwt)[^=&;#/]*="
)
"""URL parameters with which stores and services grant access to anybody who has the URL."""


def refuse_credentials(url: str, where: str) -> None:
    """Refuse a URL that holds a password or signature, which would end up in logs and the ledger.

    Raises
    ------
    Misconfigured
        It holds one. The message does not say which.
    """
    # A URL may be a chain of several: zip://x::https://user:password@host/y.zip
    authorities = (part.partition("://")[2].partition("/")[0] for part in url.split("::"))
    if any("@" in authority for authority in authorities) or _IN_QUERY.search(url):
        raise Misconfigured(
            "credentials_in_url",
            where,
            "a URL holds a password or a signature.",
            "leave it out, and set what the service reads from the environment; of S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or a profile.",
        )


def without_credentials(url: str) -> str:
    """Return a URL that is safe to show and store: without user, password and query."""
    plain = re.sub(r"(?s)[;#].*", "", url) if _IN_QUERY.search(url) else url
    return re.sub(r"://[^/]*@", "://", re.sub(r"(?s)[?&].*", "", plain)) if "://" in url else url


def without_passwords(text: str) -> str:
    """Return a text in which URLs have lost user, password and query: any of these may be secret."""
    plain = re.sub(r"://[^\s'\"]*@", "://", text)
    return re.sub(r"(://[^\s'\"?]*)\?[^\s'\"]*", r"\1?...", plain)


_SIGNED = re.compile(
    r"(?i)((?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig|password)=)[^&\s'\"]+"
)
_SECRET = re.compile(r"(?i)(secret|password|token$|api_key|auth_string|otlp_(\w+_)?headers|private_key)")
_SHORTEST = 6
"""Minimum length of a secret value: a shorter one is no secret, and occurs in ordinary words."""


def without_secrets(text: str) -> str:
    """Return a text without users and passwords in URLs, signatures, and values of secret environment variables."""
    text = _SIGNED.sub(r"\1***", without_passwords(text))
    for value in _values(tuple(value for name, value in os.environ.items() if _SECRET.search(name))):
        text = text.replace(value, "***")
    return text


@lru_cache(4)
def _values(values: tuple[str, ...]) -> tuple[str, ...]:
    """Add the parts of the values (user:password) and their form in HTTP headers (RFC 7617); sort, longest first."""
    forms = {form for one in values for form in (one, one.partition(":")[2], b64encode(os.fsencode(one)).decode())}
    return tuple(sorted((form for form in forms if len(form) >= _SHORTEST), key=lambda form: (-len(form), form)))
