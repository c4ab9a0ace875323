"""Tracklets: detections of one night that one moving object explains, and chance hardly ever does."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SLOWEST, SkyDetections, arc, chord
from kernels.linking.motion import Motion, fit_motion
from kernels.linking.way import SELDOM, SIGMAS, on_the_way, room, tolerances
from schemas.settings import LinkTrackletsSettings

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

USUAL = LinkTrackletsSettings()
"""Limits of what is linked."""

PAIR_RATE = 1.5
"""deg / day, of pairs that only other nights tell from chance."""

_NIGHT_GAP = 0.25  # d without detections
_EPOCH_GAP = 1.0 / 86400  # d between detections of one exposure
_LEAST_APART = 90.0 / 86400  # d between the ends of a tracklet
_MOVED = 4.0  # standard deviations of a distance, and 1 arcsec at least, that a tracklet spans
_NEAREST = 4  # detections of an exposure that are tried for a pair
_TRAIL = 3.0  # arcsec: shorter trails have no direction
_ANY_ANGLE = 60.0  # deg: a direction that is known no better is not one
_SURE = 5.0  # standard deviations of a trail's length: noise makes shorter ones, in any direction
_BLUR = 2.5  # arcsec of a trail's length that seeing may make or hide
_EXPOSURE = (10.0, 1200.0)  # s, where it is not known
_ALIKE = 0.35  # by which lengths of trails may differ
_LENGTHS_ALIKE = 0.5  # share of unrelated trails that are alike in length
_TRAILS_ALIKE = 1e-4  # the least chance that the trails of a tracklet all agree
_MAGNITUDES = 2.5  # by which two detections may differ, in any two bands
_DENSITY_OF = 8  # neighbours that the local density is measured by
_MOST_PAIRS = 2_000_000  # looked at between two exposures
_STEPS = 60  # of the distances that are tried
_MOST_WAYS = 10**300  # of choosing exposures: of more than a thousand there are more than a float holds
_SKY = 4 * math.pi * math.degrees(1) ** 2  # deg^2
_PAIR_DAYS = 0.1  # d between two detections of a pair
_PAIR_BLUR = 40.0  # arcsec / day: an error of the rate that leaves a pair of use
_PAIRS_SEEN = 5_000_000  # in a night, before any is dropped for its rate
_SLOWER = 0.8  # by which the rate is lowered where there would be more


class Tracklet(NamedTuple):
    """Detections of one object in one night.

    Attributes
    ----------
    members
        Their indices, by time.
    motion
        Great circle through them.
    chance
        Number of such tracklets, or better ones, of the field in the night if all detections were unrelated; as it is
        judged by how well they fit, those that pass a limit are up to twice as many for each one between the ends.
    """

    members: tuple[int, ...]
    motion: Motion
    chance: float


class _Epoch(NamedTuple):
    """Detections of one exposure, by their indices, with the density around each, per deg^2.

    All lie within ``radius``, arcsec, of ``centre``; ``sigma`` is the median error of their positions.
    """

    rows: Indices
    vectors: Floats
    density: Floats
    mjd: float
    sigma: float
    tree: Any
    centre: Floats
    radius: float

    def away(self, vectors: Floats) -> Floats:
        """Return how far outside of it directions are, arcsec; below 0 within."""
        return np.asarray(arc(np.linalg.norm(vectors - self.centre, axis=-1)) - self.radius)


class _Rates(NamedTuple):
    """Least and greatest rate of each detection, deg / day."""

    slow: Floats
    fast: Floats


def find_tracklets(
    detections: SkyDetections, usable: NDArray[np.bool_], limits: LinkTrackletsSettings = USUAL
) -> list[Tracklet]:
    """Link detections that one object in steady motion explains, night by night.

    Parameters
    ----------
    detections
        Of any number of nights and exposures. Exposures are told apart by their times.
    usable : (n,) bool
        What may move; see `kernels.linking.detections.find_stationary`.
    limits
        Greatest rate, and how many tracklets chance may give between two exposures.

    Returns
    -------
    list of Tracklet
        By time. No detection is in two.

    Notes
    -----
    Any two exposures of a night may hold the first and the last detection; those in between have to lie where steady
    motion on a great circle puts them, so no position is extrapolated. Candidates are pairs as far apart as the trails
    of both allow, and no farther than chance allows: of N detections, with a density d around them, chance gives
    N d pi m^2 pairs up to m apart, of which another exposure completes the share d pi s^2 exp(k^2 / 2), k how far its
    detection is off in standard deviations, s^2 their product along and across the way. That is multiplied by the
    number of ways to choose the exposures among those of the field. What chance gives more often than
    ``limits.by_chance`` is not a tracklet. So crowded fields link slow objects only, and empty ones fast ones too. Two
    detections are enough where both have trails that agree with each other and with the way between them.
    """
    found: list[Tracklet] = []
    rates = _rates(detections, limits.max_rate)
    for night in _nights(detections.mjd, usable):
        found += _without_rivals(detections, _candidates(detections, _epochs(detections, night), rates, limits))
    return sorted(found, key=lambda one: (one.motion.mjd, one.members))


def find_pairs(detections: SkyDetections, usable: NDArray[np.bool_], most: int) -> tuple[Indices, float]:
    """Find two detections each of one night that one object may be: most are by chance, and only other nights tell.

    Parameters
    ----------
    detections
        Of any number of nights and exposures.
    usable : (n,) bool
        What may move and is in no tracklet.
    most
        Number of pairs to return.

    Returns
    -------
    pairs : (m, 2)
        Indices, the earlier detection first. A detection may be in many.
    rate
        deg / day: the fastest that were looked at; 1.5, or less where there would be more pairs.

    Notes
    -----
    At most 2.4 hours apart, and as long as the errors of both make the rate uncertain by 40 arcsec / day or less: 10
    minutes with 0.2 arcsec.
    """
    found, rate = [np.zeros((0, 2), np.intp)], PAIR_RATE
    for night in _nights(detections.mjd, usable):
        pairs, limit = _pairs_of_night(detections, night)
        found.append(pairs)
        rate = min(rate, limit)
    i, j = np.concatenate(found).T
    speed = _rate(detections, i, j)
    if (speed <= rate).sum() > most:
        rate = float(np.partition(speed, most)[most])
        return np.stack([i, j], axis=1)[speed < rate], rate
    return np.stack([i, j], axis=1)[speed <= rate], rate


def _pairs_of_night(detections: SkyDetections, night: Indices) -> tuple[Indices, float]:
    from scipy.spatial import cKDTree

    tree, rate = cKDTree(detections.vectors[night]), PAIR_RATE
    while tree.count_neighbors(tree, chord(rate * _PAIR_DAYS * 3600)) > 2 * _PAIRS_SEEN:
        rate *= _SLOWER
    i, j = night[np.sort(tree.query_pairs(chord(rate * _PAIR_DAYS * 3600), output_type="ndarray"), axis=1)].T
    days, sigma = detections.mjd[j] - detections.mjd[i], np.hypot(detections.sigma[i], detections.sigma[j])
    good = (days >= np.maximum(_LEAST_APART, sigma / _PAIR_BLUR)) & (days <= _PAIR_DAYS)
    i, j = i[good], j[good]
    slow, fast = _rates(detections, USUAL.max_rate)
    speed = _rate(detections, i, j)
    moved = speed * (detections.mjd[j] - detections.mjd[i]) * 3600 >= np.maximum(1.0, _MOVED * sigma[good])
    possible = (speed >= np.maximum(slow[i], slow[j])) & (speed <= np.minimum(fast[i], fast[j]))
    good = moved & possible & _agree(detections, i, j)
    return np.stack([i[good], j[good]], axis=1), rate


def _rate(detections: SkyDetections, i: Indices, j: Indices) -> Floats:
    """Return the rates between detections of different times, deg / day."""
    way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1)) / 3600
    return np.asarray(way / (detections.mjd[j] - detections.mjd[i]))


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
    density, tree = np.full(len(index), len(index) / _SKY), cKDTree(vectors)
    nearest = min(_DENSITY_OF, len(index) - 1)
    if nearest:
        reach = arc(tree.query(vectors, k=nearest + 1)[0][:, -1]) / 3600
        density = np.maximum(density, nearest / (math.pi * np.square(np.maximum(reach, 1e-6))))
    centre = vectors.sum(axis=0) + 1e-9 * vectors[0]
    centre /= np.linalg.norm(centre)
    radius = float(arc(float(np.linalg.norm(vectors - centre, axis=1).max())))
    sigma = float(np.median(detections.sigma[index]))
    return _Epoch(index, vectors, density, float(mjd.mean()), sigma, tree, centre, radius)


_Candidate = tuple[tuple[int, ...], float]
"""Members, and the chance."""


def _candidates(
    detections: SkyDetections, epochs: list[_Epoch], rates: _Rates, limits: LinkTrackletsSettings
) -> Iterator[_Candidate]:
    """Yield all candidates of a night; exposures that nothing can have moved between are not looked at."""
    mjd, centres = np.array([one.mjd for one in epochs]), np.array([one.centre for one in epochs])
    radii = np.array([one.radius for one in epochs])
    for a, first in enumerate(epochs):
        fastest = rates.fast[first.rows].max()
        visits = int((first.away(centres) <= radii).sum())
        days, apart = mjd[a:] - first.mjd, first.away(centres[a:]) - radii[a:]
        for b in np.flatnonzero((days >= _LEAST_APART) & (apart <= fastest * days * 3600)):
            last = epochs[a + b]
            close = last.away(first.vectors) <= rates.fast[first.rows] * days[b] * 3600
            if close.any():
                reach = rates.fast[first.rows[close]].max() * days[b] * 3600
                others = [epochs[a + 1 + c] for c in np.flatnonzero(apart[1:b] <= reach)]
                yield from _between(detections, rates, first, others, last, limits, visits)


def _between(
    detections: SkyDetections,
    rates: _Rates,
    first: _Epoch,
    others: list[_Epoch],
    last: _Epoch,
    limits: LinkTrackletsSettings,
    visits: int,
) -> Iterator[_Candidate]:
    """Yield candidates whose first detection is of one exposure and whose last of another, with their chance."""
    one, other = _pairs(detections, rates, first, others, last, limits)
    if not len(one):
        return
    i, j = first.rows[one], last.rows[other]
    way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1))
    trails = _trail_chance(detections, i, j)
    chance = len(first.rows) * last.density[other] * math.pi * np.square(way / 3600) * trails
    least = [_least_wide(detections, i, j, way, epoch) for epoch in others]
    members, count = [i], np.full(len(i), 2)
    for place, epoch in enumerate(others):
        wide = chance * math.prod(least[place:]) <= limits.by_chance
        member, share = _completed(detections, i, j, way, epoch, wide)
        members.append(member)
        count += member >= 0
        chance *= share
    chance = chance * _choices(visits, len(others))[count - 2]
    enough = (count >= 3) | ((trails < 1) & _has_trail(detections, i) & _has_trail(detections, j))
    for n in np.flatnonzero(enough & (chance <= limits.by_chance)):
        yield tuple(int(part[n]) for part in (*members, j) if part[n] >= 0), float(chance[n])


def _choices(visits: int, between: int) -> Floats:
    """Return the ways to choose the exposures of a tracklet with 0, 1, ... detections between the first and the last.

    Of as many visits of the field, any two may hold these, with one between them if it has a third detection; of the
    exposures between, any hold the others.
    """
    ends = [max(1, math.comb(visits - (count > 0), 2)) for count in range(between + 1)]
    ways = (pairs * math.comb(between, count) for count, pairs in enumerate(ends))
    return np.array([min(one, _MOST_WAYS) for one in ways], np.float64)


def _pairs(
    detections: SkyDetections,
    rates: _Rates,
    first: _Epoch,
    others: list[_Epoch],
    last: _Epoch,
    limits: LinkTrackletsSettings,
) -> tuple[Indices, Indices]:
    """Return pairs, as places in both exposures, that one object may have moved between."""
    slow, fast = rates
    reach = fast[first.rows] * (last.mjd - first.mjd) * 3600
    close = np.flatnonzero(last.away(first.vectors) <= reach)
    reach = np.minimum(reach[close], _reach_by_chance(detections, first, close, others, last, limits.by_chance))
    near = last.tree.query_ball_point(first.vectors[close], chord(reach), return_sorted=True)
    one = np.repeat(close, [len(some) for some in near])
    other = np.fromiter(chain.from_iterable(near), np.intp, len(one))
    i, j = first.rows[one], last.rows[other]
    way = arc(np.linalg.norm(first.vectors[one] - last.vectors[other], axis=1))
    rate = way / 3600 / np.maximum(detections.mjd[j] - detections.mjd[i], 1e-6)
    moved = way >= np.maximum(1.0, _MOVED * np.hypot(detections.sigma[i], detections.sigma[j]))
    possible = (rate >= np.maximum(slow[i], slow[j])) & (rate <= np.minimum(fast[i], fast[j]))
    good = np.flatnonzero(moved & possible)
    good = good[_agree(detections, i[good], j[good])]
    return one[good], other[good]


def _rates(detections: SkyDetections, fastest: float) -> _Rates:
    """Return the least and the greatest rate, deg / day, that the length of each trail allows."""
    length, known = detections.trail_length, np.isfinite(detections.exposure_time)
    shortest, longest = (np.where(known, detections.exposure_time, other) for other in _EXPOSURE)
    per_day = 86400 / 3600  # arcsec / s in deg / day
    blur = np.fmax(np.fmax(_BLUR, _ALIKE * length), SIGMAS * detections.length_error)
    slow = np.where(np.isfinite(length), (length - blur) / longest * per_day, 0.0)
    fast = np.where(np.isfinite(length), (length + blur) / shortest * per_day, fastest)
    return _Rates(np.maximum(slow, SLOWEST), np.minimum(fast, fastest))


def _reach_by_chance(
    detections: SkyDetections, first: _Epoch, close: Indices, others: list[_Epoch], last: _Epoch, by_chance: float
) -> Floats:
    """Return how far apart, arcsec, chance lets a tracklet of all exposures be, for some detections of the first.

    The other exposures are taken to be as dense there as the first.
    """
    way, density = np.geomspace(1.0, 3600 * 90.0, _STEPS), first.density[close, None]
    partners = density * math.pi * np.square(way / 3600)
    expected = (
        len(first.rows) * partners * np.where(_has_trail(detections, first.rows[close]), _TRAILS_ALIKE, 1.0)[:, None]
    )
    for epoch in others:
        covered = epoch.away(first.vectors[close])[:, None] <= way
        days = last.mjd - first.mjd
        along, across = tolerances(math.sqrt(1.5) * epoch.sigma, way, days, (epoch.mjd - first.mjd) / days)
        share = np.minimum(density * math.pi * along * across / (SIGMAS * 3600) ** 2, 1.0)
        expected *= np.where(covered, share, 1.0)
    allowed = (expected <= by_chance) & (len(first.rows) * partners <= _MOST_PAIRS)
    return np.where(allowed.any(axis=1), way[_STEPS - 1 - allowed[:, ::-1].argmax(axis=1)], 0.0)


def _has_trail(detections: SkyDetections, index: Indices) -> NDArray[np.bool_]:
    """Return which have trails with a direction: long enough, and known well enough."""
    found = (detections.trail_length[index] >= _TRAIL) & np.isfinite(detections.trail_angle[index])
    long = index[found]
    sure = detections.trail_length[long] >= np.fmax(_TRAIL, _SURE * detections.length_error[long])
    found[found] = sure & (_angle_tolerance(detections, long) < _ANY_ANGLE)
    return np.asarray(found)


def _angle_tolerance(detections: SkyDetections, index: Indices) -> Floats:
    by_length = np.degrees(1.5 / np.maximum(detections.trail_length[index], 1.0))
    return np.fmax(np.fmax(5.0, by_length), SIGMAS * detections.angle_error[index])


def _agree(detections: SkyDetections, i: Indices, j: Indices) -> NDArray[np.bool_]:
    """Return whether trails point along the way, are alike in length, and magnitudes alike."""
    one, other = detections.trail_length[i], detections.trail_length[j]
    error = np.hypot(detections.length_error[i], detections.length_error[j])
    unlike = np.abs(one - other) > np.fmax(np.maximum(_BLUR, _ALIKE * 0.5 * (one + other)), SIGMAS * error)
    dim = np.abs(detections.magnitude[i] - detections.magnitude[j]) > _MAGNITUDES
    good = ~unlike & ~dim
    for index in (i, j):
        row = np.flatnonzero(good & _has_trail(detections, index))
        if not len(row):
            continue
        onward = detections.vectors[j[row]] - detections.vectors[i[row]]
        way = _position_angle(detections.vectors[index[row]], onward)
        turned = np.abs((detections.trail_angle[index[row]] - way + 90) % 180 - 90)
        good[row] = ~(turned > _angle_tolerance(detections, index[row]))
    return np.asarray(good)


def _trail_chance(detections: SkyDetections, i: Indices, j: Indices) -> Floats:
    """Return the share of unrelated pairs whose trails would agree as well: each by its direction, both by length."""
    chance = _direction_chance(detections, i) * _direction_chance(detections, j)
    return np.where(_has_trail(detections, i) & _has_trail(detections, j), _LENGTHS_ALIKE * chance, chance)


def _direction_chance(detections: SkyDetections, index: Indices) -> Floats:
    share, trail = np.ones(len(index)), _has_trail(detections, index)
    share[trail] = np.minimum(_angle_tolerance(detections, index[trail]) / 90, 1.0)
    return share


def _position_angle(place: Floats, onward: Floats) -> Floats:
    """Return the position angle of a way at a place on it, deg, modulo 180: near a pole it turns along the way."""
    east = np.stack([-place[:, 1], place[:, 0], np.zeros(len(place))], axis=1)
    north = np.cross(place, east)
    return np.asarray(np.degrees(np.arctan2((onward * east).sum(1), (onward * north).sum(1))) % 180)


def _least_wide(detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: _Epoch) -> Floats:
    """Return the share of unrelated pairs that an exposure completes widely, at the best."""
    days = detections.mjd[j] - detections.mjd[i]
    part = (epoch.mjd - detections.mjd[i]) / days
    along, across = tolerances(math.sqrt(1.5) * epoch.sigma, way, days, part, wide=True)
    share = SELDOM * np.median(epoch.density) * math.pi * along * across / (SIGMAS * 3600) ** 2
    return np.minimum(share, 1.0) * _direction_chance(detections, i)


def _completed(
    detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: _Epoch, wide: NDArray[np.bool_]
) -> tuple[Indices, Floats]:
    """Return the detection of an exposure where each pair puts one, -1 if there is none, and its chance, or 1."""
    members, shares = np.full(len(i), -1), np.ones(len(i))
    for widely in (False, True):
        some = np.flatnonzero(wide == widely)
        if not len(some):
            continue
        ranks = np.arange(1, min(_NEAREST if widely else 1, len(epoch.rows)) + 1)
        place = on_the_way(detections, i[some], j[some], way[some], np.full(len(some), epoch.mjd))
        bound = _farthest(detections, i[some], j[some], way[some], epoch, widely)
        near = epoch.tree.query(place, k=ranks, distance_upper_bound=bound)[1]
        at, rank = np.nonzero(near < len(epoch.rows))
        near, row = near[at, rank], some[at]
        member, one, other = epoch.rows[near], i[row], j[row]
        share = np.minimum(epoch.density[near] * room(detections, one, other, way[row], member, widely), 1.0)
        share *= _direction_chance(detections, member)
        fits = (share < 1) & _agree(detections, one, member) & _agree(detections, member, other)
        order = np.flatnonzero(fits)[np.lexsort((share[fits], row[fits]))]
        best = order[np.unique(row[order], return_index=True)[1]]
        members[row[best]], shares[row[best]] = member[best], share[best]
    return members, shares


def _farthest(detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: _Epoch, widely: bool) -> float:
    """Return how far, as a chord, what completes a pair may be from its place at the time of the exposure."""
    sigma = np.sqrt(sum(np.square(detections.sigma[index].max()) for index in (i, j, epoch.rows)))
    days = detections.mjd[j] - detections.mjd[i]
    late = np.abs(detections.mjd[epoch.rows] - epoch.mjd).max() * way / days
    most = np.maximum(*tolerances(sigma, way, days, 0.5, widely))
    return float(chord(min(1.01 * (most + late).max(), 180.0 * 3600)))


def _without_rivals(detections: SkyDetections, candidates: Iterable[_Candidate]) -> list[Tracklet]:
    """Choose the tracklets of most members, then of least chance, none with a detection that another has."""
    taken: set[int] = set()
    chosen = []
    for members, chance in sorted(candidates, key=lambda one: (-len(one[0]), one[1], one[0])):
        if taken.isdisjoint(members):
            taken.update(members)
            some = detections.take(np.array(members))
            chosen.append(Tracklet(members, fit_motion(some.vectors, some.mjd, some.sigma), chance))
    return chosen
