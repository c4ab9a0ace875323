import numpy as np
import pytest

from kernels.fused_bands import features_of_bands
from kernels.fused_layers import layers_of
from kernels.fused_net import fuse
from tests.kernels.fused_fixture import cut, features, network, sky
from tests.kernels.test_fused_band import windows_of


@pytest.mark.parametrize(("bands", "side", "stride"), [(1, 26, 7), (2, 26, 7), (3, 33, 5), (8, 26, 13)])
def test_features_are_those_of_torch(bands, side, stride):
    net = network(bands, side)
    image, usable = sky((90, 140), bands)
    windows, layers = windows_of(image, usable, 1.0, stride, side), layers_of(fuse(net))
    rows, columns = windows.mean.shape[1:]
    expected = features(net, cut(image, usable, 1.0, side, stride)[0])
    out = np.empty_like(expected)
    features_of_bands(windows, layers, 0, rows, 0, columns, out)
    np.testing.assert_allclose(out, expected, atol=2e-5)
    part = np.full_like(expected, np.nan)
    features_of_bands(windows, layers, 1, rows, 2, columns, part)
    inside = np.isfinite(part).all(1)
    assert inside.sum() == (rows - 1) * (columns - 2)
    assert (part[inside] == out[inside]).all()
