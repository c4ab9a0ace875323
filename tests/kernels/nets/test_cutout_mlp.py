import torch

from kernels.nets.cutout_mlp import CutoutMlp


def test_gives_two_scores_of_any_planes():
    for planes in (2, 4, 8):
        assert CutoutMlp(planes, 26)(torch.zeros(3, planes, 26, 26)).shape == (3, 2)


def test_sees_every_pixel():
    net = CutoutMlp(2, 16).eval()
    cutout = torch.zeros(1, 2, 16, 16, requires_grad=True)
    net(cutout)[0, 1].backward()
    assert (cutout.grad != 0).float().mean() > 0.99
