"""Detections of objects whose places are known, as exposures publish them."""

import numpy as np

from schemas.dia_source import DIA_SOURCE
from schemas.exposure import ExposureKey
from schemas.settings import AssociationSettings
from tests.support.filled import filled

ARCSEC = 1 / 3600
"""In degrees."""


def key(visit, night="20260101", detector=3):
    return ExposureKey(night=night, visit=visit, detector=detector)


def detections(visit, ra, dec, *, mjd=None, detector=3, flux=1000.0, **columns):
    """`dia_source` of an exposure: points with errors of 0.1 arcsec, unless columns say otherwise."""
    count = len(ra)
    first = (visit << 21) | (detector << 12)
    given = {
        "diaSourceId": first + np.arange(count), "visit": visit, "detector": detector,
        "ra": np.asarray(ra, float), "dec": np.asarray(dec, float), "raErr": 0.1 / 3600, "decErr": 0.1 / 3600,
        "midpointMjdTai": 61000 + visit if mjd is None else mjd, "psfFlux": flux, "psfFluxErr": 50.0,
        "trailLength": 0.0, "trailLengthErr": 0.5, **columns,
    }  # fmt: skip
    return filled(DIA_SOURCE.schema, count, **given)


SETTINGS = AssociationSettings()


def put(store, visit, ra, dec, digest="d", night="20260101", **columns):
    return store.associate(key(visit, night), digest, detections(visit, ra, dec, **columns), SETTINGS)


def links(store, *nights):
    rows = [row for night in nights or ("20260101",) for row in store.history(night).to_pylist()]
    return {row["diaSourceId"]: row["diaObjectId"] for row in rows}


def source_id(visit, rank=0):
    return (visit << 21) | (3 << 12) | rank


def star(days, north, east=0.0):
    """Where a star is after some days, that moves by arcsec a year: dec, deg, and its ra about 10 deg."""
    return [10 + east * ARCSEC * days / 365.25], [north * ARCSEC * days / 365.25]


def follow(store, days, north, start=0, late=None):
    """Associate visits of a star, each of its own night, with a still one beside its way; return their objects.

    Times of the visits in ``late`` are off by some days.
    """
    for n, day in enumerate(days):
        (ra,), (dec,) = star(day, north)
        night = f"2026{n // 28 + 1:02}{n % 28 + 1:02}"
        mjd = 61000 + day + (late or {}).get(n, 0.0)
        put(store, start + n, [ra, 10 + 5 * ARCSEC], [dec, 0.0], mjd=mjd, night=night)
    rows = [store.of_object(source_id(start + n, rank))[0] for n in range(len(days)) for rank in (0, 1)]
    return rows[::2], rows[1::2]
