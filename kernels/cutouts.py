"""Cutting small pictures out of an image."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True, error_model="numpy")
def cut(
    pixels: NDArray[np.float32],
    bad: NDArray[np.bool_],
    scale: float,
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    rows: NDArray[np.int64],
    plane: int,
    out: NDArray[np.float32],
) -> None:
    """Fill cutouts of one image; what is outside of it or ``bad`` is NaN.

    Parameters
    ----------
    pixels, bad : (ny, nx)
        The image, and its pixels without a value.
    scale
        Multiplies the pixels.
    y, x : (n,)
        Pixel that comes to lie at row and column side // 2 of each cutout.
    rows : (n,)
        Which cutout.
    plane, out : (m, planes, side, side)
        Which plane of the cutouts to fill.
    """
    ny, nx = pixels.shape
    side = out.shape[2]
    factor = np.float32(scale)
    nothing = np.float32(np.nan)
    for n in range(len(rows)):
        top, left = y[n] - side // 2, x[n] - side // 2
        picture = out[rows[n], plane]
        for j in range(side):
            row = top + j
            for i in range(side):
                column = left + i
                if 0 <= row < ny and 0 <= column < nx and not bad[row, column]:
                    picture[j, i] = pixels[row, column] * factor
                else:
                    picture[j, i] = nothing
