"""Keeping passwords out of what is written."""

import os
import re
from functools import lru_cache

from flows.url_secrets import without_passwords

_SIGNED = re.compile(
    r"(?i)((?:X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|Signature|sig|password)=)[^&\s'\"]+"
)
_SECRET = re.compile(r"(?i)(secret|password|session_token|otlp_(\w+_)?headers|private_key)")
_SHORTEST = 6
"""A shorter value of a variable is no secret, and would be found in ordinary words."""


def without_secrets(text: str) -> str:
    """Give a text without users and passwords in URLs, signatures, and values of secret environment variables."""
    text = _SIGNED.sub(r"\1***", without_passwords(text))
    for value in _values(tuple(value for name, value in os.environ.items() if _SECRET.search(name))):
        text = text.replace(value, "***")
    return text


@lru_cache(4)
def _values(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True))
