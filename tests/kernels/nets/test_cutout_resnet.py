import torch

from kernels.nets.cutout_resnet import CutoutResnet


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
