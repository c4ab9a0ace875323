import numba
import numpy as np
import pytest

from kernels.fused_features import crop_features, window_features
from kernels.fused_layers import layers_of
from kernels.fused_net import fuse
from tests.kernels.fused_fixture import cut, features, network, sky
from tests.kernels.test_fused_band import windows_of


@pytest.mark.parametrize(("bands", "shape"), [(1, (200, 1200)), (2, (140, 160))])
def test_features_of_many_blocks_are_those_of_torch(bands, shape):
    net = network(bands)
    image, usable = sky(shape, bands)
    made = window_features(windows_of(image, usable, 0.0, 7), layers_of(fuse(net)))
    np.testing.assert_allclose(made, features(net, cut(image, usable, 0.0)[0]), atol=2e-5)


def test_features_do_not_depend_on_the_number_of_threads():
    image, usable = sky((300, 1100))
    windows, layers = windows_of(image, usable, 0.0, 7), layers_of(fuse(network()))
    many = window_features(windows, layers)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert (window_features(windows, layers) == many).all()
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize("bands", [1, 3])
def test_crops_give_the_features_of_their_windows(bands):
    net = network(bands)
    windows, _ = cut(*sky((60, 90), bands), 0.0)
    made = crop_features(windows, layers_of(fuse(net)))
    np.testing.assert_allclose(made, features(net, windows), atol=1e-5)
