"""The image along a line, straightened out."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.order_statistic import median

OFFSET_STEP = 0.5
"""Step across between the rows of `cross_filtered`, px."""

_SKY_BLOCK = 32  # columns that share one sky level


def straighten(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    centre: tuple[float, float],
    direction: tuple[float, float],
    half: tuple[int, int],
) -> NDArray[np.float32]:
    """Sample a strip along a line, by linear interpolation.

    Parameters
    ----------
    image : (ny, nx) float32
        Pixel units.
    usable : (ny, nx) bool
        Pixels that count.
    centre
        (x, y) of the strip's middle, px.
    direction
        Unit vector (x, y) along the line.
    half
        Half of its size across and along, px.

    Returns
    -------
    (2 half[0] + 1, 2 half[1] + 1) float32
        At 1 px; NaN outside the image and where a pixel is unusable.
    """
    strip = np.empty((2 * half[0] + 1, 2 * half[1] + 1), np.float32)
    _sample(image, usable, *centre, *direction, strip)
    return strip


@njit(cache=True, nogil=True)
def _sample(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    x: float,
    y: float,
    cosine: float,
    sine: float,
    strip: NDArray[np.float32],
) -> None:
    side, length = strip.shape[0] // 2, strip.shape[1] // 2
    for i in range(strip.shape[0]):
        for j in range(strip.shape[1]):
            px = x + (j - length) * cosine - (i - side) * sine
            py = y + (j - length) * sine + (i - side) * cosine
            column, row = math.floor(px), math.floor(py)
            strip[i, j] = np.nan
            if row < 0 or column < 0 or row >= image.shape[0] - 1 or column >= image.shape[1] - 1:
                continue
            if usable[row : row + 2, column : column + 2].all():
                fx, fy = px - column, py - row
                above = image[row, column] * (1 - fx) + image[row, column + 1] * fx
                below = image[row + 1, column] * (1 - fx) + image[row + 1, column + 1] * fx
                strip[i, j] = above * (1 - fy) + below * fy


def sky_level(strip: NDArray[np.float32], inner: int) -> NDArray[np.float32]:
    """Give the sky at each column of a strip: the median, over blocks of columns, of rows beyond ``inner`` px.

    Parameters
    ----------
    strip : (2S + 1, n) float32
        From `straighten`.
    inner
        Rows within this distance of the middle belong to the trail, px.

    Returns
    -------
    (n,) float32
        0 where nothing is known.
    """
    return _sky(strip, inner)


@njit(cache=True, nogil=True)
def _sky(strip: NDArray[np.float32], inner: int) -> NDArray[np.float32]:
    rows, columns = strip.shape
    level, known = np.zeros(columns, np.float32), np.empty(rows * _SKY_BLOCK)
    for start in range(0, columns, _SKY_BLOCK):
        count, end = 0, min(start + _SKY_BLOCK, columns)
        for i in range(rows):
            for j in range(start, end if abs(i - rows // 2) > inner else start):
                if np.isfinite(strip[i, j]):
                    known[count] = strip[i, j]
                    count += 1
        middle = median(known[:count]) if count else 0.0
        for j in range(start, end):
            level[j] = middle
    return level


def cross_filtered(strip: NDArray[np.float32], fwhm_px: float, swing: float) -> NDArray[np.float32]:
    """Give the brightness of a trail parallel to a strip, at each offset across and each column along.

    Parameters
    ----------
    strip : (2S + 1, n) float32
        Without sky.
    fwhm_px
        Of the PSF; its cross-section is taken as a Gaussian.
    swing
        Largest offset, px.

    Returns
    -------
    (m, n) float32
        Rows at `OFFSET_STEP` about the middle. Scaled so that white noise of deviation 1 keeps it; NaN where less
        than half of the cross-section is usable.
    """
    middle = strip.shape[0] // 2
    steps = int(swing / OFFSET_STEP)
    offsets = OFFSET_STEP * np.arange(-steps, steps + 1)
    across = np.arange(-middle, middle + 1)
    weight = np.exp(-4 * math.log(2) * np.square((across - offsets[:, None]) / fwhm_px)).astype(np.float32)
    known = np.isfinite(strip)
    total = weight @ np.where(known, strip, np.float32(0))
    square = np.square(weight) @ known.astype(np.float32)
    enough = square >= 0.5 * np.square(weight).sum(1, keepdims=True)
    return np.where(enough, total / np.sqrt(np.maximum(square, np.float32(1e-9))), np.float32(np.nan))


def half_width(strip: NDArray[np.float32], offsets: NDArray[np.floating], limit: float, noise: float) -> float:
    """Give how far across the light of a trail reaches before it falls to 2 % of its peak, or rises again.

    Parameters
    ----------
    strip : (2S + 1, n) float32
        Columns of the trail only, without sky.
    offsets : (n,)
        Of the trail from the middle of the strip at each column, px.
    limit
        Largest answer, px.
    noise
        Standard deviation of a pixel.
    """
    middle, reach = strip.shape[0] // 2, math.floor(limit)
    columns = np.arange(strip.shape[1])
    rows = middle + np.rint(offsets).astype(np.intp) + np.arange(-reach, reach + 1)[:, None]
    inside = (rows >= 0) & (rows < strip.shape[0])
    values = np.where(inside, strip[np.clip(rows, 0, strip.shape[0] - 1), columns], np.nan)
    known = np.isfinite(values)
    rows_known = (row[seen].astype(np.float64) for row, seen in zip(values, known, strict=True))
    profile = np.array([median(row) if len(row) else 0.0 for row in rows_known])
    floor = max(0.02 * float(profile[reach]), 2 * noise / math.sqrt(max(1, strip.shape[1])))
    return max(_fall(profile[reach:], floor), _fall(profile[reach::-1], floor))


def _fall(profile: NDArray[np.floating], floor: float) -> float:
    """Index at which a profile that starts at its peak is down to ``floor``, or at its first valley."""
    for i in range(2, len(profile)):
        if profile[i] < floor or profile[i] > 1.1 * profile[i - 1]:
            return float(i)
    return float(len(profile) - 1)
