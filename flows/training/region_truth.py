"""Boxes around the trails of an exposure, and what is neither trail nor nothing."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flows.training.field import Field

Floats = NDArray[np.float64]


class Sources(NamedTuple):
    """What is on an image, or a square crop of it.

    Attributes
    ----------
    boxes : (n, 4)
        Of trails to be found: x0, y0, x1, y1, px.
    lines : (m, 4)
        Of what counts neither way, such as point sources: x, y, length, px, and angle, deg.
    """

    boxes: Floats
    lines: Floats

    def cropped(self, x0: int, y0: int, side: int, border: float) -> "Sources":
        """Give those on a crop; trails whose middle is nearer than ``border`` px to its rim count neither way."""
        first = np.array([x0, y0], float)
        boxes, lines = self.boxes - np.tile(first, 2), self.lines - np.array([x0, y0, 0, 0])
        middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
        inner = ((middle > border) & (middle < side - 1 - border)).all(1)
        touching = ((middle + half > 0) & (middle - half < side - 1)).all(1) & ~inner
        # A box knows no angle: a line as long as its longer side, along x, stands for the trail.
        added = np.concatenate([middle, 2 * half.max(1, keepdims=True, initial=0), np.zeros((len(half), 1))], 1)
        reach = lines[:, 2] / 2 + 20
        close = ((lines[:, :2] > -reach[:, None]) & (lines[:, :2] < side + reach[:, None])).all(1)
        return Sources(boxes[inner], np.concatenate([lines[close], added[touching]]))

    def turned(self, turns: int, mirror: bool, side: int) -> "Sources":
        """Give those on a crop that ``np.rot90(..., turns)`` has turned and, if asked, transposition mirrored."""
        boxes, lines = self.boxes, self.lines
        for _ in range(turns):
            boxes = np.stack([boxes[:, 1], side - 1 - boxes[:, 2], boxes[:, 3], side - 1 - boxes[:, 0]], 1)
            lines = np.stack([lines[:, 1], side - 1 - lines[:, 0], lines[:, 2], lines[:, 3] - 90], 1)
        if mirror:
            boxes = boxes[:, [1, 0, 3, 2]]
            lines = np.stack([lines[:, 1], lines[:, 0], lines[:, 2], 90 - lines[:, 3]], 1)
        return Sources(boxes, lines)


def sources_of(truth: pa.Table, field: Field) -> Sources:
    """Take the boxes of the trails to be found from a truth table, and lines of all else that is there."""
    targets, wanted = field.targets, field.wanted
    lines = np.stack([targets.x, targets.y, targets.length, targets.angle], 1)
    return Sources(true_boxes(truth)[wanted], lines[~wanted & ~field.dark])


def true_boxes(truth: pa.Table) -> Floats:
    """Take the boxes of all sources from a truth table, (sources, 4): to the edges of their outermost pixels."""
    edges = [truth[f"box_{name}"].to_numpy().astype(np.float64) for name in ("xmin", "ymin", "xmax", "ymax")]
    return np.stack(edges, 1) + np.array([-0.5, -0.5, 0.5, 0.5])
