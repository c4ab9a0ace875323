import numpy as np

from kernels.fused_layers import layers_of
from kernels.fused_net import fuse
from tests.kernels.fused_fixture import network


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
