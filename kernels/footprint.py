"""Pixels near a trail."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


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
        """``x1, y1, x2, y2`` of its end points, px."""
        theta = math.radians(self.angle)
        dx, dy = 0.5 * self.length * math.cos(theta), 0.5 * self.length * math.sin(theta)
        return self.x - dx, self.y - dy, self.x + dx, self.y + dy

    def distance(self, x: float, y: float) -> float:
        """Distance of a point from it, px."""
        theta = math.radians(self.angle)
        along = (x - self.x) * math.cos(theta) + (y - self.y) * math.sin(theta)
        across = (y - self.y) * math.cos(theta) - (x - self.x) * math.sin(theta)
        return math.hypot(max(abs(along) - 0.5 * self.length, 0.0), across)


class Footprint(NamedTuple):
    """Pixels of a convex area, row by row; a list, because a box around a long oblique trail is nearly empty.

    Attributes
    ----------
    y, x : (n,) int32
        Pixels.
    row0
        First row.
    left, first : (rows,) and (rows + 1,) int32
        First column of each row, and the place of its pixel in the list.
    """

    y: NDArray[np.int32]
    x: NDArray[np.int32]
    row0: int
    left: NDArray[np.int32]
    first: NDArray[np.int32]


def stadium(shape: tuple[int, int], segment: Segment, radius: float) -> Footprint:
    """List the pixels of an image whose centres lie within ``radius`` of a segment.

    Parameters
    ----------
    shape
        (ny, nx) of the image, px.
    segment, radius
        px.

    Returns
    -------
    Footprint
        Empty if the stadium lies outside of the image.
    """
    x1, y1, x2, y2 = segment.ends()
    row0, row1 = max(0, math.ceil(min(y1, y2) - radius)), min(shape[0] - 1, math.floor(max(y1, y2) + radius))
    rows = np.arange(row0, max(row0, row1 + 1), dtype=np.float64)
    low, high = _disc(rows - y1, x1, radius)
    low2, high2 = _disc(rows - y2, x2, radius)
    low3, high3 = _band(rows - segment.y, segment, radius)
    left = np.ceil(np.clip(np.minimum(np.minimum(low, low2), low3), 0, shape[1])).astype(np.int32)
    right = np.floor(np.clip(np.maximum(np.maximum(high, high2), high3), -1, shape[1] - 1)).astype(np.int32) + 1
    count = np.maximum(right - left, 0)
    first = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    y = np.repeat(rows, count).astype(np.int32)
    x = (np.arange(first[-1]) - np.repeat(first[:-1] - left, count)).astype(np.int32)
    return Footprint(y, x, row0, left, first)


def _disc(dy: NDArray[np.float64], x: float, radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns of a disc in each row; an empty interval (inf, -inf) where there are none."""
    inside = np.abs(dy) <= radius
    half = np.sqrt(np.where(inside, radius**2 - dy**2, 0.0))
    return np.where(inside, x - half, np.inf), np.where(inside, x + half, -np.inf)


def _band(dy: NDArray[np.float64], segment: Segment, radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns of the rectangle between the two discs of a stadium."""
    theta = math.radians(segment.angle)
    cosine, sine = math.cos(theta), math.sin(theta)
    low, high = np.full(dy.shape, -np.inf), np.full(dy.shape, np.inf)
    # |dx * slope + offset| <= limit, along the segment and across it
    for slope, offset, limit in ((cosine, dy * sine, 0.5 * segment.length), (-sine, dy * cosine, radius)):
        if abs(slope) < 1e-12:
            outside = np.abs(offset) > limit
            low, high = np.where(outside, np.inf, low), np.where(outside, -np.inf, high)
            continue
        a, b = (-limit - offset) / slope, (limit - offset) / slope
        low, high = np.maximum(low, np.minimum(a, b)), np.minimum(high, np.maximum(a, b))
    empty = low > high
    return np.where(empty, np.inf, segment.x + low), np.where(empty, -np.inf, segment.x + high)


@njit(cache=True, nogil=True)
def place(row: int, column: int, row0: int, left: NDArray[np.int32], first: NDArray[np.int32]) -> int:
    """Place of a pixel in the list of a `Footprint`, or -1 (compiled, for use in compiled loops)."""
    r = row - row0
    if r < 0 or r >= left.shape[0]:
        return -1
    k = column - left[r]
    if k < 0 or k >= first[r + 1] - first[r]:
        return -1
    return first[r] + k


@njit(cache=True, nogil=True)
def grow(marked: NDArray[np.bool_], footprint: Footprint, reach: int) -> NDArray[np.bool_]:
    """Mark all pixels within ``reach`` px, in x and y, of the marked ones.

    Parameters
    ----------
    marked : (n,) bool
        In the order of the footprint's list.
    footprint, reach
        Pixels outside of the footprint are not there.
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
