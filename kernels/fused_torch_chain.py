"""Linear layers of a window network, on a torch device."""

import torch
from torch.nn.functional import pad

from kernels.fused_net import Dense, FusedNet

ALIGNED = 8
"""Widths are padded with zeros to a multiple of this: matrix units want rows of whole 16 byte words."""


class Chain:
    """From the features of windows to their log odds.

    Parameters
    ----------
    net
        The network.
    device
        Where to compute.
    dtype
        float32 or bfloat16: what weights and activations are stored in; products are summed in float32 either way, if
        `full_precision` is in force. The first layer is always float32: it has 0.26 % of the arithmetic, and eight of
        nine parts of what bfloat16 loses it would lose there.
    batch
        Windows that pass together. Their widest activations should stay in the device's cache; a batch of fixed size,
        the last one padded, also makes a window's result independent of how many others there are.
    """

    def __init__(self, net: FusedNet, device: torch.device, dtype: torch.dtype, batch: int) -> None:
        self._batch = batch
        kinds = [torch.float32, *[dtype] * len(net.hidden)]
        self._layers = [
            _padded(layer, device, kind) for layer, kind in zip((*net.hidden, net.last), kinds, strict=True)
        ]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Give the log odds of windows, (n, features) float32 -> (n,) float32."""
        logits = torch.empty(len(features), device=features.device)
        spare = len(self._layers[0][0]) - features.shape[1]
        for start in range(0, len(features), self._batch):
            part = features[start : start + self._batch]
            count = len(part)
            part = pad(part, (0, spare, 0, self._batch - count))
            for matrix, bias in self._layers[:-1]:
                part = torch.addmm(bias, part.to(matrix.dtype), matrix).relu_()
            matrix, bias = self._layers[-1]
            logits[start : start + count] = torch.addmm(bias, part.to(matrix.dtype), matrix)[:count, 0]
        return logits


def _padded(layer: Dense, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix (inputs, outputs) and bias; what is added is zero, and stays so through the ReLU."""
    matrix, bias = torch.from_numpy(layer.weight).T, torch.from_numpy(layer.bias)
    down, across = (-size % ALIGNED for size in matrix.shape)
    return pad(matrix, (0, across, 0, down)).contiguous().to(device, dtype), pad(bias, (0, across)).to(device, dtype)
