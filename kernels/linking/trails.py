"""Trails of two detections: whether one object may have left both, and how often unrelated ones look so."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SIGMAS, SLOWEST, SkyDetections

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

BLUR = 2.5
"""Length that seeing may add to a trail or hide, arcsec."""

ALIKE = 0.35
"""Fraction by which lengths of trails may differ."""

TRAIL = 3.0
"""Length, arcsec: shorter trails have no direction."""

LENGTHS_ALIKE = 0.5
"""Fraction of unrelated trails with similar length."""

_ANY_ANGLE = 60.0  # deg: a direction with a larger error is not known
_SURE = 5.0  # standard deviations of a trail's length: noise makes shorter ones, in any direction
_BIN = 5.0  # deg; trails of three bins of directions count as parallel
_EXPOSURE = (10.0, 1200.0)  # s, assumed if not known
_MAGNITUDES = 2.5  # maximum difference of two detections, in any two bands


class Rates(NamedTuple):
    """Minimum and maximum rate of each detection, deg / day."""

    slow: Floats
    fast: Floats


class TrailsOf(NamedTuple):
    """Trails of an exposure, by the place of the detection in it.

    Attributes
    ----------
    directed : (n,) bool
        Which have a direction.
    alike : (n,)
        Share of all detections that have a direction and a length like that of each, more if many of these are
        parallel to it, as flaws of a detector or satellites are; at most 1, and 1 for those without a direction.
    sure : (n,) bool
        Which are so long that all detections that look like them are among ``long``.
    long
        Detections whose length is not known to be less than that of a trail.
    tree
        Their directions; None if there are none.
    """

    directed: NDArray[np.bool_]
    alike: Floats
    sure: NDArray[np.bool_]
    long: Indices
    tree: Any


def possible_rates(detections: SkyDetections, fastest: float) -> Rates:
    """Return the least and the greatest rate, deg / day, that the length of each trail allows."""
    length, known = detections.trail_length, np.isfinite(detections.exposure_time)
    shortest, longest = (np.where(known, detections.exposure_time, other) for other in _EXPOSURE)
    per_day = 86400 / 3600  # arcsec / s in deg / day
    blur = np.fmax(np.fmax(BLUR, ALIKE * length), SIGMAS * detections.length_error)
    slow = np.where(np.isfinite(length), (length - blur) / longest * per_day, 0.0)
    fast = np.where(np.isfinite(length), (length + blur) / shortest * per_day, fastest)
    return Rates(np.maximum(slow, SLOWEST), np.minimum(fast, fastest))


def has_direction(detections: SkyDetections, index: Indices) -> NDArray[np.bool_]:
    """Return which have trails with a direction: long enough, and known well enough."""
    found = (detections.trail_length[index] >= TRAIL) & np.isfinite(detections.trail_angle[index])
    long = index[found]
    sure = detections.trail_length[long] >= np.fmax(TRAIL, _SURE * detections.length_error[long])
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
    return np.where(has_direction(detections, i) & has_direction(detections, j), LENGTHS_ALIKE * chance, chance)


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


def trails_of(detections: SkyDetections, index: Indices) -> TrailsOf:
    """Return the trails of an exposure with these detections."""
    from scipy.spatial import cKDTree

    length, error = detections.trail_length[index], np.nan_to_num(detections.length_error[index])
    directed, alike = has_direction(detections, index), np.ones(len(index))
    some, margin = length[directed], SIGMAS * error
    width = np.maximum(np.maximum(BLUR, ALIKE * some), np.sqrt(2) * margin[directed])
    ordered = np.sort(some)
    within = np.searchsorted(ordered, some + width, side="right") - np.searchsorted(ordered, some - width)
    parallel = _parallel(some, detections.trail_angle[index[directed]]) * 180 / (3 * _BIN)
    alike[directed] = np.minimum(np.maximum(within, parallel) / len(index), 1.0)
    sure = directed & (length - np.maximum(BLUR, ALIKE * length) - margin >= TRAIL)
    long = np.flatnonzero(~(length + margin < TRAIL))
    return TrailsOf(directed, alike, sure, long, cKDTree(detections.vectors[index[long]]) if len(long) else None)


def _parallel(length: Floats, angle: Floats) -> Floats:
    """Return how many other trails are like each in length and direction."""
    knee = BLUR / ALIKE
    scaled = np.where(length < knee, length / BLUR, (1 + np.log(np.maximum(length, knee) / knee)) / ALIKE)
    row, column = 1 + scaled.astype(np.intp), (angle % 180 / _BIN).astype(np.intp) % round(180 / _BIN)
    count = np.zeros((row.max(initial=0) + 2, round(180 / _BIN)))
    np.add.at(count, (row, column), 1)
    near = np.array([np.roll(count, (up, turned), (0, 1)) for up in (-1, 0, 1) for turned in (-1, 0, 1)])
    return np.asarray(near.sum(axis=0)[row, column] - 1)


def rarity_of_pairs(directed: NDArray[np.bool_], share: Floats | float, alike: Floats) -> Floats:
    """Return by how much fewer unrelated pairs agree than `chance_of_trails` says, as trails like theirs are few.

    Parameters
    ----------
    directed
        Which pairs have two trails with a direction.
    share, alike
        Share of the first exposure's detections that have a direction, and of the other's that are like the second one.
    """
    return np.where(directed, np.minimum(share * alike / LENGTHS_ALIKE, 1.0), 1.0)
