"""Flashes and dashes in line: satellites that tumble, aeroplanes that blink."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.trails.geometry import DetectedSegment, from_ends

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

_DIRECTED_FWHM = 2.0  # from this length on a piece has a direction
_TURN = 1.0  # deg, besides half a FWHM over the length
_LEAST = 3  # pieces in line
_ANCHOR = 100.0  # px: to a piece as long as this, one more will do
_ANCHOR_GAP = 500.0  # px
_ALIKE = 4.0  # of lengths of pieces without an anchor, the longest over the shortest
_FULL = 0.75  # of the line: more than this is one trail in pieces, and no flashes
_PERIOD = (15.0, 450.0)  # px
_ON_TIME = 2.0  # px by which a flash may be off its place
_LINES_BY_CHANCE = 1e-2  # sets of pieces that chance may give in an image
_BY_CHANCE = 1e-3  # rows of so many points that chance may give in an image
_MOST = 600  # pieces looked at


class GlintTrail(NamedTuple):
    """Line from the first to the last flash, with the S/N of all; and which segments they are."""

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
        it, of which chance gives fewer than 0.01 sets in an image; or two of which one is 100 px long. Points: so many,
        one after the other at equal steps, that chance gives fewer than 0.001 such rows in an image; that is four in
        most images. A line that is lit over more than three quarters of its length is one trail in pieces, and is not
        given.
    """
    strongest = sorted(range(len(trails)), key=lambda i: -trails[i].snr)[:_MOST]
    directed = [i for i in strongest if trails[i].length >= _DIRECTED_FWHM * fwhm_px]
    points = [i for i in strongest if trails[i].length < _DIRECTED_FWHM * fwhm_px]
    found: list[GlintTrail] = []
    used: set[int] = set()
    for members in _lines(trails, directed, fwhm_px, area_px) + _rows(trails, points, area_px):
        if used.isdisjoint(members):
            line = _through([trails[i] for i in members])
            dark = line.length - sum(trails[i].length for i in members)
            # One more flash may follow at either end.
            longer = line._replace(length=line.length + 2.4 * dark / (len(members) - 1))
            whole = (*members, *(i for i in points if i not in members and _on_line(trails[i], longer, fwhm_px)))
            if dark > (1 - _FULL) * line.length:
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
    x, y, length, angle = np.array([trails[i][:4] for i in directed]).T
    allowed = np.degrees(np.arctan2(0.5 * fwhm_px, length)) + _TURN
    one, other = np.triu_indices(len(directed), 1)
    join = np.degrees(np.arctan2(y[other] - y[one], x[other] - x[one]))
    aligned = (_turned(angle[one], join) <= allowed[one]) & (_turned(angle[other], join) <= allowed[other])
    sets: set[tuple[int, ...]] = set()
    for a, b in zip(one[aligned], other[aligned], strict=True):
        line = _through([trails[directed[a]], trails[directed[b]]])
        near = _across(x, y, line) <= 0.75 * fwhm_px + 0.01 * np.minimum(length, 300)
        chosen = np.flatnonzero(near & (_turned(angle, line.angle) <= allowed))
        if _is_set(length[chosen], line) and _is_no_chance(allowed, chosen, line, fwhm_px, area_px):
            sets.add(tuple(directed[i] for i in chosen))
    return sorted(sets, key=lambda one: (-len(one), one))


def _is_no_chance(
    allowed: NDArray[np.float64], chosen: NDArray[np.intp], line: DetectedSegment, fwhm_px: float, area_px: float
) -> bool:
    """Return whether pieces that lie anywhere, in any direction, would hardly ever give such a set."""
    if len(chosen) < _LEAST:
        return True
    fits = np.minimum(allowed[chosen] / 90, 1.0)  # share of the directions
    strip = 1.5 * fwhm_px * max(line.length, math.sqrt(area_px)) / area_px
    expected = 0.5 * len(allowed) ** 2 * fits[0] * fits[1] * float(np.prod(len(allowed) * fits[2:] * strip))
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
    """Go on from two points at equal steps, both ways."""
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


def _on_line(point: DetectedSegment, line: DetectedSegment, fwhm_px: float) -> bool:
    cosine, sine = line.direction
    along = (point.x - line.x) * cosine + (point.y - line.y) * sine
    return abs(along) <= 0.5 * line.length and bool(
        _across(np.array([point.x]), np.array([point.y]), line)[0] <= 0.75 * fwhm_px
    )


def _through(pieces: Sequence[DetectedSegment]) -> DetectedSegment:
    """Line from end to end of all pieces: their principal axis, longer ones counting more."""
    ends = np.concatenate([piece.points(max(piece.length, 1.0)) for piece in pieces])
    centre = ends.mean(0)
    axis = np.linalg.svd(ends - centre, full_matrices=False)[2][0]
    along = (ends - centre) @ axis
    (x1, y1), (x2, y2) = centre + along.min() * axis, centre + along.max() * axis
    return from_ends(x1, y1, x2, y2, math.sqrt(sum(piece.snr**2 for piece in pieces)))
