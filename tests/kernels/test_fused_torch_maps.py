import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool2d

from kernels.fused_torch_convolutions import DenseConvolution
from kernels.fused_torch_maps import pool_windows, shared_maps, single_maps
from kernels.fused_torch_moments import window_moments
from kernels.windows import fill_windows
from tests.kernels.torch_support import DEVICES, lively_net


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bands", [1, 3])
def test_maps_are_those_of_z_scored_windows(device, bands):
    net, fused = lively_net(bands)
    rng = np.random.default_rng(bands)
    image = rng.normal(1, 1 + np.arange(bands)[:, None, None], (bands, 47, 61)).astype(np.float32)
    usable = rng.random((47, 61)) > 0.1
    windows = np.empty((24, bands, 26, 26), np.float32)
    fill_windows(image, usable, 0.0, (4, 6), 7, 0, windows)
    with torch.inference_mode():
        theirs = max_pool2d(torch.relu(net.conv1(torch.from_numpy(windows))), 4, 2)

    pixels = torch.from_numpy(np.where(usable, image, 0)).to(device)
    moments = window_moments(pixels.double(), torch.from_numpy(usable).to(device), 0.0, 26, 7)
    ours = shared_maps(fused, DenseConvolution(fused, torch.device(device)), pixels, moments, 7).cpu()
    assert ours.shape == (24, fused.pooled_side, fused.pooled_side, 6)
    torch.testing.assert_close(ours, theirs[:, :, :9, :9].permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bands", [1, 2])
def test_maps_of_single_windows_are_the_networks(device, bands):
    net, fused = lively_net(bands)
    windows = torch.randn(5, bands, 26, 26, generator=torch.Generator().manual_seed(bands))
    with torch.inference_mode():
        theirs = max_pool2d(torch.relu(net.conv1(windows)), 4, 2)[:, :, :9, :9].permute(0, 2, 3, 1)
    ours = single_maps(fused, DenseConvolution(fused, torch.device(device)), windows.to(device)).cpu()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pool_is_torchs():
    maps = torch.randn(5, 12, 12, 3, generator=torch.Generator().manual_seed(1))
    theirs = max_pool2d(maps.permute(0, 3, 1, 2), 4, 2).permute(0, 2, 3, 1)
    pooled = pool_windows(maps)
    assert pooled.is_contiguous()
    torch.testing.assert_close(pooled, theirs, rtol=0, atol=0)
