"""Validity of certificates: told before a connection fails for a reason that nobody would guess."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.errors import Misconfigured

SOON = timedelta(days=30)
"""A certificate that ends within this time is warned of."""

logger = logging.getLogger("nightstride")


def days_left(path: Path, now: datetime) -> float:
    """Return for how many days a certificate in a PEM file is still valid; negative: it has ended.

    Of a chain the first, which is the own one, counts; of authorities the last to end: a file may hold the old one
    beside the new one.

    Raises
    ------
    ValueError
        It holds no certificate.
    OSError
        It cannot be read.
    """
    from cryptography import x509

    found = x509.load_pem_x509_certificates(path.read_bytes())
    authorities = all(one.issuer == one.subject for one in found)
    end = max(one.not_valid_after_utc for one in found) if authorities else found[0].not_valid_after_utc
    return (end - now) / timedelta(days=1)


def require_valid(field: str, path: Path, now: datetime | None = None) -> None:
    """Refuse a certificate that has ended, and warn of one that will soon.

    Parameters
    ----------
    field, path
        Setting that names it, and its PEM file.
    now
        Time; None: the system's.

    Raises
    ------
    Misconfigured
        It has ended (``certificate_expired``).
    """
    try:
        days = days_left(path, now or datetime.now(UTC))
    except ValueError:
        return  # whoever loads it says what is wrong
    if days < 0:
        raise Misconfigured(
            "certificate_expired", field, f"{path} ended {-days:.0f} days ago.", "have its authority renew it."
        )
    if days < SOON.days:
        logger.warning("%s: %s ends in %.0f days; have its authority renew it.", field, path, days)
