import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from kernels.fused_torch_convolutions import (
    BLOCK,
    DenseConvolution,
    SecondConvolution,
    pool_everywhere,
    window_views,
)
from tests.kernels.torch_support import DEVICES, lively_net


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [26, 27, 31, 36, 61])
@pytest.mark.parametrize("band", [0, 1])
def test_convolution_is_torchs(device, width, band):
    _, net = lively_net(2)
    planes = torch.randn(3, 29, width, generator=torch.Generator().manual_seed(width))
    ours = DenseConvolution(net, torch.device(device))(planes.to(device), band).cpu()
    theirs = conv2d(planes[:, None], torch.from_numpy(net.first_weight)[:, band : band + 1]).movedim(1, -1)
    assert ours.shape[2] % BLOCK == 0
    torch.testing.assert_close(ours[:, :, : width - 4], theirs, rtol=1e-5, atol=1e-5)


def test_a_bright_pixel_stays_where_it_is():
    _, net = lively_net()
    dense = DenseConvolution(net, torch.device("cpu"))
    plane = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    bright = plane.clone()
    bright[20, 30] = 1e30
    changed = (dense(bright, 0) != dense(plane, 0)).any(-1).nonzero()
    assert changed.min(0).values.tolist() == [16, 26]
    assert changed.max(0).values.tolist() == [20, 30]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side", [26, 34])
def test_features_are_the_networks(device, side):
    net, fused = lively_net(side=side)
    maps = torch.rand(7, fused.pooled_side, fused.pooled_side, 6, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        theirs = max_pool2d(torch.relu(net.conv2(maps.permute(0, 3, 1, 2))), 4, 2).flatten(1)
    ours = SecondConvolution(fused, torch.device(device))(maps.to(device)).cpu()
    assert ours.shape == (7, fused.features)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pool_is_torchs():
    maps = torch.randn(17, 22, 3, generator=torch.Generator().manual_seed(1))
    theirs = max_pool2d(maps.permute(2, 0, 1), 4, 1).permute(1, 2, 0)
    torch.testing.assert_close(pool_everywhere(maps), theirs, rtol=0, atol=0)


def test_views_see_the_windows():
    maps = torch.arange(20 * 30 * 2.0).view(20, 30, 2)
    views = window_views(maps, (2, 3), 7, 4, 2)
    for row in range(2):
        for column in range(3):
            box = maps[row * 7 : row * 7 + 7 : 2, column * 7 : column * 7 + 7 : 2]
            assert torch.equal(views[row, column], box)
