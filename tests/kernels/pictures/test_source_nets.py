import itertools

import torch
from torch import nn

from kernels.pictures.source_nets import SceneCnn


def test_it_has_the_layers_that_are_published():
    net = SceneCnn()
    kinds = [type(layer) for layer in net.maps]
    assert [kind for kind in kinds if kind is not nn.ReLU] == [
        nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.MaxPool2d, nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.MaxPool2d,
    ]  # fmt: skip
    assert all(layer.kernel_size == (3, 3) for layer in net.maps if isinstance(layer, nn.Conv2d))
    assert sum(isinstance(layer, nn.Linear) for layer in net.dense) == 3
    assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 3)


def test_norm_is_added_after_each_convolution():
    layers = list(SceneCnn(side=64, norm=True).maps)
    pairs = [type(after) for layer, after in itertools.pairwise(layers) if isinstance(layer, nn.Conv2d)]
    assert pairs == [nn.BatchNorm2d] * 5
    assert SceneCnn(side=64, classes=5, norm=True)(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
