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


@pytest.mark.parametrize(
    "changed",
    [{"dilation": 2}, {"stride": (1, 2)}, {"stride": (2, 1)}, {"padding": (0, 1)}, {"padding": (1, 0)}, {"groups": 2},
     {"kernel_size": (4, 5)}, {"bias": False}],
)  # fmt: skip
@pytest.mark.parametrize("which", ["conv1", "conv2"])
def test_neither_convolution_may_be_of_another_kind(which, changed):
    net = network(2)
    plain = {"conv1": (2, 6, 5), "conv2": (6, 3, 4)}[which]
    if "groups" in changed and which == "conv2":
        plain = (6, 4, 4)
    given = dict(zip(("in_channels", "out_channels", "kernel_size"), plain, strict=True))
    setattr(net, which, nn.Conv2d(**(given | changed)))
    assert fuse(net) is None
    if "groups" not in changed:
        setattr(net, which, nn.Conv2d(*plain))
        assert fuse(net) is not None


def test_a_window_too_small_for_the_second_pool_is_not_fused():
    assert fuse(network(side=20)).feature_side == 1
    net = network(side=20)
    net.side, net.fc1.in_features, net.fc1.weight = 18, 0, nn.Parameter(torch.zeros(120, 0))
    assert fuse(net) is None


def test_one_or_three_scores_are_not_two():
    for scores in (1, 3):
        net = network()
        net.fc4 = nn.Linear(1000, scores)
        assert fuse(net) is None


def test_the_last_layer_is_the_difference_of_the_scores():
    net = network()
    bias = net.fc4.bias.detach().numpy()
    assert fuse(net).last.weight.shape == (1, 1000)
    np.testing.assert_array_equal(fuse(net).last.bias, bias[1:] - bias[:1])
    for hidden, layer in zip(fuse(net).hidden, (net.fc1, net.fc2, net.fc3), strict=True):
        np.testing.assert_array_equal(hidden.weight, layer.weight.detach().numpy())
        np.testing.assert_array_equal(hidden.bias, layer.bias.detach().numpy())


def test_arranged_layers_are_those_of_the_network():
    fused = fuse(network(2))
    layers = layers_of(fused)
    np.testing.assert_array_equal(layers.second[2, 5].reshape(4, 4), fused.second_weight[2, 5])
    np.testing.assert_array_equal(layers.first_bias, fused.first_bias)
    np.testing.assert_array_equal(layers.second_bias, fused.second_bias)
    assert layers.first_bias.dtype == layers.first_total.dtype == np.float64
    np.testing.assert_allclose(layers.first_total, fused.first_weight.astype(float).sum((2, 3)), rtol=1e-14)
