import numpy as np
import pytest
import torch

from kernels.nets.region_net import ANCHORS, BINS, CUT, RegionNet
from kernels.search.boxes import box_overlap


def test_features_reach_as_far_as_it_says():
    torch.manual_seed(0)
    net = RegionNet(4, (1, 2))
    cells = torch.randn(1, 48, 21, 21)
    changed = cells.clone()
    changed[:, :, 10, 10] += 5
    with torch.inference_mode():
        touched = (net.features(changed) != net.features(cells)).any(1)[0].nonzero() - 10
    assert net.reach == 4
    assert touched.abs().max() == net.reach


def test_shapes_of_what_it_says():
    net = RegionNet(8, (1, 1))
    features = net.features(torch.zeros(2, 48, 5, 6))
    assert features.shape == (2, 8, 5, 6)
    assert net.objectness(features).shape == (2, len(ANCHORS), 5, 6)
    assert net.shifts(torch.zeros(3, 8)).shape == (3, len(ANCHORS), 4)
    odds, shifts = net.judge(torch.zeros(3, 8, BINS, BINS), torch.zeros(3, 3, CUT, CUT), torch.full((3, 2), 16.0))
    assert odds.shape == (3,)
    assert shifts.shape == (3, 4)


def test_dilations_come_in_pairs():
    with pytest.raises(ValueError, match="in pairs"):
        RegionNet(8, (1, 2, 4))


@pytest.mark.parametrize("fwhm", [1.6, 2.5, 3.5])
def test_an_anchor_fits_every_trail(fwhm):
    rng = np.random.default_rng(0)
    length, angle = np.exp(rng.uniform(0, np.log(60), 2000)), rng.uniform(0, np.pi, 2000)
    half = length[:, None] / 2 * np.abs(np.stack([np.cos(angle), np.sin(angle)], 1)) + 2 * fwhm + 0.5
    # The middle of the nearest cell is at most 2 px off, along x and y.
    away, anchor = rng.uniform(-2, 2, (2000, 2)), np.array(ANCHORS) / 2
    shared = box_overlap(np.concatenate([away - half, away + half], 1), np.concatenate([-anchor, anchor], 1)).max(1)
    assert shared.min() > 0.4
    assert (shared > 0.5).mean() > 0.95
