import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.nets.basic_cnn import BasicCnn, max_pool_4_2


def test_published_shape():
    shapes = {name: tuple(value.shape) for name, value in BasicCnn().named_parameters()}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5),
        "conv1.bias": (6,),
        "conv2.weight": (3, 6, 4, 4),
        "conv2.bias": (3,),
        "fc1.weight": (120, 12),
        "fc1.bias": (120,),
        "fc2.weight": (500, 120),
        "fc2.bias": (500,),
        "fc3.weight": (1000, 500),
        "fc3.bias": (1000,),
        "fc4.weight": (2, 1000),
        "fc4.bias": (2,),
    }
    assert sum(value.numel() for value in BasicCnn().parameters()) == 565_509


@pytest.mark.parametrize("bands", [1, 2, 8])
def test_against_torch_sequential(bands):
    torch.manual_seed(bands)
    net = BasicCnn(bands).eval()
    plain = torch.nn.Sequential(
        net.conv1, torch.nn.ReLU(), torch.nn.MaxPool2d(4, 2),
        net.conv2, torch.nn.ReLU(), torch.nn.MaxPool2d(4, 2), torch.nn.Flatten(),
        net.fc1, torch.nn.ReLU(), net.fc2, torch.nn.ReLU(), net.fc3, torch.nn.ReLU(), net.fc4,
    )  # fmt: skip
    windows = torch.randn(5, bands, 26, 26)
    torch.testing.assert_close(net(windows), plain(windows))


def test_dropout_only_while_training():
    torch.manual_seed(0)
    net, windows = BasicCnn(), torch.randn(4, 1, 26, 26)
    assert not torch.equal(net.train()(windows), net(windows))
    assert torch.equal(net.eval()(windows), net(windows))


@given(h=st.integers(4, 30), w=st.integers(4, 30), seed=st.integers(0, 100))
def test_equals_torch(h, w, seed):
    maps = torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(max_pool_4_2(maps), torch.nn.functional.max_pool2d(maps, 4, 2))


@pytest.mark.parametrize("side", [24, 25, 26, 31, 32, 40])
def test_fits_windows_of_any_side(side):
    torch.manual_seed(0)
    net, windows = BasicCnn(2, side).eval(), torch.randn(2, 2, side, side)
    codes = net.codes(windows)
    assert codes.shape == (2, 1000)
    torch.testing.assert_close(net(windows), net.head(codes))
    assert net.side == side


def test_a_fifth_of_the_codes_is_dropped_while_training():
    net = BasicCnn()
    assert net.dropout.p == 0.2
    torch.manual_seed(1)
    dropped = (net.train().dropout(torch.ones(100_000)) == 0).float().mean()
    assert dropped == pytest.approx(0.2, abs=0.01)
    assert (net.side, net.conv1.in_channels) == (26, 1)
