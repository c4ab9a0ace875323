import pytest
import torch
from torch.nn import functional as f

from kernels.nets.cutout_nets import WIDTH, BandSetNet, CutoutMlp, CutoutResnet
from tests.support.torch_nets import dropped, shapes


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


def test_fully_connected_layers_are_those_that_are_described():
    torch.manual_seed(0)
    net, cutouts = CutoutMlp().eval(), torch.randn(3, 8, 26, 26)
    values, weights = cutouts.reshape(3, -1), net.state_dict()
    for step in (1, 4):
        values = f.linear(values, weights[f"layers.{step}.weight"], weights[f"layers.{step}.bias"]).relu()
    torch.testing.assert_close(net.codes(cutouts), values)
    torch.testing.assert_close(net(cutouts), net.head(values))
    assert shapes(net) == {
        "layers.1.weight": (256, 8 * 26 * 26), "layers.4.weight": (64, 256), "layers.7.weight": (2, 64),
    }  # fmt: skip
    assert dropped(net) == [0.2, 0.2]


def test_residual_layers_are_those_that_are_described():
    torch.manual_seed(0)
    net, cutouts = CutoutResnet(), torch.randn(3, 8, 21, 26)
    for one in net.modules():  # a norm that does something
        if isinstance(one, torch.nn.BatchNorm2d):
            one.running_mean.normal_()
            one.running_var.uniform_(0.5, 2)
    net.eval()
    weights = net.state_dict()

    def norm(x, name):
        given = (weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return f.batch_norm(x, *given)

    x = norm(f.conv2d(cutouts, weights["stem.0.weight"], stride=2, padding=1), "stem.1").relu()
    for n, stride in enumerate((1, 2, 2)):
        name = f"blocks.{n}"
        y = norm(f.conv2d(x, weights[f"{name}.first.weight"], stride=stride, padding=1), f"{name}.norms.0").relu()
        y = norm(f.conv2d(y, weights[f"{name}.second.weight"], padding=1), f"{name}.norms.1")
        x = (y + (f.conv2d(x, weights[f"{name}.short.weight"], stride=stride) if n else x)).relu()
    torch.testing.assert_close(net.codes(cutouts), x.mean((2, 3)))
    torch.testing.assert_close(net(cutouts), net.head(x.mean((2, 3))))
    blocks = {
        f"blocks.{n}.{part}.weight": (after, before if part != "second" else after, *[1 if part == "short" else 3] * 2)
        for n, (before, after) in enumerate(((16, 16), (16, 32), (32, 64)))
        for part in ("first", "second", "short")
        if (n, part) != (0, "short")
    }
    assert shapes(net) == {"stem.0.weight": (16, 8, 3, 3), "last.weight": (2, 64)} | blocks
    # No convolution in front of a norm, and no short cut, has a bias.
    assert {name for name in weights if name.endswith("bias") and "norms" not in name} == {"stem.1.bias", "last.bias"}


def test_an_object_is_the_pool_of_its_bands_by_hand(net, inputs):
    pictures, features, usable, has_psf = inputs
    pictures = pictures - 0.5
    usable, has_psf = usable.clone(), has_psf.clone()
    usable[1, 2], usable[2, :3], has_psf[0, 1], has_psf[3] = False, False, False, False
    features = features.clone()
    features[0, 0, :4] = torch.tensor([20.0, -20, 6.5, -6.5])
    assert (net.mean == 0).all()
    assert (net.scale == 1).all()
    net.mean.copy_(torch.linspace(-1, 1, FEATURES))
    net.scale.copy_(torch.linspace(0.5, 2, FEATURES))
    weights = net.state_dict()
    try:
        odds, whole = net(pictures, features, usable, has_psf)
    finally:
        mean, scale = net.mean.clone(), net.scale.clone()
        net.mean.zero_()
        net.scale.fill_(1)

    def linear(x, name):
        return f.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    for n in range(N):
        codes = []
        for band in torch.nonzero(usable[n])[:, 0]:
            picture, numbers = pictures[n, band].clone(), (features[n, band] - mean) / scale
            if not has_psf[n, band]:
                picture[2:], numbers[5:] = 0, 0
            for step, stride in ((0, 2), (2, 1), (4, 2), (6, 1)):
                kernel, bias = weights[f"encoder.{step}.weight"], weights[f"encoder.{step}.bias"]
                picture = f.conv2d(picture, kernel, bias, stride=stride, padding=1).relu()
            seen = [picture.mean((1, 2)), picture.flatten(1).max(1).values, numbers.clip(-6, 6)]
            code = linear(torch.cat([*seen, has_psf[n, band][None].float()]), "joined.0").relu()
            codes.append(linear(code, "joined.2").relu())
        codes = torch.stack(codes)
        share = torch.softmax(linear(codes, "worth")[:, 0], 0)
        pooled = torch.cat([share @ codes, codes.sum(0) / 4, codes.max(0).values])
        expected = linear(pooled, "object.1").relu()
        torch.testing.assert_close(whole[n], expected)
        torch.testing.assert_close(odds[n], linear(expected, "last")[0])


def test_an_object_without_bands_is_pooled_from_nothing(net, inputs):
    pictures, features, usable, has_psf = inputs
    odds, whole = net(pictures, features, torch.zeros_like(usable), has_psf)
    expected = net.object(torch.zeros(1, 3 * WIDTH))
    torch.testing.assert_close(whole, expected.expand(N, -1))
    torch.testing.assert_close(odds, net.last(expected)[:, 0].expand(N))


def test_layers_of_the_band_set_are_those_that_are_described(net):
    assert WIDTH == 48
    assert shapes(net) == {
        "encoder.0.weight": (16, 4, 4, 4), "encoder.2.weight": (16, 16, 3, 3), "encoder.4.weight": (32, 16, 3, 3),
        "encoder.6.weight": (32, 32, 3, 3), "joined.0.weight": (48, 64 + 18 + 1), "joined.2.weight": (48, 48),
        "worth.weight": (1, 48), "object.1.weight": (48, 144), "last.weight": (1, 48),
    }  # fmt: skip
    assert dropped(net) == [0.1]
