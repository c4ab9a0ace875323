import pytest
import torch

from kernels.nets.streak_net import StreakNet


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
