"""Small images of candidates, turned so that their lines lie along the rows."""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.line_peaks import Peaks
from kernels.plane import Plane
from kernels.squash import squash

LONG, WIDE = 64, 24
"""Pixels along and across the line."""

CHANNELS = 3


def line_cutouts(
    plane: Plane, snr: NDArray[np.float32], peaks: Peaks, lines: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Cut out candidates.

    Parameters
    ----------
    plane
        The image.
    snr : (ny, nx) float32
        S/N of a point source at each of its pixels (`kernels.line_search.point_map`).
    peaks
        The candidates.
    lines : (n, 5)
        Of theirs, from `kernels.line_refine.refine_lines`.

    Returns
    -------
    (n, CHANNELS, WIDE, LONG) float32
        Sampled between pixels, bilinear: value in units of the noise and S/N of a point, both through
        `kernels.squash.squash`; share that does not count or is no part of the plane.
    """
    out = np.zeros((len(peaks.y), CHANNELS, WIDE, LONG), np.float32)
    pixel = np.stack([peaks.y, peaks.x], 1)
    _cut(plane.pixels, plane.usable, plane.background, 1 / plane.noise, snr, pixel, lines, out)
    return out


@njit(**FAST, parallel=True)
def _cut(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    per_noise: float,
    snr: NDArray[np.float32],
    pixel: NDArray[np.int64],
    lines: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    ny, nx = pixels.shape
    long, wide = out.shape[3], out.shape[2]
    for n in prange(out.shape[0]):
        dx, dy, _, angle, _ = lines[n]
        ux, uy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        for r in range(wide):
            v = r - 0.5 * (wide - 1)
            for c in range(long):
                u = c - 0.5 * (long - 1)
                # Counted from the candidate's own pixel: what is found does not depend on where the plane begins.
                x, y = dx + u * ux - v * uy, dy + u * uy + v * ux
                i, j = math.floor(x), math.floor(y)
                p, q = x - i, y - j
                for step in range(4):
                    right, down = step % 2, step // 2
                    weight = (p if right else 1 - p) * (q if down else 1 - q)
                    k, m = pixel[n, 0] + j + down, pixel[n, 1] + i + right
                    if not (0 <= k < ny and 0 <= m < nx):
                        out[n, 2, r, c] += weight
                        continue
                    value = (pixels[k, m] - background) * per_noise
                    if usable[k, m] and abs(value) < 1e30:
                        out[n, 0, r, c] += weight * value
                    else:
                        out[n, 2, r, c] += weight
                    out[n, 1, r, c] += weight * snr[k, m]
        squash(out[n, :2])
