"""The best line of a `LineBank` at each pixel of an image."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from kernels.bell import FAST
from kernels.dense_input import RADIUS
from kernels.line_bank import FRAMES, HALF, STEPS, LineBank

CLIP = 6.0
"""S/N of a point source beyond which a detector's pixels add no more to a sum."""

_CORE = 128  # px: maps of a block with its surroundings stay in the cache of one core
_SIDE = _CORE + 2 * HALF
_FRAMES = np.array(FRAMES)


def point_map(
    pixels: NDArray[np.float32], usable: NDArray[np.bool_], background: float, noise: float, bank: LineBank
) -> NDArray[np.float32]:
    """Give the S/N of a point source at each pixel, (ny, nx) float32; what is not usable or not finite counts as 0."""
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
                # A comparison with what is not a number is false.
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
    """Give the S/N of the best line centred on each pixel, and which it is.

    Parameters
    ----------
    snr : (ny, nx) float32
        From `point_map`.
    bank
        The lines.
    clip
        S/N of a point source beyond which a pixel adds no more to a sum: a cosmic ray or the core of a star shall not
        make lines of the dark sky around it.

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
    """Best of the lines that rise by ``rises[0]`` to ``rises[1]`` px in eight, over the core of a block."""
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
    """Compare the sums of all lengths with the best so far, over the core of a block."""
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
