import numpy as np
import pytest
import torch

from kernels.fused_net import fuse
from kernels.fused_search import FusedSearch
from kernels.nets.compact_cnn import CompactCnn
from tests.kernels.fused_fixture import cut, grid_of, log_odds, sky


def test_shape():
    shapes = [tuple(value.shape) for name, value in CompactCnn().named_parameters() if name.endswith("weight")]
    assert shapes == [(6, 1, 5, 5), (8, 6, 4, 4), (64, 32), (32, 64), (2, 32)]
    assert sum(value.numel() for value in CompactCnn().parameters()) == 5_190


@pytest.mark.parametrize("bands", [1, 3])
def test_against_torch_sequential(bands):
    torch.manual_seed(bands)
    net = CompactCnn(bands).eval()
    plain = torch.nn.Sequential(
        net.conv1, torch.nn.ReLU(), torch.nn.MaxPool2d(4, 2),
        net.conv2, torch.nn.ReLU(), torch.nn.MaxPool2d(4, 2), torch.nn.Flatten(),
        net.fc1, torch.nn.ReLU(), net.fc2, torch.nn.ReLU(), net.fc3,
    )  # fmt: skip
    windows = torch.randn(5, bands, 26, 26)
    torch.testing.assert_close(net(windows), plain(windows))


@pytest.mark.parametrize(("bands", "side"), [(1, 26), (2, 33)])
def test_the_fused_search_takes_it(bands, side):
    torch.manual_seed(0)
    net = CompactCnn(bands, side).eval()
    image, usable = sky((100, 200), bands)
    found, _ = FusedSearch(fuse(net)).search(image, usable, 0.0, grid_of((100, 200), side), 7)
    windows, scored = cut(image, usable, 0.0, side)
    np.testing.assert_allclose(found, np.where(scored, log_odds(net, windows), -np.inf), atol=2e-5)
