"""Exposures of a night, as linking sees them, and which of them show one field so often that not all can be tried."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.linking.brightness import density_of_magnitudes
from kernels.linking.detections import SkyDetections, arc, chord
from kernels.linking.trails import TrailsOf, trails_of

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

_NIGHT_GAP = 0.25  # d without detections
_EPOCH_GAP = 1.0 / 86400  # d between detections of one exposure
_DENSITY_OF = 8  # neighbours used to measure the local density
_CLUSTERS = {2: 100.0, 3: 30.0, 5: 10.0}  # fewer neighbours, and how much denser than 8 they are by chance in 1 of 5000
_SPARSE, _PARTS = 40, 24  # exposures of a detection or so that are distinguished; parts of the night if there are more
_MOST_PARTS, _FASTEST = 50, 70.0  # parts of a night in which nothing is seen twice, deg / day
_VISITS, _WORK = 8, 5e7  # visits of a field that are all tried; more if they take less work
_WORK_OF_PARTS = 1.1e8  # the same for parts of a night
_LEAST_ROWS = 50  # minimum number of detections per exposure assumed for the work
_SAME_FIELD = 0.75  # of the radius: maximum distance of the centres
_COMB, _STEP, _STRIDE = 6, 4, 4  # exposures tried together; distance to the next; factor by which they get sparser
_SAME_PLACE, _SIGMAS = 1.5, 4.0  # arcsec, or standard deviations if that is more
_MOST, _QUANTILE = 0.9, math.sqrt(-2 * math.log(0.1))  # part of distances; their quantile in standard deviations
_SKY = 4 * math.pi * math.degrees(1) ** 2  # deg^2


class SkyEpoch(NamedTuple):
    """Detections of one exposure, by their indices, with the density around each, per deg^2.

    All lie within ``radius``, arcsec, of ``centre``, and within ``days`` around ``mjd``; ``sigma`` is the median error
    of their positions. ``trails`` are theirs; ``per_mag`` is the share of them in a magnitude, around that of each.
    """

    rows: Indices
    vectors: Floats
    density: Floats
    mjd: float
    days: float
    sigma: float
    tree: Any
    centre: Floats
    radius: float
    trails: TrailsOf
    per_mag: Floats

    def away(self, vectors: Floats) -> Floats:
        """Return how far outside of it directions are, arcsec; below 0 within."""
        return np.asarray(arc(np.linalg.norm(vectors - self.centre, axis=-1)) - self.radius)


class SeenAgain(NamedTuple):
    """What is seen again at its place: how many detections of an exposure, their share of all, and their scatter.

    The scatter, arcsec along each axis, is that of the difference of two positions.
    """

    number: Floats
    share: Floats
    scatter: Floats


def split_nights(mjd: Floats, usable: NDArray[np.bool_]) -> list[Indices]:
    """Return the detections that may move of each night, by time: six hours without any part two nights."""
    order = np.flatnonzero(usable)
    order = order[np.argsort(mjd[order], kind="stable")]
    return [part for part in np.split(order, np.flatnonzero(np.diff(mjd[order]) > _NIGHT_GAP) + 1) if len(part) > 1]


def epochs_of(detections: SkyDetections, night: Indices) -> list[SkyEpoch]:
    """Return the exposures of a night, by time.

    Where nearly all of many detections have times of their own, parts of the night stand for exposures: those in which
    nothing can have been seen twice, or equal ones if these are too many.
    """
    mjd = detections.mjd[night]
    starts = np.flatnonzero(np.diff(mjd) > _EPOCH_GAP) + 1
    if len(starts) >= _SPARSE and len(night) < 2 * len(starts):
        starts = _parts_of(detections.vectors[night], mjd, starts)
    return [_epoch(detections, part) for part in np.split(night, starts) if len(part)]


def _parts_of(vectors: Floats, mjd: Floats, starts: Indices) -> Indices:
    """Return where parts of a night begin, but for the first, given where its exposures do."""
    begin, found = 0, list[int]()
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(mjd)], strict=True):
        days = mjd[start:stop, None] - mjd[begin:start]
        apart = arc(np.linalg.norm(vectors[start:stop, None] - vectors[begin:start], axis=2))
        if (apart <= _FASTEST * days * 3600).any():
            begin = start
            found.append(start)
        if len(found) >= _MOST_PARTS:
            ends = np.linspace(mjd[0], mjd[-1], _PARTS + 1)[1:-1]
            return np.unique(np.searchsorted(mjd, ends, side="right"))
    return np.array(found, np.intp)


def epoch_numbers(detections: SkyDetections, epochs: list[SkyEpoch]) -> Indices:
    """Return the number of the exposure of each detection, -1 of those in none."""
    of = np.full(len(detections.mjd), -1)
    for place, epoch in enumerate(epochs):
        of[epoch.rows] = place
    return of


def seen_often(epochs: list[SkyEpoch]) -> NDArray[np.bool_]:
    """Return which exposures are of fields with more of them than can all be tried with each other."""
    size = np.array([len(one.rows) for one in epochs])
    often = np.zeros(len(epochs), np.bool_)
    for place in range(len(epochs)):
        field = _field(epochs, place)
        visits, rows, work = int(field.sum()), float(size[field].mean()), _WORK_OF_PARTS
        if epochs[place].days <= len(epochs[place].rows) * _EPOCH_GAP:  # one exposure
            rows, work = max(rows, _LEAST_ROWS), _WORK
        often[place] = visits > _VISITS and visits**3 * rows**2 > work
    return often


def combs_of(epochs: list[SkyEpoch], often: NDArray[np.bool_]) -> Iterator[tuple[list[SkyEpoch], bool]]:
    """Yield a few exposures of one field each, that follow each other or are as far apart, and whether these are.

    Each exposure is in one of each distance, or in two: the number of all grows as that of the exposures.
    """
    left = often.copy()
    while left.any():
        field = np.flatnonzero(left & _field(epochs, int(left.argmax())))
        left[field] = False
        stride = 1
        while stride == 1 or 2 * stride < len(field):
            for first in range(stride):
                comb = field[first::stride]
                for start in range(0, max(len(comb) - _COMB + _STEP, 1), _STEP):
                    yield [epochs[place] for place in comb[start : start + _COMB]], stride > 1
            stride *= _STRIDE


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
        others = np.flatnonzero(_field(epochs, int(one)))
        others = np.append(others[others > one], others[others < one][::-1])
        if len(others):
            found[one] = np.array(seen_again(epochs[one], epochs[others[0]]))
    return SeenAgain(*found[place].T)


def chance_at_rest(
    detections: SkyDetections, i: Indices, j: Indices, way: Floats, again: SeenAgain, visits: Indices | int
) -> Floats:
    """Return how many sources at rest scatter as far as each pair is apart, arcsec, between any two visits of a field.

    Of each first visit as many are at rest as are seen ``again``; distances have the error of the pair, or the scatter
    of those if that is more.
    """
    sigma = np.maximum(np.hypot(detections.sigma[i], detections.sigma[j]), again.scatter)
    twos = np.maximum(visits * (visits - 1) / 2, 1.0)
    return np.asarray(again.number * twos * np.exp(-np.square(way / sigma) / 2))


def _field(epochs: list[SkyEpoch], place: int) -> NDArray[np.bool_]:
    """Return which exposures are of the field of one."""
    centres, radii = np.array([one.centre for one in epochs]), np.array([one.radius for one in epochs])
    apart = arc(np.linalg.norm(centres - centres[place], axis=1))
    return np.asarray(apart <= _SAME_FIELD * np.maximum(radii, radii[place]))


def _epoch(detections: SkyDetections, index: Indices) -> SkyEpoch:
    from scipy.spatial import cKDTree

    vectors, mjd = detections.vectors[index], detections.mjd[index]
    tree = cKDTree(vectors)
    density = _density(tree, vectors)
    centre = vectors.sum(axis=0) + 1e-9 * vectors[0]
    centre /= np.linalg.norm(centre)
    radius = float(arc(float(np.linalg.norm(vectors - centre, axis=1).max())))
    sigma = float(np.median(detections.sigma[index]))
    trails, per_mag = trails_of(detections, index), density_of_magnitudes(detections.magnitude[index])
    days = float(np.ptp(mjd))
    return SkyEpoch(index, vectors, density, float(mjd.mean()), days, sigma, tree, centre, radius, trails, per_mag)


def _density(tree: Any, vectors: Floats) -> Floats:
    """Return the density around directions, per deg^2, given the tree of all: of small groups that of their own."""
    density, nearest = np.full(len(vectors), len(vectors) / _SKY), min(_DENSITY_OF, len(vectors) - 1)
    if nearest:
        reach = np.maximum(arc(tree.query(vectors, k=nearest + 1)[0]) / 3600, 1e-6)
        near = np.arange(nearest + 1) / (math.pi * np.square(reach))
        density = np.maximum(density, near[:, -1])
        for few, times in _CLUSTERS.items():
            if few < nearest:
                density = np.where(near[:, few] > times * near[:, -1], np.maximum(density, near[:, few]), density)
    return density
