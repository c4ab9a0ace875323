"""Layers and windows as compiled code takes them: named tuples of plain arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.fused_net import FusedNet


class Layers(NamedTuple):
    """Both convolutions of a `FusedNet`."""

    first: NDArray[np.float32]
    """(c1, bands, k1 * k1)."""
    first_bias: NDArray[np.float64]
    first_total: NDArray[np.float64]
    """(c1, bands): sum of the weights, what a window's mean is multiplied by."""
    first_side: int
    second: NDArray[np.float32]
    """(c2, c1, k2 * k2)."""
    second_bias: NDArray[np.float32]
    second_side: int
    pooled_side: int
    """Of the first pooled map, as far as the second convolution is needed."""
    feature_side: int
    """Of the second pooled map."""


class Windows(NamedTuple):
    """Windows of an image, and what z-scores them."""

    image: NDArray[np.float32]
    """(bands, ny, nx)."""
    usable: NDArray[np.bool_]
    background: np.float32
    mean: NDArray[np.float64]
    """(bands, rows, columns), minus the background."""
    inverse: NDArray[np.float64]
    """(bands, rows, columns): 1 / standard deviation; 0 for windows that are not scored."""
    stride: int


def layers_of(net: FusedNet) -> Layers:
    """Arrange the convolutions of a network for compiled code."""
    c1, bands, k1, _ = net.first_weight.shape
    c2, _, k2, _ = net.second_weight.shape
    first = np.ascontiguousarray(net.first_weight.reshape(c1, bands, k1 * k1))
    return Layers(
        first,
        net.first_bias.astype(np.float64),
        first.sum(2, dtype=np.float64),
        k1,
        np.ascontiguousarray(net.second_weight.reshape(c2, c1, k2 * k2)),
        net.second_bias,
        k2,
        net.pooled_side,
        net.feature_side,
    )
