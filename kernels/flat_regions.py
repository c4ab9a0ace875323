"""Parts of an image that hold no sky: borders and masks filled with a constant."""

import numba as nb
import numpy as np
from numpy.typing import NDArray

_BLOCK = 4
_QUIET = 0.15  # of the usual scatter; lossy compression scatters a constant by up to 0.07 sigma


def flat_regions(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark pixels that hardly differ from their surroundings, as no noise would let them.

    Parameters
    ----------
    image : (ny, nx) float32
        May hold NaN.

    Returns
    -------
    (ny, nx) bool
        True in blocks of 4 x 4 px whose scatter is below 0.15 of the median block's, if a block beside them is like
        them, and on pixels next to these within three times the block's scatter of its level. All False if no block
        has any scatter.
    """
    ny, nx = image.shape[0] // _BLOCK, image.shape[1] // _BLOCK
    if not ny or not nx:
        return np.zeros(image.shape, np.bool_)
    level, scatter = _block_moments(image, ny, nx)
    alive = np.isfinite(scatter) & (scatter > 0)
    if not alive.any():
        return np.zeros(image.shape, np.bool_)
    quiet = _QUIET * float(np.median(scatter[alive]))
    flat = np.isfinite(scatter) & (scatter < quiet)
    flat &= _beside(flat)
    marked = np.zeros(image.shape, np.bool_)
    if flat.any():
        _spread(image, flat, level, 3 * scatter, marked)
    return marked


def _beside(flat: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = np.pad(flat, 1)
    return wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]


@nb.njit(cache=True)
def _block_moments(image: NDArray[np.float32], ny: int, nx: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each block; NaN if a pixel is not finite."""
    level, scatter = np.empty((ny, nx)), np.empty((ny, nx))
    count = _BLOCK * _BLOCK
    for row in range(ny):
        for column in range(nx):
            y0, x0 = row * _BLOCK, column * _BLOCK
            pivot = np.float64(image[y0, x0])  # so that a high level costs no digits
            total = square = 0.0
            for y in range(y0, y0 + _BLOCK):
                for x in range(x0, x0 + _BLOCK):
                    value = np.float64(image[y, x]) - pivot
                    total += value
                    square += value * value
            mean = total / count
            level[row, column] = pivot + mean
            scatter[row, column] = np.sqrt(max(square / count - mean * mean, 0.0)) if np.isfinite(square) else np.nan
    return level, scatter


@nb.njit(cache=True)
def _spread(
    image: NDArray[np.float32],
    flat: NDArray[np.bool_],
    level: NDArray[np.float64],
    tolerance: NDArray[np.float64],
    marked: NDArray[np.bool_],
) -> None:
    """Mark the flat blocks, and around each what is within its ``tolerance`` of its level."""
    ny, nx = image.shape
    for row in range(flat.shape[0]):
        for column in range(flat.shape[1]):
            if not flat[row, column]:
                continue
            y0, x0 = row * _BLOCK, column * _BLOCK
            for y in range(max(0, y0 - _BLOCK), min(ny, y0 + 2 * _BLOCK)):
                for x in range(max(0, x0 - _BLOCK), min(nx, x0 + 2 * _BLOCK)):
                    inside = y0 <= y < y0 + _BLOCK and x0 <= x < x0 + _BLOCK
                    if inside or abs(image[y, x] - level[row, column]) <= tolerance[row, column]:
                        marked[y, x] = True
