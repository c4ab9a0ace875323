"""The line of a candidate, finer than the bank knows it."""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.line_bank import LENGTHS, LineBank, every_line
from kernels.line_peaks import Peaks

BEYOND = 10
"""How far beyond its ends a line is tried, px."""

_SHORT = 14.0  # px: a shorter line may point anywhere
_TURNS, _TURN = 9, math.radians(1.25)
_SHIFTS, _SHIFT = 5, 0.5  # px across
_AWAY = 2.0  # px
_STEP = 2  # px between the ends that are tried
_MOST = 2 * int(LENGTHS[-1]) + 2 * BEYOND  # more points than any line has


def refine_lines(snr: NDArray[np.float32], peaks: Peaks, bank: LineBank, clip: float) -> NDArray[np.float64]:
    """Give the segments of highest S/N about candidates.

    Parameters
    ----------
    snr : (ny, nx) float32
        S/N of a point source at each pixel.
    peaks
        The candidates.
    bank
        Its lines.
    clip
        See `kernels.line_search.best_lines`.

    Returns
    -------
    (n, 5) float64
        Steps in x and y from the pixel of the peak to the middle, px; length, px; angle, deg from +x towards +y; S/N.
        Turned by up to 5 deg (a line shorter than 14 px: anyhow), moved by up to 1 px across and 2 px and an eighth of
        its length along, so that a candidate beside a trail does not become the trail; its ends up to 10 px beyond.
    """
    lines = every_line()[peaks.code]
    # Of a sum of so many points of S/N: the bank's along a row, and beyond its longest as it grew last.
    count = np.arange(_MOST)
    known = bank.scale[0, 0].astype(np.float64) ** -2.0
    variance = np.interp(count, LENGTHS, known)
    growth = (known[-1] - known[-2]) / (LENGTHS[-1] - LENGTHS[-2])
    variance += growth * np.maximum(count - LENGTHS[-1], 0)
    out = np.empty((len(lines), 5))
    _refine(snr, np.stack([peaks.y, peaks.x], 1), lines, 1 / np.sqrt(np.maximum(variance, 1.0)), clip, out)
    return out


@njit(**FAST, parallel=True)
def _refine(
    snr: NDArray[np.float32],
    pixel: NDArray[np.int64],
    lines: NDArray[np.float64],
    weight: NDArray[np.float64],
    clip: float,
    out: NDArray[np.float64],
) -> None:
    for n in prange(lines.shape[0]):
        dx, dy, length, angle = lines[n]
        half, theta = math.ceil(length / 2) + BEYOND, math.radians(angle)
        turns, turn = (_TURNS, _TURN) if length >= _SHORT else (16, math.pi / 16)
        sums, best, away = np.zeros(2 * half + 2), -1.0, _AWAY + length / 8
        for k in range(turns):
            direction = theta + (k - turns // 2) * turn
            ux, uy = math.cos(direction), math.sin(direction)
            for m in range(_SHIFTS):
                shift = (m - _SHIFTS // 2) * _SHIFT
                x, y = dx - shift * uy, dy + shift * ux
                for t in range(2 * half + 1):
                    along = t - half
                    value = _between(snr, pixel[n, 0], pixel[n, 1], x + along * ux, y + along * uy)
                    sums[t + 1] = sums[t] + min(max(value, -clip), clip)
                for first in range(half % _STEP, half + 1, _STEP):
                    for last in range(half + 1, 2 * half + 2, _STEP):
                        if abs(0.5 * (first + last - 1) - half) > away:
                            continue
                        found = (sums[last] - sums[first]) * weight[last - first]
                        if found > best:
                            middle = 0.5 * (first + last - 1) - half
                            best = found
                            out[n, 0], out[n, 1] = x + middle * ux, y + middle * uy
                            out[n, 2], out[n, 3] = last - first, math.degrees(direction) % 180.0
        if out[n, 2] <= 1:
            out[n, 2] = 0.0
        out[n, 4] = best


@njit(**FAST)
def _between(values: NDArray[np.float32], y0: int, x0: int, dx: float, dy: float) -> float:
    """Value at a step (dx, dy) from a pixel, bilinear; 0 outside."""
    i, j = math.floor(dx), math.floor(dy)
    p, q = dx - i, dy - j
    x, y = x0 + i, y0 + j
    if x < 0 or y < 0 or x + 1 >= values.shape[1] or y + 1 >= values.shape[0]:
        return 0.0
    upper = values[y, x] * (1 - p) + values[y, x + 1] * p
    return upper * (1 - q) + (values[y + 1, x] * (1 - p) + values[y + 1, x + 1] * p) * q
