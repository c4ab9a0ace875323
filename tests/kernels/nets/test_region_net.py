import numpy as np
import pytest
import torch
from torch.nn import functional as f

from kernels.nets.region_net import ANCHORS, BINS, CUT, UNIT, RegionNet
from kernels.search.boxes import box_overlap
from tests.support.torch_nets import shapes


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


def test_layers_are_those_that_are_described():
    net = RegionNet()
    assert (net.channels, net.dilations, net.reach) == (32, (1, 1, 2, 4, 2, 1), 12)
    assert shapes(net) == {
        "first.weight": (32, 48, 3, 3), **{f"body.{n}.weight": (32, 32, 3, 3) for n in range(6)},
        "objectness.weight": (12, 32, 1, 1), "shift.weight": (48, 32), "pixels.0.weight": (32, 3, 5, 5),
        "pixels.2.weight": (48, 32, 3, 3), "pixels.5.weight": (96, 48 * 6 * 6), "region.1.weight": (96, 32 * 7 * 7),
        "verdict.1.weight": (96, 2 * 96 + 2), "verdict.3.weight": (5, 96),
    }  # fmt: skip
    assert (net.objectness.bias == -3).all()
    assert (BINS, CUT) == (7, 24)


def test_features_and_verdicts_are_those_of_the_layers_by_hand():
    torch.manual_seed(1)
    net = RegionNet(6, (1, 3, 2, 1))
    weights = net.state_dict()

    def conv(x, name, **given):
        return f.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **given)

    def linear(x, name):
        return f.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    cells = torch.randn(2, 48, 9, 11)
    x = conv(cells, "first", padding=1).relu()
    x = (x + conv(conv(x, "body.0", padding=1).relu(), "body.1", padding=3, dilation=3)).relu()
    x = (x + conv(conv(x, "body.2", padding=2, dilation=2).relu(), "body.3", padding=1)).relu()
    torch.testing.assert_close(net.features(cells), x)

    regions, pixels, sides = torch.randn(4, 6, BINS, BINS), torch.randn(4, 3, CUT, CUT), torch.rand(4, 2) * 70 + 5
    cut = conv(conv(pixels, "pixels.0", stride=2, padding=2).relu(), "pixels.2", stride=2, padding=1).relu()
    seen = [linear(regions.flatten(1), "region.1"), linear(cut.flatten(1), "pixels.5"), (sides / 16).log()]
    found = linear(linear(torch.cat(seen, 1).relu(), "verdict.1").relu(), "verdict.3")
    odds, shifts = net.judge(regions, pixels, sides)
    torch.testing.assert_close(odds, found[:, 0])
    torch.testing.assert_close(shifts, found[:, 1:])


def test_anchors_treat_width_and_height_alike():
    assert sorted(ANCHORS) == sorted((high, wide) for wide, high in ANCHORS)
    assert len(set(ANCHORS)) == len(ANCHORS) == 12
    squares = [wide for wide, high in ANCHORS if wide == high]
    assert squares == [9, 13, 24, 52]


def test_last_shifts_have_the_units_of_faster_rcnn():
    """Its targets are divided by 0.1, for the middle, and 0.2, for the sides (py-faster-rcnn, BBOX_NORMALIZE_STDS)."""
    np.testing.assert_allclose(np.reciprocal(UNIT), [0.1, 0.1, 0.2, 0.2])
