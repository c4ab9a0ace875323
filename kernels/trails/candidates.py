"""Candidates from groups of hits and from glints: trails with the hits that they explain."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.trails.geometry import DetectedSegment, between, from_ends, in_line, lies_on, outshines, overlap, union

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_DIRECTED_FWHM = 2.0  # from this length on a piece has a direction

_TURN = 1.0  # deg, besides half a FWHM over the length

_LEAST = 3  # pieces in line

_ANCHOR = 100.0  # px: to a piece as long as this, one more will do

_ANCHOR_GAP = 500.0  # px

_AS_BRIGHT = 0.5  # S/N of a piece over that of two others

_ALIKE = 4.0  # of lengths of pieces without an anchor, the longest over the shortest

_FULL = 0.75  # of the line: more than this is one trail in pieces, and no flashes

_PERIOD = (15.0, 450.0)  # px

_ON_TIME = 2.0  # px by which a flash may be off its place

_LINES_BY_CHANCE = 1e-2  # sets of pieces that chance may give in an image

_BY_CHANCE = 1e-3  # number of such rows of points that chance may give in an image

_MOST = 600  # pieces looked at

_INSIDE = 0.8  # share of a candidate in the light of a satellite


class Candidate(NamedTuple):
    """Trail, the logits of its hits, and whether it consists of flashes in line."""

    trail: DetectedSegment
    logits: tuple[float, ...]
    flashes: bool = False


def unite(candidates: Sequence[Candidate], fwhm_px: float) -> list[Candidate]:
    """Make one of candidates that are the same trail, or pieces of it.

    Parameters
    ----------
    candidates
        In any order.
    fwhm_px
        Of the PSF.

    Returns
    -------
    list of Candidate
        By falling S/N. Two trails become one where the weaker lies on the stronger, unless that is long and faint and
        the weaker outshines it, and where two trails of at least
        5 FWHM are collinear with a gap shorter than both together, as those of a blinking aeroplane.
    """
    united = list(candidates)
    while True:  # what has grown may reach another now
        before, united = len(united), _united_once(united, fwhm_px)
        if len(united) == before:
            return united


def _united_once(candidates: Sequence[Candidate], fwhm_px: float) -> list[Candidate]:
    ordered = sorted(candidates, key=lambda each: (-each.trail.snr, each.trail))
    kept: list[Candidate] = []
    reach = np.empty((len(ordered), 3))  # x, y and how far a candidate of its line may lie
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
    """Make one of candidates that are flashes of one object; see `kernels.trails.candidates`.

    Parameters
    ----------
    candidates
        In any order.
    doubtful
        Which of them are not flashes: the spikes of two stars in line are in line, too.
    fwhm_px, area_px
        Of the PSF, px, and of the image, px^2.
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
    """Merge what lies to four fifths within ``radius`` px of a satellite into it; return it and the rest.

    What outshines a faint one, as an asteroid on the spike of a star does, is a candidate by itself.
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
    """Return a detection joined to a stronger one, or None if they are two trails."""
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
    """Label hits that are linked by steps of at most ``reach`` in row and column.

    Parameters
    ----------
    row, column : (N,)
        Places on the grid of windows.
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
    """Label hits by the ``side`` x ``side`` cell of the grid they lie in, in the order of first appearance."""
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
    """Return each window the trail that is most significant inside it.

    Parameters
    ----------
    x, y : (N,)
        Centres of the windows, px.
    window
        Side of a window, px.
    trails
        Candidates. A trail's S/N in a window is that of the part inside, and counts less towards the edge of the
        window: a network sees best what is near the centre, and so two trails that share most of their windows both
        keep those that are centred on them.

    Returns
    -------
    (N,) int
        Index of the trail, -1 where none is inside.
    """
    strength = np.zeros((len(trails), len(x)))
    for i, trail in enumerate(trails):
        points = trail.points(2.0)
        apart = np.maximum(np.abs(x[:, None] - points[:, 0]), np.abs(y[:, None] - points[:, 1])) / window
        weight = np.clip((0.56 - apart) / 0.26, 0.0, 1.0)  # whole within 0.3 of a window's side from its centre
        strength[i] = trail.snr * np.sqrt(np.mean(np.square(weight), 1))
    if not len(trails):
        return np.full(len(x), -1, np.intp)
    best = strength.argmax(0)
    return np.where(strength.max(0) > 0, best, -1)


class GlintTrail(NamedTuple):
    """Line from the first to the last flash, with the S/N of all, and the indices of their segments."""

    segment: DetectedSegment
    members: tuple[int, ...]


def find_glint_trails(trails: Sequence[DetectedSegment], fwhm_px: float, area_px: float) -> list[GlintTrail]:
    """Find trails that are flashes of one object.

    Parameters
    ----------
    trails
        Candidates.
    fwhm_px
        Of the PSF.
    area_px
        Of the image.

    Returns
    -------
    list of GlintTrail
        No candidate belongs to two. Pieces: three or more of 2 FWHM at least, alike in length, on one line and along
        it, of which chance gives fewer than 0.01 sets of as bright ones in an image; or two of which one is 100 px
        long. Points: so many, one after the other at equal steps, that chance gives fewer than 0.001 such rows in an
        image; that is four in most images. A line that is lit over more than three quarters of its length is one trail
        in pieces, and is not given.
    """
    strongest = sorted(range(len(trails)), key=lambda i: -trails[i].snr)[:_MOST]
    directed = [i for i in strongest if trails[i].length >= _DIRECTED_FWHM * fwhm_px]
    points = [i for i in strongest if trails[i].length < _DIRECTED_FWHM * fwhm_px]
    found: list[GlintTrail] = []
    used: set[int] = set()
    for members in _lines(trails, directed, fwhm_px, area_px) + _rows(trails, points, area_px):
        if used.isdisjoint(members):
            line = _through([trails[i] for i in members])
            dark = _dark(trails, members, line)
            # One more flash may follow at either end.
            longer = line._replace(length=line.length + 2.4 * dark / (len(members) - 1))
            whole = (*members, *(i for i in points if i not in members and _on_line(trails[i], longer, fwhm_px)))
            if dark > 0:
                flashes = tuple(i for i in whole if i not in used)
                found.append(GlintTrail(_through([trails[i] for i in flashes]), flashes))
            used.update(whole)
    return found


def _lines(
    trails: Sequence[DetectedSegment], directed: list[int], fwhm_px: float, area_px: float
) -> list[tuple[int, ...]]:
    """Find sets of pieces on one line, the largest first."""
    if len(directed) < 2:
        return []
    x, y, length, angle, snr = np.array([trails[i] for i in directed]).T
    allowed = np.degrees(np.arctan2(0.5 * fwhm_px, length)) + _TURN
    one, other = np.triu_indices(len(directed), 1)
    join = np.degrees(np.arctan2(y[other] - y[one], x[other] - x[one]))
    aligned = (_turned(angle[one], join) <= allowed[one]) & (_turned(angle[other], join) <= allowed[other])
    sets: set[tuple[int, ...]] = set()
    for a, b in zip(one[aligned], other[aligned], strict=True):
        line = _through([trails[directed[a]], trails[directed[b]]])
        near = _across(x, y, line) <= 0.75 * fwhm_px + 0.01 * np.minimum(length, 300)
        bright = snr >= _AS_BRIGHT * min(snr[a], snr[b])
        chosen = np.flatnonzero(near & bright & (_turned(angle, line.angle) <= allowed))
        if len(chosen) < 2:  # the line through a long trail and a piece beside its end may lie on neither
            continue
        members = [directed[i] for i in chosen]
        distinct = chosen[_once(_along(x[chosen], y[chosen], line), length[chosen])]
        flashes = distinct if _dark(trails, members, _through([trails[i] for i in members])) > 0 else chosen
        rivals = int((snr >= snr[flashes].min()).sum())
        if _is_set(length[flashes], line) and _is_no_chance(allowed[flashes], rivals, line, fwhm_px, area_px):
            sets.add(tuple(members))
    return sorted(sets, key=lambda one: (-len(one), one))


def _dark(trails: Sequence[DetectedSegment], members: Sequence[int], line: DetectedSegment) -> float:
    """Return the dark part of the line through some pieces, px; 0 where it is one trail in pieces."""
    x, y, length, *_ = np.array([trails[i] for i in members]).T
    dark = line.length - float(length[_once(_along(x, y, line), length)].sum())
    return dark if dark > (1 - _FULL) * line.length else 0.0


def _once(along: NDArray[np.float64], length: NDArray[np.float64]) -> list[int]:
    """Return which pieces of a line, the strongest first, do not repeat another: two groups of hits may see one."""
    kept: list[int] = []
    for i in range(len(along)):
        if all(abs(along[i] - along[k]) > 0.5 * max(length[i], length[k]) for k in kept):
            kept.append(i)
    return kept


def _is_no_chance(
    allowed: NDArray[np.float64], rivals: int, line: DetectedSegment, fwhm_px: float, area_px: float
) -> bool:
    """Return whether pieces as bright, which lie anywhere in any direction, would hardly ever give such a set."""
    if len(allowed) < _LEAST:
        return True
    fits = np.minimum(allowed / 90, 1.0)  # share of the directions
    strip = 1.5 * fwhm_px * max(line.length, math.sqrt(area_px)) / area_px
    expected = 0.5 * rivals**2 * fits[0] * fits[1] * float(np.prod(rivals * fits[2:] * strip))
    return expected < _LINES_BY_CHANCE


def _is_set(length: NDArray[np.float64], line: DetectedSegment) -> bool:
    if len(length) >= _LEAST and length.max() <= _ALIKE * length.min():
        return True
    return len(length) >= 2 and length.max() >= _ANCHOR and line.length - length.sum() <= _ANCHOR_GAP


def _rows(trails: Sequence[DetectedSegment], points: list[int], area_px: float) -> list[tuple[int, ...]]:
    """Find sets of points at equal steps, the largest first."""
    from scipy.spatial import cKDTree

    if len(points) < _LEAST:
        return []
    places = np.array([trails[i][:2] for i in points])
    tree = cKDTree(places)
    pairs = tree.query_pairs(_PERIOD[1], output_type="ndarray")
    pairs = pairs[np.hypot(*(places[pairs[:, 1]] - places[pairs[:, 0]]).T) >= _PERIOD[0]]
    hit = len(points) * math.pi * _ON_TIME**2 / area_px
    least = _LEAST
    while len(pairs) * hit ** (least - 2) > _BY_CHANCE:
        least += 1
        if least > len(points):
            return []
    sets = {row for pair in pairs for row in [_row(places, tree, *pair)] if len(row) >= least}
    return sorted((tuple(points[i] for i in row) for row in sets), key=lambda one: (-len(one), one))


def _row(places: NDArray[np.float64], tree: "cKDTree", first: int, second: int) -> tuple[int, ...]:
    """Extend a row of points from two of them at equal steps, both ways."""
    row = [int(first), int(second)]
    for ends in ((0, 1), (-1, -2)):
        while True:
            end, before = row[ends[0]], row[ends[1]]
            apart, following = tree.query(2 * places[end] - places[before])
            if apart > _ON_TIME or int(following) in row:
                break
            row.insert(0 if ends[0] == 0 else len(row), int(following))
    return tuple(sorted(row))


def _turned(angle: NDArray[np.float64], other: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.asarray(np.abs((angle - other + 90) % 180 - 90))


def _across(x: NDArray[np.float64], y: NDArray[np.float64], line: DetectedSegment) -> NDArray[np.float64]:
    cosine, sine = line.direction
    return np.asarray(np.abs((y - line.y) * cosine - (x - line.x) * sine))


def _along(x: NDArray[np.float64], y: NDArray[np.float64], line: DetectedSegment) -> NDArray[np.float64]:
    cosine, sine = line.direction
    return np.asarray((x - line.x) * cosine + (y - line.y) * sine)


def _on_line(point: DetectedSegment, line: DetectedSegment, fwhm_px: float) -> bool:
    x, y = np.array([point.x]), np.array([point.y])
    inside = np.abs(_along(x, y, line)) <= 0.5 * line.length
    return bool((inside & (_across(x, y, line) <= 0.75 * fwhm_px))[0])


def _through(pieces: Sequence[DetectedSegment]) -> DetectedSegment:
    """Return the line from end to end of all pieces: their principal axis, longer ones counting more."""
    ends = np.concatenate([piece.points(max(piece.length, 1.0)) for piece in pieces])
    centre = ends.mean(0)
    axis = np.linalg.svd(ends - centre, full_matrices=False)[2][0]
    along = (ends - centre) @ axis
    (x1, y1), (x2, y2) = centre + along.min() * axis, centre + along.max() * axis
    return from_ends(x1, y1, x2, y2, math.sqrt(sum(piece.snr**2 for piece in pieces)))
