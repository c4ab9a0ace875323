import pytest
import torch
from torch.nn.functional import max_pool2d

from kernels.fused_torch_second import SecondConvolution
from tests.kernels.torch_support import DEVICES, lively_net


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
