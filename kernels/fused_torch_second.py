"""Second convolution of a window network with its max-pool, on a torch device."""

import torch

from kernels.fused_net import FusedNet
from kernels.nets.pooling import max_pool_4_2


class SecondConvolution:
    """From the first pooled maps of windows to the features that the linear layers get, in float32.

    One dense matrix from a window's maps to all its results: 486 x 108 for `BasicCnn`, five times the arithmetic of the
    convolution and 9 % of that of the linear layers. As a convolution it has 6 channels in and 3 out, for which
    libraries have no good kernel, and unrolled into 96 x 3 products it would copy every value seven times. On a GPU
    reading the maps takes as long as the arithmetic, and this reads them once.

    Parameters
    ----------
    net
        The network.
    device
        Where to compute.
    """

    def __init__(self, net: FusedNet, device: torch.device) -> None:
        weight = torch.from_numpy(net.second_weight)
        count, channels, kernel, _ = weight.shape
        inside, outside = net.pooled_side, net.pooled_side - kernel + 1
        matrix = torch.zeros(inside, inside, channels, count, outside, outside)
        for y in range(outside):
            for x in range(outside):
                matrix[y : y + kernel, x : x + kernel, :, :, y, x] = weight.permute(2, 3, 1, 0)
        self._shape = (count, outside, outside)
        self._matrix = matrix.view(inside * inside * channels, -1).to(device)
        self._bias = torch.from_numpy(net.second_bias).repeat_interleave(outside * outside).to(device)

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        """Give the features of windows, (n, side, side, channels) float32 maps -> (n, features) float32."""
        results = torch.addmm(self._bias, maps.flatten(1), self._matrix)
        return max_pool_4_2(results.view(-1, *self._shape)).relu_().flatten(1)
