"""Validity of certificates, checked early: an expired one makes connections fail for no obvious reason."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.errors import Misconfigured

SOON = timedelta(days=30)
"""A certificate that expires within this time causes a warning."""

logger = logging.getLogger("nightstride")


def days_left(path: Path, now: datetime) -> float:
    """Return how many days a PEM file's certificates remain valid; negative if expired.

    In a chain the first certificate, the host's own, counts; of several authorities the one that expires last, as a
    file may hold an old one beside its successor.

    Raises
    ------
    ValueError
        The file holds no certificate.
    OSError
        It cannot be read.
    """
    from cryptography import x509

    found = x509.load_pem_x509_certificates(path.read_bytes())
    authorities = all(one.issuer == one.subject for one in found)
    end = max(one.not_valid_after_utc for one in found) if authorities else found[0].not_valid_after_utc
    return (end - now) / timedelta(days=1)


def require_valid(field: str, path: Path, now: datetime | None = None) -> None:
    """Refuse a certificate that has expired, and warn of one that soon will.

    Parameters
    ----------
    field, path
        Setting that names the certificate, and its PEM file.
    now
        Current time; None: the system's.

    Raises
    ------
    Misconfigured
        It has expired (``certificate_expired``).
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
