import pytest
import torch

from kernels.nets.cutout_nets import WIDTH, BandSetNet, CutoutMlp, CutoutResnet


def test_gives_two_scores_of_any_planes():
    for planes in (2, 4, 8):
        assert CutoutMlp(planes, 26)(torch.zeros(3, planes, 26, 26)).shape == (3, 2)


def test_sees_every_pixel():
    net = CutoutMlp(2, 16).eval()
    cutout = torch.zeros(1, 2, 16, 16, requires_grad=True)
    net(cutout)[0, 1].backward()
    assert (cutout.grad != 0).float().mean() > 0.99


def test_gives_two_scores_of_any_planes_and_side():
    for planes, side in ((2, 20), (8, 26), (4, 33)):
        assert CutoutResnet(planes).eval()(torch.zeros(3, planes, side, side)).shape == (3, 2)


def test_has_eight_layers():
    from torch import nn

    net = CutoutResnet(8)
    in_the_way = [
        one for name, one in net.named_modules() if isinstance(one, nn.Conv2d | nn.Linear) and "short" not in name
    ]
    assert len(in_the_way) == 8


def test_short_cuts_carry_what_the_convolutions_do_not():
    net = CutoutResnet(2).eval()
    for block in net.blocks:
        block.second.weight.data.zero_()
    one, other = torch.zeros(1, 2, 26, 26), torch.ones(1, 2, 26, 26)
    assert not torch.allclose(net(one), net(other))


N, BANDS, FEATURES = 5, 4, 18


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    return BandSetNet(4, FEATURES, (2, 5)).eval()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(2)
    pictures = torch.rand(N, BANDS, 4, 26, 26, generator=generator)
    features = torch.randn(N, BANDS, FEATURES, generator=generator)
    return pictures, features, torch.ones(N, BANDS, dtype=torch.bool), torch.ones(N, BANDS, dtype=torch.bool)


def test_gives_odds_and_codes(net, inputs):
    odds, codes = net(*inputs)
    assert odds.shape == (N,)
    assert codes.shape == (N, WIDTH)


def test_order_of_the_bands_does_not_matter(net, inputs):
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(net(*inputs)[0], net(*(one[:, order] for one in inputs))[0])


def test_what_is_in_a_missing_band_does_not_matter(net, inputs):
    pictures, features, usable, has_psf = inputs
    usable = usable.clone()
    usable[:, 1] = False
    other = pictures.clone(), features.clone()
    other[0][:, 1], other[1][:, 1] = 1e6, float("nan")
    torch.testing.assert_close(net(pictures, features, usable, has_psf)[0], net(*other, usable, has_psf)[0])
    fewer = [0, 2, 3]
    torch.testing.assert_close(net(pictures, features, usable, has_psf)[0], net(*(one[:, fewer] for one in inputs))[0])


def test_what_is_in_a_missing_psf_does_not_matter(net, inputs):
    pictures, features, usable, has_psf = inputs
    other = pictures.clone(), features.clone()
    other[0][:, :, 2:], other[1][:, :, 5:] = 7.0, 7.0
    none = torch.zeros_like(has_psf)
    torch.testing.assert_close(net(pictures, features, usable, none)[0], net(*other, usable, none)[0])
    assert not torch.allclose(net(pictures, features, usable, has_psf)[0], net(*other, usable, has_psf)[0])


def test_an_object_does_not_depend_on_others(net, inputs):
    torch.testing.assert_close(net(*inputs)[0][:2], net(*(one[:2] for one in inputs))[0])


def test_no_band_at_all_is_no_error(net, inputs):
    pictures, features, usable, has_psf = inputs
    odds, _ = net(pictures, features, torch.zeros_like(usable), has_psf)
    assert torch.isfinite(odds).all()


def test_two_of_the_three_blocks_halve_the_picture():
    net = CutoutResnet(3)
    seen = net.stem(torch.zeros(1, 3, 64, 64))
    sides = [seen.shape[-1]]
    for block in net.blocks:
        seen = block(seen)
        sides.append(seen.shape[-1])
    assert sides == [32, 32, 16, 8]
