"""Which cells of a crop hold a trail."""

import numpy as np
from numpy.typing import NDArray

from kernels.matching import segment_distance
from kernels.nets.streak_net import CELL

ON_PX = 3.0
"""A cell is on a trail if its centre is within so much of it: at least one cell is, wherever a point lies."""

BESIDE_PX = 8.0
"""Up to here a cell is neither on a trail nor free of it."""

_WEIGHT = 6.0  # of a trail of one cell; of k cells, together, that times sqrt(k)


class CellLabels:
    """Labels and weights of the cells of a square crop, filled source by source.

    Parameters
    ----------
    cells
        Cells along a side.

    Attributes
    ----------
    label, weight : (cells, cells) float32
        1 on a trail; how much a cell counts, 0 where nothing can be said.
    """

    def __init__(self, cells: int) -> None:
        middle = np.arange(cells) * float(CELL) + (CELL - 1) / 2
        self._x, self._y = np.meshgrid(middle, middle)
        self.label = np.zeros((cells, cells), np.float32)
        self.weight = np.ones((cells, cells), np.float32)

    def ignore(self, x: float, y: float, length: float, angle: float) -> None:
        """Let the cells about a source count for nothing, but those on a trail."""
        near = self._distance(x, y, length, angle) < BESIDE_PX
        self.weight[near & (self.label == 0)] = 0

    def add(self, x: float, y: float, length: float, angle: float) -> None:
        """Mark a trail; place and length in px of the crop, angle in deg."""
        self.ignore(x, y, length, angle)
        on = self._distance(x, y, length, angle) <= ON_PX
        self.label[on] = 1
        self.weight[on] = np.maximum(_WEIGHT / np.sqrt(max(int(on.sum()), 1)), 1.4)

    def without_border(self, width: int) -> None:
        """Let the outermost cells count for nothing: they do not see what lies outside."""
        inner = np.zeros(self.weight.shape, bool)
        inner[width:-width, width:-width] = True
        self.weight[~inner] = 0

    def _distance(self, x: float, y: float, length: float, angle: float) -> NDArray[np.float64]:
        return segment_distance(self._x, self._y, x, y, length, angle)
