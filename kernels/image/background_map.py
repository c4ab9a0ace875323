"""Variation of the background over an image, and its removal."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.image.noise import MAD_TO_SIGMA, without_steps
from kernels.image.order_statistic import median_of_cell
from kernels.image.variation import mesh_cells, with_nearest

_SAMPLE = 4_000  # approximate number of pixels of a cell that are used: a level is good to 2 % of the noise
_EVEN = 0.2  # of the noise: a smaller scatter of the levels adds less than 2 % to the noise, and is left

Floats = NDArray[np.float64]


class Levels(NamedTuple):
    """Background of an image above its median, in cells.

    Attributes
    ----------
    values : (rows, columns)
        Pixel units.
    y : (rows,)
    x : (columns,)
        Middles of the cells, px.
    """

    values: Floats
    y: Floats
    x: Floats


def uneven_background(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> Levels | None:
    """Return the background of an image in cells of about 256 px; None if it is even.

    Parameters
    ----------
    image, usable : (ny, nx)
        Pixels, finite where usable, and which count.

    Returns
    -------
    Levels or None
        Cells with too few pixels have the level of the nearest that has enough. None where the levels scatter by less
        than a fifth of the noise within the cells.
    """
    rows, columns, cells = mesh_cells(image.shape, _SAMPLE)
    level, noise = np.array([_level_and_noise(image[here], usable[here]) for here in cells]).T
    known = np.isfinite(level)
    if known.sum() < 2 or np.std(level[known]) <= _EVEN * np.median(noise[known]):
        return None
    values = with_nearest((level - np.median(level[known])).reshape(len(rows) - 1, len(columns) - 1))
    return Levels(values, *((edges[:-1] + edges[1:] - 1) / 2 for edges in (rows, columns)))


def level_background(image: NDArray[np.float32], levels: Levels, y0: int = 0) -> None:
    """Subtract levels from an image, or from its rows from ``y0`` on, in place, interpolated linearly."""
    column, after, right = _linear(np.arange(image.shape[1]), levels.x)
    lines = levels.values[:, column] * (1 - right) + levels.values[:, after] * right  # of the cells, at each column
    for row, above, below, down in zip(image, *_linear(np.arange(len(image)) + y0, levels.y), strict=True):
        row -= (lines[above] * (1 - down) + lines[below] * down).astype(np.float32)


def _level_and_noise(image: NDArray[np.float32], usable: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the median of a cell and the noise about it; NaN where too little of it counts."""
    values = image[usable]
    if not values.size:
        return np.nan, np.nan
    values = without_steps(values).astype(np.float64)
    middle = median_of_cell(values, usable.size)
    return middle, median_of_cell(np.abs(values - middle), usable.size) * MAD_TO_SIGMA


def _linear(at: NDArray[np.intp], nodes: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return the nodes before and after each place, and its way from the one to the other; beyond the ends, on."""
    before = np.clip(np.searchsorted(nodes, at, "right") - 1, 0, max(0, len(nodes) - 2))
    after = np.minimum(before + 1, len(nodes) - 1)
    return before, after, (at - nodes[before]) / np.maximum(nodes[after] - nodes[before], 1)
