"""Features of windows of one band: convolution and pooling are shared by all windows."""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.fused_convolution import convolve_rows
from kernels.fused_layers import Layers, Windows
from kernels.fused_rows import CONTRACT, LANES, extend_phases, max_of_four, scratch, split_row
from kernels.fused_second import second_maps


@nb.njit(cache=True)
def features_of_band(
    windows: Windows, layers: Layers, row0: int, row1: int, column0: int, column1: int, out: NDArray[np.float32]
) -> None:
    """Write the features of windows row0:row1, column0:column1 to their rows of ``out``.

    Goes down the image row by row of pixels: of the first map it keeps four rows, of the pooled map as many as a row of
    windows needs.
    """
    stride, k1, channels = windows.stride, layers.first_side, layers.first.shape[0]
    side, wide = layers.pooled_side, 2 * layers.feature_side + 2
    reach = 2 * (side - 1)
    lanes = (column1 - column0 + LANES - 1) // LANES * LANES
    length = (lanes + (reach + k1 + 2) // stride + LANES) // LANES * LANES
    ring = reach + stride
    pixels = scratch(k1 * (stride + k1 - 1) * length).reshape((1, k1, stride + k1 - 1, length))
    maps = scratch(4 * channels * stride * length).reshape((4, channels, 1, stride * length))
    tall = scratch((stride + 3) * length).reshape((stride + 3, length))
    pooled = scratch(ring * channels * stride * length).reshape((ring, channels, stride * length))
    own = scratch(channels * side * side * lanes).reshape((channels, side, side, lanes))
    second = scratch(wide * wide * lanes).reshape((wide, wide * lanes))
    columns, top = windows.mean.shape[2], row0 * stride
    for y in range(top, (row1 - 1) * stride + reach + 3 + k1):
        split_row(windows.image[0], windows.usable, windows.background, y, column0 * stride, stride, pixels[0, y % k1])
        if y - top < k1 - 1:
            continue
        convolve_rows(pixels, y - k1 + 1, layers, maps[y % 4])
        # Row `crown` of the pooled map is made of four rows of the first map.
        crown = y - k1 - 2
        if crown < top:
            continue
        for channel in range(channels):
            _pool(maps, channel, tall, stride, pooled[crown % ring, channel])
        if crown - reach >= top and (crown - reach) % stride == 0:
            row = (crown - reach) // stride
            _normalise(windows, layers, row, column0, pooled, own)
            first = row * columns + column0
            second_maps(own, layers, second, out[first : first + column1 - column0])


@nb.njit(cache=True)
def _pool(
    maps: NDArray[np.float32], channel: int, tall: NDArray[np.float32], stride: int, out: NDArray[np.float32]
) -> None:
    """Give the greatest of 4 x 4 values at every pixel; ``maps`` are four rows, in any order."""
    length = tall.shape[1]
    row = maps.shape[1] * stride * length
    first = channel * stride * length
    starts = (first, first + row, first + 2 * row, first + 3 * row)
    max_of_four(tall.reshape(-1)[: stride * length], maps.reshape(-1), starts)
    extend_phases(tall, stride)
    max_of_four(out, tall.reshape(-1), (0, length, 2 * length, 3 * length))


@nb.njit(cache=True, fastmath=CONTRACT)
def _normalise(
    windows: Windows,
    layers: Layers,
    row: int,
    column0: int,
    pooled: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Give every window of a row its own first maps, (channels, side, side, lanes)."""
    ring, channels, plane = pooled.shape
    stride, side, lanes = windows.stride, out.shape[1], out.shape[3]
    length = plane // stride
    scale, shift = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
    for channel in range(channels):
        for lane in range(min(lanes, windows.mean.shape[2] - column0)):
            inverse = windows.inverse[0, row, column0 + lane]
            level = windows.mean[0, row, column0 + lane] * layers.first_total[channel, 0]
            scale[lane] = inverse
            shift[lane] = layers.first_bias[channel] - level * inverse
        for i in range(side):
            source = pooled[(row * stride + 2 * i) % ring, channel]
            for j in range(side):
                start = 2 * j % stride * length + 2 * j // stride
                values, own = source[start : start + lanes], out[channel, i, j]
                for lane in range(lanes):
                    own[lane] = max(values[lane] * scale[lane] + shift[lane], np.float32(0.0))
