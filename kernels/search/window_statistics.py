"""Mean and standard deviation of every search window, from shared sums."""

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.search.windows import FLAT

FAR = 64.0
"""Windows whose mean lies farther from the background than this many of their standard deviations are not left to
float32 sums: at 64 the digits lost are still below 1e-5 of a standard deviation."""

TINY, HUGE = 1e-30, 1e30
"""Neither are windows whose standard deviation is beyond these: products with it leave the range of float32."""


@dataclass(frozen=True)
class WindowStatistics:
    """Mean and standard deviation that standardise every window of a grid.

    Parameters
    ----------
    mean : (bands, rows, columns) float64
        Mean of the usable pixels minus the background, unit of the image.
    inverse : (bands, rows, columns) float64
        1 / standard deviation (ddof 0) of the usable pixels; 0 where the window is not scored.
    scored : (rows, columns) bool
        False if more than half of the window is unusable or, in any band, there is no spread.
    far : (rows, columns) bool
        True if sums in float32 would lose digits (`FAR`); these windows are scored.
    """

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]
    scored: NDArray[np.bool_]
    far: NDArray[np.bool_]


def window_statistics(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    grid: tuple[int, int],
    stride: int,
    side: int,
) -> WindowStatistics:
    """Return mean and spread of every window of the grid, over its usable pixels.

    Parameters
    ----------
    image : (bands, ny, nx) float32
        Pixels; values under ``~usable`` are not read.
    usable : (ny, nx) bool
        Pixels that count, the same for all bands; finite in every band.
    background
        Level subtracted before summing, in the unit of ``image``.
    grid
        Rows and columns of windows; window (r, c) starts at pixel (r * stride, c * stride).
    stride, side
        Step and size of the windows, pixels.

    Notes
    -----
    Sums are in float64, always over the same pixels in the same order, so a window's statistics do not depend on the
    image around it. If one pass over value and square cannot distinguish a flat window from one with spread, the window
    is summed again in two passes, by the rule of `kernels.search.windows`.
    """
    bands = len(image)
    mean = np.zeros((bands, *grid))
    inverse = np.zeros((bands, *grid))
    scored = np.ones(grid, np.bool_)
    far = np.zeros(grid, np.bool_)
    _statistics(image, usable, np.float32(background), stride, side, mean, inverse, scored, far)
    inverse[:, ~scored] = 0.0
    return WindowStatistics(mean, inverse, scored, far & scored)


@nb.njit(parallel=True, cache=True)
def _statistics(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    stride: int,
    side: int,
    mean: NDArray[np.float64],
    inverse: NDArray[np.float64],
    scored: NDArray[np.bool_],
    far: NDArray[np.bool_],
) -> None:
    rows, columns = scored.shape
    width = (columns - 1) * stride + side
    for row in nb.prange(rows):
        count, total, square = np.empty(width), np.empty(width), np.empty(width)
        for band in range(image.shape[0]):
            _column_sums(image[band], usable, background, row * stride, side, count, total, square)
            for column in range(columns):
                n, s1, s2 = 0.0, 0.0, 0.0
                for x in range(column * stride, column * stride + side):
                    n += count[x]
                    s1 += total[x]
                    s2 += square[x]
                if 2 * n < side * side:
                    scored[row, column] = False
                    continue
                level = s1 / n
                std = np.sqrt(max(s2 / n - level * level, 0.0))
                if std <= 1e-5 * (abs(background) + abs(level)):
                    level, std = _two_passes(image[band], usable, background, row * stride, column * stride, side)
                if std <= 0.0:
                    scored[row, column] = False
                    continue
                mean[band, row, column] = level
                inverse[band, row, column] = 1.0 / std
                if abs(level) > FAR * std or not TINY < std < HUGE:
                    far[row, column] = True


@nb.njit(cache=True)
def _column_sums(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    y0: int,
    side: int,
    count: NDArray[np.float64],
    total: NDArray[np.float64],
    square: NDArray[np.float64],
) -> None:
    count[:] = 0.0
    total[:] = 0.0
    square[:] = 0.0
    for y in range(y0, y0 + side):
        for x in range(len(count)):
            pixel = np.float64(image[y, x]) - np.float64(background) if usable[y, x] else 0.0
            count[x] += 1.0 if usable[y, x] else 0.0
            total[x] += pixel
            square[x] += pixel * pixel


@nb.njit(cache=True)
def _two_passes(
    image: NDArray[np.float32], usable: NDArray[np.bool_], background: np.float32, y0: int, x0: int, side: int
) -> tuple[np.float64, np.float64]:
    """Return mean minus background, and standard deviation; 0 if float32 pixels of that size cannot resolve it."""
    total, largest, count = np.float64(0.0), np.float64(0.0), 0
    for y in range(y0, y0 + side):
        for x in range(x0, x0 + side):
            if usable[y, x]:
                value = np.float64(image[y, x])
                total += value
                largest = max(largest, abs(value))
                count += 1
    level = total / count
    square = np.float64(0.0)
    for y in range(y0, y0 + side):
        for x in range(x0, x0 + side):
            if usable[y, x]:
                square += (np.float64(image[y, x]) - level) ** 2
    std = np.sqrt(square / count)
    return level - np.float64(background), std if std > FLAT * largest else np.float64(0.0)
