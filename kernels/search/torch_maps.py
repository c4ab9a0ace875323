"""Statistics, convolutions and pooled maps of search windows, on a torch device."""

from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d

from kernels.nets.basic_cnn import max_pool_4_2
from kernels.search.fused_net import FusedNet
from kernels.search.window_statistics import HUGE, TINY
from kernels.search.windows import FLAT

BLOCK = 8
"""Neighbouring pixels of a row that one row of the matrix product gives.

With c channels, eight pixels make a (k * (k + 7)) x (8 c) product, 60 x 48 for ours: 2.4 times the arithmetic of one
pixel at a time (25 x 6), but a third of the copied pixels and sizes that matrix units like; the result has its channels
last. A library's convolution is not used: float32 ones may choose Winograd or Fourier methods, which lose digits and
let a bright star change windows that do not hold it.
"""


class DenseConvolution:
    """First convolution of a network, without its bias, at every pixel.

    Parameters
    ----------
    net
        Network.
    device
        Device for the computation.
    """

    def __init__(self, net: FusedNet, device: torch.device) -> None:
        weight = torch.from_numpy(net.first_weight)
        self._side = weight.shape[2]
        self._channels = weight.shape[0]
        self._matrices = torch.stack([_banded(weight[:, band]) for band in range(net.bands)]).to(device)

    def __call__(self, planes: torch.Tensor, band: int) -> torch.Tensor:
        """Return the convolution of planes of one band.

        Parameters
        ----------
        planes : (..., ny, nx) float32
            Finite pixels.
        band
            Band whose weights are used.

        Returns
        -------
        maps : (..., ny - k + 1, columns, channels) float32
            ``columns`` is nx - k + 1 rounded up to a multiple of `BLOCK`; the extra columns have no meaning.
        """
        side = self._side
        ny, nx = planes.shape[-2] - side + 1, planes.shape[-1] - side + 1
        blocks = -(-nx // BLOCK)
        padded = torch.nn.functional.pad(planes, (0, blocks * BLOCK - nx))
        patches = padded.unfold(-1, BLOCK + side - 1, BLOCK).unfold(-3, side, 1).transpose(-1, -2)
        maps = patches.reshape(-1, side * (BLOCK + side - 1)) @ self._matrices[band]
        return maps.view(*planes.shape[:-2], ny, blocks * BLOCK, self._channels)


class SecondConvolution:
    """Second convolution: from the first pooled maps of windows to the features for the linear layers, in float32.

    It is one dense matrix from a window's maps to all results: 486 x 108 for `BasicCnn`, with five times the arithmetic
    of the convolution and 9 % of that of the linear layers. Libraries have no good kernel for a convolution with 6
    channels in and 3 out, and unrolling it into 96 x 3 products would copy every value seven times. On a GPU reading
    the maps takes as long as the arithmetic, and the matrix reads them once.

    Parameters
    ----------
    net
        Network.
    device
        Device for the computation.
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
        """Return the features of windows, (n, side, side, channels) float32 maps -> (n, features) float32."""
        results = torch.addmm(self._bias, maps.flatten(1), self._matrix)
        return max_pool_4_2(results.view(-1, *self._shape)).relu_().flatten(1)


def pool_everywhere(maps: torch.Tensor) -> torch.Tensor:
    """Return the maxima of 4 x 4 boxes at every pixel, (ny, nx, channels) -> (ny - 3, nx - 3, channels)."""
    pooled = torch.maximum(maps[:-1], maps[1:])
    pooled = torch.maximum(pooled[:-2], pooled[2:])
    pooled = torch.maximum(pooled[:, :-1], pooled[:, 1:])
    return torch.maximum(pooled[:, :-2], pooled[:, 2:])


def window_views(maps: torch.Tensor, grid: tuple[int, int], stride: int, side: int, step: int) -> torch.Tensor:
    """Return views of the windows in a dense map, without a copy.

    Parameters
    ----------
    maps : (ny, nx, channels)
        Contiguous map.
    grid
        Rows and columns of windows.
    stride
        Step between windows, pixels of the map.
    side, step
        Number of samples of a window along y and x, and their distance, pixels.

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
    """Return the matrix from a block's pixels to its convolution.

    (channels, k, k) -> (k * (BLOCK + k - 1), BLOCK * channels)
    """
    channels, side, _ = weight.shape
    matrix = torch.zeros(side, BLOCK + side - 1, BLOCK, channels)
    for pixel in range(BLOCK):
        matrix[:, pixel : pixel + side, pixel] = weight.permute(1, 2, 0)
    return matrix.view(-1, BLOCK * channels)


FARTHEST_MEAN = 32.0
"""Windows whose mean lies farther from the background, in their own std, are scored one by one.

Float32 convolutions that windows share lose digits as the pedestal under a window grows. A pixel can lie up to
``side`` (26) std from the mean of its window anyway: up to 32, the pedestal adds no more error than such a pixel does.
"""


@dataclass(frozen=True)
class TorchMoments:
    """Moments of windows over their usable pixels.

    Parameters
    ----------
    mean, std : (bands, rows, columns) float64
        Mean minus the background, and std with ddof 0. Valid only if ``shared``.
    enough : (rows, columns) bool
        Whether at least half of the window is usable.
    shared : (rows, columns) bool
        Whether the shared float32 maps are precise enough for the window. A window that is ``enough`` and not
        ``shared`` may have no spread or a large pedestal, and must be computed by itself.
    """

    mean: torch.Tensor
    std: torch.Tensor
    enough: torch.Tensor
    shared: torch.Tensor


def window_moments(
    pixels: torch.Tensor, usable: torch.Tensor, background: float, side: int, stride: int
) -> TorchMoments:
    """Return the moments of the windows of an image.

    Parameters
    ----------
    pixels : (bands, ny, nx) float64
        Pixels minus the background, zero if not usable.
    usable : (ny, nx) bool
        Pixels that count.
    background
        Background that was subtracted, in the unit of the pixels.
    side, stride
        Side and step of the windows, pixels.

    Returns
    -------
    moments
        Moments of all windows that fit into the image.

    Notes
    -----
    The sums are over boxes, not running sums. Each window is summed in the same order wherever it lies, so its moments
    do not depend on the tiling, and a bright pixel costs no digits elsewhere. The relative cancellation between the
    mean of the squares and the square of the mean, 1e-16 (mean / std)^2, is negligible up to `FARTHEST_MEAN`.
    """
    count = _box_sums(usable.double()[None], side, stride)
    weight = count.clamp_min(1.0).reciprocal()
    mean = _box_sums(pixels, side, stride) * weight
    std = (_box_sums(pixels.square(), side, stride) * weight - mean.square()).clamp_min(0.0).sqrt()
    enough = 2 * count[0] >= side * side
    largest = abs(background) + mean.abs() + side * std  # no pixel of the window is larger
    # For a std within these bounds, float32 holds the scaled maps, whatever the weights.
    fine = (std > FLAT * largest) & (mean.abs() <= FARTHEST_MEAN * std) & (std > TINY) & (std < HUGE)
    return TorchMoments(mean, std, enough, enough & fine.all(0))


def _box_sums(planes: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    """Return sums over windows, (n, ny, nx) -> (n, rows, columns): first down, then across, 2 * side additions each."""
    down = avg_pool2d(planes, (side, 1), (stride, 1), divisor_override=1)
    return avg_pool2d(down, (1, side), (1, stride), divisor_override=1)


def shared_maps(
    net: FusedNet, dense: DenseConvolution, planes: torch.Tensor, moments: TorchMoments, stride: int
) -> torch.Tensor:
    """Return the input maps of the second convolution, from one convolution of the image for all windows.

    Convolution, max-pool and ReLU commute with the z-score, an affine map with a positive slope per window and band.
    With one band the windows also share the max-pool. With several bands, whose slopes differ, the pool follows the sum
    over bands for each window.

    Parameters
    ----------
    net
        Network.
    dense
        First convolution of the network.
    planes : (bands, ny, nx) float32
        Pixels minus the background, zero if not usable.
    moments
        Moments of the windows.
    stride
        Step between windows, pixels.

    Returns
    -------
    maps : (windows, side, side, channels) float32
        Finite values; without meaning if the moments are not ``shared``.
    """
    grid = (moments.shared.shape[0], moments.shared.shape[1])
    slope = torch.where(moments.shared, moments.std.reciprocal(), 0.0)
    mean = torch.where(moments.shared, moments.mean, 0.0)
    weight = torch.from_numpy(net.first_weight).double().sum((2, 3)).to(planes.device)
    bias = torch.from_numpy(net.first_bias).double().to(planes.device)
    offset = (bias - torch.einsum("brc,kb->rck", mean * slope, weight)).float()[:, :, None, None]
    scale = slope.float()[..., None, None, None]
    if net.bands == 1:
        views = window_views(pool_everywhere(dense(planes[0], 0)), grid, stride, net.pooled_side, 2)
        return torch.addcmul(offset, views, scale[0]).flatten(0, 1).relu_()
    side = 2 * net.pooled_side + 2
    summed = offset.expand(*grid, side, side, -1).contiguous()
    for band, plane in enumerate(planes):
        summed.addcmul_(window_views(dense(plane, band), grid, stride, side, 1), scale[band])
    return pool_windows(summed.flatten(0, 1)).relu_()


def single_maps(net: FusedNet, dense: DenseConvolution, windows: torch.Tensor) -> torch.Tensor:
    """Return the first pooled maps of windows, (n, bands, side, side) float32 -> (n, pooled, pooled, channels)."""
    convolved = sum(dense(windows[:, band], band) for band in range(net.bands))
    assert isinstance(convolved, torch.Tensor)
    used = 2 * net.pooled_side + 2
    bias = torch.from_numpy(net.first_bias).to(windows.device)
    return pool_windows(convolved[:, :used, :used] + bias).relu_()


def pool_windows(maps: torch.Tensor) -> torch.Tensor:
    """Return the maxima of 4 x 4 boxes at stride 2, (n, side, side, channels) -> the same with (side - 2) // 2."""
    return max_pool_4_2(maps.movedim(-1, 1)).movedim(1, -1).contiguous()
