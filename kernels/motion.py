"""Steady motion on the sky."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def along_great_circle(ra: Floats, dec: Floats, angle: Floats, arc: Floats) -> tuple[Floats, Floats, Floats]:
    """Go along a great circle.

    Parameters
    ----------
    ra, dec : (n,)
        Where to start, deg.
    angle : (n,)
        Which way: position angle there, from north through east, deg.
    arc : (n,)
        How far, deg; backwards where negative.

    Returns
    -------
    ra, dec, angle : (n,)
        Place and position angle at the end of the way, deg; ra in [0, 360), angle in [0, 360).

    Notes
    -----
    With n the direction of the start and t that of the motion, both unit vectors, the end lies at n cos(arc) +
    t sin(arc), and the motion there is t cos(arc) - n sin(arc). No formula of spherical trigonometry loses digits
    then, near the poles and for short ways either.
    """
    start, way, s = _unit(ra, dec), _tangent(ra, dec, angle), np.radians(arc)
    end, onward = start * np.cos(s) + way * np.sin(s), way * np.cos(s) - start * np.sin(s)
    ra_end = np.degrees(np.arctan2(end[1], end[0])) % 360
    dec_end = np.degrees(np.arctan2(end[2], np.hypot(end[0], end[1])))
    east, north = (np.sum(onward * _tangent(ra_end, dec_end, np.full_like(s, side)), axis=0) for side in (90.0, 0.0))
    return ra_end, dec_end, np.degrees(np.arctan2(east, north)) % 360


def separation(ra: Floats, dec: Floats, ra0: float, dec0: float) -> Floats:
    """Give the angle between directions and one of them, deg; all arguments in deg."""
    here, there = _unit(ra, dec), _unit(np.atleast_1d(ra0), np.atleast_1d(dec0))
    return np.degrees(2 * np.arcsin(np.minimum(np.linalg.norm(here - there, axis=0) / 2, 1.0)))


def _unit(ra: Floats, dec: Floats) -> Floats:
    """Give unit vectors, (3, n)."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _tangent(ra: Floats, dec: Floats, angle: Floats) -> Floats:
    """Give unit vectors towards a position angle, (3, n)."""
    a, d, p = np.radians(ra), np.radians(dec), np.radians(angle)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)])
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    return east * np.sin(p) + north * np.cos(p)
