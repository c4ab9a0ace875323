"""Tracklets: detections of one night that one moving object explains, and chance hardly ever does."""

import math
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SLOWEST, SkyDetections, arc, chord
from kernels.sky.positions import sky_position

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

FASTEST = 70.0
"""deg / day."""

_NIGHT_GAP = 0.25  # d without detections
_EPOCH_GAP = 1.0 / 86400  # d between detections of one exposure
_LEAST_APART = 90.0 / 86400  # d between the ends of a tracklet
_SIGMAS = 3.0
_MOVED = 4.0  # standard deviations of a distance, and 1 arcsec at least, that a tracklet spans
_FLOOR = 0.3  # arcsec: errors of astrometry that the stated ones leave out
_BEND = 0.002  # of the way, by which a path may bend: the parallax of what is fast
_TRAIL = 3.0  # arcsec: shorter trails have no direction
_BLUR = 2.5  # arcsec of a trail's length that seeing may make or hide
_EXPOSURE = (10.0, 1200.0)  # s, where it is not known
_ALIKE = 0.35  # by which lengths of trails may differ
_LENGTHS_ALIKE = 0.5  # share of unrelated trails that are alike in length
_TRAILS_ALIKE = 1e-4  # the least chance that the trails of a tracklet all agree
_MAGNITUDES = 2.5  # by which two detections may differ, in any two bands
_DENSITY_OF = 8  # neighbours that the local density is measured by
_BY_CHANCE = 0.05  # tracklets that chance may give between two exposures
_MOST_PAIRS = 2_000_000  # looked at between two exposures
_STEPS = 60  # of the distances that are tried
_SKY = 4 * math.pi * math.degrees(1) ** 2  # deg^2


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


class Tracklet(NamedTuple):
    """Detections of one object in one night.

    Attributes
    ----------
    members
        Their indices, by time.
    motion
        Great circle through them.
    chance
        Number of such tracklets, or better ones, between the same two exposures if all detections were unrelated.
    """

    members: tuple[int, ...]
    motion: Motion
    chance: float


class _Epoch(NamedTuple):
    """Detections of one exposure, by their indices, with the density around each, per deg^2."""

    rows: Indices
    vectors: Floats
    density: Floats
    mjd: float


def find_tracklets(detections: SkyDetections, usable: NDArray[np.bool_]) -> list[Tracklet]:
    """Link detections that one object in steady motion explains, night by night.

    Parameters
    ----------
    detections
        Of any number of nights and exposures. Exposures are told apart by their times.
    usable : (n,) bool
        What may move; see `kernels.linking.detections.find_stationary`.

    Returns
    -------
    list of Tracklet
        By time. No detection is in two.

    Notes
    -----
    Any two exposures of a night may hold the first and the last detection; those in between have to lie where steady
    motion on a great circle puts them, so no position is extrapolated. Candidates are pairs as far apart as the trails
    of both allow, and no farther than chance allows: of N detections, with a density d around them, chance gives
    N d pi m^2 pairs up to m apart, of which another exposure completes the share d pi t^2, t its tolerance. What chance
    gives 0.05 times or more is no tracklet. So crowded fields link slow objects only, and empty ones fast ones too. Two
    detections are enough where both have trails that agree with each other and with the way between them.
    """
    found: list[Tracklet] = []
    for night in _nights(detections.mjd, usable):
        epochs = _epochs(detections, night)
        candidates = [one for a, b in combinations(range(len(epochs)), 2) for one in _between(detections, epochs, a, b)]
        found += _without_rivals(detections, candidates)
    return sorted(found, key=lambda one: (one.motion.mjd, one.members))


def _nights(mjd: Floats, usable: NDArray[np.bool_]) -> list[Indices]:
    order = np.flatnonzero(usable)
    order = order[np.argsort(mjd[order], kind="stable")]
    return [part for part in np.split(order, np.flatnonzero(np.diff(mjd[order]) > _NIGHT_GAP) + 1) if len(part) > 1]


def _epochs(detections: SkyDetections, night: Indices) -> list[_Epoch]:
    mjd = detections.mjd[night]
    parts = np.split(night, np.flatnonzero(np.diff(mjd) > _EPOCH_GAP) + 1)
    return [_epoch(detections, part) for part in parts]


def _epoch(detections: SkyDetections, index: Indices) -> _Epoch:
    from scipy.spatial import cKDTree

    vectors, mjd = detections.vectors[index], detections.mjd[index]
    density = np.full(len(index), len(index) / _SKY)
    nearest = min(_DENSITY_OF, len(index) - 1)
    if nearest:
        reach = arc(cKDTree(vectors).query(vectors, k=nearest + 1)[0][:, -1]) / 3600
        density = np.maximum(density, nearest / (math.pi * np.square(np.maximum(reach, 1e-6))))
    return _Epoch(index, vectors, density, float(mjd.mean()))


def _between(
    detections: SkyDetections, epochs: list[_Epoch], a: int, b: int
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield candidates whose first detection is of one exposure and whose last of another, with their chance."""
    first, last = epochs[a], epochs[b]
    if last.mjd - first.mjd < _LEAST_APART:
        return
    one, other = _pairs(detections, first, last, epochs[a + 1 : b])
    if not len(one):
        return
    i, j = first.rows[one], last.rows[other]
    way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1))
    trails = _trail_chance(detections, i, j)
    chance = len(first.rows) * last.density[other] * math.pi * np.square(way / 3600) * trails
    members, count = [i], np.full(len(i), 2)
    for epoch in epochs[a + 1 : b]:
        member, share = _completed(detections, i, j, way, epoch)
        members.append(member)
        count += member >= 0
        chance = np.where(member >= 0, chance * share, chance)
    enough = (count >= 3) | ((trails < 1) & _has_trail(detections, i) & _has_trail(detections, j))
    for n in np.flatnonzero(enough & (chance <= _BY_CHANCE)):
        yield tuple(int(part[n]) for part in (*members, j) if part[n] >= 0), float(chance[n])


def _pairs(detections: SkyDetections, first: _Epoch, last: _Epoch, between: list[_Epoch]) -> tuple[Indices, Indices]:
    """Return pairs, as places in both exposures, that one object may have moved between."""
    from scipy.spatial import cKDTree

    days = last.mjd - first.mjd
    slow, fast = _rates(detections)
    reach = np.minimum(fast[first.rows] * days * 3600, _reach_by_chance(detections, first, between))
    near = cKDTree(last.vectors).query_ball_point(first.vectors, chord(reach))
    count = np.array([len(some) for some in near])
    one = np.repeat(np.arange(len(near)), count)
    other = np.array([place for some in near for place in sorted(some)], np.intp)
    i, j = first.rows[one], last.rows[other]
    way = arc(np.linalg.norm(first.vectors[one] - last.vectors[other], axis=1))
    rate = way / 3600 / np.maximum(detections.mjd[j] - detections.mjd[i], 1e-6)
    moved = way >= np.maximum(1.0, _MOVED * np.hypot(detections.sigma[i], detections.sigma[j]))
    possible = (rate >= np.maximum(slow[i], slow[j])) & (rate <= np.minimum(fast[i], fast[j]))
    good = moved & possible & _agree(detections, i, j)
    return one[good], other[good]


def _rates(detections: SkyDetections) -> tuple[Floats, Floats]:
    """Return the least and the greatest rate, deg / day, that the length of each trail allows."""
    length, known = detections.trail_length, np.isfinite(detections.exposure_time)
    shortest, longest = (np.where(known, detections.exposure_time, other) for other in _EXPOSURE)
    per_day = 86400 / 3600  # arcsec / s in deg / day
    blur = np.maximum(_BLUR, _ALIKE * np.nan_to_num(length))
    slow = np.where(np.isfinite(length), (length - blur) / longest * per_day, 0.0)
    fast = np.where(np.isfinite(length), (length + blur) / shortest * per_day, FASTEST)
    return np.maximum(slow, SLOWEST), np.minimum(fast, FASTEST)


def _reach_by_chance(detections: SkyDetections, first: _Epoch, between: list[_Epoch]) -> Floats:
    """Return how far apart, arcsec, chance lets a tracklet of all exposures be, for each detection of the first.

    The other exposures are taken to be as dense there as the first.
    """
    way, density = np.geomspace(1.0, 3600 * 90.0, _STEPS), first.density[:, None]
    partners = density * math.pi * np.square(way / 3600)
    expected = len(first.rows) * partners * np.where(_has_trail(detections, first.rows), _TRAILS_ALIKE, 1.0)[:, None]
    for epoch in between:
        sigma = float(np.median(detections.sigma[epoch.rows]))
        tolerance = _SIGMAS * math.sqrt(1.5) * sigma + _FLOOR + _BEND * way
        expected *= np.minimum(density * math.pi * np.square(tolerance / 3600), 1.0)
    allowed = (expected <= _BY_CHANCE) & (len(first.rows) * partners <= _MOST_PAIRS)
    return np.where(allowed.any(axis=1), way[_STEPS - 1 - allowed[:, ::-1].argmax(axis=1)], 0.0)


def _has_trail(detections: SkyDetections, index: Indices) -> NDArray[np.bool_]:
    return np.nan_to_num(detections.trail_length[index]) >= _TRAIL


def _angle_tolerance(length: Floats) -> Floats:
    return np.maximum(5.0, np.degrees(1.5 / np.maximum(length, 1.0)))


def _agree(detections: SkyDetections, i: Indices, j: Indices) -> NDArray[np.bool_]:
    """Return whether trails point along the way, are alike in length, and magnitudes alike."""
    one, other = detections.trail_length[i], detections.trail_length[j]
    unlike = np.abs(one - other) > np.maximum(_BLUR, _ALIKE * 0.5 * (one + other))
    dim = np.abs(detections.magnitude[i] - detections.magnitude[j]) > _MAGNITUDES
    way = _position_angle(detections.vectors[i], detections.vectors[j])
    good = ~unlike & ~dim
    for index in (i, j):
        turned = np.abs((detections.trail_angle[index] - way + 90) % 180 - 90)
        good &= ~(_has_trail(detections, index) & (turned > _angle_tolerance(detections.trail_length[index])))
    return np.asarray(good)


def _trail_chance(detections: SkyDetections, i: Indices, j: Indices) -> Floats:
    """Return the share of unrelated pairs whose trails would agree as well: each by its direction, both by length."""
    chance = _direction_chance(detections, i) * _direction_chance(detections, j)
    return np.where(_has_trail(detections, i) & _has_trail(detections, j), _LENGTHS_ALIKE * chance, chance)


def _direction_chance(detections: SkyDetections, index: Indices) -> Floats:
    share = np.minimum(_angle_tolerance(detections.trail_length[index]) / 90, 1.0)
    return np.where(_has_trail(detections, index), share, 1.0)


def _position_angle(start: Floats, end: Floats) -> Floats:
    """Return the position angle at the middle of the way, deg, modulo 180."""
    middle = start + end
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    east = np.stack([-middle[:, 1], middle[:, 0], np.zeros(len(middle))], axis=1)
    north = np.cross(middle, east)
    onward = end - start
    return np.asarray(np.degrees(np.arctan2((onward * east).sum(1), (onward * north).sum(1))) % 180)


def _completed(detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: _Epoch) -> tuple[Indices, Floats]:
    """Return the detection of an exposure where each pair puts one, -1 if there is none, and its chance."""
    from scipy.spatial import cKDTree

    near = cKDTree(epoch.vectors).query(_on_the_way(detections, i, j, way, np.full(len(i), epoch.mjd)))[1]
    member = epoch.rows[near]
    part = (detections.mjd[member] - detections.mjd[i]) / (detections.mjd[j] - detections.mjd[i])
    place = _on_the_way(detections, i, j, way, detections.mjd[member])
    off = arc(np.linalg.norm(place - detections.vectors[member], axis=1))
    variance = (
        np.square(detections.sigma[index] * weight) for index, weight in ((i, 1 - part), (j, part), (member, 1))
    )
    tolerance = _SIGMAS * np.sqrt(sum(variance)) + _FLOOR + _BEND * way
    fits = (off <= tolerance) & _agree(detections, i, member) & _agree(detections, member, j)
    share = np.minimum(epoch.density[near] * math.pi * np.square(tolerance / 3600), 1.0)
    share *= _direction_chance(detections, member)
    return np.where(fits, member, -1), share


def _on_the_way(detections: SkyDetections, i: Indices, j: Indices, way: Floats, mjd: Floats) -> Floats:
    """Return where steady motion from one detection to another is at a time, unit vectors (n, 3)."""
    angle = np.radians(way / 3600)
    part = (mjd - detections.mjd[i]) / (detections.mjd[j] - detections.mjd[i])
    weights = np.sin((1 - part) * angle), np.sin(part * angle)
    both = weights[0][:, None] * detections.vectors[i] + weights[1][:, None] * detections.vectors[j]
    return np.asarray(both / np.sin(angle)[:, None])


def _without_rivals(detections: SkyDetections, candidates: list[tuple[tuple[int, ...], float]]) -> list[Tracklet]:
    """Choose the tracklets of most members, then of least chance, none with a detection that another has."""
    taken: set[int] = set()
    chosen = []
    for members, chance in sorted(candidates, key=lambda one: (-len(one[0]), one[1], one[0])):
        if taken.isdisjoint(members):
            taken.update(members)
            some = detections.take(np.array(members))
            chosen.append(Tracklet(members, fit_motion(some.vectors, some.mjd, some.sigma), chance))
    return chosen


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
    across = np.arcsin(np.clip(vectors @ pole, -1.0, 1.0))
    mean = float((weight * mjd).sum() / weight.sum())
    days = mjd - mean
    rate = float((weight * days * along).sum() / (weight * days * days).sum())
    if rate < 0:
        rate, onward, along = -rate, -onward, -along
    start = float((weight * along).sum() / weight.sum())
    left = np.degrees(np.hypot(along - start - rate * days, across)) * 3600
    place = middle * math.cos(start) + onward * math.sin(start)
    heading = onward * math.cos(start) - middle * math.sin(start)
    ra, dec = (float(value[0]) for value in sky_position(place[None]))
    east = np.array([-math.sin(math.radians(ra)), math.cos(math.radians(ra)), 0.0])
    angle = math.degrees(math.atan2(heading @ east, heading @ np.cross(place, east))) % 360
    rms, chi2 = math.sqrt(float(np.mean(np.square(left)))), float(np.square(left / sigma).sum())
    return Motion(mean, ra, dec, math.degrees(rate), angle, rms, chi2)
