import pytest
import torch
from torch.nn import functional

from kernels.nets.streak_net import CELL, PLANES, StreakNet
from tests.support.torch_nets import shapes


def test_sees_as_far_as_it_says_and_no_farther():
    torch.manual_seed(0)
    net = StreakNet(16, (1, 2, 3, 1)).double()
    cells = torch.randn(1, 48, 41, 41, dtype=torch.double, requires_grad=True)
    net(cells)[0, 20, 20].backward()
    seen = cells.grad[0].abs().sum(0) > 0
    reach = net.reach
    assert seen[20 - reach, 20 - reach]
    assert seen.nonzero().min() == 20 - reach
    assert seen.nonzero().max() == 20 + reach


def test_is_the_same_everywhere():
    torch.manual_seed(0)
    net = StreakNet(8, (1, 1)).double()
    cells = torch.randn(2, 48, 30, 30, dtype=torch.double)
    moved = torch.roll(cells, (5, -3), (2, 3))
    inner = (slice(None), slice(12, 18), slice(12, 18))
    torch.testing.assert_close(torch.roll(net(cells), (5, -3), (1, 2))[inner], net(moved)[inner])


def test_inside_is_what_no_border_reaches():
    torch.manual_seed(0)
    net = StreakNet(12, (1, 3, 2, 1)).double()
    cells = torch.randn(2, 48, 40, 33, dtype=torch.double)
    edge = net.reach
    found = net.inside(cells)
    assert found.shape == (2, 40 - 2 * edge, 33 - 2 * edge)
    torch.testing.assert_close(found, net(cells)[:, edge:-edge, edge:-edge])


def test_convolutions_come_in_pairs():
    with pytest.raises(ValueError, match="3 dilations"):
        StreakNet(8, (1, 1, 1))


def test_layers_are_those_that_are_described():
    net = StreakNet()
    assert (CELL, PLANES) == (4, 3)
    assert (net.channels, net.dilations, net.reach) == (32, (1, 1, 2, 4, 2, 1), 12)
    assert shapes(net) == {
        "first.weight": (32, 48, 3, 3), **{f"body.{n}.weight": (32, 32, 3, 3) for n in range(6)},
        "head.weight": (32, 32, 1, 1), "last.weight": (1, 32, 1, 1),
    }  # fmt: skip


def test_log_odds_are_those_of_the_layers_by_hand():
    torch.manual_seed(1)
    net, cells = StreakNet(6, (1, 3, 2, 1)), torch.randn(2, 48, 9, 11)
    weights = net.state_dict()

    def conv(x, name, step=0):
        return functional.conv2d(
            x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=step, dilation=step or 1
        )

    x = conv(cells, "first", 1).relu()
    x = (x + conv(conv(x, "body.0", 1).relu(), "body.1", 3)).relu()
    x = (x + conv(conv(x, "body.2", 2).relu(), "body.3", 1)).relu()
    torch.testing.assert_close(net(cells), conv(conv(x, "head").relu(), "last")[:, 0])
