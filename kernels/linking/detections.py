"""Detections as linking sees them, and the ones that stay where they are."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.positions import unit_vectors

Floats = NDArray[np.float64]

SLOWEST = 0.03
"""Rate below which sources count as stationary, deg / day; so do main-belt asteroids for some days when they turn."""

COLOURS = {"u": 2.1, "g": 0.55, "r": 0.0, "i": -0.15, "z": -0.15, "y": -0.15}
"""Magnitude in a band less that in r, between asteroids of types S and C (Ivezic et al. 2001, AJ 122, 2749)."""

SIGMAS = 3.0
"""Maximum deviation, in standard deviations."""

_ERROR = 0.2  # arcsec: assumed for positions without an error
_AT_REST = 1.0  # arcsec; more if the errors are larger
_NEIGHBOURS = 16  # maximum number examined: enough for a position seen more often


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
    length_error, angle_error : (n,)
        Of both.
    exposure_time : (n,)
        s.
    magnitude : (n,)
        In r, as that of an asteroid, where the band is known, else in any.
    """

    vectors: Floats
    mjd: Floats
    sigma: Floats
    trail_length: Floats
    trail_angle: Floats
    length_error: Floats
    angle_error: Floats
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


def detections_of(columns: Mapping[str, Floats], bands: Sequence[str | None] = ()) -> SkyDetections:
    """Return the detections that columns describe.

    Parameters
    ----------
    columns
        By name, as in `schemas.dia_source`: ``ra`` and ``dec`` (deg) and ``midpointMjdTai`` (d); and, where they are
        known, ``posErr`` (arcsec) or ``raErr`` and ``decErr`` (deg), ``trailLength`` (arcsec) and ``trailAngle`` (deg),
        each with ``Err``, ``exposureTime`` (s) and ``magAB``. NaN stands for what is not known; then the error of a
        position is 0.2 arcsec.
    bands
        Filter of each ``magAB``, if known, to compare those of different ones: u, g, r, i, z or y.
    """
    absent = np.full(len(columns["ra"]), np.nan)
    names = ("trailLength", "trailAngle", "trailLengthErr", "trailAngleErr", "exposureTime", "magAB")
    length, angle, length_err, angle_err, exposure, magnitude = (
        np.asarray(columns.get(name, absent), np.float64) for name in names
    )
    if len(bands):
        magnitude = magnitude - np.array([COLOURS.get(band or "", 0.0) for band in bands])
    return detections_at(
        columns["ra"], columns["dec"], columns["midpointMjdTai"], position_error(columns),
        trail_length=length, trail_angle=angle, length_error=length_err, angle_error=angle_err,
        exposure_time=np.where(exposure > 0, exposure, np.nan), magnitude=magnitude,
    )  # fmt: skip


def position_error(columns: Mapping[str, Floats]) -> Floats:
    """Return the standard error of positions along each axis, arcsec; parameters as of `detections_of`."""
    absent = np.full(len(columns["ra"]), np.nan)
    stated, ra_err, dec_err = (
        np.asarray(columns.get(name, absent), np.float64) for name in ("posErr", "raErr", "decErr")
    )
    sigma = np.where(stated > 0, stated, 3600 * np.hypot(ra_err, dec_err) / math.sqrt(2))
    return np.where(np.isfinite(sigma) & (sigma > 0), sigma, _ERROR)


def chord(arcsec: Floats | float) -> Floats:
    """Return the straight distance of two unit vectors that are an angle apart."""
    return np.asarray(2 * np.sin(np.radians(np.asarray(arcsec) / 3600) / 2))


def arc(distance: Floats | float) -> Floats:
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
    reach = max(_AT_REST, SIGMAS * math.sqrt(2) * float(detections.sigma.max()))
    apart, other = cKDTree(detections.vectors).query(
        detections.vectors, k=min(_NEIGHBOURS, count), distance_upper_bound=float(chord(reach))
    )
    found = np.isfinite(apart)
    other = np.where(found, other, 0)
    limit = np.maximum(_AT_REST, SIGMAS * np.hypot(detections.sigma[:, None], detections.sigma[other]))
    days = np.abs(detections.mjd[:, None] - detections.mjd[other])
    return np.asarray((found & (arc(apart) <= limit) & (days >= limit / 3600 / SLOWEST)).any(axis=1))


def first_copies(
    detections: SkyDetections, obscode: NDArray[np.str_], preferred: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """Return for each detection the one that stands for all copies of it: of one observatory, time and place.

    Parameters
    ----------
    detections, obscode : (n,)
        Detections, and the code of the observatory of each.
    preferred : (n,) bool
        Which rather stand for copies; among alike ones the first does.

    Returns
    -------
    (n,) int
        Of a detection without copies itself. Copies lie within 1 arcsec of each other.
    """
    from scipy.spatial import cKDTree

    first = np.arange(len(detections.mjd))
    if not len(first):
        return first
    _, exposure = np.unique(
        np.stack([np.unique(obscode, return_inverse=True)[1], detections.mjd]), axis=1, return_inverse=True
    )
    apart = np.column_stack([detections.vectors, 4.0 * exposure.ravel()])  # farther than any two places
    i, j = cKDTree(apart).query_pairs(float(chord(_AT_REST)), output_type="ndarray").reshape(-1, 2).T
    later = (preferred[j] > preferred[i]) | ((preferred[j] == preferred[i]) & (j < i))
    i, j = np.where(later, j, i), np.where(later, i, j)
    for one, other in sorted(zip(i.tolist(), j.tolist(), strict=True), key=lambda pair: (not preferred[pair[0]], pair)):
        if first[one] == one and first[other] == other:
            first[other] = one
    return first


def name_of_half(names: Iterable[str | None]) -> str:
    """Return the name that at least half of some detections have; empty if there is none, or two have half each.

    Parameters
    ----------
    names
        Of all of the detections; empty or None for those without one.
    """
    counts = Counter(names)
    named = [name for name, count in counts.items() if name and 2 * count >= counts.total()]
    return named[0] if len(named) == 1 else ""
