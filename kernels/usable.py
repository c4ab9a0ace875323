"""Which pixels count."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.mask import UNUSABLE

_UNUSABLE = np.uint16(UNUSABLE)


def usable_pixels(pixels: NDArray[np.float32], mask: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Give the pixels that are finite and not masked as unusable.

    Parameters
    ----------
    pixels, mask : (ny, nx)
        Difference image, and its mask plane (`schemas.mask.MaskPlane`).

    Returns
    -------
    (ny, nx) bool
        A new array, for the caller to change.
    """
    out = np.empty(pixels.shape, np.bool_)
    _mark(pixels, mask, out)
    return out


@njit(cache=True, nogil=True)
def _mark(pixels: NDArray[np.float32], mask: NDArray[np.uint16], out: NDArray[np.bool_]) -> None:
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            # Without a branch; neither NaN nor infinity is less than infinity.
            out[row, column] = ((mask[row, column] & _UNUSABLE) == 0) & (abs(pixels[row, column]) < math.inf)
