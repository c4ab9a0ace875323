"""A detection drawn on a picture."""

from dataclasses import dataclass

from flows.report.detection import Detection


@dataclass(frozen=True)
class Mark:
    """A detection on a picture: a capsule around a line, in pixels of the exposure, y downwards from the top.

    Attributes
    ----------
    x, y, angle
        Centre, and rotation clockwise, deg.
    length, radius
        Trail, and margin around it.
    """

    detection: Detection
    x: float
    y: float
    angle: float
    length: float
    radius: float

    @property
    def label(self) -> tuple[float, float]:
        """Where its number goes: to the upper right of the capsule."""
        return self.x + 0.8 * self.radius, self.y - 0.8 * self.radius


def place(detection: Detection, corner: tuple[float, float], height: float, radius: float) -> Mark:
    """Place ``detection`` on a picture of ``height`` px whose lowest, leftmost pixel is ``corner`` (x, y)."""
    x, y = detection.x - corner[0] + 0.5, height - (detection.y - corner[1] + 0.5)
    return Mark(detection, x, y, -detection.angle, detection.length, radius)
