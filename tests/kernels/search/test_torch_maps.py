import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from kernels.search.torch_maps import (
    BLOCK,
    FARTHEST_MEAN,
    DenseConvolution,
    SecondConvolution,
    pool_everywhere,
    pool_windows,
    shared_maps,
    single_maps,
    window_moments,
    window_views,
)
from kernels.search.windows import fill_windows
from tests.support.torch_nets import DEVICES, lively_net


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("width", [26, 27, 31, 36, 61])
@pytest.mark.parametrize("band", [0, 1])
def test_convolution_is_torchs(device, width, band):
    _, net = lively_net(2)
    planes = torch.randn(3, 29, width, generator=torch.Generator().manual_seed(width))
    ours = DenseConvolution(net, torch.device(device))(planes.to(device), band).cpu()
    theirs = conv2d(planes[:, None], torch.from_numpy(net.first_weight)[:, band : band + 1]).movedim(1, -1)
    assert ours.shape[2] % BLOCK == 0
    torch.testing.assert_close(ours[:, :, : width - 4], theirs, rtol=1e-5, atol=1e-5)


def test_a_bright_pixel_stays_where_it_is():
    _, net = lively_net()
    dense = DenseConvolution(net, torch.device("cpu"))
    plane = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    bright = plane.clone()
    bright[20, 30] = 1e30
    changed = (dense(bright, 0) != dense(plane, 0)).any(-1).nonzero()
    assert changed.min(0).values.tolist() == [16, 26]
    assert changed.max(0).values.tolist() == [20, 30]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("side", [26, 34])
def test_features_are_the_networks(device, side):
    net, fused = lively_net(side=side)
    maps = torch.rand(7, fused.pooled_side, fused.pooled_side, 6, generator=torch.Generator().manual_seed(side))
    with torch.inference_mode():
        theirs = max_pool2d(torch.relu(net.conv2(maps.permute(0, 3, 1, 2))), 4, 2).flatten(1)
    ours = SecondConvolution(fused, torch.device(device))(maps.to(device)).cpu()
    assert ours.shape == (7, fused.features)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_pool_is_torchs():
    maps = torch.randn(17, 22, 3, generator=torch.Generator().manual_seed(1))
    theirs = max_pool2d(maps.permute(2, 0, 1), 4, 1).permute(1, 2, 0)
    torch.testing.assert_close(pool_everywhere(maps), theirs, rtol=0, atol=0)


def test_views_see_the_windows():
    maps = torch.arange(20 * 30 * 2.0).view(20, 30, 2)
    views = window_views(maps, (2, 3), 7, 4, 2)
    for row in range(2):
        for column in range(3):
            box = maps[row * 7 : row * 7 + 7 : 2, column * 7 : column * 7 + 7 : 2]
            assert torch.equal(views[row, column], box)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bands", [1, 3])
def test_maps_are_those_of_z_scored_windows(device, bands):
    net, fused = lively_net(bands)
    rng = np.random.default_rng(bands)
    image = rng.normal(1, 1 + np.arange(bands)[:, None, None], (bands, 47, 61)).astype(np.float32)
    usable = rng.random((47, 61)) > 0.1
    windows = np.empty((24, bands, 26, 26), np.float32)
    fill_windows(image, usable, 0.0, (4, 6), 7, 0, windows)
    with torch.inference_mode():
        theirs = max_pool2d(torch.relu(net.conv1(torch.from_numpy(windows))), 4, 2)

    pixels = torch.from_numpy(np.where(usable, image, 0)).to(device)
    moments = window_moments(pixels.double(), torch.from_numpy(usable).to(device), 0.0, 26, 7)
    ours = shared_maps(fused, DenseConvolution(fused, torch.device(device)), pixels, moments, 7).cpu()
    assert ours.shape == (24, fused.pooled_side, fused.pooled_side, 6)
    torch.testing.assert_close(ours, theirs[:, :, :9, :9].permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bands", [1, 2])
def test_maps_of_single_windows_are_the_networks(device, bands):
    net, fused = lively_net(bands)
    windows = torch.randn(5, bands, 26, 26, generator=torch.Generator().manual_seed(bands))
    with torch.inference_mode():
        theirs = max_pool2d(torch.relu(net.conv1(windows)), 4, 2)[:, :, :9, :9].permute(0, 2, 3, 1)
    ours = single_maps(fused, DenseConvolution(fused, torch.device(device)), windows.to(device)).cpu()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_fused_torch_maps_pool_is_torchs():
    maps = torch.randn(5, 12, 12, 3, generator=torch.Generator().manual_seed(1))
    theirs = max_pool2d(maps.permute(0, 3, 1, 2), 4, 2).permute(0, 2, 3, 1)
    pooled = pool_windows(maps)
    assert pooled.is_contiguous()
    torch.testing.assert_close(pooled, theirs, rtol=0, atol=0)


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


SIGNS = (np.indices((26, 26)).sum(0) % 2 * 2.0 - 1)[None]  # half above, half below: mean 0, std 1


def shared(pixels, background=0.0):
    found = moments_of(pixels, np.ones((26, 26), bool), background)
    assert bool(found.enough.all())
    return bool(found.shared.all())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mean_of_up_to_32_standard_deviations_is_shared(sign):
    assert [shared(SIGNS + sign * mean) for mean in (31.75, 32, 32.25)] == [True, True, False]


def test_a_spread_of_1e_30_to_1e30_is_shared():
    given = (0.99e-30, 1.01e-30, 0.99e30, 1.01e30, 1.9e30)
    assert [shared(SIGNS * spread) for spread in given] == [False, True, True, False, False]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_spread_must_be_seen_beside_the_largest_possible_value(sign):
    """Background, mean and 26 standard deviations, times 1.2e-7."""
    limit = 1 / 1.2e-7 - 26
    assert shared(SIGNS, sign * (limit - 0.1))
    assert not shared(SIGNS, sign * (limit + 0.1))
    assert shared(SIGNS + 20, sign * (limit - 20.1))
    assert not shared(SIGNS + 20, sign * (limit - 19.9))
    assert not shared(SIGNS - 20, sign * (limit - 19.9))


def test_exactly_half_a_window_is_enough():
    usable = np.ones((26, 26), bool)
    usable[13:] = False
    assert bool(moments_of(SIGNS, usable).enough)
    assert bool(moments_of(SIGNS, usable).shared)
    usable[0, 0] = False
    found = moments_of(SIGNS, usable)
    assert not bool(found.enough)
    assert not bool(found.shared)
