"""Second convolution and max-pool, for a row of windows side by side."""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.fused_layers import Layers
from kernels.fused_rows import add_weighted


@nb.njit(cache=True)
def second_maps(
    first: NDArray[np.float32], layers: Layers, rows: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """Write the flattened second maps of windows.

    Parameters
    ----------
    first : (c1, side, side, lanes) float32
        Pooled first maps after their ReLU; windows lie along the last axis, so that every step is one for all of them.
    layers
        Of the network.
    rows : (wide, wide * lanes) float32, wide = 2 * feature_side + 2
        Receives the second maps of one channel after the other.
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


@nb.njit(cache=True)
def _pool(rows: NDArray[np.float32], y: int, x: int, lanes: int, out: NDArray[np.float32]) -> None:
    """Give the greatest of 0 and box (y, x) of 4 x 4 values at stride 2, for each lane."""
    best = np.zeros(lanes, np.float32)
    for row in range(2 * y, 2 * y + 4):
        for column in range(2 * x, 2 * x + 4):
            values = rows[row][column * lanes : (column + 1) * lanes]
            for lane in range(lanes):
                best[lane] = max(best[lane], values[lane])
    for lane in range(len(out)):
        out[lane] = best[lane]
