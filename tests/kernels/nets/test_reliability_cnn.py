import pytest
import torch
from torch.nn import functional as f

from kernels.measure.reliability import STAMP_CHANNELS, STAMP_SIDE
from kernels.nets.reliability_cnn import ReliabilityCnn
from tests.support.torch_nets import dropped, shapes


def test_both_pictures_and_measurements_count():
    torch.manual_seed(1)
    net = ReliabilityCnn(5).eval()
    stamps, features = torch.randn(3, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE), torch.randn(3, 5)
    plain = net(stamps, features)
    assert plain.shape == (3,)
    for changed in (
        (stamps * torch.tensor([2.0, 1, 1, 1, 1, 1, 1])[:, None, None], features),
        (stamps * torch.tensor([1.0, 1, 1, 1, 2, 1, 1])[:, None, None], features),
        (stamps * torch.tensor([1.0, 1, 1, 1, 1, 1, 2])[:, None, None], features),
        (stamps, features + 1),
    ):
        assert (net(*changed) != plain).all()


def test_measurements_are_standardised():
    net = ReliabilityCnn(2).eval()
    stamps = torch.zeros(1, STAMP_CHANNELS, STAMP_SIDE, STAMP_SIDE)
    first = net(stamps, torch.tensor([[3.0, 4.0]]))
    net.mean.copy_(torch.tensor([3.0, 4.0]))
    net.scale.copy_(torch.tensor([2.0, 5.0]))
    torch.testing.assert_close(net(stamps, torch.tensor([[3.0 + 2 * 3.0, 4.0 + 5 * 4.0]])), first)


def body(maps, weights, name, steps):
    """Padded 3 x 3 convolutions with ReLU."""
    for step in steps:
        maps = f.conv2d(maps, weights[f"{name}.{step}.weight"], weights[f"{name}.{step}.bias"], padding=1).relu()
        if step in POOLED[name]:
            maps = f.max_pool2d(maps, 2)
    return maps


def pooled(maps):
    return [maps.mean((2, 3)), maps.flatten(2).max(2).values]


POOLED = {"fine": (2, 7), "coarse": (2, 7)}  # convolutions with a pool of 2 behind


def linear(values, weights, steps):
    for n, step in enumerate(steps):
        values = f.linear(
            values.relu() if n else values, weights[f"joined.{step}.weight"], weights[f"joined.{step}.bias"]
        )
    return values[:, 0]


@pytest.mark.parametrize(("pictures", "centred"), [(6, False), (7, False), (7, True)])
def test_a_verdict_is_that_of_the_layers_that_are_described(pictures, centred):
    torch.manual_seed(4)
    net = ReliabilityCnn(5, pictures, centred).eval()
    assert (net.mean == 0).all()
    assert (net.scale == 1).all()
    net.mean.copy_(torch.randn(5))
    net.scale.copy_(torch.rand(5) + 0.5)
    stamps, features = torch.randn(3, 7, STAMP_SIDE, STAMP_SIDE), 10 * torch.randn(3, 5)
    weights = net.state_dict()
    fine = body(stamps[:, [0, 1, 2, 3, 6][: pictures - 2]], weights, "fine", (0, 2, 5, 7, 10))
    coarse = body(stamps[:, 4:6], weights, "coarse", (0, 2, 5, 7, 10))
    parts = [(features - net.mean) / net.scale, *pooled(fine), *pooled(coarse)]
    if centred:
        trail = stamps[:, 2].clip(0).reshape(3, 8, 4, 8, 4).mean((2, 4))
        light = torch.einsum("nchw,nhw->nc", fine, trail) / trail.sum((1, 2))[:, None]
        parts += [light, coarse[:, :, [3, 3, 4, 4], [3, 4, 3, 4]].mean(2)]
    torch.testing.assert_close(net(stamps, features), linear(torch.cat(parts, 1), weights, (0, 3, 5)))
    sizes = [(16, 16, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (32, 32, 3, 3)]
    branches = {
        f"{name}.{step}.weight": size
        for name, first in (("fine", pictures - 2), ("coarse", 2))
        for step, size in zip((0, 2, 5, 7, 10), [(16, first, 3, 3), *sizes], strict=True)
    }
    last = {"joined.0.weight": (64, 197 if centred else 133), "joined.3.weight": (32, 64), "joined.5.weight": (1, 32)}
    assert shapes(net) == branches | last
    assert dropped(net) == [0.2]
