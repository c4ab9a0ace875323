import numpy as np
import pytest
import torch
from torch import nn

from kernels.search.fused_net import fuse, layers_of
from tests.support.fused_fixture import network


@pytest.mark.parametrize(("side", "features"), [(26, 12), (33, 48), (40, 108)])
def test_sizes_are_those_of_the_network(side, features):
    net = network(2, side)
    fused = fuse(net)
    assert (fused.bands, fused.side, fused.features) == (2, side, features)
    assert fused.features == net.fc1.in_features
    # The second convolution sees every pooled value that any of its pooled outputs depends on.
    assert fused.pooled_side == 2 * fused.feature_side + 2 + 3


def test_layers_are_those_of_the_network():
    net = network()
    fused = fuse(net)
    np.testing.assert_array_equal(fused.first_weight, net.conv1.weight.detach().numpy())
    np.testing.assert_array_equal(fused.second_bias, net.conv2.bias.detach().numpy())
    assert [layer.weight.shape for layer in fused.hidden] == [(120, 12), (500, 120), (1000, 500)]
    weight = net.fc4.weight.detach().numpy()
    np.testing.assert_array_equal(fused.last.weight, weight[1:] - weight[:1])


def test_a_network_that_does_not_name_its_layers_is_not_fused():
    assert fuse(nn.Sequential(nn.Flatten(), nn.Linear(676, 2))) is None


@pytest.mark.parametrize("changed", [{"stride": 2}, {"padding": 1}, {"bias": False}, {"kernel_size": (5, 3)}])
def test_a_convolution_of_another_kind_is_not_fused(changed):
    net = network()
    net.conv1 = nn.Conv2d(**({"in_channels": 1, "out_channels": 6, "kernel_size": 5} | changed))
    assert fuse(net) is None


def test_linear_layers_that_do_not_fit_the_window_are_not_fused():
    net = network(side=33)
    net.side = 26
    assert fuse(net) is None


def test_other_than_two_classes_are_not_fused():
    net = network()
    net.fc4 = torch.nn.Linear(1000, 3)
    assert fuse(net) is None


def test_layers_are_arranged_and_summed():
    net = network(3)
    fused = fuse(net)
    layers = layers_of(fused)
    assert layers.first.shape == (6, 3, 25)
    assert layers.second.shape == (3, 6, 16)
    assert (layers.first_side, layers.second_side, layers.pooled_side, layers.feature_side) == (5, 4, 9, 2)
    np.testing.assert_array_equal(layers.first[2, 1].reshape(5, 5), fused.first_weight[2, 1])
    np.testing.assert_allclose(layers.first_total, fused.first_weight.sum((2, 3)), rtol=1e-5)
    assert all(array.flags.c_contiguous for array in (layers.first, layers.second))
