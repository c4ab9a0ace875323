"""From an image to what the linear layers of a window network get, without making a single window.

z-scoring is affine per window, and convolution followed by max-pool and ReLU commutes with a positive affine map. So
the first convolution and its max-pool run once over the image, and a window takes its own values from the pooled map:
relu((pool(conv(image)) - mean * sum(weights)) / std + bias). Only the second convolution is made per window.
"""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from kernels.fused_band import features_of_band
from kernels.fused_bands import features_of_bands
from kernels.fused_layers import Layers, Windows

BLOCK = 144
"""Windows side by side in a block; their maps fit the second-level cache."""

SEGMENT = 16
"""Rows of windows in a block; the first rows of pixels of a block are convolved again by the block below."""


def window_features(windows: Windows, layers: Layers) -> NDArray[np.float32]:
    """Give the flattened second maps of every window.

    Parameters
    ----------
    windows
        Image, its usable pixels, and mean and spread of each window.
    layers
        Of the network.

    Returns
    -------
    features : (rows * columns, c2 * feature_side ** 2) float32
        In the order of torch's flatten. Rows of windows that are not scored have no meaning.
    """
    rows, columns = windows.mean.shape[1:]
    out = np.empty((rows * columns, layers.second.shape[0] * layers.feature_side**2), np.float32)
    if len(windows.mean) == 1:
        _of_band(windows, layers, out)
    else:
        _of_bands(windows, layers, out)
    return out


def crop_features(crops: NDArray[np.float32], layers: Layers) -> NDArray[np.float32]:
    """Give the features of windows that are already cut out and z-scored.

    Parameters
    ----------
    crops : (n, bands, side, side) float32
        Mean zero, standard deviation one; all pixels count.
    layers
        Of the network.
    """
    out = np.empty((len(crops), layers.second.shape[0] * layers.feature_side**2), np.float32)
    _of_crops(crops, layers, out)
    return out


# One function for one band and one for several: each is compiled only where it is needed.
@nb.njit(parallel=True, cache=True)
def _of_band(windows: Windows, layers: Layers, out: NDArray[np.float32]) -> None:
    rows, columns = windows.mean.shape[1:]
    across = (columns + BLOCK - 1) // BLOCK
    for block in nb.prange((rows + SEGMENT - 1) // SEGMENT * across):
        row, column = block // across * SEGMENT, block % across * BLOCK
        features_of_band(windows, layers, row, min(row + SEGMENT, rows), column, min(column + BLOCK, columns), out)


@nb.njit(parallel=True, cache=True)
def _of_bands(windows: Windows, layers: Layers, out: NDArray[np.float32]) -> None:
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
        one = Windows(crops[n], good, np.float32(0.0), level, spread, 1)
        features_of_bands(one, layers, 0, 1, 0, 1, out[n : n + 1])
