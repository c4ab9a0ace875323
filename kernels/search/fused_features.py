"""Features of windows for the linear layers of a window network, computed without cutting windows out.

z-scoring is affine per window, and convolution followed by max-pool and ReLU commutes with a positive affine map. So
the first convolution and its max-pool run once over the image, and a window takes its own values from the pooled map:
relu((pool(conv(image)) - mean * sum(weights)) / std + bias). Only the second convolution runs per window.

With several bands, each band has its own mean and spread, so pooling does not commute with the sum over bands. The
first convolution is still shared by all windows, but each window adds up its bands before pooling.
"""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.search.fused_convolutions import (
    CONTRACT,
    LANES,
    convolve_rows,
    extend_phases,
    max_of_four,
    scratch,
    second_maps,
    split_row,
)
from kernels.search.fused_net import Layers, WindowGrid


@nb.njit(cache=True)
def features_of_band(
    windows: WindowGrid, layers: Layers, row0: int, row1: int, column0: int, column1: int, out: NDArray[np.float32]
) -> None:
    """Write the features of windows row0:row1, column0:column1 to their rows of ``out``.

    Pixel rows are processed from top to bottom. Four rows of the first map are kept, and as many rows of the pooled map
    as a row of windows needs.
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
        # Row `crown` of the pooled map needs four rows of the first map.
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
    """Return the maximum of 4 x 4 values at every pixel; ``maps`` holds four rows, in any order."""
    length = tall.shape[1]
    row = maps.shape[1] * stride * length
    first = channel * stride * length
    starts = (first, first + row, first + 2 * row, first + 3 * row)
    max_of_four(tall.reshape(-1)[: stride * length], maps.reshape(-1), starts)
    extend_phases(tall, stride)
    max_of_four(out, tall.reshape(-1), (0, length, 2 * length, 3 * length))


@nb.njit(cache=True, fastmath=CONTRACT)
def _normalise(
    windows: WindowGrid,
    layers: Layers,
    row: int,
    column0: int,
    pooled: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Return the normalised first maps of every window of a row, (channels, side, side, lanes)."""
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


@nb.njit(cache=True)
def features_of_bands(
    windows: WindowGrid, layers: Layers, row0: int, row1: int, column0: int, column1: int, out: NDArray[np.float32]
) -> None:
    """Write the features of windows row0:row1, column0:column1 to their rows of ``out``, for any number of bands."""
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
                _pool_bands(summed, own[channel])
            first = row * columns + column0
            second_maps(own, layers, second, out[first : first + column1 - column0])


@nb.njit(cache=True, fastmath=CONTRACT)
def _add_bands(
    windows: WindowGrid,
    layers: Layers,
    row: int,
    column0: int,
    channel: int,
    maps: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Return the sum of the z-scored bands of every window, (span, span, lanes)."""
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
def _pool_bands(summed: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Return the maximum of 0 and 4 x 4 values at stride 2, for each lane."""
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


BLOCK = 144
"""Windows side by side in a block; their maps fit the second-level cache."""

SEGMENT = 16
"""Rows of windows in a block; the first rows of pixels of a block are convolved again by the block below."""


def window_features(windows: WindowGrid, layers: Layers) -> NDArray[np.float32]:
    """Return the flattened second maps of every window.

    Parameters
    ----------
    windows
        Image, its usable pixels, and mean and spread of each window.
    layers
        Layers of the network.

    Returns
    -------
    features : (rows * columns, c2 * feature_side ** 2) float32
        Features in the order of torch's flatten. Rows of windows that are not scored have no meaning.
    """
    rows, columns = windows.mean.shape[1:]
    out = np.empty((rows * columns, layers.second.shape[0] * layers.feature_side**2), np.float32)
    if len(windows.mean) == 1:
        _of_band(windows, layers, out)
    else:
        _of_bands(windows, layers, out)
    return out


def crop_features(crops: NDArray[np.float32], layers: Layers) -> NDArray[np.float32]:
    """Return the features of windows that are already cut out and z-scored.

    Parameters
    ----------
    crops : (n, bands, side, side) float32
        Windows with mean zero and standard deviation one; all pixels count.
    layers
        Layers of the network.
    """
    out = np.empty((len(crops), layers.second.shape[0] * layers.feature_side**2), np.float32)
    _of_crops(crops, layers, out)
    return out


# Separate functions for one band and for several, so that each is compiled only if needed.
@nb.njit(parallel=True, cache=True)
def _of_band(windows: WindowGrid, layers: Layers, out: NDArray[np.float32]) -> None:
    rows, columns = windows.mean.shape[1:]
    across = (columns + BLOCK - 1) // BLOCK
    for block in nb.prange((rows + SEGMENT - 1) // SEGMENT * across):
        row, column = block // across * SEGMENT, block % across * BLOCK
        features_of_band(windows, layers, row, min(row + SEGMENT, rows), column, min(column + BLOCK, columns), out)


@nb.njit(parallel=True, cache=True)
def _of_bands(windows: WindowGrid, layers: Layers, out: NDArray[np.float32]) -> None:
    rows, columns = windows.mean.shape[1:]
    across = (columns + BLOCK - 1) // BLOCK
    for block in nb.prange((rows + SEGMENT - 1) // SEGMENT * across):
        row, column = block // across * SEGMENT, block % across * BLOCK
        features_of_bands(windows, layers, row, min(row + SEGMENT, rows), column, min(column + BLOCK, columns), out)


@nb.njit(parallel=True, cache=True)
def _of_crops(crops: NDArray[np.float32], layers: Layers, out: NDArray[np.float32]) -> None:
    good = np.ones(crops.shape[2:], np.bool_)
    level, spread = np.zeros((crops.shape[1], 1, 1)), np.ones((crops.shape[1], 1, 1))
    for n in nb.prange(len(crops)):
        one = WindowGrid(crops[n], good, np.float32(0.0), level, spread, 1)
        features_of_bands(one, layers, 0, 1, 0, 1, out[n : n + 1])
