import numpy as np
import pytest
import torch

from kernels.fused_torch_moments import FARTHEST_MEAN, window_moments
from tests.kernels.torch_support import DEVICES


def moments_of(pixels, usable, background=0.0, stride=7, device="cpu"):
    there = torch.from_numpy(np.where(usable, pixels, 0.0)).to(device)
    return window_moments(there, torch.from_numpy(usable).to(device), background, 26, stride)


@pytest.mark.parametrize("device", DEVICES)
def test_moments_are_numpys(device):
    rng = np.random.default_rng(0)
    pixels = rng.normal(2, 5, (2, 61, 75))
    usable = rng.random((61, 75)) > 0.3
    found = moments_of(pixels, usable, stride=9, device=device)
    masked = np.ma.array(pixels, mask=np.broadcast_to(~usable, pixels.shape))
    for row in range(4):
        for column in range(6):
            box = masked[:, row * 9 : row * 9 + 26, column * 9 : column * 9 + 26]
            np.testing.assert_allclose(found.mean[:, row, column].cpu(), box.mean((1, 2)), rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(found.std[:, row, column].cpu(), box.std((1, 2)), rtol=1e-12)
    assert found.mean.shape == (2, 4, 6)
    assert bool((found.enough & found.shared).all())


def test_pedestal_costs_few_digits():
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 5, (1, 26, 26))
    usable = np.ones((26, 26), bool)
    far, near = moments_of(noise + 10_000, usable), moments_of(noise, usable)
    assert far.std.item() == pytest.approx(near.std.item(), rel=1e-8)
    assert bool(near.shared.all())
    assert not bool(far.shared.any())


@pytest.mark.parametrize(("share", "shared"), [(0.99, True), (1.01, False)])
def test_windows_share_maps_up_to_a_pedestal(share, shared):
    pixels = np.random.default_rng(2).normal(0, 1, (1, 26, 26))
    pixels = (pixels - pixels.mean()) / pixels.std() + share * FARTHEST_MEAN
    assert bool(moments_of(pixels, np.ones((26, 26), bool)).shared.all()) is shared


def test_doubtful_spread_is_not_shared():
    usable = np.ones((26, 26), bool)
    assert not bool(moments_of(np.zeros((1, 26, 26)), usable).shared.any())
    rough = np.random.default_rng(3).normal(0, 1, (1, 26, 26))
    assert bool(moments_of(rough, usable, background=1e4).shared.all())
    assert not bool(moments_of(rough, usable, background=1e9).shared.any())  # below float32's steps of 64


def test_one_flat_band_is_enough_to_look_again():
    pixels = np.random.default_rng(4).normal(0, 1, (2, 26, 26))
    pixels[1] = 0.0
    found = moments_of(pixels, np.ones((26, 26), bool))
    assert bool(found.enough.all())
    assert not bool(found.shared.any())


def test_wholly_masked_windows_have_finite_moments():
    found = moments_of(np.ones((1, 40, 40)), np.zeros((40, 40), bool))
    assert not bool(found.enough.any())
    assert bool(torch.isfinite(found.mean).all() and torch.isfinite(found.std).all())
