"""Sources at rest in exposures that follow each other too closely to show that they do not move."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.detections import SkyDetections, arc, chord
from kernels.linking.exposures import SkyEpoch, same_field

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_SAME_PLACE, _SIGMAS = 1.5, 4.0  # arcsec, or standard deviations if that is more
_AT_END, _END_SIGMAS = 1.0, 3.0  # the same for a detection at an end of a pair
_MOST, _QUANTILE = 0.9, math.sqrt(-2 * math.log(0.1))  # part of distances; their quantile in standard deviations


class SeenAgain(NamedTuple):
    """What is seen again at its place: how many detections of an exposure, their share of all, and their scatter.

    The scatter, arcsec along each axis, is that of the difference of two positions.
    """

    number: Floats
    share: Floats
    scatter: Floats


def seen_again(first: SkyEpoch, last: SkyEpoch) -> SeenAgain:
    """Return what of an exposure another one shows at its place, beyond what chance puts there."""
    reach = max(_SAME_PLACE, _SIGMAS * math.hypot(first.sigma, last.sigma))
    apart, near = last.tree.query(first.vectors, distance_upper_bound=float(chord(reach)))
    found = np.isfinite(apart)
    by_chance = float(last.density[near[found]].sum()) * math.pi * (reach / 3600) ** 2
    count = int(found.sum()) - by_chance
    if count < 1:
        return SeenAgain(*np.zeros(3))
    scatter = float(np.quantile(arc(apart[found]), _MOST)) / _QUANTILE
    return SeenAgain(*np.array([count, count / len(first.rows), scatter]))


def seen_again_next(epochs: list[SkyEpoch], place: Indices) -> SeenAgain:
    """Return what of exposures, by their place, is seen again in the next one of its field, or else the one before."""
    found = np.zeros((len(epochs), 3))
    for one in np.unique(place):
        others = np.flatnonzero(same_field(epochs, int(one)))
        others = np.append(others[others > one], others[others < one][::-1])
        if len(others):
            found[one] = np.array(seen_again(epochs[one], epochs[others[0]]))
    return SeenAgain(*found[place].T)


def chance_at_rest(
    detections: SkyDetections, i: Indices, j: Indices, way: Floats, again: SeenAgain, visits: Indices | int
) -> Floats:
    """Return how many sources at rest scatter as far as each pair is apart, arcsec, between any two of the visits."""
    sigma = np.maximum(np.hypot(detections.sigma[i], detections.sigma[j]), again.scatter)
    pairs = np.maximum(visits * (visits - 1) / 2, 1.0)
    return np.asarray(again.number * pairs * np.exp(-np.square(way / sigma) / 2))


def at_an_end(detections: SkyDetections, i: Indices, j: Indices, member: Indices) -> NDArray[np.bool_]:
    """Return which members, -1 for none, may be the first or the last detection's source, at rest."""
    close = np.zeros(len(i), np.bool_)
    for end in (i, j):
        apart = arc(np.linalg.norm(detections.vectors[member] - detections.vectors[end], axis=1))
        close |= apart <= np.maximum(_AT_END, _END_SIGMAS * np.hypot(detections.sigma[member], detections.sigma[end]))
    return np.asarray(close & (member >= 0))
