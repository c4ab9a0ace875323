"""Two bodies on orbits near a parabola, of either side: ellipses, parabolas and hyperbolas by one equation."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS = 60
_SERIES = 0.1  # below this, closed forms lose digits
_HIGHEST = 700.0  # largest argument for which a float holds sinh


def near_parabola(nearest: Floats, eccentricity: Floats, time: Floats) -> tuple[Floats, Floats]:
    """Return places and velocities in the plane of the orbit, towards perihelion and a quarter of the orbit on.

    Parameters
    ----------
    nearest, eccentricity : (n,)
        Perihelion distance q, and e from 0 on.
    time : (n,)
        Since perihelion, in units in which GM is 1.

    Returns
    -------
    place, velocity : (2, n)
        In units of q, and of q over those of time.

    Notes
    -----
    Kepler's equation in the universal variable x, with c2 and c3 of Stumpff: t = q x + e x^3 c3(a x^2), where a is
    (1 - e) / q (Danby 1988, Fundamentals of Celestial Mechanics, 6.9). Between perihelion and aphelion its right side
    is convex, so that Newton's method ends from whatever start: that of the parabola, which Barker's equation gives.
    """
    inverse = (1 - eccentricity) / nearest
    root = np.sqrt(np.abs(inverse))
    closed = inverse > 0
    period = np.divide(2 * np.pi, root**3, out=np.full_like(root, np.inf), where=closed)
    time = time - np.where(closed, np.round(time / period), 0) * np.where(closed, period, 0)
    most = np.divide(np.where(closed, np.pi, _HIGHEST), root, out=np.full_like(root, np.inf), where=root > 0)
    most = np.minimum(most, np.abs(time) / nearest)
    third = 2 * nearest / np.maximum(eccentricity, _SERIES)
    start = 2 * np.sqrt(third) * np.sinh(np.arcsinh(1.5 * time / nearest / np.sqrt(third)) / 3)
    x = np.clip(start, -most, most)
    for _ in range(_STEPS):
        c2, c3 = _stumpff(inverse * x * x)
        step = (nearest * x + eccentricity * x**3 * c3 - time) / (nearest + eccentricity * x * x * c2)
        x = np.clip(x - step, -most, most)
        if np.all(np.abs(step) <= 1e-14 * most):
            break
    c2, c3 = _stumpff(inverse * x * x)
    distance = nearest + eccentricity * x * x * c2
    fastest = np.sqrt((1 + eccentricity) / nearest)
    place = np.stack([nearest - x * x * c2, fastest * x * (nearest + (eccentricity - 1) * x * x * c3)])
    speed = np.stack([x * (inverse * x * x * c3 - 1) / distance, fastest * (1 - x * x * c2 / distance)])
    return place, speed


def _stumpff(z: Floats) -> tuple[Floats, Floats]:
    """Return c2 and c3: (1 - cos r) / z and (r - sin r) / r^3, r^2 = z, and what they are for z of 0 and below."""
    root = np.sqrt(np.abs(z))
    safe = np.where(np.abs(z) < _SERIES, 1.0, root)
    bounded, small = np.minimum(safe, _HIGHEST), np.abs(z) < _SERIES
    c2 = 2 * np.where(z > 0, np.sin(safe / 2), np.sinh(bounded / 2)) ** 2 / safe**2
    c3 = np.where(z > 0, safe - np.sin(safe), np.sinh(bounded) - safe) / safe**3
    return np.where(small, _series(z, 2), c2), np.where(small, _series(z, 3), c3)


def _series(z: Floats, order: int) -> Floats:
    """Return 1 / k! - z / (k + 2)! + z^2 / (k + 4)! - ..., for an absolute z below 0.1 to the last digit."""
    z = np.clip(z, -_SERIES, _SERIES)
    total = np.ones_like(z)
    for n in range(order + 11, order, -2):
        total = 1 - z * total / (n * (n + 1))
    return np.asarray(total / math.factorial(order))
