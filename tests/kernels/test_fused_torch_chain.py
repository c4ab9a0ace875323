import pytest
import torch

from kernels.fused_torch_chain import Chain
from tests.kernels.torch_support import DEVICES, lively_net


def theirs(net, features):
    with torch.inference_mode():
        for layer in (net.fc1, net.fc2, net.fc3):
            features = torch.relu(layer(features))
        scores = net.fc4(features)
        return scores[:, 1] - scores[:, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 16, 37])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_log_odds_are_the_networks(device, count, dtype, tolerance):
    net, fused = lively_net()
    features = torch.rand(count, 12, generator=torch.Generator().manual_seed(count))
    found = Chain(fused, torch.device(device), dtype, 16)(features.to(device))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.cpu(), theirs(net, features), rtol=tolerance, atol=tolerance)


def test_a_window_does_not_feel_how_many_others_there_are():
    _, fused = lively_net()
    chain = Chain(fused, torch.device("cpu"), torch.float32, 16)
    features = torch.rand(40, 12, generator=torch.Generator().manual_seed(2))
    assert torch.equal(chain(features)[:5], chain(features[:5]))
