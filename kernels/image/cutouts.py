"""Small pieces cut out of an image."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.image.noise import without_steps
from kernels.image.order_statistic import median


class Crop(NamedTuple):
    """Piece of an image, without sky.

    Attributes
    ----------
    x0, y0
        Place of its first pixel in the image; may be negative.
    data : (ny, nx) float32
        Pixel units; 0 where unusable and outside the image.
    usable : (ny, nx) bool
        False outside the image.
    """

    x0: int
    y0: int
    data: NDArray[np.float32]
    usable: NDArray[np.bool_]


def cut_crop(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    box: tuple[int, int, int, int],
    most: float = np.inf,
) -> Crop:
    """Cut out a box and subtract its sky.

    Parameters
    ----------
    image, usable : (ny, nx)
        Whole image, pixel units, and its pixels that count.
    background
        Sky where too little of the box is usable for a median of its own (less than a quarter), pixel units.
    box
        (y0, y1, x0, x1), half open, px; may reach beyond the image.
    most
        What lies this far from ``background``, or farther, is not usable, pixel units.
    """
    y0, y1, x0, x1 = box
    low_y, low_x = max(y0, 0), max(x0, 0)
    high_y, high_x = max(low_y, min(y1, image.shape[0])), max(low_x, min(x1, image.shape[1]))
    inside = (slice(low_y - y0, high_y - y0), slice(low_x - x0, high_x - x0))
    known = np.zeros((y1 - y0, x1 - x0), np.bool_)
    data = np.zeros(known.shape, np.float32)
    data[inside] = image[low_y:high_y, low_x:high_x]
    known[inside] = usable[low_y:high_y, low_x:high_x] & (np.abs(data[inside].astype(np.float64) - background) < most)
    values = without_steps(data[known]).astype(np.float64)
    sky = median(values) if 4 * len(values) >= known.size else background
    return Crop(x0, y0, np.where(known, data - np.float32(sky), np.float32(0)), known)


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
