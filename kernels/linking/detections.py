"""Detections as linking sees them, and the ones that stay where they are."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.positions import unit_vectors

Floats = NDArray[np.float64]

SLOWEST = 0.03
"""deg / day: what moves less is at rest; a main-belt asteroid at a turning point of its path is, for some days."""

_AT_REST = 1.0  # arcsec; more where the errors are larger
_SIGMAS = 3.0
_NEIGHBOURS = 16  # looked at; a place that is seen more often has enough of them


class SkyDetections(NamedTuple):
    """Detections, one entry each; NaN where a quantity is not known.

    Attributes
    ----------
    vectors : (n, 3)
        Directions, unit vectors (ICRS).
    mjd : (n,)
        Middle of the exposure, d; any one scale.
    sigma : (n,)
        Error of the position along each axis, arcsec.
    trail_length, trail_angle : (n,)
        Of the trail; arcsec, and deg from north through east, modulo 180.
    exposure_time : (n,)
        s.
    magnitude : (n,)
        In any bands.
    """

    vectors: Floats
    mjd: Floats
    sigma: Floats
    trail_length: Floats
    trail_angle: Floats
    exposure_time: Floats
    magnitude: Floats

    def take(self, chosen: NDArray[np.intp]) -> "SkyDetections":
        """Return some of them."""
        return SkyDetections(*(column[chosen] for column in self))


def detections_at(ra: Floats, dec: Floats, mjd: Floats, sigma: Floats, **known: Floats) -> SkyDetections:
    """Return detections at positions in deg, with what else is known by the names of `SkyDetections`."""
    absent = np.full(len(ra), np.nan)
    columns = [known.get(name, absent) for name in SkyDetections._fields[3:]]
    return SkyDetections(unit_vectors(ra, dec), mjd, sigma, *columns)


def chord(arcsec: Floats | float) -> Floats:
    """Return the straight distance of two unit vectors that are an angle apart."""
    return np.asarray(2 * np.sin(np.radians(np.asarray(arcsec) / 3600) / 2))


def arc(distance: Floats) -> Floats:
    """Return the angle between unit vectors at a straight distance, arcsec; the reverse of `chord`."""
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(distance / 2, 1.0))) * 3600)


def find_stationary(detections: SkyDetections) -> NDArray[np.bool_]:
    """Find what is seen again at its place after a time in which anything that moves would have left it.

    Parameters
    ----------
    detections
        Of any number of nights.

    Returns
    -------
    (n,) bool
        True where another detection lies within 1 arcsec, or 3 standard deviations of their distance if that is more,
        so much earlier or later that the motion is less than `SLOWEST`.
    """
    from scipy.spatial import cKDTree

    count = len(detections.mjd)
    if count < 2:
        return np.zeros(count, np.bool_)
    reach = max(_AT_REST, _SIGMAS * math.sqrt(2) * float(detections.sigma.max()))
    apart, other = cKDTree(detections.vectors).query(
        detections.vectors, k=min(_NEIGHBOURS, count), distance_upper_bound=float(chord(reach))
    )
    found = np.isfinite(apart)
    other = np.where(found, other, 0)
    limit = np.maximum(_AT_REST, _SIGMAS * np.hypot(detections.sigma[:, None], detections.sigma[other]))
    days = np.abs(detections.mjd[:, None] - detections.mjd[other])
    return np.asarray((found & (arc(apart) <= limit) & (days >= limit / 3600 / SLOWEST)).any(axis=1))
