"""Convolutions and max-pools of a window network over whole rows of an image.

Image rows are stored by phase, for the work that all windows share. Windows lie ``stride`` pixels apart, so pixel
x = k * stride + phase of a block is stored at [phase, k]. The same pixel of neighbouring windows is then contiguous,
and every step runs along k, over many windows at once. Phases continue beyond the stride (phase ``stride`` is phase 0,
one k further), so a shift by one pixel is a shift by one phase, and a whole plane of phases is one long loop. All loops
add in a fixed order, whatever their length, so a window's values do not depend on the windows searched with it.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import njit
from kernels.search.fused_net import Layers

LANES = 16
"""Blocks are padded to whole vectors: float32 values in a register of 512 bits."""

CONTRACT = {"contract"}
"""Multiply and add in one instruction; the order of the sums stays as written."""


@njit(cache=True)
def scratch(size: int) -> NDArray[np.float32]:
    """Return ``size`` zeros aligned to a cache line, so that 512-bit vectors are loaded in one piece."""
    raw = np.zeros(size + 15, np.float32)
    skip = -raw.ctypes.data % 64 // 4
    return raw[skip : skip + size]


@njit(cache=True)
def split_row(
    image: NDArray[np.float32],
    usable: NDArray[np.bool_],
    background: np.float32,
    y: int,
    x0: int,
    stride: int,
    out: NDArray[np.float32],
) -> None:
    """Write row ``y`` of an image, from pixel ``x0``, minus the background, to ``out`` (phases, length).

    Pixels that are unusable or beyond the image become 0, the background.
    """
    ny, nx = image.shape
    out[:] = 0.0
    if y >= ny:
        return
    for phase in range(out.shape[0]):
        first = x0 + phase
        for k in range(min(out.shape[1], max(0, nx - first + stride - 1) // stride)):
            if usable[y, first + k * stride]:
                out[phase, k] = image[y, first + k * stride] - background


@njit(cache=True, fastmath=CONTRACT)
def add_weighted(
    to: NDArray[np.float32],
    source: NDArray[np.float32],
    starts: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> None:
    """Add ``weights[t] * source[starts[t] : starts[t] + len(to)]``, t in order, to ``to``."""
    length, t = len(to), 0
    # Eight taps at a time keep their sum in a register. Views, because an index with an offset is not vectorised.
    while t + 8 <= len(weights):
        a = source[starts[t] : starts[t] + length]
        b = source[starts[t + 1] : starts[t + 1] + length]
        c = source[starts[t + 2] : starts[t + 2] + length]
        d = source[starts[t + 3] : starts[t + 3] + length]
        e = source[starts[t + 4] : starts[t + 4] + length]
        f = source[starts[t + 5] : starts[t + 5] + length]
        g = source[starts[t + 6] : starts[t + 6] + length]
        h = source[starts[t + 7] : starts[t + 7] + length]
        w0, w1, w2, w3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        w4, w5, w6, w7 = weights[t + 4], weights[t + 5], weights[t + 6], weights[t + 7]
        for k in range(length):
            value = to[k] + w0 * a[k] + w1 * b[k] + w2 * c[k] + w3 * d[k]
            to[k] = value + w4 * e[k] + w5 * f[k] + w6 * g[k] + w7 * h[k]
        t += 8
    while t < len(weights):
        weight = weights[t]
        a = source[starts[t] : starts[t] + length]
        for k in range(length):
            to[k] = to[k] + weight * a[k]
        t += 1


@njit(cache=True)
def max_of_four(to: NDArray[np.float32], source: NDArray[np.float32], starts: tuple[int, int, int, int]) -> None:
    """Write the maximum of ``source[start : start + len(to)]`` over four starts to ``to``."""
    length = len(to)
    a = source[starts[0] : starts[0] + length]
    b = source[starts[1] : starts[1] + length]
    c = source[starts[2] : starts[2] + length]
    d = source[starts[3] : starts[3] + length]
    for k in range(length):
        to[k] = max(max(a[k], b[k]), max(c[k], d[k]))


@njit(cache=True)
def extend_phases(plane: NDArray[np.float32], stride: int) -> None:
    """Fill the phases from ``stride`` of a (phases, length) plane; each is an earlier phase, one k further."""
    length = plane.shape[1]
    for phase in range(stride, plane.shape[0]):
        plane[phase, : length - 1] = plane[phase - stride, 1:]


@njit(cache=True)
def convolve_rows(pixels: NDArray[np.float32], y: int, layers: Layers, out: NDArray[np.float32]) -> None:
    """Convolve rows y, y + 1, ... of the ring buffers of pixel rows, separately for every channel and band.

    Parameters
    ----------
    pixels : (bands, k1, phases, length) float32
        Row y of a band lies at y % k1, as `split_row` writes it; phases are stride + k1 - 1.
    y
        First of the k1 rows.
    layers
        Layers of the network.
    out : (channels, bands, stride * length) float32
        Receives a row of each map.
    """
    bands, k1, phases, length = pixels.shape
    starts = np.empty(k1 * k1, np.int64)
    for tap in range(k1 * k1):
        starts[tap] = ((y + tap // k1) % k1 * phases + tap % k1) * length
    for channel in range(out.shape[0]):
        for band in range(bands):
            out[channel, band] = 0.0
            add_weighted(out[channel, band], pixels[band].reshape(-1), starts, layers.first[channel, band])


@njit(cache=True)
def second_maps(
    first: NDArray[np.float32], layers: Layers, rows: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the flattened second maps of windows.

    Parameters
    ----------
    first : (c1, side, side, lanes) float32
        Pooled first maps after their ReLU; windows lie along the last axis, so each step handles all of them.
    layers
        Layers of the network.
    rows : (wide, wide * lanes) float32, wide = 2 * feature_side + 2
        Receives the second maps, one channel after another.
    out : (windows, c2 * feature_side ** 2) float32
        Receives the features of the first ``windows`` lanes.
    """
    channels, side, _, lanes = first.shape
    k2, features = layers.second_side, layers.feature_side
    wide = 2 * features + 2
    source = first.reshape(-1)
    starts = np.empty(k2 * k2, np.int64)
    for kernel in range(layers.second.shape[0]):
        rows[:] = layers.second_bias[kernel]
        for channel in range(channels):
            for y in range(wide):
                for tap in range(k2 * k2):
                    starts[tap] = ((channel * side + y + tap // k2) * side + tap % k2) * lanes
                add_weighted(rows[y], source, starts, layers.second[kernel, channel])
        for y in range(features):
            for x in range(features):
                _pool(rows, y, x, lanes, out[:, (kernel * features + y) * features + x])


@njit(cache=True)
def _pool(rows: NDArray[np.float32], y: int, x: int, lanes: int, out: NDArray[np.float32]) -> None:
    """Return the maximum of 0 and the 4 x 4 values of box (y, x) at stride 2, for each lane."""
    best = np.zeros(lanes, np.float32)
    for row in range(2 * y, 2 * y + 4):
        for column in range(2 * x, 2 * x + 4):
            values = rows[row][column * lanes : (column + 1) * lanes]
            for lane in range(lanes):
                best[lane] = max(best[lane], values[lane])
    for lane in range(len(out)):
        out[lane] = best[lane]
