"""Line segments in an image."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Segment(NamedTuple):
    """A trail's middle line with its significance.

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
    def direction(self) -> tuple[float, float]:
        """Unit vector (x, y) along it."""
        theta = math.radians(self.angle)
        return math.cos(theta), math.sin(theta)

    def shifted(self, dx: float, dy: float) -> "Segment":
        """Give the same segment elsewhere."""
        return self._replace(x=self.x + dx, y=self.y + dy)

    def points(self, step: float) -> NDArray[np.float64]:
        """Give points (n, 2), columns x and y, spread evenly over it at ``step`` px or less; a point gives one."""
        cosine, sine = self.direction
        n = math.ceil(self.length / step)
        along = (np.arange(n + 1) / max(n, 1) - 0.5 * (n > 0)) * self.length
        return np.column_stack([self.x + along * cosine, self.y + along * sine])


def from_ends(x1: float, y1: float, x2: float, y2: float, snr: float) -> Segment:
    """Give the segment between two points, px."""
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1)) % 180.0
    return Segment(0.5 * (x1 + x2), 0.5 * (y1 + y2), math.hypot(x2 - x1, y2 - y1), angle, snr)


def distance(x: NDArray[np.float64], y: NDArray[np.float64], segment: Segment) -> NDArray[np.float64]:
    """Give the distance of points from a segment, px; any shapes that broadcast."""
    cosine, sine = segment.direction
    along = (x - segment.x) * cosine + (y - segment.y) * sine
    across = (y - segment.y) * cosine - (x - segment.x) * sine
    beyond = np.maximum(np.abs(along) - 0.5 * segment.length, 0.0)
    return np.hypot(beyond, across)


def overlap(inner: Segment, outer: Segment, radius: float) -> float:
    """Give the share of ``inner`` that lies within ``radius`` px of ``outer``, 0 to 1."""
    points = inner.points(1.0)
    return float(np.mean(distance(points[:, 0], points[:, 1], outer) <= radius))


def collinear(first: Segment, second: Segment, radius: float) -> bool:
    """Tell whether two segments are pieces of one line.

    They are if both ends of the shorter lie within ``radius`` px of the line through the longer, and the gap between
    them is shorter than both together.
    """
    longer, shorter = (first, second) if first.length >= second.length else (second, first)
    cosine, sine = longer.direction
    x, y = shorter.points(max(shorter.length, 1.0)).T
    across = (y - longer.y) * cosine - (x - longer.x) * sine
    along = (x - longer.x) * cosine + (y - longer.y) * sine
    gap = float(np.min(np.abs(along))) - 0.5 * longer.length
    return bool(np.all(np.abs(across) <= radius)) and gap <= longer.length + shorter.length


def union(first: Segment, second: Segment) -> Segment:
    """Give the segment along the longer one that reaches over both; its S/N is theirs added in quadrature."""
    longer, shorter = (first, second) if first.length >= second.length else (second, first)
    cosine, sine = longer.direction
    x, y = shorter.points(max(shorter.length, 1.0)).T
    along = (x - longer.x) * cosine + (y - longer.y) * sine
    low, high = min(-0.5 * longer.length, along.min()), max(0.5 * longer.length, along.max())
    middle = 0.5 * (low + high)
    return Segment(
        longer.x + middle * cosine,
        longer.y + middle * sine,
        float(high - low),
        longer.angle,
        math.hypot(first.snr, second.snr),
    )
