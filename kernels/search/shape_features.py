"""Features of the shape of the light about a candidate."""

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.image.search_image import SearchImage
from kernels.psf.gaussian_mixture import seen_variance
from kernels.search.line_search import Peaks

FAR = 24
"""How far from a candidate, or from the ends of its line, its features look, px."""

_ACROSS = (1, 2, 3, 4, 6)
_RINGS = (2.0, 4.0, 7.0, 12.0, 24.0)
_LINE = (
    "snr", "length", "fine_snr", "line_snr", "even_snr", "peak", "raw_peak", "mean", "evenness", "spread", "lowest",
    "uneven_halves", "middle", "beyond_most", "beyond_least", "raw_middle", "raw_1", "raw_2", "sharpest",
)  # fmt: skip
_FIT = ("trail_chi2", "point_chi2", "most_above", "most_below", "amplitude", "point_amplitude", "trail_share")
_SCENE = ("fwhm", "neighbour_correlation", "off_axis", "masked_near", "masked_far", "wide", "narrow")

FEATURES = (
    *_LINE,
    *(f"across_{d}" for d in _ACROSS),
    *(f"sides_{d}" for d in _ACROSS),
    *_FIT,
    *(f"{what}_{n}" for n in range(len(_RINGS)) for what in ("most", "least", "mean", "rms")),
    *_SCENE,
)
"""Names of the features, in order."""


def shape_features(
    plane: SearchImage, snr: NDArray[np.float32], peaks: Peaks, lines: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Describe candidates.

    Parameters
    ----------
    plane
        The image.
    snr : (ny, nx) float32
        S/N of a point source at each of its pixels (`kernels.search.line_search.point_map`).
    peaks
        The candidates.
    lines : (n, 5)
        Of theirs, from `kernels.search.line_peaks.refine_lines`.

    Returns
    -------
    (n, len(FEATURES)) float32
        Along the line, sampled every px: S/N of its points (peak, mean, spread, ...) and just beyond its ends; beside
        it, means at some distances, px, and differences of the two sides; residuals of a fitted trail and a fitted
        point; in rings of some radii, px, about the middle, S/N of points; the scene.
    """
    out = np.zeros((len(peaks.y), len(FEATURES)), np.float32)
    reach = plane.correlation.shape[0] // 2
    neighbour = float(plane.correlation[reach, reach + 1]) if reach else 0.0
    scale, background = 1 / plane.noise, plane.background
    _describe(
        plane.pixels,
        plane.usable,
        background,
        scale,
        snr,
        np.stack([peaks.y, peaks.x], 1),
        lines,
        peaks.snr,
        math.sqrt(seen_variance(plane.fwhm_px)),
        plane.fwhm_px,
        neighbour,
        out,
    )
    return out


@njit(**FAST, parallel=True)
def _describe(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: float,
    scale: float,
    snr: NDArray[np.float32],
    pixel: NDArray[np.int64],
    lines: NDArray[np.float64],
    best: NDArray[np.float32],
    sigma: float,
    fwhm: float,
    neighbour: float,
    out: NDArray[np.float32],
) -> None:
    for n in prange(lines.shape[0]):
        dx, dy, length, angle, fine = lines[n]
        ux, uy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        side = max(FAR, math.ceil(length / 2 + 3 * sigma) + 6) + 2
        down, right = round(dy), round(dx)
        y0, x0 = pixel[n, 0] + down - side, pixel[n, 1] + right - side
        # In float32 units of the noise, 0 where nothing is known.
        raw, point = np.zeros((2 * side + 1, 2 * side + 1)), np.zeros((2 * side + 1, 2 * side + 1))
        masked = np.ones((2 * side + 1, 2 * side + 1), np.bool_)
        for j in range(max(y0, 0), min(y0 + 2 * side + 1, pixels.shape[0])):
            for i in range(max(x0, 0), min(x0 + 2 * side + 1, pixels.shape[1])):
                value = (pixels[j, i] - background) * scale
                if usable[j, i] and abs(value) < 1e30:
                    raw[j - y0, i - x0], masked[j - y0, i - x0] = value, False
                point[j - y0, i - x0] = snr[j, i]
        # Counted from the candidate's own pixel: what is found does not depend on where the plane begins.
        row, cx, cy = out[n], side + dx - right, side + dy - down
        row[0], row[1], row[2] = best[n], length, fine
        k = _along(raw, point, cx, cy, ux, uy, length, row, 3)
        k = _beside(point, cx, cy, ux, uy, length, row, k)
        k = _fits(raw, masked, cx, cy, ux, uy, length, sigma, row, k)
        k = _rings(point, cx, cy, row, k)
        row[k], row[k + 1] = fwhm, neighbour
        row[k + 2] = min(angle % 90.0, 90.0 - angle % 90.0)
        _surroundings(raw, masked, cx, cy, row, k + 3)


@njit(**FAST)
def _at(values: NDArray[np.float64], x: float, y: float) -> float:
    """Return the value between pixels, bilinear."""
    i, j = math.floor(x), math.floor(y)
    p, q = x - i, y - j
    upper = values[j, i] * (1 - p) + values[j, i + 1] * p
    return upper * (1 - q) + (values[j + 1, i] * (1 - p) + values[j + 1, i + 1] * p) * q


@njit(**FAST)
def _along(
    raw: NDArray[np.float64],
    point: NDArray[np.float64],
    x: float,
    y: float,
    ux: float,
    uy: float,
    length: float,
    row: NDArray[np.float32],
    k: int,
) -> int:
    half = max(round(length / 2), 1)
    total, square, clipped, most, least, top = 0.0, 0.0, 0.0, -1e9, 1e9, -1e9
    first, second, middle, inner = 0.0, 0.0, 0.0, 0
    raws, sharp = np.zeros(3), -1e9
    for t in range(-half, half + 1):
        px, py = x + t * ux, y + t * uy
        value = _at(point, px, py)
        total, square, clipped = total + value, square + value * value, clipped + min(max(value, -6.0), 6.0)
        most, least = max(most, value), min(least, value)
        first, second = first + (value if t < 0 else 0.0), second + (value if t > 0 else 0.0)
        if 2 * abs(t) <= half:
            middle, inner = middle + value, inner + 1
        here = _at(raw, px, py)
        top = max(top, here)
        for d in range(3):
            raws[d] += 0.5 * (_at(raw, px - d * uy, py + d * ux) + _at(raw, px + d * uy, py - d * ux))
        i, j = round(px), round(py)
        around = 0.25 * (raw[j - 1, i] + raw[j + 1, i] + raw[j, i - 1] + raw[j, i + 1])
        sharp = max(sharp, raw[j, i] - around)
    count = 2 * half + 1
    mean = total / count
    ahead, behind = 0.0, 0.0
    for t in range(half + 3, half + 7):
        ahead += _at(point, x + t * ux, y + t * uy) / 4
        behind += _at(point, x - t * ux, y - t * uy) / 4
    size = max(abs(mean), 0.3)
    row[k], row[k + 1], row[k + 2], row[k + 3] = total / math.sqrt(count), clipped / math.sqrt(count), most, top
    row[k + 4], row[k + 5] = mean, most / size
    row[k + 6] = math.sqrt(max(square / count - mean * mean, 0.0)) / size
    row[k + 7], row[k + 8], row[k + 9] = least / size, abs(first - second) / half / size, middle / inner / size
    row[k + 10], row[k + 11] = max(ahead, behind) / size, min(ahead, behind) / size
    row[k + 12] = raws[0] / count
    row[k + 13], row[k + 14] = raws[1] / max(abs(raws[0]), 0.3), raws[2] / max(abs(raws[0]), 0.3)
    row[k + 15] = sharp / max(top, 1.0)
    return k + 16


@njit(**FAST)
def _beside(
    point: NDArray[np.float64],
    x: float,
    y: float,
    ux: float,
    uy: float,
    length: float,
    row: NDArray[np.float32],
    k: int,
) -> int:
    half = max(round(length / 2), 1)
    centre = 0.0
    for t in range(-half, half + 1):
        centre += _at(point, x + t * ux, y + t * uy)
    size = max(abs(centre), 1.0)
    for n in range(len(_ACROSS)):
        left, right, d = 0.0, 0.0, _ACROSS[n]
        for t in range(-half, half + 1):
            px, py = x + t * ux, y + t * uy
            left += _at(point, px - d * uy, py + d * ux)
            right += _at(point, px + d * uy, py - d * ux)
        row[k + n] = 0.5 * (left + right) / size
        row[k + len(_ACROSS) + n] = abs(left - right) / size
    return k + 2 * len(_ACROSS)


@njit(**FAST)
def _fits(
    raw: NDArray[np.float64],
    masked: NDArray[np.bool_],
    x: float,
    y: float,
    ux: float,
    uy: float,
    length: float,
    sigma: float,
    row: NDArray[np.float32],
    k: int,
) -> int:
    """Fit the amplitude of a trail and of a point; residuals in a strip about the line."""
    reach, wide = length / 2 + 3 * sigma + 1, 3 * sigma + 1
    side, scale = math.ceil(reach) + 1, 1 / (math.sqrt(2.0) * sigma)
    i0, j0 = round(x), round(y)
    sums, worst, flux = np.zeros(5), np.zeros(2), np.zeros(2)
    seen, count = np.empty(((2 * side + 1) ** 2, 3)), 0
    for j in range(j0 - side, j0 + side + 1):
        for i in range(i0 - side, i0 + side + 1):
            u, v = (i - x) * ux + (j - y) * uy, (j - y) * ux - (i - x) * uy
            if abs(u) > reach or abs(v) > wide or masked[j, i]:
                continue
            g = math.exp(-((v * scale) ** 2))
            star = g * math.exp(-((u * scale) ** 2))
            trail = 0.5 * g * (math.erf((u + length / 2) * scale) - math.erf((u - length / 2) * scale))
            trail, z = (star if length == 0 else trail), raw[j, i]
            sums[0], sums[1] = sums[0] + z * trail, sums[1] + trail * trail
            sums[2], sums[3], sums[4] = sums[2] + z * star, sums[3] + star * star, sums[4] + z * z
            seen[count, 0], seen[count, 1], seen[count, 2] = z, trail, star
            count += 1
    flux[0], flux[1] = sums[0] / max(sums[1], 1e-9), sums[2] / max(sums[3], 1e-9)
    total, other = 0.0, 0.0
    for n in range(count):
        rest = seen[n, 0] - flux[0] * seen[n, 1]
        total, other = total + rest * rest, other + (seen[n, 0] - flux[1] * seen[n, 2]) ** 2
        worst[0], worst[1] = max(worst[0], rest), min(worst[1], rest)
    row[k], row[k + 1] = total / max(count, 1), other / max(count, 1)
    row[k + 2], row[k + 3] = worst[0], worst[1]
    row[k + 4], row[k + 5] = flux[0], flux[1]
    row[k + 6] = flux[0] * sums[0] / max(sums[4], 1e-9)
    return k + 7


@njit(**FAST)
def _rings(point: NDArray[np.float64], x: float, y: float, row: NDArray[np.float32], k: int) -> int:
    """Write highest, lowest, mean and root mean square S/N of points in rings about the middle, at most 30 each."""
    rings = len(_RINGS)
    most, least, total, square, count = (
        np.full(rings, -100.0), np.full(rings, 100.0), np.zeros(rings), np.zeros(rings), np.zeros(rings)
    )  # fmt: skip
    for j in range(int(y) - FAR, int(y) + FAR + 1):
        for i in range(int(x) - FAR, int(x) + FAR + 1):
            apart, n = (i - x) ** 2 + (j - y) ** 2, 0
            while n < rings and apart > _RINGS[n] ** 2:
                n += 1
            if n < rings:
                value = point[j, i]
                most[n], least[n] = max(most[n], value), min(least[n], value)
                value = min(max(value, -30.0), 30.0)
                total[n], square[n], count[n] = total[n] + value, square[n] + value * value, count[n] + 1
    for n in range(rings):
        row[k], row[k + 1] = most[n], least[n]
        row[k + 2], row[k + 3] = total[n] / count[n], math.sqrt(square[n] / count[n])
        k += 4
    return k


@njit(**FAST)
def _surroundings(
    raw: NDArray[np.float64], masked: NDArray[np.bool_], x: float, y: float, row: NDArray[np.float32], k: int
) -> None:
    """Write the number of masked pixels within 4 and 12 px, and the widths of the light within 7 px."""
    light, xx, yy, xy, sx, sy = 1e-6, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(int(y) - 12, int(y) + 13):
        for i in range(int(x) - 12, int(x) + 13):
            dx, dy = i - x, j - y
            apart = math.hypot(dx, dy)
            if masked[j, i]:
                row[k] += 1 if apart <= 4 else 0
                row[k + 1] += 1 if apart <= 12 else 0
            elif apart <= 7 and raw[j, i] > 1:
                w = raw[j, i]
                light, sx, sy = light + w, sx + w * dx, sy + w * dy
                xx, yy, xy = xx + w * dx * dx, yy + w * dy * dy, xy + w * dx * dy
    sx, sy = sx / light, sy / light
    xx, yy, xy = xx / light - sx * sx, yy / light - sy * sy, xy / light - sx * sy
    root = math.sqrt(max(0.25 * (xx - yy) ** 2 + xy * xy, 0.0))
    row[k + 2] = math.sqrt(max(0.5 * (xx + yy) + root, 0.0))
    row[k + 3] = math.sqrt(max(0.5 * (xx + yy) - root, 0.0))
