"""Squares of pixels out of described cells."""

import numpy as np
from numpy.typing import NDArray

from kernels.nets.streak_net import CELL, PLANES


def cut_pixels(
    cells: NDArray[np.float32], x: NDArray[np.floating], y: NDArray[np.floating], side: int
) -> NDArray[np.float32]:
    """Give ``side`` x ``side`` px about points, as `kernels.dense_input.dense_input` describes them.

    Parameters
    ----------
    cells : (rows, columns, 48) float32
        The first begins at pixel 0.
    x, y : (n,)
        Points, px; rounded down to pixels.
    side
        Even; the point's pixel is the first behind the middle.

    Returns
    -------
    (n, 3, side, side) float32

    Raises
    ------
    ValueError
        A square does not lie on the cells.
    """
    steps = np.arange(side) - side // 2
    row, column = (np.floor(place).astype(np.int64)[:, None] + steps for place in (y, x))
    for place, count in ((row, cells.shape[0]), (column, cells.shape[1])):
        if place.size and not 0 <= place.min() <= place.max() < count * CELL:
            raise ValueError(f"squares of pixels {place.min()} to {place.max()} on {count} cells of {CELL} px")
    row, column = row[:, None, :, None], column[:, None, None, :]
    plane = np.arange(PLANES)[:, None, None] * CELL**2
    return cells[row // CELL, column // CELL, plane + row % CELL * CELL + column % CELL]
