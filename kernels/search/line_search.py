"""Best line of a bank of trails at each pixel of a PSF-filtered image."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.image.gaussian import FAST
from kernels.image.noise import LEAST_VARIANCE, convolve, filtered_noise
from kernels.psf.gaussian_mixture import RADIUS, filter_taps

LENGTHS = np.array([1, 4, 8, 12, 16, 24, 32, 48])
"""Pixels in a sum, counted along the axis closest to the line: sums of 4, 8, 16 and 32 px share their halves."""

STEPS = 8
"""Length over which lines rise by 0, 1, ... 8 px: 32 directions in all, 3.6 to 7.1 deg apart."""

HALF = int(LENGTHS[-1]) // 2
"""Distance from its centre to which a sum extends, px."""

FRAMES = ((0, STEPS), (1, STEPS), (0, STEPS - 1), (1, STEPS - 1))
"""First and last rise of the lines in each of four frames: the image, upside down, transposed, and both."""


class LineBank(NamedTuple):
    """Filters for one exposure.

    Attributes
    ----------
    taps : (2 RADIUS + 1,) float32
        Gaussian of the PSF's width; the filter is its outer product with itself.
    gain
        Factor from the filtered image, in units of the noise, to the S/N of a point source.
    scale : (4, STEPS + 1, len(LENGTHS)) float32
        Factor from a sum of S/N to the S/N of the trail, for each frame and rise; 0 if the line belongs to another
        frame.
    """

    taps: NDArray[np.float32]
    gain: float
    scale: NDArray[np.float32]


def line_bank(fwhm_px: float, correlation: NDArray[np.float64]) -> LineBank:
    """Return the filters for a PSF of ``fwhm_px`` px and noise with a given autocorrelation.

    Notes
    -----
    A trail is a point source smeared along a line, so its matched filter is the mean of the point source's filter along
    that line. Each sum is scaled by its standard deviation in the actual noise: the covariance of the filtered noise,
    summed over all pairs of its pixels.
    """
    return _line_bank(fwhm_px, correlation.tobytes(), correlation.shape[0])


@lru_cache(maxsize=64)
def _line_bank(fwhm_px: float, correlation: bytes, side: int) -> LineBank:
    rho = np.frombuffer(correlation).reshape(side, side)
    taps = filter_taps(fwhm_px)
    stamp = np.outer(taps, taps).astype(np.float64)
    noise = filtered_noise(stamp, 1.0, rho)
    lags = convolve(convolve(stamp, stamp), rho) / noise**2
    reach = max(lags.shape[0] // 2, int(LENGTHS[-1]))
    lags = np.pad(lags, reach - lags.shape[0] // 2)
    scale = np.zeros((len(FRAMES), STEPS + 1, len(LENGTHS)), np.float32)
    for frame, (first, last) in enumerate(FRAMES):
        for rise in range(first, last + 1):
            for n, length in enumerate(LENGTHS):
                dx, dy = middle_pixels(frame, rise, int(length))
                pairs = lags[reach + dy[:, None] - dy, reach + dx[:, None] - dx]
                scale[frame, rise, n] = 1 / math.sqrt(max(pairs.sum(), LEAST_VARIANCE * length))
    return LineBank(taps, 1 / noise, scale)


def line_pixels(length: int, rise: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels of a sum, as steps from the first along and across the frame's axis, (length,) each.

    Eight pixels rise by ``rise`` px, rounded; the next eight repeat the same steps.
    """
    along = np.arange(length)
    return along, along // STEPS * rise + (along % STEPS * rise + STEPS // 2) // STEPS


def in_image(
    frame: int, along: NDArray[np.int64], across: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return steps (dx, dy) on the image from steps along and across the axis of a frame."""
    across = -across if frame % 2 else across
    return (across, along) if frame >= 2 else (along, across)


def middle_pixels(frame: int, rise: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixels of a sum, as steps (dx, dy) from its central pixel, (length,) each."""
    along, across = line_pixels(length, rise)
    return in_image(frame, along - along[length // 2], across - across[length // 2])


@lru_cache(maxsize=1)
def every_line() -> NDArray[np.float64]:
    """Return the lines of all codes of `kernels.search.line_search.best_lines`.

    Returns
    -------
    (codes, 4) float64
        Steps in x and y from the pixel of the peak to the middle, px; length, px (0 for a point); angle, deg from +x
        towards +y, 0 to 180.
    """
    lines = []
    for frame in range(len(FRAMES)):
        for rise in range(STEPS + 1):
            angle = math.degrees(math.atan2(-rise if frame % 2 else rise, STEPS))
            angle = (90.0 - angle if frame >= 2 else angle) % 180.0
            for length in LENGTHS.tolist():
                dx, dy = middle_pixels(frame, rise, length)
                extent = length * math.hypot(1.0, rise / STEPS) if length > 1 else 0.0
                lines.append((dx.mean(), dy.mean(), extent, angle))
    return np.array(lines)


REACH = HALF + RADIUS
"""Distance within which the image affects a pixel's best sum, px."""


CLIP = 6.0
"""S/N of a point source above which a detector's pixels add no more to a sum."""

_CORE = 128  # px: maps of a block and its surroundings fit in the cache of one core
_SIDE = _CORE + 2 * HALF
_FRAMES = np.array(FRAMES)


def point_map(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], background: float, noise: float, bank: LineBank
) -> NDArray[np.float32]:
    """Return the S/N of a point source at each pixel, (ny, nx) float32; unusable and non-finite pixels count as 0."""
    out = np.empty(pixels.shape, np.float32)
    taps, gain = bank.taps, np.float32(bank.gain)
    _filter(pixels, usable, np.float32(background), np.float32(1 / noise), taps, gain, out)
    return out


@njit(**FAST, parallel=True)
def _filter(
    pixels: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    per_noise: np.float32,
    taps: NDArray[np.float32],
    gain: np.float32,
    out: NDArray[np.float32],
) -> None:
    ny, nx = pixels.shape
    for band in prange((ny + _CORE - 1) // _CORE):
        first = band * _CORE
        last = min(first + _CORE, ny)
        top, bottom = max(first - RADIUS, 0), min(last + RADIUS, ny)
        value = np.zeros((bottom - top, nx + 2 * RADIUS), np.float32)
        for j in range(top, bottom):
            row, good, target = pixels[j], usable[j], value[j - top, RADIUS:]
            for i in range(nx):
                deviation = (row[i] - background) * per_noise
                # A comparison with NaN is false.
                target[i] = deviation if good[i] and abs(deviation) < np.float32(1e30) else np.float32(0)
        line = np.empty(nx + 2 * RADIUS, np.float32)
        for j in range(first, last):
            line[:] = 0
            for k in range(max(j - RADIUS, top), min(j + RADIUS + 1, bottom)):
                tap, row = taps[k - j + RADIUS] * gain, value[k - top]
                for i in range(line.shape[0]):
                    line[i] += tap * row[i]
            target = out[j]
            target[:] = 0
            for k in range(taps.shape[0]):
                tap, row = taps[k], line[k : k + nx]
                for i in range(nx):
                    target[i] += tap * row[i]


def best_lines(snr: NDArray[np.float32], bank: LineBank, clip: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the S/N of the best line centred on each pixel, and its code.

    Parameters
    ----------
    snr : (ny, nx) float32
        Result of `point_map`.
    bank
        Filters of the lines.
    clip
        S/N of a point source at which pixels are clipped in a sum, so that a cosmic ray or the core of a star does not
        create lines through the dark sky around it.

    Returns
    -------
    value : (ny, nx) float32
    code : (ny, nx) int32
        ``(frame * (STEPS + 1) + rise) * len(LENGTHS) + length``, indices as in `LineBank.scale`.
    """
    value, code = np.empty(snr.shape, np.float32), np.empty(snr.shape, np.int32)
    _all_blocks(snr, bank.scale, np.float32(clip), value, code)
    return value, code


@njit(**FAST, parallel=True)
def _all_blocks(
    snr: NDArray[np.float32],
    scale: NDArray[np.float32],
    clip: np.float32,
    value: NDArray[np.float32],
    code: NDArray[np.int32],
) -> None:
    ny, nx = snr.shape
    across = (nx + _CORE - 1) // _CORE
    for block in prange(across * ((ny + _CORE - 1) // _CORE)):
        y, x = block // across * _CORE, block % across * _CORE
        best, which = np.empty((_CORE, _CORE), np.float32), np.empty((_CORE, _CORE), np.int32)
        seen = np.zeros((4, _SIDE, _SIDE), np.float32)
        for j in range(max(y - HALF, 0), min(y + _CORE + HALF, ny)):
            for i in range(max(x - HALF, 0), min(x + _CORE + HALF, nx)):
                s = min(max(snr[j, i], -clip), clip)
                r, c = j - y + HALF, i - x + HALF
                seen[0, r, c] = s
                seen[1, _SIDE - 1 - r, c] = s
                seen[2, c, r] = s
                seen[3, _SIDE - 1 - c, r] = s
        maps = np.empty((5, _SIDE, _SIDE), np.float32)
        for frame in range(4):
            _one_frame(seen[frame], scale[frame], _FRAMES[frame], maps, best, which)
            for j in range(min(_CORE, ny - y)):
                for i in range(min(_CORE, nx - x)):
                    r, c = (j, i) if frame < 2 else (i, j)
                    r = _CORE - 1 - r if frame % 2 else r
                    if frame == 0 or best[r, c] > value[y + j, x + i]:
                        value[y + j, x + i] = best[r, c]
                        code[y + j, x + i] = which[r, c] + frame * scale.shape[1] * scale.shape[2]


@njit(**FAST)
def _one_frame(
    seen: NDArray[np.float32],
    scale: NDArray[np.float32],
    rises: NDArray[np.int64],
    maps: NDArray[np.float32],
    best: NDArray[np.float32],
    which: NDArray[np.int32],
) -> None:
    """Find the best line that rises by ``rises[0]`` to ``rises[1]`` px in eight, at each pixel of a block's core."""
    best[:] = seen[HALF : HALF + _CORE, HALF : HALF + _CORE]
    which[:] = 0
    last = _SIDE - 1
    for j in range(_SIDE):
        for step in range(2):
            pair, here, there = maps[step, j], seen[j], seen[min(j + step, last)]
            for i in range(last):
                pair[i] = here[i] + there[i + 1]
    s8, s16, s32, low = maps[2], maps[3], maps[4], np.empty(STEPS, np.int64)
    for rise in range(rises[0], rises[1] + 1):
        for k in range(STEPS):
            low[k] = (k * rise + STEPS // 2) // STEPS
        first, second, third, fourth = (
            maps[low[1]], maps[low[3] - low[2]], maps[low[5] - low[4]], maps[low[7] - low[6]],
        )  # fmt: skip
        for j in range(_SIDE - rise):
            a, b, c, d, out = first[j], second[j + low[2]], third[j + low[4]], fourth[j + low[6]], s8[j]
            for i in range(_SIDE - STEPS):
                out[i] = (a[i] + b[i + 2]) + (c[i + 4] + d[i + 6])
        for j in range(_SIDE - 2 * rise):
            a, b, out = s8[j], s8[j + rise], s16[j]
            for i in range(_SIDE - 2 * STEPS):
                out[i] = a[i] + b[i + STEPS]
        for j in range(_SIDE - 4 * rise):
            a, b, out = s16[j], s16[j + 2 * rise], s32[j]
            for i in range(_SIDE - 4 * STEPS):
                out[i] = a[i] + b[i + 2 * STEPS]
        _compare(maps, scale[rise], rise, low, best, which)


@njit(**FAST)
def _compare(
    maps: NDArray[np.float32],
    scale: NDArray[np.float32],
    rise: int,
    low: NDArray[np.int64],
    best: NDArray[np.float32],
    which: NDArray[np.int32],
) -> None:
    """Compare the sums of all lengths with the best so far, at each pixel of a block's core."""
    first, second = maps[low[1]], maps[low[3] - low[2]]
    s8, s16, s32, w = maps[2], maps[3], maps[4], _CORE
    code = np.int32(rise * scale.shape[0])
    for j in range(_CORE):
        r, h = j + HALF, HALF
        a4, b4 = first[r - low[2], h - 2 : h - 2 + w], second[r, h : h + w]
        a8 = s8[r - low[4], h - 4 : h - 4 + w]
        y12 = r - low[6]
        a12, b12 = s8[y12, h - 6 : h - 6 + w], first[y12 + rise, h + 2 : h + 2 + w]
        c12 = second[y12 + rise + low[2], h + 4 : h + 4 + w]
        a16 = s16[r - rise, h - 8 : h - 8 + w]
        y24 = r - rise - low[4]
        a24, b24 = s16[y24, h - 12 : h - 12 + w], s8[y24 + 2 * rise, h + 4 : h + 4 + w]
        a32 = s32[r - 2 * rise, h - 16 : h - 16 + w]
        a48, b48 = s32[r - 3 * rise, h - 24 : h - 24 + w], s16[r + rise, h + 8 : h + 8 + w]
        top, kind = best[j], which[j]
        for i in range(_CORE):
            most, n = top[i], kind[i]
            v = (a4[i] + b4[i]) * scale[1]
            n, most = (code + np.int32(1) if v > most else n), max(v, most)
            v = a8[i] * scale[2]
            n, most = (code + np.int32(2) if v > most else n), max(v, most)
            v = (a12[i] + (b12[i] + c12[i])) * scale[3]
            n, most = (code + np.int32(3) if v > most else n), max(v, most)
            v = a16[i] * scale[4]
            n, most = (code + np.int32(4) if v > most else n), max(v, most)
            v = (a24[i] + b24[i]) * scale[5]
            n, most = (code + np.int32(5) if v > most else n), max(v, most)
            v = a32[i] * scale[6]
            n, most = (code + np.int32(6) if v > most else n), max(v, most)
            v = (a48[i] + b48[i]) * scale[7]
            n, most = (code + np.int32(7) if v > most else n), max(v, most)
            top[i], kind[i] = most, n


class Peaks(NamedTuple):
    """Candidates in order of rows, then columns; (n,) each.

    Attributes
    ----------
    y, x
        Central pixel, int64.
    code
        Code of the line, as in `kernels.search.line_search.best_lines`, int32.
    snr
        S/N of the line, float32.
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    code: NDArray[np.int32]
    snr: NDArray[np.float32]

    @property
    def lines(self) -> NDArray[np.float64]:
        """Return the lines of the peaks: x and y of the centre, length, px, and angle, deg; (n, 4)."""
        lines = every_line()[self.code]
        lines[:, 0] += self.x
        lines[:, 1] += self.y
        return lines

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.integer]) -> "Peaks":
        """Return the chosen peaks."""
        return Peaks(self.y[chosen], self.x[chosen], self.code[chosen], self.snr[chosen])
