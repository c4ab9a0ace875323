"""Both convolutions of a window network as matrix products, on a torch device."""

import torch

from kernels.fused_net import FusedNet
from kernels.nets.pooling import max_pool_4_2

BLOCK = 8
"""Neighbouring pixels of a row that one row of the matrix product gives.

With c channels, eight pixels make a (k * (k + 7)) x (8 c) product, 60 x 48 for ours: 2.4 times the arithmetic of one
pixel at a time (25 x 6), but a third of the copied pixels and sizes that matrix units like; the result has its channels
last. A library's convolution is not used: float32 ones may choose Winograd or Fourier methods, which lose digits and
let a bright star change windows that do not hold it.
"""


class DenseConvolution:
    """The first convolution of a network, without its bias, at every pixel.

    Parameters
    ----------
    net
        The network.
    device
        Where to compute.
    """

    def __init__(self, net: FusedNet, device: torch.device) -> None:
        weight = torch.from_numpy(net.first_weight)
        self._side = weight.shape[2]
        self._channels = weight.shape[0]
        self._matrices = torch.stack([_banded(weight[:, band]) for band in range(net.bands)]).to(device)

    def __call__(self, planes: torch.Tensor, band: int) -> torch.Tensor:
        """Convolve planes of one band.

        Parameters
        ----------
        planes : (..., ny, nx) float32
            Finite pixels.
        band
            Which weights to use.

        Returns
        -------
        maps : (..., ny - k + 1, columns, channels) float32
            ``columns`` is nx - k + 1 rounded up to a multiple of `BLOCK`; what is too much holds nothing of use.
        """
        side = self._side
        ny, nx = planes.shape[-2] - side + 1, planes.shape[-1] - side + 1
        blocks = -(-nx // BLOCK)
        padded = torch.nn.functional.pad(planes, (0, blocks * BLOCK - nx))
        patches = padded.unfold(-1, BLOCK + side - 1, BLOCK).unfold(-3, side, 1).transpose(-1, -2)
        maps = patches.reshape(-1, side * (BLOCK + side - 1)) @ self._matrices[band]
        return maps.view(*planes.shape[:-2], ny, blocks * BLOCK, self._channels)


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


def pool_everywhere(maps: torch.Tensor) -> torch.Tensor:
    """Give the maxima of 4 x 4 boxes at every pixel, (ny, nx, channels) -> (ny - 3, nx - 3, channels)."""
    pooled = torch.maximum(maps[:-1], maps[1:])
    pooled = torch.maximum(pooled[:-2], pooled[2:])
    pooled = torch.maximum(pooled[:, :-1], pooled[:, 1:])
    return torch.maximum(pooled[:, :-2], pooled[:, 2:])


def window_views(maps: torch.Tensor, grid: tuple[int, int], stride: int, side: int, step: int) -> torch.Tensor:
    """See the windows in a dense map, without a copy.

    Parameters
    ----------
    maps : (ny, nx, channels)
        Contiguous.
    grid
        Rows and columns of windows.
    stride
        Step between windows, pixels of the map.
    side, step
        Samples of a window along y and along x, and pixels from one to the next.

    Returns
    -------
    views : (rows, columns, side, side, channels)
        Window (r, c) holds the pixels (r * stride + i * step, c * stride + j * step).
    """
    down, across, _ = maps.stride()
    return maps.as_strided(
        (*grid, side, side, maps.shape[2]), (stride * down, stride * across, step * down, step * across, 1)
    )


def _banded(weight: torch.Tensor) -> torch.Tensor:
    """Matrix from a block's pixels to its results, (channels, k, k) -> (k * (BLOCK + k - 1), BLOCK * channels)."""
    channels, side, _ = weight.shape
    matrix = torch.zeros(side, BLOCK + side - 1, BLOCK, channels)
    for pixel in range(BLOCK):
        matrix[:, pixel : pixel + side, pixel] = weight.permute(1, 2, 0)
    return matrix.view(-1, BLOCK * channels)
