"""Candidates from groups of hits: trails with the hits that they explain."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.trails.geometry import DetectedSegment, between, in_line, lies_on, outshines, overlap, union
from kernels.trails.glint_trails import find_glint_trails

_INSIDE = 0.8  # minimum share of a candidate that lies in the light of a satellite


class Candidate(NamedTuple):
    """Trail, the logits of its hits, and whether it consists of flashes in line."""

    trail: DetectedSegment
    logits: tuple[float, ...]
    flashes: bool = False


def unite(candidates: Sequence[Candidate], fwhm_px: float) -> list[Candidate]:
    """Return candidates with repeats and pieces of the same trail united.

    Parameters
    ----------
    candidates
        Candidates in any order.
    fwhm_px
        FWHM of the PSF.

    Returns
    -------
    list of Candidate
        Candidates by decreasing S/N. Two trails are united if the weaker lies on the stronger, unless the stronger is
        long and faint and the weaker outshines it. They are also united if both have at least 5 FWHM and are collinear,
        with a gap shorter than both together, like the trails of a blinking aeroplane.
    """
    united = list(candidates)
    while True:  # a united trail may now reach another
        before, united = len(united), _united_once(united, fwhm_px)
        if len(united) == before:
            return united


def _united_once(candidates: Sequence[Candidate], fwhm_px: float) -> list[Candidate]:
    ordered = sorted(candidates, key=lambda each: (-each.trail.snr, each.trail))
    kept: list[Candidate] = []
    reach = np.empty((len(ordered), 3))  # x, y, and largest distance of a candidate on the same line
    for candidate in ordered:
        trail = candidate.trail
        known = reach[: len(kept)]
        apart = np.hypot(known[:, 0] - trail.x, known[:, 1] - trail.y)
        place = len(kept)
        for i in np.flatnonzero(apart <= known[:, 2] + 2 * trail.length):
            joined = _joined(kept[i], trail, fwhm_px)
            if joined is not None:
                place, candidate = int(i), _both(kept[i], candidate, joined)
                break
        kept[place : place + 1] = [candidate]
        united = candidate.trail
        reach[place] = united.x, united.y, 2 * united.length + 4 * fwhm_px
    return kept


def join_glints(
    candidates: Sequence[Candidate], doubtful: Sequence[bool], fwhm_px: float, area_px: float
) -> list[Candidate]:
    """Return candidates with the flashes of one object joined; see `find_glint_trails`.

    Parameters
    ----------
    candidates
        Candidates in any order.
    doubtful
        Which candidates are not flashes; for example, the spikes of two stars may also lie in line.
    fwhm_px, area_px
        FWHM of the PSF, px, and area of the image, px^2.
    """
    known = [i for i, doubt in enumerate(doubtful) if not doubt]
    found = find_glint_trails([candidates[i].trail for i in known], fwhm_px, area_px)
    sets = [[known[i] for i in one.members] for one in found]
    joined = [
        Candidate(one.segment, tuple(logit for i in members for logit in candidates[i].logits), True)
        for one, members in zip(found, sets, strict=True)
    ]
    taken = {i for members in sets for i in members}
    return joined + [candidate for i, candidate in enumerate(candidates) if i not in taken]


def absorb(
    spoiling: Candidate, radius: float, others: Sequence[Candidate], fwhm_px: float
) -> tuple[Candidate, list[Candidate]]:
    """Merge candidates with four fifths within ``radius`` px of a satellite into it; return it and the rest.

    A candidate that outshines a faint satellite, like an asteroid on the spike of a star, stays separate.
    """
    inside = [
        overlap(one.trail, spoiling.trail, radius) >= _INSIDE and not outshines(one.trail, spoiling.trail, fwhm_px)
        for one in others
    ]
    logits = tuple(logit for one, lies in zip(others, inside, strict=True) if lies for logit in one.logits)
    rest = [one for one, lies in zip(others, inside, strict=True) if not lies]
    return spoiling._replace(logits=spoiling.logits + logits), rest


def _both(stronger: Candidate, weaker: Candidate, trail: DetectedSegment) -> Candidate:
    return Candidate(trail, stronger.logits + weaker.logits, stronger.flashes or weaker.flashes)


def _joined(known: Candidate, trail: DetectedSegment, fwhm_px: float) -> DetectedSegment | None:
    """Return a detection joined with a stronger one, or None if they are separate trails."""
    stronger = known.trail
    # The S/N of flashes is not that of the line between them, which has no wings.
    core = stronger._replace(snr=0.0) if known.flashes else stronger
    if lies_on(trail, core, fwhm_px) and not outshines(trail, stronger, fwhm_px):
        return stronger
    both_long = min(trail.length, stronger.length) >= 5 * fwhm_px
    # The angles of two pieces may differ by a degree.
    radius = 1.2 * fwhm_px + 0.02 * math.hypot(trail.x - stronger.x, trail.y - stronger.y)
    if both_long and in_line(trail, stronger, radius):
        gap = between(trail, stronger).length
        return union(stronger, trail) if gap <= trail.length + stronger.length else None
    return None


def group_hits(row: NDArray[np.integer], column: NDArray[np.integer], reach: int) -> NDArray[np.intp]:
    """Return a label for each hit; hits linked by steps of at most ``reach`` in row and column share a label.

    Parameters
    ----------
    row, column : (N,)
        Positions on the grid of windows.
    reach
        Longest step; 1 is 8-connected, 2 bridges a gap of one window.

    Returns
    -------
    (N,) int
        0, 1, ... in the order in which the groups first appear.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if not len(row):
        return np.empty(0, np.intp)
    pairs = cKDTree(np.column_stack([row, column])).query_pairs(reach + 0.5, p=np.inf, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(row), len(row)))
    return _renumbered(connected_components(links, directed=False)[1])


def split_hits(row: NDArray[np.integer], column: NDArray[np.integer], side: int) -> NDArray[np.intp]:
    """Return a label for each hit, the number of its ``side`` x ``side`` grid cell in order of first appearance."""
    cell = np.asarray(row, np.int64) // side * (1 << 32) + np.asarray(column, np.int64) // side
    return _renumbered(np.unique(cell, return_inverse=True)[1])


def _renumbered(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    first = np.unique(labels, return_index=True)[1]
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[labels]


def assign_hits(
    x: NDArray[np.float64], y: NDArray[np.float64], window: int, trails: Sequence[DetectedSegment]
) -> NDArray[np.intp]:
    """Return, for each window, the most significant trail inside it.

    Parameters
    ----------
    x, y : (N,)
        Centres of the windows, px.
    window
        Side of a window, px.
    trails
        Candidates. A trail's S/N in a window is that of the part inside, with less weight towards the edge of the
        window, since a network is most sensitive near the centre. So two trails that share most of their windows both
        keep the windows centred on them.

    Returns
    -------
    (N,) int
        Index of the trail; -1 if none is inside.
    """
    strength = np.zeros((len(trails), len(x)))
    for i, trail in enumerate(trails):
        points = trail.points(2.0)
        apart = np.maximum(np.abs(x[:, None] - points[:, 0]), np.abs(y[:, None] - points[:, 1])) / window
        weight = np.clip((0.56 - apart) / 0.26, 0.0, 1.0)  # full weight within 0.3 of a window's side from its centre
        strength[i] = trail.snr * np.sqrt(np.mean(np.square(weight), 1))
    if not len(trails):
        return np.full(len(x), -1, np.intp)
    best = strength.argmax(0)
    return np.where(strength.max(0) > 0, best, -1)
