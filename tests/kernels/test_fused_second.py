import numpy as np
import pytest

from kernels.fused_layers import layers_of
from kernels.fused_net import fuse
from kernels.fused_second import second_maps
from tests.kernels.fused_fixture import cut, features, first_maps, network, sky


@pytest.mark.parametrize("side", [26, 40])
def test_features_are_those_of_torch(side):
    net = network(side=side)
    windows, _ = cut(*sky((side, side + 7 * 18)), 0.0, side)
    layers = layers_of(fuse(net))
    seen = layers.pooled_side
    maps = first_maps(net, windows)[:, :, :seen, :seen].transpose(1, 2, 3, 0)
    lanes = np.zeros((*maps.shape[:3], 32), np.float32)
    lanes[..., : len(windows)] = maps
    wide = 2 * layers.feature_side + 2
    out = np.empty((len(windows), 3 * layers.feature_side**2), np.float32)
    second_maps(lanes, layers, np.empty((wide, wide * 32), np.float32), out)
    np.testing.assert_allclose(out, features(net, windows), atol=3e-6)
