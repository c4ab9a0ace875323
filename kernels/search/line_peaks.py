"""Candidates at the peaks of a `LineBank`, and the refinement of their lines."""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.search.line_search import HALF, LENGTHS, REACH, LineBank, Peaks, every_line

APART = 3
"""A peak is the highest pixel of the square that reaches so far from it, px."""

COVER_PX = 2.5
"""A peak is part of a higher one if it lies so close to its line, px."""

_EXCESS, _MARGIN = (
    2.0,
    2.0,
)  # a point brighter than so many times the mean of a line, and so much more, is not part of it

PEAK_REACH = REACH + 2 * APART + int(1.5 * HALF) + 4
"""How far around a pixel the image decides whether it is a candidate, px."""


def line_peaks(
    value: NDArray[np.float32],
    code: NDArray[np.int32],
    snr: NDArray[np.float32],
    scale: NDArray[np.float32],
    floor: float,
) -> Peaks:
    """Return the peaks above a floor that are not part of a higher one.

    Parameters
    ----------
    value, code : (ny, nx)
        From `kernels.search.line_search.best_lines`.
    snr : (ny, nx)
        Of a point source, as given to it.
    scale
        Of the `LineBank`.
    floor
        Least S/N.

    Notes
    -----
    Of two peaks, the higher one covers the other if that lies within `COVER_PX` of its line and is no brighter than an
    even line would be there: a line through two stars does not cover them. Whether the higher one is itself covered by
    a third does not matter, so what is a candidate depends on the image within `PEAK_REACH` px only.
    """
    y, x = _highest(value, np.float32(floor))
    found = Peaks(y, x, code[y, x], value[y, x])
    _, _, length, angle = found.lines.T
    radians, half = np.radians(angle), length / 2
    pixels = np.tile(LENGTHS, scale.size // len(LENGTHS))[found.code]
    level = found.snr / (scale.ravel()[found.code] * pixels)
    ends = np.stack([half * np.cos(radians), half * np.sin(radians), half, _EXCESS * level + _MARGIN], 1)
    kept = _uncovered(y, x, found.snr, snr[y, x], ends)
    return found.take(kept)


@njit(**FAST)
def _highest(value: NDArray[np.float32], floor: np.float32) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ny, nx = value.shape
    rows, columns = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    for j in range(ny):
        for i in range(nx):
            v = value[j, i]
            if v < floor:
                continue
            highest = True
            for r in range(max(j - APART, 0), min(j + APART + 1, ny)):
                for c in range(max(i - APART, 0), min(i + APART + 1, nx)):
                    # Of equals the first is the peak.
                    earlier = r < j or (r == j and c < i)
                    if value[r, c] > v or (earlier and value[r, c] == v):
                        highest = False
                        break
                if not highest:
                    break
            if highest:
                rows.append(np.int64(j))
                columns.append(np.int64(i))
    return np.array(rows, np.int64), np.array(columns, np.int64)


@njit(**FAST)
def _uncovered(
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    snr: NDArray[np.float32],
    point: NDArray[np.float32],
    ends: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Return which peaks lie on the line of no higher one; they are sorted by y."""
    kept = np.ones(y.shape[0], np.bool_)
    first = 0
    longest = 1.5 * HALF + COVER_PX
    for n in range(y.shape[0]):
        while y[first] < y[n] - longest:
            first += 1
        m = first
        while kept[n] and m < y.shape[0] and y[m] <= y[n] + longest:
            dy, dx = float(y[n] - y[m]), float(x[n] - x[m])
            higher = m != n and (snr[m] > snr[n] or (snr[m] == snr[n] and m < n))
            if higher and abs(dx) <= longest and point[n] <= ends[m, 3]:
                # Place along the line in units of its half length, kept on it.
                ahead, up, size = ends[m, 0], ends[m, 1], ends[m, 2] ** 2
                along = (dx * ahead + dy * up) / size if size > 0 else 0.0
                along = min(max(along, -1.0), 1.0)
                if (dx - along * ahead) ** 2 + (dy - along * up) ** 2 <= COVER_PX**2:
                    kept[n] = False
            m += 1
    return kept


BEYOND = 10
"""How far beyond its ends a line is tried, px."""

_SHORT = 14.0  # px: a shorter line may point anywhere
_TURNS, _TURN = 9, math.radians(1.25)
_SHIFTS, _SHIFT = 5, 0.5  # px across
_AWAY = 2.0  # px
_STEP = 2  # px between the ends that are tried
_MOST = 2 * int(LENGTHS[-1]) + 2 * BEYOND  # more points than any line has


def refine_lines(snr: NDArray[np.float32], peaks: Peaks, bank: LineBank, clip: float) -> NDArray[np.float64]:
    """Return the segments of highest S/N about candidates.

    Parameters
    ----------
    snr : (ny, nx) float32
        S/N of a point source at each pixel.
    peaks
        The candidates.
    bank
        Its lines.
    clip
        See `kernels.search.line_search.best_lines`.

    Returns
    -------
    (n, 5) float64
        Steps in x and y from the pixel of the peak to the middle, px; length, px; angle, deg from +x towards +y; S/N.
        Turned by up to 5 deg (a line shorter than 14 px: anyhow), moved by up to 1 px across and 2 px and an eighth of
        its length along, so that a candidate beside a trail does not become the trail; its ends up to 10 px beyond.
    """
    lines = every_line()[peaks.code]
    # Variance of a sum of that many points of S/N: the bank's along a row, and beyond its longest as it grew last.
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
    """Return the value at a step (dx, dy) from a pixel, bilinear; 0 outside."""
    i, j = math.floor(dx), math.floor(dy)
    p, q = dx - i, dy - j
    x, y = x0 + i, y0 + j
    if x < 0 or y < 0 or x + 1 >= values.shape[1] or y + 1 >= values.shape[0]:
        return 0.0
    upper = values[y, x] * (1 - p) + values[y, x + 1] * p
    return upper * (1 - q) + (values[y + 1, x] * (1 - p) + values[y + 1, x + 1] * p) * q
