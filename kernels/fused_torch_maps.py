"""First pooled maps of search windows, on a torch device."""

import torch

from kernels.fused_net import FusedNet
from kernels.fused_torch_convolutions import DenseConvolution, pool_everywhere, window_views
from kernels.fused_torch_moments import Moments
from kernels.nets.pooling import max_pool_4_2


def shared_maps(
    net: FusedNet, dense: DenseConvolution, planes: torch.Tensor, moments: Moments, stride: int
) -> torch.Tensor:
    """Give the maps that the second convolution gets to see, all windows sharing one convolution of the image.

    Convolution, max-pool and ReLU commute with the z-score, an affine map with a positive slope per window and band.
    With one band the windows share the max-pool, too; with several, whose slopes differ, the pool follows the sum over
    bands, window by window.

    Parameters
    ----------
    net
        The network.
    dense
        Its first convolution.
    planes : (bands, ny, nx) float32
        Pixels less the background, zero where not usable.
    moments
        Of the windows.
    stride
        Step between windows, pixels.

    Returns
    -------
    maps : (windows, side, side, channels) float32
        Finite; without meaning where the moments are not ``shared``.
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
    """Give the first pooled maps of windows, (n, bands, side, side) float32 -> (n, pooled, pooled, channels)."""
    convolved = sum(dense(windows[:, band], band) for band in range(net.bands))
    assert isinstance(convolved, torch.Tensor)
    used = 2 * net.pooled_side + 2
    bias = torch.from_numpy(net.first_bias).to(windows.device)
    return pool_windows(convolved[:, :used, :used] + bias).relu_()


def pool_windows(maps: torch.Tensor) -> torch.Tensor:
    """Give the maxima of 4 x 4 boxes at stride 2, (n, side, side, channels) -> the same with (side - 2) // 2."""
    return max_pool_4_2(maps.movedim(-1, 1)).movedim(1, -1).contiguous()
