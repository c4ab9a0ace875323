"""Matches of detections with predicted places."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.orbits.motion import ROUNDING
from kernels.sky.positions import unit_vectors
from kernels.sky.projection import tangent_offsets

Floats = NDArray[np.float64]

_SIGMAS = 3.0


def near_radius(radius: float, distance: Floats, most: float) -> Floats:
    """Return how far from its predicted place an object may be in any direction, arcsec.

    Parameters
    ----------
    radius
        However far away it is, arcsec.
    distance : (n,)
        From the observer, AU: elements are rounded, which shifts what is near by more, ``most`` arcsec at most. NaN
        where it is not known.
    """
    return np.asarray(radius + np.minimum(np.nan_to_num(ROUNDING / distance), most))


class Match(NamedTuple):
    """Detection and object, by their numbers, and the offset of the first from the second, arcsec.

    Attributes
    ----------
    apart
        Distance in units of what they may be apart: at most 1.
    detection, known
        Numbers.
    along, across
        Along the predicted motion, and to its right as seen from north over east: eastwards of a motion northwards.
    """

    apart: float
    detection: int
    known: int
    along: float
    across: float


def match_ephemerides(
    place: tuple[Floats, Floats, Floats],
    known: tuple[Floats, Floats, Floats, Floats],
    radius: float | Floats,
    agree: Callable[[int, int], bool] = lambda detection, known: True,
    cut: tuple[NDArray[np.bool_], Floats] | None = None,
) -> list[Match]:
    """Match detections and objects one to one.

    Parameters
    ----------
    place : ra, dec, error, each (n,)
        Detections: ICRS, deg, and error along each axis, arcsec; NaN counts as none.
    known : ra, dec, angle, uncertainty, each (m,)
        Objects: predicted place, deg, position angle of the motion, deg, and how far along it the object may be off.
    radius
        How far off it may be besides, arcsec, one number or (m,); three times the error of the detection comes on top.
    agree
        Whether a detection and an object, by their numbers, are alike in what else is known.
    cut : (n,), (m,)
        Which detections are perhaps only a part of a trail, and the length of each object's trail, arcsec: the middle
        of a part may be half of that from the middle of the whole, along the motion. None: no detection is.

    Returns
    -------
    list of Match
        By detection. Of pairs that agree the closest is taken first, and neither has another.
    """
    from scipy.spatial import cKDTree

    (ra, dec, error), (ra0, dec0, angle, uncertainty) = place, known
    if not len(ra) or not len(ra0):
        return []
    wide, further = np.broadcast_to(radius, ra0.shape), _SIGMAS * np.nan_to_num(error)
    partial, half = (cut[0], np.nan_to_num(cut[1]) / 2) if cut else (np.zeros(len(ra), bool), np.zeros(len(ra0)))
    reach = np.radians((further.max() + wide + uncertainty + partial.any() * half) / 3600)
    near = cKDTree(unit_vectors(ra, dec)).query_ball_point(unit_vectors(ra0, dec0), 2 * np.sin(reach / 2))
    which = np.array([k for k, some in enumerate(near) for _ in some], np.intp)
    found = np.array([n for some in near for n in some], np.intp)
    east, north = tangent_offsets(ra[found], dec[found], ra0[which], dec0[which])
    turn = np.radians(angle[which])
    along = 3600 * (east * np.sin(turn) + north * np.cos(turn))
    across = 3600 * (east * np.cos(turn) - north * np.sin(turn))
    allowed = wide[which] + further[found]
    apart = np.hypot(along / (allowed + uncertainty[which] + partial[found] * half[which]), across / allowed)
    columns = (column.tolist() for column in (apart, found, which, along, across))
    pairs = [Match(*row) for row in zip(*columns, strict=True) if row[0] <= 1 and agree(row[1], row[2])]
    chosen: list[Match] = []
    taken: tuple[set[int], set[int]] = set(), set()
    for one in sorted(pairs):
        if one.detection not in taken[0] and one.known not in taken[1]:
            taken[0].add(one.detection)
            taken[1].add(one.known)
            chosen.append(one)
    return sorted(chosen, key=lambda one: one.detection)
