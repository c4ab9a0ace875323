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


def in_line(first: Segment, second: Segment, radius: float) -> bool:
    """Tell whether both ends of the shorter segment lie within ``radius`` px of the line through the longer."""
    _, across = _along_longer(first, second)
    return bool(np.all(np.abs(across) <= radius))


def between(first: Segment, second: Segment) -> Segment:
    """Give the gap between two segments in line, along the longer; of length 0 if they overlap. Its S/N is 0."""
    longer = _longer(first, second)[0]
    along, _ = _along_longer(first, second)
    side = 1.0 if along.sum() >= 0 else -1.0
    near, far = 0.5 * longer.length, float(np.min(side * along))
    return _on_line(longer, side * near, side * max(near, far), 0.0)


def union(first: Segment, second: Segment) -> Segment:
    """Give the segment along the longer one that reaches over both; its S/N is theirs added in quadrature."""
    longer = _longer(first, second)[0]
    along, _ = _along_longer(first, second)
    low, high = min(-0.5 * longer.length, float(along.min())), max(0.5 * longer.length, float(along.max()))
    return _on_line(longer, low, high, math.hypot(first.snr, second.snr))


def _longer(first: Segment, second: Segment) -> tuple[Segment, Segment]:
    return (first, second) if first.length >= second.length else (second, first)


def _along_longer(first: Segment, second: Segment) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the ends of the shorter segment, along and across the longer, from its centre."""
    longer, shorter = _longer(first, second)
    cosine, sine = longer.direction
    x, y = shorter.points(max(shorter.length, 1.0)).T
    dx, dy = x - longer.x, y - longer.y
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def _on_line(segment: Segment, low: float, high: float, snr: float) -> Segment:
    """Segment between two places along another, px from its centre."""
    cosine, sine = segment.direction
    middle = 0.5 * (low + high)
    return Segment(segment.x + middle * cosine, segment.y + middle * sine, abs(high - low), segment.angle, snr)
