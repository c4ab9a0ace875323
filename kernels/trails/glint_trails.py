"""Flashes of one object among the trails of an image: tumbling and glinting satellites, blinking aeroplanes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.trails.geometry import DetectedSegment, from_ends

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_DIRECTED_FWHM = 2.0  # minimum length of a piece with a direction
_TURN = 1.0  # deg, added to the angle of half a FWHM over the length
_LEAST = 3  # pieces in line
_ANCHOR = 100.0  # px: with a piece of this length, one other piece is enough
_ANCHOR_GAP = 500.0  # px
_AS_BRIGHT = 0.5  # S/N of a piece over that of two others
_ALIKE = 4.0  # largest ratio of lengths of pieces without an anchor, and of the S/N of two in a row
_TWINS = 1.25  # largest ratio of length and of S/N for which two flashes may be enough
_FULL = 0.75  # share of the line: above this it is one trail in pieces, not flashes
_PERIOD = (15.0, 450.0)  # px
_ON_TIME = 2.0  # px: largest error of a flash's position
_LINES_BY_CHANCE = 1e-2  # expected number of chance sets of pieces in an image
_BY_CHANCE = 1e-3  # expected number of chance rows of points in an image
_MOST = 600  # pieces examined


class GlintTrail(NamedTuple):
    """Line from the first to the last flash, with the S/N of all, and the indices of their segments."""

    segment: DetectedSegment
    members: tuple[int, ...]


def find_glint_trails(trails: Sequence[DetectedSegment], fwhm_px: float, area_px: float) -> list[GlintTrail]:
    """Return the trails that consist of flashes of one object.

    Parameters
    ----------
    trails
        Candidates.
    fwhm_px
        FWHM of the PSF.
    area_px
        Area of the image.

    Returns
    -------
    list of GlintTrail
        Each candidate belongs to at most one. Pieces have at least 2 FWHM, and lie on one line and along it. A set has
        three or more pieces of similar length, if fewer than 0.01 sets as bright are expected by chance in an image;
        two pieces of which one is 100 px long (the closest two, if a third is in line but such sets are more likely by
        chance); or two pieces similar in length and brightness, if fewer than 0.01 such pairs are expected by chance.
        Points lie at equal steps, as many as are needed for fewer than 0.001 rows as bright by chance in an image; a
        row may include pieces that lie along it. A line that is lit over more than three quarters of its length is one
        trail in pieces, and is not returned.
    """
    strongest = sorted(range(len(trails)), key=lambda i: -trails[i].snr)[:_MOST]
    directed = [i for i in strongest if trails[i].length >= _DIRECTED_FWHM * fwhm_px]
    points = [i for i in strongest if trails[i].length < _DIRECTED_FWHM * fwhm_px]
    found: list[GlintTrail] = []
    used: set[int] = set()
    for members in _lines(trails, directed, fwhm_px, area_px) + _rows(trails, strongest, fwhm_px, area_px):
        if used.isdisjoint(members):
            line = _through([trails[i] for i in members])
            dark = _dark(trails, members, line)
            # Another flash may follow at either end.
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
    """Return sets of pieces on one line, the largest first."""
    if len(directed) < 2:
        return []
    x, y, length, angle, snr = np.array([trails[i] for i in directed]).T
    allowed = _allowed(length, fwhm_px)
    one, other = np.triu_indices(len(directed), 1)
    join = np.degrees(np.arctan2(y[other] - y[one], x[other] - x[one]))
    aligned = (_turned(angle[one], join) <= allowed[one]) & (_turned(angle[other], join) <= allowed[other])
    sets: set[tuple[int, ...]] = set()
    pairs: dict[tuple[int, ...], float] = {}
    for a, b in zip(one[aligned], other[aligned], strict=True):
        line = _through([trails[directed[a]], trails[directed[b]]])
        near = _across(x, y, line) <= 0.75 * fwhm_px + 0.01 * np.minimum(length, 300)
        bright = snr >= _AS_BRIGHT * min(snr[a], snr[b])
        chosen = np.flatnonzero(near & bright & (_turned(angle, line.angle) <= allowed))
        if len(chosen) < 2:  # the line through a long trail and a piece beside its end may lie on neither
            continue
        members = [directed[i] for i in chosen]
        along = _along(x, y, line)
        distinct = chosen[_once(along[chosen], length[chosen])]
        flashes = distinct if _dark(trails, members, _through([trails[i] for i in members])) > 0 else chosen
        as_bright = snr >= snr[flashes].min()
        rivals, like = int(as_bright.sum()), int((as_bright & (_turned(angle, line.angle) <= allowed)).sum())
        others = _Others(rivals, max(like - len(flashes), 0), fwhm_px, area_px)
        anchored = len(flashes) < _LEAST and length[flashes].max() >= _ANCHOR
        if _is_set(length[flashes], snr[flashes], line) and (anchored or _is_no_chance(allowed[flashes], line, others)):
            sets.add(tuple(members))
        elif two := _anchored(a, b, chosen, along, length):
            pairs[tuple(directed[i] for i in two)] = abs(along[a] - along[b])
    closest = sorted(pairs.keys() - sets, key=lambda one: (pairs[one], one))
    return [*sorted(sets, key=lambda one: (-len(one), one)), *closest]


def _anchored(
    a: int, b: int, line: NDArray[np.intp], along: NDArray[np.float64], length: NDArray[np.float64]
) -> list[int]:
    """Return two pieces of a line, one of them long, and their repeats; none if the two alone do not form a set."""
    repeats = [[i for i in line if abs(along[i] - along[k]) <= 0.5 * max(length[i], length[k])] for k in (a, b)]
    if a not in repeats[0] or b not in repeats[1] or a in repeats[1] or max(length[a], length[b]) < _ANCHOR:
        return []
    span = abs(along[a] - along[b]) + 0.5 * (length[a] + length[b])
    dark = span - length[a] - length[b]
    return sorted({*repeats[0], *repeats[1]}) if (1 - _FULL) * span < dark <= _ANCHOR_GAP else []


def _dark(trails: Sequence[DetectedSegment], members: Sequence[int], line: DetectedSegment) -> float:
    """Return the dark length of the line through some pieces, px; 0 if it is one trail in pieces."""
    x, y, length, *_ = np.array([trails[i] for i in members]).T
    dark = line.length - float(length[_once(_along(x, y, line), length)].sum())
    return dark if dark > (1 - _FULL) * line.length else 0.0


def _once(along: NDArray[np.float64], length: NDArray[np.float64]) -> list[int]:
    """Return which pieces of a line do not repeat a stronger one; two groups of hits may show the same piece."""
    kept: list[int] = []
    for i in range(len(along)):
        if all(abs(along[i] - along[k]) > 0.5 * max(length[i], length[k]) for k in kept):
            kept.append(i)
    return kept


class _Others(NamedTuple):
    """Number of pieces as bright as a set, itself included; number of others in its direction; PSF and image, px."""

    rivals: int
    like: int
    fwhm_px: float
    area_px: float


def _is_no_chance(allowed: NDArray[np.float64], line: DetectedSegment, others: _Others) -> bool:
    """Return whether randomly placed pieces, as bright as these, would hardly ever form such a set.

    Their directions are random, or as often along the line as those of pieces outside the set: residuals of shifted
    stars, and asteroids of one family, are similar in direction and length. The logarithm of the S/N of two pieces is
    taken to be uniform over a decade.
    """
    rivals, like, fwhm_px, area_px = others
    fits = np.minimum(allowed / 90, 1.0)  # share of the directions
    follows = np.maximum(fits[1:], like / rivals)
    pairs = 0.5 * rivals**2 * fits[0] * follows[0]
    if len(allowed) < _LEAST:
        return bool(pairs * _near(area_px) * 2 * math.log10(_TWINS) < _LINES_BY_CHANCE)
    strip = 1.5 * fwhm_px * max(line.length, math.sqrt(area_px)) / area_px
    return bool(pairs * np.prod(rivals * follows[1:] * strip) < _LINES_BY_CHANCE)


def _near(area_px: float) -> float:
    """Return the share of an image that lies within the longest step of a point."""
    return min(math.pi * _PERIOD[1] ** 2 / area_px, 1.0)


def _is_set(length: NDArray[np.float64], snr: NDArray[np.float64], line: DetectedSegment) -> bool:
    if len(length) >= _LEAST and length.max() <= _ALIKE * length.min():
        return True
    if len(length) >= 2 and length.max() >= _ANCHOR and line.length - length.sum() <= _ANCHOR_GAP:
        return True
    alike = length.max() <= _TWINS * length.min() and snr.max() <= _TWINS * snr.min()
    return bool(len(length) == 2 and alike and line.length <= _PERIOD[1])


def _rows(
    trails: Sequence[DetectedSegment], strongest: list[int], fwhm_px: float, area_px: float
) -> list[tuple[int, ...]]:
    """Return sets of points at equal steps, the largest first; they may include pieces along the row."""
    from scipy.spatial import cKDTree

    if len(strongest) < _LEAST:
        return []
    x, y, length, angle, snr = np.array([trails[i] for i in strongest]).T
    places, directed = np.column_stack([x, y]), length >= _DIRECTED_FWHM * fwhm_px
    allowed = np.where(directed, np.minimum(_allowed(length, fwhm_px), 90.0), 90.0)
    tree = cKDTree(places)
    found = set()
    for first, second in _equal_steps(places, tree):
        weaker, stronger = sorted((snr[first], snr[second]))
        if stronger > _ALIKE * weaker:
            continue
        bright = (snr >= _AS_BRIGHT * weaker) & (snr * _AS_BRIGHT <= stronger)
        members = np.array(_row(places, tree, first, second, bright))
        (ax, ay), (bx, by) = places[first], places[second]
        along = _turned(angle[members], math.degrees(math.atan2(by - ay, bx - ax))) <= allowed[members]
        as_bright = snr >= snr[members].min()
        rivals = np.where(directed[members], (as_bright & directed).sum(), (as_bright & ~directed).sum())
        if along.all() and _row_by_chance(rivals * allowed[members] / 90, area_px) <= _BY_CHANCE:
            found.add(tuple(strongest[i] for i in members))
    return sorted(found, key=lambda one: (-len(one), one))


def _row_by_chance(fitting: NDArray[np.float64], area_px: float) -> float:
    """Return the expected number of such rows by chance in an image.

    ``fitting`` is, for each member of the row, the number of pieces of its kind as bright that fit in direction.
    """
    hit = math.pi * _ON_TIME**2 / area_px
    return 0.5 * _near(area_px) * float(np.prod(fitting)) * float(hit ** (len(fitting) - 2))


def _equal_steps(places: NDArray[np.float64], tree: "cKDTree") -> list[tuple[int, int]]:
    """Return the pairs of points followed by a third after an equal step in the same direction."""
    pairs = tree.query_pairs(_PERIOD[1], output_type="ndarray")
    pairs = pairs[np.hypot(*(places[pairs[:, 1]] - places[pairs[:, 0]]).T) >= _PERIOD[0]]
    both = np.concatenate([pairs, pairs[:, ::-1]])
    apart, _ = tree.query(2 * places[both[:, 1]] - places[both[:, 0]])
    return [(int(a), int(b)) for a, b in both[apart <= _ON_TIME]]


def _row(
    places: NDArray[np.float64], tree: "cKDTree", first: int, second: int, bright: NDArray[np.bool_]
) -> tuple[int, ...]:
    """Return a row of points, extended from two of them at equal steps in both directions while points are bright."""
    row = [int(first), int(second)]
    for ends in ((0, 1), (-1, -2)):
        while True:
            end, before = row[ends[0]], row[ends[1]]
            apart, following = tree.query(2 * places[end] - places[before])
            if apart > _ON_TIME or not bright[following] or int(following) in row:
                break
            row.insert(0 if ends[0] == 0 else len(row), int(following))
    return tuple(sorted(row))


def _allowed(length: NDArray[np.float64], fwhm_px: float) -> NDArray[np.float64]:
    """Return the largest angle between pieces and their line, deg."""
    return np.asarray(np.degrees(np.arctan2(0.5 * fwhm_px, length)) + _TURN)


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
