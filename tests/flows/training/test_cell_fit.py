import numpy as np
import pytest
import torch

from flows.training.cell_crops import CropPlan
from flows.training.cell_fit import CellFit, fit_cells
from kernels.nets.streak_net import StreakNet


def fitted(examples, batches):
    torch.manual_seed(0)
    net = StreakNet(8, (1, 1))
    torch.nn.init.constant_(net.last.bias, -4.0)
    lines = []
    plan = CropPlan({}, batch=4, seed=3)
    losses = fit_cells(net, examples, plan, CellFit(batches, rate=1e-2), torch.device("cpu"), lines.append)
    return net, losses, lines


@pytest.mark.slow
def test_learns_and_says_how_well(examples):
    net, losses, lines = fitted(examples, 401)
    assert len(losses) == len(lines) == 3
    assert np.mean(losses[1:]) < 0.8 * losses[0]
    assert not net.training
    assert lines[-1].startswith("batch 401 of 401: loss")


def test_the_same_seed_gives_the_same_weights_and_they_move(examples):
    (one, losses, lines), (other, *_) = fitted(examples, 3), fitted(examples, 3)
    assert len(losses) == len(lines) == 1
    torch.manual_seed(0)
    start = StreakNet(8, (1, 1)).state_dict()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
        assert not torch.equal(value, start[name])
