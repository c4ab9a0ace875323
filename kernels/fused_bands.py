"""Features of windows of several bands.

Every band has its own mean and spread, so pooling no longer commutes with their sum: the first convolution is still
shared by all windows, but each window adds up its bands before it pools.
"""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.fused_convolution import convolve_rows
from kernels.fused_layers import Layers, Windows
from kernels.fused_rows import CONTRACT, LANES, scratch, split_row
from kernels.fused_second import second_maps


@nb.njit(cache=True)
def features_of_bands(
    windows: Windows, layers: Layers, row0: int, row1: int, column0: int, column1: int, out: NDArray[np.float32]
) -> None:
    """Write the features of windows row0:row1, column0:column1 to their rows of ``out``; any number of bands."""
    stride, k1 = windows.stride, layers.first_side
    channels, bands = layers.first.shape[:2]
    side, wide = layers.pooled_side, 2 * layers.feature_side + 2
    span = 2 * side + 2
    lanes = (column1 - column0 + LANES - 1) // LANES * LANES
    length = (lanes + (span + k1 - 2) // stride + 1 + LANES - 1) // LANES * LANES
    ring = span + stride
    pixels = scratch(bands * k1 * (stride + k1 - 1) * length).reshape((bands, k1, stride + k1 - 1, length))
    maps = scratch(ring * channels * bands * stride * length).reshape((ring, channels, bands, stride * length))
    summed = scratch(span * span * lanes).reshape((span, span, lanes))
    own = scratch(channels * side * side * lanes).reshape((channels, side, side, lanes))
    second = scratch(wide * wide * lanes).reshape((wide, wide * lanes))
    columns, top = windows.mean.shape[2], row0 * stride
    for y in range(top, (row1 - 1) * stride + span + k1 - 1):
        for band in range(bands):
            place = pixels[band, y % k1]
            split_row(windows.image[band], windows.usable, windows.background, y, column0 * stride, stride, place)
        last = y - k1 + 1
        if last < top:
            continue
        convolve_rows(pixels, last, layers, maps[last % ring])
        corner = last - span + 1
        if corner >= top and corner % stride == 0:
            row = corner // stride
            for channel in range(channels):
                _add_bands(windows, layers, row, column0, channel, maps, summed)
                _pool(summed, own[channel])
            first = row * columns + column0
            second_maps(own, layers, second, out[first : first + column1 - column0])


@nb.njit(cache=True, fastmath=CONTRACT)
def _add_bands(
    windows: Windows,
    layers: Layers,
    row: int,
    column0: int,
    channel: int,
    maps: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Add up the z-scored bands of every window, (span, span, lanes)."""
    ring, _, bands, plane = maps.shape
    stride, span, lanes = windows.stride, out.shape[0], out.shape[2]
    length = plane // stride
    shift, scale = np.zeros(lanes), np.zeros((bands, lanes), np.float32)
    for lane in range(min(lanes, windows.mean.shape[2] - column0)):
        shift[lane] = layers.first_bias[channel]
        for band in range(bands):
            inverse = windows.inverse[band, row, column0 + lane]
            scale[band, lane] = inverse
            shift[lane] -= windows.mean[band, row, column0 + lane] * inverse * layers.first_total[channel, band]
    for i in range(span):
        for j in range(span):
            to, start = out[i, j], j % stride * length + j // stride
            for lane in range(lanes):
                to[lane] = shift[lane]
            for band in range(bands):
                values = maps[(row * stride + i) % ring, channel, band][start : start + lanes]
                factor = scale[band]
                for lane in range(lanes):
                    to[lane] = to[lane] + values[lane] * factor[lane]


@nb.njit(cache=True)
def _pool(summed: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Give the greatest of 0 and 4 x 4 values at stride 2, for each lane."""
    side, lanes = out.shape[0], out.shape[2]
    for i in range(side):
        for j in range(side):
            best = out[i, j]
            best[:] = 0.0
            for y in range(2 * i, 2 * i + 4):
                for x in range(2 * j, 2 * j + 4):
                    values = summed[y, x]
                    for lane in range(lanes):
                        best[lane] = max(best[lane], values[lane])
