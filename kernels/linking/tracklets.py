"""Tracklets: detections of one night that one moving object explains, and chance hardly ever does."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.brightness import chance_of_magnitude, least_chance_of_magnitude
from kernels.linking.detections import SIGMAS, SkyDetections, arc, chord
from kernels.linking.exposures import (
    SkyEpoch,
    chance_at_rest,
    combs_of,
    epoch_numbers,
    epochs_of,
    seen_again,
    seen_again_next,
    seen_often,
    split_nights,
)
from kernels.linking.motion import Motion, fit_motion
from kernels.linking.trails import (
    Rates,
    chance_of_direction,
    chance_of_trails,
    has_direction,
    look_alike,
    possible_rates,
    rarity_of_pairs,
)
from kernels.linking.way import SELDOM, at_an_end, fitting_neighbours, on_the_way, room, tolerances
from schemas.settings import LinkTrackletsSettings

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

USUAL = LinkTrackletsSettings()
"""Default limits of linking."""

PAIR_RATE = 1.5
"""Maximum rate of pairs, deg / day, which only other nights distinguish from chance."""

_LEAST_APART = 90.0 / 86400  # d, minimum between the ends of a tracklet
_MOVED = 4.0  # minimum length of a tracklet in standard deviations, and at least 1 arcsec
_NEAREST = 4  # detections of an exposure tried for a pair
_TRAILS_ALIKE = 1e-4  # minimum chance that the trails of a tracklet all agree
_MOST_PAIRS = 2_000_000  # maximum number examined between two exposures
_STEPS = 60  # number of distances tried
_CLEAR, _CLOSER = 60.0, 4.0  # arcsec: maximum motion linked in exposures this many times closer in time
_STEPS_OUT, _AT_ONCE = 8, 20_000  # times that a way is extended; ways examined at once
_BESIDE = 0.2  # maximum fraction of unrelated pairs completed as well by an exposure, to count as a detection
_MOST_WAYS = 10**300  # maximum number of ways to choose exposures: for over a thousand exposures a float overflows
_PAIR_DAYS = 0.1  # d, maximum between the detections of a pair
_PAIR_BLUR = 40.0  # arcsec / day: maximum error of a pair's rate
_PAIRS_SEEN = 5_000_000  # maximum number in a night before the rate is lowered
_SLOWER = 0.8  # factor by which the rate is lowered to have fewer


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

    Of fields that are seen too often for that, six exposures at a time are linked so: those that follow each other, and
    every 4th, 16th, ... What is found is followed as far as steady motion leads, and judged in all exposures.
    """
    found: list[Tracklet] = []
    rates = possible_rates(detections, limits.max_rate)
    for night in split_nights(detections.mjd, usable):
        epochs = epochs_of(detections, night)
        often = seen_often(epochs)
        seldom = [epoch for epoch, many in zip(epochs, often, strict=True) if not many]
        candidates = [*_candidates(detections, seldom, rates, limits)]
        if often.any():
            seeds = _seeds(detections, epochs, often, rates, limits)
            pairs = _grown(detections, epochs, seeds)
            for some in np.array_split(pairs, len(pairs) // _AT_ONCE + 1):
                candidates += _judged(detections, epochs, some, limits)
        found += _without_rivals(detections, candidates)
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
    for night in split_nights(detections.mjd, usable):
        pairs, limit = _pairs_of_night(detections, night)
        found.append(pairs)
        rate = min(rate, limit)
    i, j = np.concatenate(found).T
    speed = _rate(detections, i, j)
    slow = speed <= rate
    if slow.sum() > most:
        rate = float(np.partition(speed, most)[most])
        slow = speed < rate
    return np.stack([i[slow], j[slow]], axis=1), rate


def _pairs_of_night(detections: SkyDetections, night: Indices) -> tuple[Indices, float]:
    from scipy.spatial import cKDTree

    tree, rate = cKDTree(detections.vectors[night]), PAIR_RATE
    while tree.count_neighbors(tree, chord(rate * _PAIR_DAYS * 3600)) > 2 * _PAIRS_SEEN:
        rate *= _SLOWER
    i, j = night[np.sort(tree.query_pairs(chord(rate * _PAIR_DAYS * 3600), output_type="ndarray"), axis=1)].T
    days, sigma = detections.mjd[j] - detections.mjd[i], np.hypot(detections.sigma[i], detections.sigma[j])
    good = (days >= np.maximum(_LEAST_APART, sigma / _PAIR_BLUR)) & (days <= _PAIR_DAYS)
    i, j = i[good], j[good]
    slow, fast = possible_rates(detections, USUAL.max_rate)
    speed = _rate(detections, i, j)
    moved = speed * (detections.mjd[j] - detections.mjd[i]) * 3600 >= np.maximum(1.0, _MOVED * sigma[good])
    possible = (speed >= np.maximum(slow[i], slow[j])) & (speed <= np.minimum(fast[i], fast[j]))
    good = moved & possible & look_alike(detections, i, j)
    return np.stack([i[good], j[good]], axis=1), rate


def _rate(detections: SkyDetections, i: Indices, j: Indices) -> Floats:
    """Return the rates between detections of different times, deg / day."""
    way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1)) / 3600
    return np.asarray(way / (detections.mjd[j] - detections.mjd[i]))


_Candidate = tuple[tuple[int, ...], float]
"""Members, and their chance."""


def _candidates(
    detections: SkyDetections, epochs: list[SkyEpoch], rates: Rates, limits: LinkTrackletsSettings
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
    rates: Rates,
    first: SkyEpoch,
    others: list[SkyEpoch],
    last: SkyEpoch,
    limits: LinkTrackletsSettings,
    visits: int,
) -> Iterator[_Candidate]:
    """Yield candidates whose first detection is of one exposure and whose last of another, with their chance."""
    one, other = _pairs(detections, rates, first, others, last, limits)
    if not len(one):
        return
    i, j = first.rows[one], last.rows[other]
    way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1))
    trails = chance_of_trails(detections, i, j)
    chance = len(first.rows) * last.density[other] * math.pi * np.square(way / 3600) * trails
    chance *= chance_of_magnitude(detections, i, i, j, last.per_mag[other])
    directed = first.trails.directed[one] & last.trails.directed[other]
    rarity = rarity_of_pairs(directed, first.trails.directed.mean(), last.trails.alike[other])
    like = np.where(directed, first.trails.alike[one], 1.0)
    like *= least_chance_of_magnitude(first.per_mag[one])
    least = [like * _least_wide(detections, i, j, way, epoch) for epoch in others]
    members, count, again = [i], np.full(len(i), 2), seen_again(first, last)
    for place, epoch in enumerate(others):
        wide = chance * rarity * math.prod(least[place:]) <= limits.by_chance
        member, share = _completed(detections, i, j, way, epoch, wide)
        members.append(member)
        count += member >= 0
        chance *= np.maximum(share, at_an_end(detections, i, j, member) * again.share)
    chance *= np.where(count >= 3, rarity, 1.0)
    chance *= _choices(visits, len(others))[count - 2]
    chance += chance_at_rest(detections, i, j, way, again, visits)
    enough = (count >= 3) | ((trails < 1) & directed)
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
    rates: Rates,
    first: SkyEpoch,
    others: list[SkyEpoch],
    last: SkyEpoch,
    limits: LinkTrackletsSettings,
) -> tuple[Indices, Indices]:
    """Return pairs, as places in both exposures, that one object may have moved between."""
    slow, fast = rates
    reach = fast[first.rows] * (last.mjd - first.mjd) * 3600
    close = np.flatnonzero(last.away(first.vectors) <= reach)
    reach = np.minimum(reach[close], _reach_by_chance(first, close, others, last, limits.by_chance))
    one, other = _within_reach(first, close, last, reach)
    i, j = first.rows[one], last.rows[other]
    way = arc(np.linalg.norm(first.vectors[one] - last.vectors[other], axis=1))
    rate = way / 3600 / np.maximum(detections.mjd[j] - detections.mjd[i], 1e-6)
    moved = way >= np.maximum(1.0, _MOVED * np.hypot(detections.sigma[i], detections.sigma[j]))
    possible = (rate >= np.maximum(slow[i], slow[j])) & (rate <= np.minimum(fast[i], fast[j]))
    good = np.flatnonzero(moved & possible)
    good = good[look_alike(detections, i[good], j[good])]
    return one[good], other[good]


def _within_reach(first: SkyEpoch, close: Indices, last: SkyEpoch, reach: Floats) -> tuple[Indices, Indices]:
    """Return pairs up to as far apart, arcsec; of long trails only with what may be like them."""
    found = []
    for sure in (False, True):
        some, places = first.trails.sure[close] == sure, last.trails.long
        tree = last.trails.tree if sure else last.tree
        if tree is None or not some.any():
            continue
        near = tree.query_ball_point(first.vectors[close[some]], chord(reach[some]), return_sorted=True)
        one = np.repeat(close[some], [len(those) for those in near])
        other = np.fromiter(chain.from_iterable(near), np.intp, len(one))
        found.append(np.stack([one, places[other] if sure else other]))
    one, other = np.concatenate([np.zeros((2, 0), np.intp), *found], axis=1)
    order = np.lexsort((other, one))
    return one[order], other[order]


def _reach_by_chance(
    first: SkyEpoch, close: Indices, others: list[SkyEpoch], last: SkyEpoch, by_chance: float
) -> Floats:
    """Return how far apart, arcsec, chance lets a tracklet of all exposures be, for some detections of the first.

    The other exposures are taken to be as dense there as the first.
    """
    way, density = np.geomspace(1.0, 3600 * 90.0, _STEPS), first.density[close, None]
    partners = density * math.pi * np.square(way / 3600)
    own, sure = first.trails, first.trails.sure[close]
    alike = np.where(own.directed[close], _TRAILS_ALIKE * np.square(own.alike[close]), 1.0)
    magnitude = least_chance_of_magnitude(first.per_mag[close, None])
    expected = len(first.rows) * partners * alike[:, None] * magnitude
    seen = np.where(sure, own.sure.sum() * len(last.trails.long) / len(last.rows), len(first.rows))[:, None]
    for epoch in others:
        covered = epoch.away(first.vectors[close])[:, None] <= way
        days = last.mjd - first.mjd
        along, across = tolerances(math.sqrt(1.5) * epoch.sigma, way, days, (epoch.mjd - first.mjd) / days)
        share = np.minimum(density * math.pi * along * across / (SIGMAS * 3600) ** 2, 1.0)
        expected *= np.where(covered, share * magnitude, 1.0)
    allowed = (expected <= by_chance) & (seen * partners <= _MOST_PAIRS)
    return np.where(allowed.any(axis=1), way[_STEPS - 1 - allowed[:, ::-1].argmax(axis=1)], 0.0)


def _least_wide(detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: SkyEpoch) -> Floats:
    """Return the share of unrelated pairs that an exposure completes widely, at the best."""
    days = detections.mjd[j] - detections.mjd[i]
    part = (epoch.mjd - detections.mjd[i]) / days
    along, across = tolerances(math.sqrt(1.5) * epoch.sigma, way, days, part, wide=True)
    share = SELDOM * np.median(epoch.density) * math.pi * along * across / (SIGMAS * 3600) ** 2
    return np.minimum(share, 1.0) * chance_of_direction(detections, i)


def _completed(
    detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: SkyEpoch, wide: NDArray[np.bool_]
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
        area = room(detections, one, other, way[row], member, widely)
        share = np.minimum(epoch.density[near] * area, 1.0)
        share *= chance_of_direction(detections, member)
        share *= chance_of_magnitude(detections, one, other, member, epoch.per_mag[near])
        if epoch.trails.directed.any():
            directed = has_direction(detections, one) & has_direction(detections, other)
            share *= np.where(directed, epoch.trails.alike[near], 1.0)
        fits = np.isfinite(area) & (share < 1)
        fits &= look_alike(detections, one, member) & look_alike(detections, member, other)
        order = np.flatnonzero(fits)[np.lexsort((share[fits], row[fits]))]
        best = order[np.unique(row[order], return_index=True)[1]]
        members[row[best]], shares[row[best]] = member[best], share[best]
    return members, shares


def _farthest(detections: SkyDetections, i: Indices, j: Indices, way: Floats, epoch: SkyEpoch, widely: bool) -> float:
    """Return how far, as a chord, what completes a pair may be from its place at the time of the exposure."""
    sigma = np.sqrt(sum(np.square(detections.sigma[index].max()) for index in (i, j, epoch.rows)))
    days = detections.mjd[j] - detections.mjd[i]
    part = (epoch.mjd - detections.mjd[i]) / days
    inside = (part >= 0) & (part <= 1)
    sigma *= np.where(inside, 1.0, np.abs(2 * part - 1))
    late = np.abs(detections.mjd[epoch.rows] - epoch.mjd).max() * way / days
    most = np.maximum(*tolerances(sigma, way, days, np.where(inside, 0.5, part), widely))
    return float(chord(min(1.01 * (most + late).max(), 180.0 * 3600)))


def _seeds(
    detections: SkyDetections,
    epochs: list[SkyEpoch],
    often: NDArray[np.bool_],
    rates: Rates,
    limits: LinkTrackletsSettings,
) -> Indices:
    """Return the ends of what is linked in a few exposures at a time of fields that are seen often, (n, 2).

    What is fast enough to be linked in exposures that follow closer is not looked for in those farther apart.
    """
    seeds = [np.zeros((0, 2), np.intp)]
    for comb, apart in combs_of(epochs, often):
        closer, some = (comb[-1].mjd - comb[0].mjd) / _CLOSER, rates
        if apart and closer >= 2 * _LEAST_APART:
            some = Rates(rates.slow, np.minimum(rates.fast, _CLEAR / 3600 / closer))
        chosen = _disjoint(_candidates(detections, comb, some, limits))
        seeds += [np.array([[members[0], members[-1]]]) for members, _ in chosen]
    return np.concatenate(seeds)


def _grown(detections: SkyDetections, epochs: list[SkyEpoch], pairs: Indices) -> Indices:
    """Return pairs, and those of the farthest detections that steady motion leads to beyond, as far again each time."""
    of, found = epoch_numbers(detections, epochs), [pairs]
    for _ in range(_STEPS_OUT):
        i, j = pairs.T
        ends, way = pairs.copy(), arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1))
        days = detections.mjd[j] - detections.mjd[i]
        for place, epoch in enumerate(epochs):
            part = (epoch.mjd - detections.mjd[i]) / days
            early, late = (place < of[i]) & (part >= -1) & (ends[:, 0] == i), (place > of[j]) & (part <= 2)
            some = np.flatnonzero(early | late)
            if not len(some):
                continue
            member, share = _completed(detections, i[some], j[some], way[some], epoch, np.zeros(len(some), np.bool_))
            sure = (member >= 0) & (share < _BESIDE)
            ends[some[sure], late[some[sure]].astype(np.intp)] = member[sure]
        ends = np.unique(ends, axis=0)
        if np.array_equal(ends, pairs):
            break
        found.append(ends)
        pairs = ends
    return np.unique(np.concatenate(found), axis=0)


def _judged(
    detections: SkyDetections, epochs: list[SkyEpoch], pairs: Indices, limits: LinkTrackletsSettings
) -> Iterator[_Candidate]:
    """Yield the candidates between pairs of detections of any exposures, with their chance, as `_between` does."""
    of, (i, j) = epoch_numbers(detections, epochs), pairs.T
    way, shape = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1)), (len(epochs), len(i))
    members, shares, covered = np.full(shape, -1), np.ones(shape), np.zeros(shape, np.bool_)
    again = seen_again_next(epochs, of[i])
    for place, epoch in enumerate(epochs):
        some = np.flatnonzero((of[i] < place) & (place < of[j]))
        at = on_the_way(detections, i[some], j[some], way[some], np.full(len(some), epoch.mjd))
        some = some[epoch.away(at) <= 0]
        if len(some):
            covered[place, some], wide = True, np.ones(len(some), np.bool_)
            member, share = _completed(detections, i[some], j[some], way[some], epoch, wide)
            member = np.where(share < _BESIDE, member, -1)
            share = np.where(share < _BESIDE, share, 1.0)
            rest = at_an_end(detections, i[some], j[some], member) * again.share[some]
            members[place, some], shares[place, some] = member, np.maximum(share, rest)
    members[of[i], np.arange(len(i))], members[of[j], np.arange(len(j))] = i, j
    chance, visits = _chance_of_ends(detections, epochs, of, pairs)
    still = chance_at_rest(detections, i, j, way, again, visits)
    for n in np.flatnonzero((members >= 0).sum(axis=0) >= 3):
        some, between = members[members[:, n] >= 0, n], int(covered[:, n].sum())
        some = some[fitting_neighbours(detections, some)]
        ways = _choices(int(visits[n]), between)[min(len(some) - 2, between)]
        whole = float(chance[n] * shares[of[some], n].prod() * ways + still[n])
        if whole <= limits.by_chance:
            yield tuple(some.tolist()), whole


def _chance_of_ends(
    detections: SkyDetections, epochs: list[SkyEpoch], of: Indices, pairs: Indices
) -> tuple[Floats, Indices]:
    """Return the number of pairs by chance up to as far apart, and the visits of the field of the first.

    ``of`` is the exposure of each detection.
    """
    (i, j), (density, per_mag) = pairs.T, np.zeros((2, len(detections.mjd)))
    alike, share = np.ones(len(detections.mjd)), np.array([one.trails.directed.mean() for one in epochs])
    centres, radii = np.array([one.centre for one in epochs]), np.array([one.radius for one in epochs])
    for epoch in epochs:
        density[epoch.rows], alike[epoch.rows] = epoch.density, epoch.trails.alike
        per_mag[epoch.rows] = epoch.per_mag
    size = np.array([len(one.rows) for one in epochs])[of[i]]
    visits = np.array([(one.away(centres) <= radii).sum() for one in epochs])[of[i]]
    way = arc(np.linalg.norm(detections.vectors[i] - detections.vectors[j], axis=1)) / 3600
    directed = has_direction(detections, i) & has_direction(detections, j)
    trails = chance_of_trails(detections, i, j) * rarity_of_pairs(directed, share[of[i]], alike[j])
    trails *= chance_of_magnitude(detections, i, i, j, per_mag[j])
    return size * density[j] * math.pi * np.square(way) * trails, visits


def _disjoint(candidates: Iterable[_Candidate]) -> Iterator[_Candidate]:
    """Yield the candidates of most members, then of least chance, none with a detection that another has."""
    taken: set[int] = set()
    for members, chance in sorted(candidates, key=lambda one: (-len(one[0]), one[1], one[0])):
        if taken.isdisjoint(members):
            taken.update(members)
            yield members, chance


def _without_rivals(detections: SkyDetections, candidates: Iterable[_Candidate]) -> list[Tracklet]:
    """Return the tracklets that `_disjoint` chooses."""
    chosen = []
    for members, chance in _disjoint(candidates):
        some = detections.take(np.array(members))
        chosen.append(Tracklet(members, fit_motion(some.vectors, some.mjd, some.sigma), chance))
    return chosen
