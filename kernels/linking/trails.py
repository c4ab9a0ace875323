"""Trails of two detections: whether one object may have left both, and how often unrelated ones look so."""

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SkyDetections
from kernels.linking.way import SIGMAS

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

BLUR = 2.5
"""Length that seeing may add to a trail or hide, arcsec."""

ALIKE = 0.35
"""Fraction by which lengths of trails may differ."""

_TRAIL = 3.0  # arcsec: shorter trails have no direction
_ANY_ANGLE = 60.0  # deg: a direction with a larger error is not known
_SURE = 5.0  # standard deviations of a trail's length: noise makes shorter ones, in any direction
_LENGTHS_ALIKE = 0.5  # fraction of unrelated trails with similar length
_MAGNITUDES = 2.5  # maximum difference of two detections, in any two bands


def has_direction(detections: SkyDetections, index: Indices) -> NDArray[np.bool_]:
    """Return which have trails with a direction: long enough, and known well enough."""
    found = (detections.trail_length[index] >= _TRAIL) & np.isfinite(detections.trail_angle[index])
    long = index[found]
    sure = detections.trail_length[long] >= np.fmax(_TRAIL, _SURE * detections.length_error[long])
    found[found] = sure & (_angle_tolerance(detections, long) < _ANY_ANGLE)
    return np.asarray(found)


def _angle_tolerance(detections: SkyDetections, index: Indices) -> Floats:
    by_length = np.degrees(1.5 / np.maximum(detections.trail_length[index], 1.0))
    return np.fmax(np.fmax(5.0, by_length), SIGMAS * detections.angle_error[index])


def look_alike(detections: SkyDetections, i: Indices, j: Indices) -> NDArray[np.bool_]:
    """Return whether trails point along the way, are alike in length, and magnitudes alike."""
    one, other = detections.trail_length[i], detections.trail_length[j]
    error = np.hypot(detections.length_error[i], detections.length_error[j])
    unlike = np.abs(one - other) > np.fmax(np.maximum(BLUR, ALIKE * 0.5 * (one + other)), SIGMAS * error)
    dim = np.abs(detections.magnitude[i] - detections.magnitude[j]) > _MAGNITUDES
    good = ~unlike & ~dim
    for index in (i, j):
        row = np.flatnonzero(good & has_direction(detections, index))
        if not len(row):
            continue
        onward = detections.vectors[j[row]] - detections.vectors[i[row]]
        way = _position_angle(detections.vectors[index[row]], onward)
        turned = np.abs((detections.trail_angle[index[row]] - way + 90) % 180 - 90)
        good[row] = ~(turned > _angle_tolerance(detections, index[row]))
    return np.asarray(good)


def chance_of_trails(detections: SkyDetections, i: Indices, j: Indices) -> Floats:
    """Return the share of unrelated pairs whose trails would agree as well: each by its direction, both by length."""
    chance = chance_of_direction(detections, i) * chance_of_direction(detections, j)
    return np.where(has_direction(detections, i) & has_direction(detections, j), _LENGTHS_ALIKE * chance, chance)


def chance_of_direction(detections: SkyDetections, index: Indices) -> Floats:
    """Return the share of unrelated directions that would agree with that of each trail; 1 where there is none."""
    share, trail = np.ones(len(index)), has_direction(detections, index)
    share[trail] = np.minimum(_angle_tolerance(detections, index[trail]) / 90, 1.0)
    return share


def _position_angle(place: Floats, onward: Floats) -> Floats:
    """Return the position angle of a way at a place on it, deg, modulo 180: near a pole it turns along the way."""
    east = np.stack([-place[:, 1], place[:, 0], np.zeros(len(place))], axis=1)
    north = np.cross(place, east)
    return np.asarray(np.degrees(np.arctan2((onward * east).sum(1), (onward * north).sum(1))) % 180)
