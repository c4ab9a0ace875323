import numpy as np
import pytest
import torch

from kernels.pictures.lite_net import STAGES, LiteNet, _Block, _Convolution


def net(stages=6, classes=3):
    torch.manual_seed(1)
    made = LiteNet(classes, stages).eval()
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after learning: not those that leave everything as it is
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made


def parameters(module):
    return sum(value.numel() for value in module.parameters())


def test_its_size_is_that_of_the_published_network():
    """EfficientNet-Lite0 has 4,652,008 parameters (Google says 4.65 M); what is left out of it is known."""
    last_stage = 192 * 1152 + 2 * 1152 + 9 * 1152 + 2 * 1152 + 1152 * 320 + 2 * 320
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert parameters(net()) - (192 * 3 + 3) + last_stage + head == 4_652_008


@pytest.mark.parametrize(("side", "stride", "size"), [(3, 1, 7), (3, 2, 7), (3, 2, 8), (5, 2, 8), (5, 2, 9), (5, 1, 6)])
def test_a_border_is_divided_as_tensorflow_divides_it(side, stride, size):
    """SAME of TensorFlow: ceil(n / stride) places; of an odd border the larger part is right and below."""
    rng = np.random.default_rng(size)
    image, weights = rng.normal(size=(size, size)), rng.normal(size=(side, side))
    layer = _Convolution(1, 1, side, stride)
    layer.weight.data = torch.from_numpy(weights).float()[None, None]
    places = -(-size // stride)
    border = max((places - 1) * stride + side - size, 0)
    padded = np.pad(image, (border // 2, border - border // 2))
    expected = [
        [np.sum(padded[y : y + side, x : x + side] * weights) for x in range(0, places * stride, stride)]
        for y in range(0, places * stride, stride)
    ]
    found = layer(torch.from_numpy(image).float()[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_stages_halve_the_picture_as_published():
    made, picture = net(), torch.rand(1, 3, 224, 224)
    maps, ends = torch.relu(made.stem(picture)), np.cumsum([count for count, *_ in STAGES])
    sides = []
    for number, block in enumerate(made.blocks, 1):
        maps = block(maps)
        if number in ends:
            sides.append((maps.shape[1], maps.shape[2]))
    assert sides == [(16, 112), (24, 56), (40, 28), (80, 14), (112, 14), (192, 7)]


def test_a_block_of_the_same_size_adds_to_what_it_gets():
    block, maps = _Block(8, 8, 3, 1, 6).eval(), torch.rand(2, 8, 5, 5)
    torch.nn.init.zeros_(block.project.weight)
    assert torch.equal(block(maps), maps)
    wider = _Block(8, 8, 3, 2, 6).eval()
    torch.nn.init.zeros_(wider.project.weight)
    assert not wider(maps).any()


@pytest.mark.parametrize("stages", [1, 5])
def test_batch_norms_become_parts_of_the_convolutions(stages):
    made, pictures = net(stages), torch.rand(2, 3, 33, 47)
    with torch.inference_mode():
        plain, fused = made(pictures), made.fused()(pictures)
    assert torch.allclose(plain, fused, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in made.fused().modules())
    assert made.codes(pictures).shape == (2, STAGES[stages - 1][-1])


def test_pictures_from_0_to_1_are_brought_to_what_the_weights_were_learnt_on():
    """From -1 to 1: half is 0, and a net without norms gives nothing of it."""
    made = LiteNet(2, 1).eval()
    with torch.inference_mode():
        assert not made.codes(torch.full((1, 3, 16, 16), 0.5)).any()
        assert made.codes(torch.rand(1, 3, 16, 16)).any()
