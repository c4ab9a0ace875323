"""What a `StreakNet` sees of an image."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.matched_filter import filtered_noise
from kernels.nets.streak_net import CELL, PLANES
from kernels.plane import Plane
from kernels.psf import seen_variance
from kernels.squash import squash

RADIUS = 8
"""Half side of the matched filter, px."""

_BAND = 16  # rows of cells that one thread fills at a time: its pixels stay in the cache


def dense_input(plane: Plane, y: int, x: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Give the numbers that describe each cell of a region; the region may reach beyond the plane.

    Parameters
    ----------
    plane
        Image with its noise and the width of its PSF.
    y, x
        First pixel of the region on the plane.
    rows, columns
        Of cells.

    Returns
    -------
    (rows, columns, 48) float32
        For each of the 4 x 4 px of a cell, row by row: its value in units of the noise; the S/N of a point source
        there, from a matched filter with a Gaussian of the PSF's width, in the noise as it is; 1 where it does not
        count, or is no part of the plane. Both S/N go through `kernels.squash.squash`.
    """
    taps = filter_taps(plane.fwhm_px)
    scale = 1 / filtered_noise(np.outer(taps, taps), 1.0, plane.correlation)
    out = np.empty((rows, columns, PLANES * CELL**2), np.float32)
    _fill(
        plane.pixels,
        plane.usable,
        np.float32(plane.background),
        np.float32(1 / plane.noise),
        taps,
        np.float32(scale),
        y,
        x,
        out,
    )
    return out


def filter_taps(fwhm_px: float) -> NDArray[np.float32]:
    """Give a Gaussian as wide as a PSF of ``fwhm_px`` px seen through the pixels, (2 RADIUS + 1,), sum 1."""
    taps = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * seen_variance(fwhm_px)))
    return (taps / taps.sum()).astype(np.float32)


@njit(**FAST, parallel=True)
def _fill(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    per_noise: np.float32,
    taps: NDArray[np.float32],
    scale: np.float32,
    y: int,
    x: int,
    out: NDArray[np.float32],
) -> None:
    rows, columns = out.shape[:2]
    for band in prange((rows + _BAND - 1) // _BAND):
        first = band * _BAND
        count = min(_BAND, rows - first)
        top, tall, wide = y + first * CELL, count * CELL, columns * CELL
        value = np.zeros((tall + 2 * RADIUS, wide + 2 * RADIUS), np.float32)
        _take(pixels, usable, background, per_noise, top - RADIUS, x - RADIUS, value)
        found = np.zeros((tall, wide), np.float32)
        _filter(value, taps, scale, found)
        squash(found)
        squash(value)
        for r in range(count):
            for c in range(columns):
                cell = out[first + r, c]
                for dy in range(CELL):
                    for dx in range(CELL):
                        j, i = r * CELL + dy, c * CELL + dx
                        cell[dy * CELL + dx] = value[j + RADIUS, i + RADIUS]
                        cell[16 + dy * CELL + dx] = found[j, i]
                        cell[32 + dy * CELL + dx] = _hidden(usable, top + j, x + i)


@njit(**FAST)
def _hidden(usable: NDArray[np.bool_], j: int, i: int) -> np.float32:
    inside = 0 <= j < usable.shape[0] and 0 <= i < usable.shape[1]
    return np.float32(0) if inside and usable[j, i] else np.float32(1)


@njit(**FAST)
def _take(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    per_noise: np.float32,
    y: int,
    x: int,
    value: NDArray[np.float32],
) -> None:
    """Fill ``value``, whose first pixel is (y, x) of the plane, with values in units of the noise."""
    left, right = max(0, -x), min(value.shape[1], pixels.shape[1] - x)
    for j in range(max(0, -y), min(value.shape[0], pixels.shape[0] - y)):
        for i in range(left, right):
            deviation = (pixels[y + j, x + i] - background) * per_noise
            # A comparison with what is not a number is false.
            known = usable[y + j, x + i] and abs(deviation) < np.float32(1e30)
            value[j, i] = deviation if known else np.float32(0)


@njit(**FAST)
def _filter(
    value: NDArray[np.float32], taps: NDArray[np.float32], scale: np.float32, found: NDArray[np.float32]
) -> None:
    """Filter along columns, then along rows."""
    width = found.shape[1]
    line = np.empty(value.shape[1], np.float32)
    for j in range(found.shape[0]):
        line[:] = 0
        for k in range(taps.shape[0]):
            tap, row = taps[k] * scale, value[j + k]
            for i in range(line.shape[0]):
                line[i] += tap * row[i]
        target = found[j]
        for k in range(taps.shape[0]):
            tap, row = taps[k], line[k : k + width]
            for i in range(width):
                target[i] += tap * row[i]
