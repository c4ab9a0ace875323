"""Candidates at the peaks of a `LineBank`."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.search.line_search import HALF, LENGTHS, REACH, Peaks

APART = 3
"""Half the side of the square in which a peak is the highest pixel, px."""

COVER_PX = 2.5
"""Distance from a higher peak's line within which a peak is part of it, px."""

_EXCESS, _MARGIN = (
    2.0,
    2.0,
)  # a point brighter than this factor times the mean of a line, plus this margin, is not part of it

PEAK_REACH = REACH + 2 * APART + int(1.5 * HALF) + 4
"""Distance within which the image decides whether a pixel is a candidate, px."""


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
        Results of `kernels.search.line_search.best_lines`.
    snr : (ny, nx)
        S/N of a point source, as passed to `best_lines`.
    scale
        Scale of the `LineBank`.
    floor
        Least S/N.

    Notes
    -----
    The higher of two peaks covers the other if the latter lies within `COVER_PX` of its line and is no brighter than a
    uniform line would be there, so a line through two stars does not cover them. It does not matter whether the higher
    peak is itself covered by a third, so a candidate depends only on the image within `PEAK_REACH` px.
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
                    # The first of equal values is the peak.
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
    """Return which peaks do not lie on the line of a higher one; peaks are sorted by y."""
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
                # Position along the line in units of its half length, limited to the line.
                ahead, up, size = ends[m, 0], ends[m, 1], ends[m, 2] ** 2
                along = (dx * ahead + dy * up) / size if size > 0 else 0.0
                along = min(max(along, -1.0), 1.0)
                if (dx - along * ahead) ** 2 + (dy - along * up) ** 2 <= COVER_PX**2:
                    kept[n] = False
            m += 1
    return kept
