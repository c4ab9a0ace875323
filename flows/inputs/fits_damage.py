"""Conversion of the errors that damaged FITS files cause in libraries to our own."""

import gzip
import re
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from schemas.errors import BadInput, NightstrideError, no_parts


@contextmanager
def damage(where: str) -> Iterator[None]:
    """Convert the errors of astropy to `BadInput`, and silence its warnings: our own code checks what they report."""
    with warnings.catch_warnings():
        # Real headers break rules that do not matter here (IRAF dates, lower-case units, missing padding).
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            yield
        except NightstrideError:
            raise
        except Exception as error:  # damaged bytes make astropy and its decoders raise all kinds of errors
            if _is_of_network(error) or no_parts(error) or (isinstance(error, OSError) and not _is_about_bytes(error)):
                raise
            if isinstance(error, fits.VerifyError):
                problem = f"its header breaks the standard: {_said(error)}."
                raise BadInput("damaged", where, problem, "correct the header, or fetch the file again.") from error
            problem = f"its bytes cannot be decoded: {_said(error)}."
            raise BadInput("damaged", where, problem, "fetch the file again.") from error


_CARD = re.compile(r"[Cc]ard \(?'?([\w-]+)'?\)?")
_KEYWORD = re.compile(r"Keyword '([\w-]+)' not found")


def _said(error: Exception) -> str:
    """Return the message of an astropy error, in our words if it is about a card of the header."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, fits.VerifyError) and (card := _CARD.search(text)):
        return f"its card {card[1]} cannot be read"
    if missing := _KEYWORD.search(text):
        return f"its header has no {missing[1]}"
    return text if isinstance(error, fits.VerifyError) else f"{type(error).__name__}: {text}"


def value_of(header: fits.Header, name: str) -> Any:
    """Return the value of a keyword; None if there is none or its card breaks the standard."""
    try:
        return header.get(name)
    except fits.VerifyError:
        return None


def require_one_value(header: fits.Header, name: str, where: str) -> None:
    """Refuse a keyword that a header has several times with different values: the standard does not say which counts.

    Raises
    ------
    BadInput
        ``invalid_keyword``.
    """
    if (count := header.count(name)) < 2:
        return
    values = [header[name, number] for number in range(count)]
    if len(set(map(str, values))) > 1:
        raise BadInput(
            "invalid_keyword",
            where,
            f"{name} is there {count} times with different values: {', '.join(map(repr, values))}.",
            f"leave one of them in the header, or name another keyword than {name} in the settings, section [fits].",
        )


def is_stated(header: fits.Header, name: str) -> bool:
    """Return whether a keyword has a value: a blank CHECKSUM or DATASUM means unknown (FITS 4.0, 4.4.2.7)."""
    value = value_of(header, name)
    return value is not None and bool(str(value).strip())


def _is_of_network(error: Exception) -> bool:
    """Return whether an error is aiohttp's; that package is slow to import, and only loaded to read over HTTP."""
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(error, aiohttp.ClientError)


def _is_about_bytes(error: OSError) -> bool:
    """Return whether an error is astropy's or gzip's; those of the file system have a number or their own class."""
    return isinstance(error, gzip.BadGzipFile) or (type(error) is OSError and error.errno is None)


def truncated(where: str, detail: str) -> BadInput:
    """Return the error for a file that ends too early."""
    return BadInput("truncated", where, f"the file ends too early: {detail}.", "fetch it again.")


def bad_checksum(where: str, detail: str) -> BadInput:
    """Return the error for bytes that do not match their checksum."""
    return BadInput(
        "bad_checksum",
        where,
        f"the bytes do not fit their checksum: {detail}.",
        'fetch the file again, or set fits.checksum = "ignore" if it was edited on purpose.',
    )


@contextmanager
def gzip_damage(where: str) -> Iterator[None]:
    """Convert the errors of gzip to `BadInput`: ``truncated`` or ``bad_checksum``."""
    try:
        yield
    except EOFError as error:
        raise truncated(where, "what is gzipped is cut off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        what = "its CRC differs" if "CRC" in str(error) else "what is gzipped is damaged"
        raise bad_checksum(where, f"gzip: {what}") from error
