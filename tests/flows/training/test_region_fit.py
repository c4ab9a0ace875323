import numpy as np
import pytest
import torch

from flows.training.region_crops import Crop, CropDraw, CropShares
from flows.training.region_fit import RegionFit, crop_losses, fit_regions
from flows.training.region_truth import Sources
from kernels.nets.region_net import RegionNet

NONE = np.empty((0, 4))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_it_learns(examples):
    draw = CropDraw(examples, 1)
    draw.show({}, CropShares(trail=0.9))
    said = []
    net = RegionNet(16, (1, 1))
    rng = np.random.default_rng(0)
    crops = draw.crops(4)
    with torch.no_grad():
        before = crop_losses(net, crops, rng)
    fit_regions(net, draw, RegionFit(40, batch=3, rate=3e-3), 1, said.append)
    with torch.no_grad():
        after = crop_losses(net, crops, np.random.default_rng(0))
    assert (after[:2] < 0.95 * before[:2]).all()
    assert not net.training
    assert said[0].startswith("batch 40 of 40: loss ")


def test_crops_without_trails_are_lessons_too():
    cells = np.random.default_rng(0).normal(size=(56, 56, 48)).astype(np.float32)
    net = RegionNet(8, (1, 1))
    losses = crop_losses(net, [Crop(cells, Sources(NONE, NONE))], np.random.default_rng(0))
    assert losses[1] == losses[3] == 0
    losses.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in net.parameters() if one.grad is not None)
    assert net.objectness.weight.grad.abs().max() > 0


def test_a_network_that_says_the_truth_loses_little():
    box = np.array([[100.0, 96, 113, 109]])  # as large as an anchor, about the middle of a cell
    crop = Crop(np.zeros((56, 56, 48), np.float32), Sources(box + 1.0, NONE))
    net = RegionNet(8, (1, 1))
    for part in net.parameters():
        torch.nn.init.zeros_(part)
    losses = crop_losses(net, [crop], np.random.default_rng(0)).detach().numpy()
    # Even odds, whatever they are of.
    assert losses[0] == pytest.approx(np.log(2), rel=1e-6)
    assert losses[2] == pytest.approx(np.log(2), rel=1e-6)
    assert losses[1] > 0
