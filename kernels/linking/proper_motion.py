"""Proper motions: straight lines through detections of years, from sums that a further detection is added to."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.positions import sky_position

Floats = NDArray[np.float64]

ORIGIN = 60000.0
"""Origin of the times in the sums, MJD."""

FASTEST = 15.0
"""Maximum proper motion of a star, arcsec / yr; Barnard's has 10.4."""

LEAST_NIGHTS = 3
"""Minimum number of nights with detections for a motion: a line fits any two."""

LEAST_DAYS = 30.0
"""Minimum time from the first to the last detection for a published motion, d."""

_YEAR = 365.25
_ARCSEC = 180 / np.pi * 3600
_SIGNIFICANT = 4.0  # standard errors
_SPREAD = 1e-3  # d: standard deviation below which all times are the same


class Motions(NamedTuple):
    """Lines in time, one entry each: where objects are at a time, and how that changes.

    Attributes
    ----------
    epoch : (n,)
        Mean time of the detections by their weights, MJD; place and rate are independent there.
    place, rate : (n, 3)
        Direction at the epoch, a unit vector, and its change, rad / d; no rate where times do not differ.
    place_sigma, rate_sigma : (n,)
        Errors along each axis, arcsec and arcsec / d; the second is infinite where times do not differ.
    excess : (n,)
        Chi squared of the line by its degrees of freedom, at least 1; 1 of two detections.
    """

    epoch: Floats
    place: Floats
    rate: Floats
    place_sigma: Floats
    rate_sigma: Floats
    excess: Floats

    def moving(self, nights: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which objects move by more than chance, 4 standard errors, given on how many nights each was seen.

        Errors are larger by the root of ``excess`` here: a detection of something else makes no motion.
        """
        speed = np.linalg.norm(self.rate, axis=1) * _ARCSEC
        chance = _SIGNIFICANT * self.rate_sigma * np.sqrt(self.excess)
        return np.asarray((nights >= LEAST_NIGHTS) & (speed * _YEAR <= FASTEST) & (speed > chance))

    def at(self, mjd: float | Floats, moving: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return directions (n, 3) and their errors, arcsec, at a time, or each at its own; ``moving``: what moves."""
        days = np.where(moving, mjd - self.epoch, 0.0)
        place = self.place + self.rate * days[:, None]
        drift = np.where(moving, self.rate_sigma, 0.0) * days
        return place / np.linalg.norm(place, axis=1, keepdims=True), np.hypot(self.place_sigma, drift)

    def on_sky(self) -> tuple[Floats, Floats, Floats]:
        """Return the motion eastwards (times cos(dec)) and northwards, and the error of both, mas / yr."""
        lon, lat = (np.radians(angle) for angle in sky_position(self.place))
        east = -np.sin(lon) * self.rate[:, 0] + np.cos(lon) * self.rate[:, 1]
        outward = np.cos(lon) * self.rate[:, 0] + np.sin(lon) * self.rate[:, 1]
        north = np.cos(lat) * self.rate[:, 2] - np.sin(lat) * outward
        scale = 1e3 * _YEAR
        return scale * _ARCSEC * east, scale * _ARCSEC * north, scale * self.rate_sigma


def motion_sums(vectors: Floats, weight: Floats, mjd: Floats) -> Floats:
    """Return what a motion is fitted to, (n, 9), of detections; that of an object is the sum over its own.

    Parameters
    ----------
    vectors : (n, 3)
        Directions.
    weight : (n,)
        Inverse variances of the positions along each axis, arcsec-2.
    mjd : (n,)
        Times.

    Returns
    -------
    (n, 9)
        The weight times x, y, z, 1, tx, ty, tz, t and t squared, where t is the time in d since `ORIGIN`.
    """
    t = mjd - ORIGIN
    terms = [*vectors.T, np.ones_like(t), *(t * axis for axis in vectors.T), t, t * t]
    return np.stack(terms, axis=1) * weight[:, None]


def fit_motions(sums: Floats, count: NDArray[np.int64]) -> Motions:
    """Return lines in time by weighted least squares, of directions, axis by axis.

    Parameters
    ----------
    sums : (n, 9)
        Of `motion_sums`, over the detections of each object.
    count : (n,)
        Number of these.

    Notes
    -----
    A direction that changes at a constant rate, and is made a unit vector, is that of a star that moves straight on
    across the line of sight (the ESA's Hipparcos catalogue, vol. 1, 1.5.5, without the radial part). Parallax is not
    fitted: a star's own, of up to 0.77 arcsec, is in the residuals, and in the motion where it is seen for less than
    a year.
    """
    weight, first, second = sums[:, 3], sums[:, 7], sums[:, 8]
    place, mean = sums[:, :3] / weight[:, None], first / weight
    spread = second - first * mean
    several = spread > weight * _SPREAD**2  # of one detection it is nothing
    spread = np.where(several, spread, 1.0)
    rate = np.where(several[:, None], (sums[:, 4:7] - sums[:, :3] * mean[:, None]) / spread[:, None], 0.0)
    length = np.linalg.norm(place, axis=1)
    squares = (weight * np.maximum(1 - length**2, 0) - np.sum(rate**2, axis=1) * spread) * _ARCSEC**2
    excess = np.maximum(squares / np.maximum(2 * count - 4, 1), 1)
    place = place / length[:, None]
    rate = rate - place * np.sum(rate * place, axis=1, keepdims=True)
    rate_sigma = np.where(several, spread**-0.5, np.inf)
    return Motions(ORIGIN + mean, place, rate, weight**-0.5, rate_sigma, np.where(count > 2, excess, 1.0))
