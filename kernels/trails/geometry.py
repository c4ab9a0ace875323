"""Line segments in an image, the pixels near them, and removal of repeated segments."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit


class Segment(NamedTuple):
    """Straight line between two points.

    Attributes
    ----------
    x, y
        Centre, px.
    length
        px, >= 0.
    angle
        From +x towards +y, deg.
    """

    x: float
    y: float
    length: float
    angle: float

    def ends(self) -> tuple[float, float, float, float]:
        """Return the end points ``x1, y1, x2, y2``, px."""
        theta = math.radians(self.angle)
        dx, dy = 0.5 * self.length * math.cos(theta), 0.5 * self.length * math.sin(theta)
        return self.x - dx, self.y - dy, self.x + dx, self.y + dy

    def distance(self, x: float, y: float) -> float:
        """Return the distance of a point from the segment, px."""
        theta = math.radians(self.angle)
        along = (x - self.x) * math.cos(theta) + (y - self.y) * math.sin(theta)
        across = (y - self.y) * math.cos(theta) - (x - self.x) * math.sin(theta)
        return math.hypot(max(abs(along) - 0.5 * self.length, 0.0), across)


class Footprint(NamedTuple):
    """Pixels of a convex area, listed row by row, since a box around a long oblique trail is mostly empty.

    Attributes
    ----------
    y, x : (n,) int32
        Pixels.
    row0
        First row.
    left, first : (rows,) and (rows + 1,) int32
        First column of each row, and the index of its pixel in the list.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    row0: int
    left: NDArray[np.int32]
    first: NDArray[np.int32]


def stadium(shape: tuple[int, int], segment: Segment, radius: float) -> Footprint:
    """Return the pixels of an image whose centres lie within ``radius`` of a segment.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    segment, radius
        px.

    Returns
    -------
    Footprint
        Empty if the area lies outside the image.
    """
    x, y, length, angle = segment
    return Footprint(*_list(*shape, float(x), float(y), float(length), math.radians(angle), float(radius)))


def comes_near(segment: Segment, other: Segment, radius: float) -> bool:
    """Return whether any point of a segment lies within ``radius`` px of another."""
    reach = 0.5 * (segment.length + other.length) + radius
    if math.hypot(other.x - segment.x, other.y - segment.y) > reach:
        return False
    theta = math.radians(segment.angle)
    steps = max(1, math.ceil(segment.length))
    return any(
        other.distance(segment.x + along * math.cos(theta), segment.y + along * math.sin(theta)) <= radius
        for along in ((k / steps - 0.5) * segment.length for k in range(steps + 1))
    )


@njit(cache=True, nogil=True)
def _list(
    ny: int, nx: int, x: float, y: float, length: float, theta: float, radius: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], int, NDArray[np.int32], NDArray[np.int32]]:
    """Return the fields of the footprint."""
    half_x, half_y = 0.5 * length * math.cos(theta), 0.5 * length * math.sin(theta)
    row0 = max(0, math.ceil(y - abs(half_y) - radius))
    row1 = max(row0, min(ny - 1, math.floor(y + abs(half_y) + radius)) + 1)
    left, first = np.empty(row1 - row0, np.int32), np.zeros(row1 - row0 + 1, np.int32)
    for i in range(row1 - row0):
        row = row0 + i
        low, high = _band(row - y, x, length, theta, radius)
        for side in (-1.0, 1.0):
            low2, high2 = _disc(row - (y + side * half_y), x + side * half_x, radius)
            low, high = min(low, low2), max(high, high2)
        left[i] = math.ceil(min(max(low, 0.0), float(nx)))
        right = math.floor(min(max(high, -1.0), nx - 1.0)) + 1
        first[i + 1] = first[i] + max(right - left[i], 0)
    rows, columns = np.empty(first[-1], np.int32), np.empty(first[-1], np.int32)
    for i in range(row1 - row0):
        for j in range(first[i], first[i + 1]):
            rows[j] = row0 + i
            columns[j] = left[i] + j - first[i]
    return rows, columns, row0, left, first


@njit(cache=True, nogil=True)
def _disc(dy: float, x: float, radius: float) -> tuple[float, float]:
    """Return the columns of a disc in a row; the empty interval (inf, -inf) if there are none."""
    if abs(dy) > radius:
        return math.inf, -math.inf
    half = math.sqrt(radius**2 - dy**2)
    return x - half, x + half


@njit(cache=True, nogil=True)
def _band(dy: float, x: float, length: float, theta: float, radius: float) -> tuple[float, float]:
    """Return the columns of the rectangle between the two discs of a stadium."""
    cosine, sine = math.cos(theta), math.sin(theta)
    low, high = -math.inf, math.inf
    # |dx * slope + offset| <= limit, along the segment and across it
    for slope, offset, limit in ((cosine, dy * sine, 0.5 * length), (-sine, dy * cosine, radius)):
        if abs(slope) >= 1e-12:
            a, b = (-limit - offset) / slope, (limit - offset) / slope
            low, high = max(low, min(a, b)), min(high, max(a, b))
        elif abs(offset) > limit:
            return math.inf, -math.inf
    return (math.inf, -math.inf) if low > high else (x + low, x + high)


@njit(cache=True, nogil=True)
def place(row: int, column: int, row0: int, left: NDArray[np.int32], first: NDArray[np.int32]) -> int:
    """Return the index of a pixel in the list of a `Footprint`, or -1 (compiled, for use in compiled loops)."""
    r = row - row0
    if r < 0 or r >= left.shape[0]:
        return -1
    k = column - left[r]
    if k < 0 or k >= first[r + 1] - first[r]:
        return -1
    return first[r] + k


@njit(cache=True, nogil=True)
def grow(marked: NDArray[np.bool_], footprint: Footprint, reach: int) -> NDArray[np.bool_]:
    """Return which pixels lie within ``reach`` px, in x and y, of a marked one.

    Parameters
    ----------
    marked : (n,) bool
        Marked pixels, in the order of the footprint's list.
    footprint, reach
        Pixels outside the footprint are ignored.
    """
    out = marked.copy()
    for i in range(marked.shape[0]):
        if marked[i]:
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    row, column = footprint.y[i] + dy, footprint.x[i] + dx
                    j = place(row, column, footprint.row0, footprint.left, footprint.first)
                    if j >= 0:
                        out[j] = True
    return out


class DetectedSegment(NamedTuple):
    """Centre line of a trail, with its significance.

    Attributes
    ----------
    x, y
        Centre, px.
    length
        px; 0 is a point.
    angle
        From +x towards +y, deg, modulo 180.
    snr
        Matched-filter signal to noise.
    """

    x: float
    y: float
    length: float
    angle: float
    snr: float

    @property
    def line(self) -> Segment:
        """Return the segment without its S/N."""
        return Segment(*self[:4])

    @property
    def direction(self) -> tuple[float, float]:
        """Return the unit vector (x, y) along the segment."""
        theta = math.radians(self.angle)
        return math.cos(theta), math.sin(theta)

    def shifted(self, dx: float, dy: float) -> "DetectedSegment":
        """Return the segment shifted by a given vector."""
        return self._replace(x=self.x + dx, y=self.y + dy)

    def points(self, step: float) -> NDArray[np.float64]:
        """Return evenly spaced points (n, 2), columns x and y, at most ``step`` px apart; one for a point."""
        n = math.ceil(self.length / step)
        if not n:
            return np.array([[self.x, self.y]], np.float64)
        cosine, sine = self.direction
        along, out = (np.arange(n + 1) / n - 0.5) * self.length, np.empty((n + 1, 2))
        out[:, 0], out[:, 1] = self.x + along * cosine, self.y + along * sine
        return out

    def ends(self) -> tuple[float, float, float, float]:
        """Return the end points ``x1, y1, x2, y2``, px."""
        return self.line.ends()


def detected_segments(*columns: Iterable[float | None]) -> list[DetectedSegment]:
    """Return segments from columns of their fields, in order; missing columns are 0."""
    return [DetectedSegment(*(value or 0.0 for value in one)) for one in zip(*columns, strict=True)]


def from_ends(x1: float, y1: float, x2: float, y2: float, snr: float) -> DetectedSegment:
    """Return the segment between two points, px."""
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1)) % 180.0
    return DetectedSegment(0.5 * (x1 + x2), 0.5 * (y1 + y2), math.hypot(x2 - x1, y2 - y1), angle, snr)


def distance(x: NDArray[np.float64], y: NDArray[np.float64], segment: DetectedSegment) -> NDArray[np.float64]:
    """Return the distances of points from a segment, px; the shapes must broadcast."""
    cosine, sine = segment.direction
    along = (x - segment.x) * cosine + (y - segment.y) * sine
    across = (y - segment.y) * cosine - (x - segment.x) * sine
    beyond = np.maximum(np.abs(along) - 0.5 * segment.length, 0.0)
    return np.hypot(beyond, across)


def near_any(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    segments: Iterable[DetectedSegment],
    radius: float | NDArray[np.floating],
) -> NDArray[np.bool_]:
    """Return which points lie within a radius of any segment, px; the radius may differ for each point."""
    near = np.zeros(len(x), np.bool_)
    for one in segments:
        near |= distance(x, y, one) < radius
    return near


def overlap(inner: DetectedSegment, outer: DetectedSegment, radius: float) -> float:
    """Return the share of ``inner`` that lies within ``radius`` px of ``outer``, 0 to 1."""
    points = inner.points(1.0)
    return float(np.mean(distance(points[:, 0], points[:, 1], outer) <= radius))


def in_line(first: DetectedSegment, second: DetectedSegment, radius: float) -> bool:
    """Return whether both ends of the shorter segment lie within ``radius`` px of the line through the longer."""
    _, across = _along_longer(first, second)
    return max(map(abs, across)) <= radius


def between(first: DetectedSegment, second: DetectedSegment) -> DetectedSegment:
    """Return the gap between two segments in line, along the longer; its length is 0 if they overlap, its S/N is 0."""
    longer = _longer(first, second)[0]
    along, _ = _along_longer(first, second)
    side = 1.0 if sum(along) >= 0 else -1.0
    near, far = 0.5 * longer.length, min(side * one for one in along)
    return _on_line(longer, side * near, side * max(near, far), 0.0)


def union(first: DetectedSegment, second: DetectedSegment) -> DetectedSegment:
    """Return the segment along the longer one that covers both; its S/N is the quadrature sum of both."""
    longer = _longer(first, second)[0]
    along, _ = _along_longer(first, second)
    low, high = min(-0.5 * longer.length, *along), max(0.5 * longer.length, *along)
    return _on_line(longer, low, high, math.hypot(first.snr, second.snr))


def _longer(first: DetectedSegment, second: DetectedSegment) -> tuple[DetectedSegment, DetectedSegment]:
    return (first, second) if first.length >= second.length else (second, first)


def _along_longer(first: DetectedSegment, second: DetectedSegment) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the ends of the shorter segment, along and across the longer, from its centre."""
    longer, shorter = _longer(first, second)
    cosine, sine = longer.direction
    x1, y1, x2, y2 = shorter.ends()
    apart = ((x1 - longer.x, y1 - longer.y), (x2 - longer.x, y2 - longer.y))
    return tuple(dx * cosine + dy * sine for dx, dy in apart), tuple(dy * cosine - dx * sine for dx, dy in apart)


def _on_line(segment: DetectedSegment, low: float, high: float, snr: float) -> DetectedSegment:
    """Return the segment between two positions along another, px from its centre."""
    cosine, sine = segment.direction
    middle = 0.5 * (low + high)
    return DetectedSegment(segment.x + middle * cosine, segment.y + middle * sine, abs(high - low), segment.angle, snr)


_MOST = 6.0  # px; trails further apart than this stay separate, however wide the PSF


def same_trail(one: Segment, other: Segment, tolerance: float) -> bool:
    """Return whether the centre and both ends of the shorter trail lie within ``tolerance`` px of the longer one."""
    short, long = (one, other) if one.length <= other.length else (other, one)
    x1, y1, x2, y2 = short.ends()
    return all(long.distance(x, y) <= tolerance for x, y in ((short.x, short.y), (x1, y1), (x2, y2)))


LONG = 60.0
"""Length above which a trail may be that of a satellite, or longer than the templates of the search, px."""
_FAINT, _OUTSHINES = 4.5, 3.0  # S/N of one FWHM of a line, and least ratio of brightness for a trail on it


def outshines(one: DetectedSegment, line: DetectedSegment, fwhm_px: float) -> bool:
    """Return whether a trail is three times as bright as a long, faint one, by the S/N of one FWHM of each."""
    here, there = (each.snr * math.sqrt(fwhm_px / max(each.length, fwhm_px)) for each in (one, line))
    return line.length >= LONG and there < _FAINT and here > _OUTSHINES * there


def first_of_each(segments: Sequence[DetectedSegment], fwhm_px: float) -> list[int]:
    """Return the segments that do not repeat an earlier one, unless one of the two is faint and the other outshines it.

    Parameters
    ----------
    segments
        Fitted trails, the best candidate first.
    fwhm_px
        FWHM of the PSF, px. Two fits are the same trail if the shorter one lies within 1.5 FWHM, and within 6 px, of
        the longer one. So fits that converged to one position, and pieces of one long trail, are reduced to one, while
        trails 10 px apart and crossing trails are kept.

    Returns
    -------
    list of int
        Indices of the kept segments, in order.
    """
    tolerance = min(1.5 * fwhm_px, _MOST)
    plain, kept = [one.line for one in segments], list[int]()
    places: NDArray[np.float64] = np.array([(s.x, s.y, s.length) for s in segments]).reshape(-1, 3)

    def repeats(i: int, j: int) -> bool:
        one, other = segments[i], segments[j]
        apart = outshines(one, other, fwhm_px) or outshines(other, one, fwhm_px)
        return same_trail(plain[i], plain[j], tolerance) and not apart

    for i, segment in enumerate(segments):
        x, y, length = places[kept].T
        near = np.hypot(x - segment.x, y - segment.y) <= (length + segment.length) / 2 + tolerance
        if not any(repeats(i, kept[j]) for j in np.flatnonzero(near)):
            kept.append(i)
    return kept


def lies_on(trail: DetectedSegment, stronger: DetectedSegment, fwhm_px: float) -> bool:
    """Return whether a trail lies on a stronger one, or just beyond its ends."""
    beyond = 4 * fwhm_px if stronger.length >= 3 * fwhm_px else 0.0
    longer = stronger._replace(length=stronger.length + beyond)
    return overlap(trail, longer, core_radius(stronger.snr, fwhm_px)) > 0.5


def core_radius(snr: float, fwhm_px: float) -> float:
    """Return the distance from a trail within which all light belongs to it, px.

    The distance is 1.2 FWHM, and more above S/N 30, because the wings of the real PSF differ from those of the model.
    """
    return fwhm_px * (1.2 + 0.6 * math.log10(max(snr / 30, 1.0)))
