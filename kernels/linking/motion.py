"""Motion of a tracklet: a great circle at a constant rate through its detections, and how well that is known."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.sky.positions import sky_position, unit_vectors

Floats = NDArray[np.float64]


class Motion(NamedTuple):
    """Great circle at a constant rate.

    Attributes
    ----------
    mjd
        Time of the position: the mean of the detections, d.
    ra, dec
        Position then (ICRS), deg.
    rate
        deg / day.
    angle
        Position angle of the motion, from north through east, deg, in [0, 360).
    rms
        Distance of the detections from it, arcsec.
    chi2
        The same in units of the errors, squared and summed over both axes: 2 n - 4 degrees of freedom.
    """

    mjd: float
    ra: float
    dec: float
    rate: float
    angle: float
    rms: float
    chi2: float


def fit_motion(vectors: Floats, mjd: Floats, sigma: Floats) -> Motion:
    """Fit steady motion along a great circle.

    Parameters
    ----------
    vectors : (n, 3)
        Directions, unit vectors; two or more, less than a quarter of the sky from their mean.
    mjd : (n,)
        d; not all the same.
    sigma : (n,)
        Error along each axis, arcsec.

    Notes
    -----
    The pole of the circle is the direction of the least spread of the weighted vectors, the right singular vector of
    the smallest singular value; the angle along the circle is then a straight line in time.
    """
    weight = 1 / np.square(sigma)
    middle = (weight[:, None] * vectors).sum(axis=0)
    middle /= np.linalg.norm(middle)
    pole = np.linalg.svd(vectors / sigma[:, None])[2][2] if len(vectors) > 2 else np.cross(vectors[0], vectors[-1])
    pole -= (pole @ middle) * middle
    pole /= np.linalg.norm(pole)
    onward = np.cross(pole, middle)
    along = np.arctan2(vectors @ onward, vectors @ middle)
    mean = float((weight * mjd).sum() / weight.sum())
    days = mjd - mean
    rate = float((weight * days * along).sum() / (weight * days * days).sum())
    if rate < 0:
        rate, onward, along = -rate, -onward, -along
    start = float((weight * along).sum() / weight.sum())
    place = middle * math.cos(start) + onward * math.sin(start)
    heading = onward * math.cos(start) - middle * math.sin(start)
    ra, dec = (float(value[0]) for value in sky_position(place[None]))
    east = np.array([-math.sin(math.radians(ra)), math.cos(math.radians(ra)), 0.0])
    angle = math.degrees(math.atan2(heading @ east, heading @ np.cross(place, east))) % 360 % 360  # 360 is 0
    motion = Motion(mean, ra, dec, math.degrees(rate), angle, 0.0, 0.0)
    left = np.hypot(*track_offsets(motion, vectors, mjd))
    return motion._replace(rms=math.sqrt(float(np.mean(np.square(left)))), chi2=float(np.square(left / sigma).sum()))


class PositionErrors(NamedTuple):
    """Errors of positions, (n,) each: of ra cos(dec) and of dec, arcsec, and their covariance, arcsec^2."""

    ra: Floats
    dec: Floats
    covariance: Floats


def motion_errors(motion: Motion, mjd: Floats, sigma: Floats, errors: PositionErrors) -> tuple[float, float]:
    """Return the standard errors of the rate, deg / day, and of the position angle, deg, of a fitted motion.

    Parameters
    ----------
    motion
        As `fit_motion` returns it.
    mjd, sigma : (n,)
        What it was fitted to: times, d, and errors that weigh the detections, arcsec.
    errors
        Of the positions; where one is not known (NaN), ``sigma`` along both axes counts.

    Notes
    -----
    The slope of a weighted straight line is linear in the positions, so their errors along the motion give that of the
    rate, and those across it, over the rate, that of the direction. Where three detections or more scatter by more than
    ``sigma`` says, both are larger by the root of chi squared per degree of freedom; of two nothing scatters.
    """
    known = np.isfinite(errors.ra) & np.isfinite(errors.dec) & np.isfinite(errors.covariance)
    east, north = (np.where(known, np.square(error), np.square(sigma)) for error in (errors.ra, errors.dec))
    both = np.where(known, errors.covariance, 0.0)
    sine, cosine = math.sin(math.radians(motion.angle)), math.cos(math.radians(motion.angle))
    along = sine**2 * east + cosine**2 * north + 2 * sine * cosine * both
    across = cosine**2 * east + sine**2 * north - 2 * sine * cosine * both
    weight, days = 1 / np.square(sigma), mjd - motion.mjd
    slope = weight * days / float((weight * days * days).sum())
    free = 2 * len(mjd) - 4
    wider = math.sqrt(max(1.0, motion.chi2 / free)) if free > 0 else 1.0
    rate, turned = (
        wider * math.sqrt(float((np.square(slope) * np.maximum(part, 0.0)).sum())) / 3600 for part in (along, across)
    )
    return rate, math.degrees(math.atan2(turned, motion.rate))


def track_offsets(motion: Motion, vectors: Floats, mjd: Floats) -> tuple[Floats, Floats]:
    """Return how far detections lie from where steady motion puts them at their times.

    Parameters
    ----------
    motion
        A great circle at a constant rate.
    vectors : (n, 3)
        Directions, unit vectors.
    mjd : (n,)
        d.

    Returns
    -------
    along, across : (n,)
        arcsec; positive ahead of it, and at a position angle of 90 deg more than that of the motion.
    """
    (place,) = unit_vectors(np.array([motion.ra]), np.array([motion.dec]))
    ra, angle = math.radians(motion.ra), math.radians(motion.angle)
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    onward = math.sin(angle) * east + math.cos(angle) * np.cross(place, east)
    along = np.degrees(np.arctan2(vectors @ onward, vectors @ place)) - motion.rate * (mjd - motion.mjd)
    across = np.degrees(np.arcsin(np.clip(vectors @ np.cross(onward, place), -1.0, 1.0)))
    return 3600 * along, 3600 * across
