"""Window network in the form of the fused search: plain arrays of its layers."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


@runtime_checkable
class TwoConvolutions(Protocol):
    """Network that the fused search supports, with access to its layers.

    The layers are convolution, ReLU, max-pool 4 stride 2, convolution, ReLU, max-pool 4 stride 2, flatten, and linear
    layers with ReLU between them, which end in two class scores. The convolutions have neither padding nor stride.
    ``side`` is the side of its windows, pixels.
    """

    side: int

    def layers(self) -> tuple[nn.Conv2d, nn.Conv2d, tuple[nn.Linear, ...]]:
        """Return both convolutions and the linear layers, in order."""


@dataclass(frozen=True)
class Dense:
    """Linear layer: weight (outputs, inputs), bias (outputs,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class FusedNet:
    """Weights of a two-convolution network, for the fused search.

    Parameters
    ----------
    side
        Side of a window, pixels.
    first_weight, first_bias : (c1, bands, k1, k1) and (c1,) float32
        First convolution (a correlation, as in torch).
    second_weight, second_bias : (c2, c1, k2, k2) and (c2,) float32
        Second convolution.
    hidden
        Linear layers, each followed by a ReLU.
    last
        Final layer with the difference of its two rows: one output, the log odds.
    """

    side: int
    first_weight: NDArray[np.float32]
    first_bias: NDArray[np.float32]
    second_weight: NDArray[np.float32]
    second_bias: NDArray[np.float32]
    hidden: tuple[Dense, ...]
    last: Dense

    @property
    def bands(self) -> int:
        """Return the number of channels of a window."""
        return self.first_weight.shape[1]

    @property
    def pooled_side(self) -> int:
        """Return the side of the part of a window's first pooled map that the second convolution uses."""
        return 2 * self.feature_side + 2 + self.second_weight.shape[2] - 1

    @property
    def feature_side(self) -> int:
        """Return the side of the second pooled map of a window."""
        pooled = (self.side - self.first_weight.shape[2] + 1 - 2) // 2
        return (pooled - self.second_weight.shape[2] + 1 - 2) // 2

    @property
    def features(self) -> int:
        """Return the number of values per window that enter the linear layers."""
        return self.second_weight.shape[0] * self.feature_side**2


def fuse(net: nn.Module) -> FusedNet | None:
    """Return the layers of a network in the form of the fused search.

    Parameters
    ----------
    net
        Any window network.

    Returns
    -------
    fused
        None if the network does not have the layers described in `TwoConvolutions`.
    """
    if not isinstance(net, TwoConvolutions):
        return None
    first, second, linear = net.layers()
    if not all(_is_plain(convolution) for convolution in (first, second)) or linear[-1].out_features != 2:
        return None
    dense = [Dense(_array(layer.weight), _array(layer.bias)) for layer in linear]
    scores = dense[-1]
    last = Dense(scores.weight[1:] - scores.weight[:1], scores.bias[1:] - scores.bias[:1])
    fused = FusedNet(
        net.side,
        _array(first.weight),
        _array(first.bias),
        _array(second.weight),
        _array(second.bias),
        tuple(dense[:-1]),
        last,
    )
    return fused if fused.feature_side > 0 and fused.features == linear[0].in_features else None


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.stride == layer.dilation == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and layer.kernel_size[0] == layer.kernel_size[1]
        and layer.bias is not None
    )


def _array(values: torch.Tensor | None) -> NDArray[np.float32]:
    assert values is not None
    return np.ascontiguousarray(values.detach().cpu().numpy(), np.float32)


class Layers(NamedTuple):
    """Convolutions of a `FusedNet`."""

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
    """Side of the first pooled map, as far as the second convolution needs it."""
    feature_side: int
    """Side of the second pooled map."""


class WindowGrid(NamedTuple):
    """Windows of an image, with the mean and standard deviation that standardise them."""

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
    """Return the convolutions of a network arranged for compiled code."""
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
