import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.fused_band import features_of_band
from kernels.fused_layers import Windows, layers_of
from kernels.fused_net import fuse
from kernels.fused_statistics import window_statistics
from tests.kernels.fused_fixture import cut, features, grid_of, network, sky


def windows_of(image, usable, background, stride, side=26):
    grid = grid_of(usable.shape, side, stride)
    statistics = window_statistics(image, usable, background, grid, stride, side)
    return Windows(image, usable, np.float32(background), statistics.mean, statistics.inverse, stride)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    shape=st.tuples(st.integers(26, 110), st.integers(26, 200)),
    stride=st.sampled_from([1, 2, 5, 7, 8, 13, 40]),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_any_block_gives_the_features_of_torch_and_the_same_bits(seed, shape, stride, cuts):
    net = network()
    image, usable = sky(shape, seed=seed, pedestal=30)
    windows, layers = windows_of(image, usable, 28.0, stride), layers_of(fuse(net))
    rows, columns = windows.mean.shape[1:]
    whole = np.empty((rows * columns, 12), np.float32)
    features_of_band(windows, layers, 0, rows, 0, columns, whole)
    np.testing.assert_allclose(whole, features(net, cut(image, usable, 28.0, 26, stride)[0]), atol=2e-5)
    row, column = int(cuts[0] * (rows - 1)), int(cuts[1] * (columns - 1))
    part = np.full_like(whole, np.nan)
    features_of_band(windows, layers, row, rows, column, columns, part)
    inside = np.zeros((rows, columns), bool)
    inside[row:, column:] = True
    assert (part[inside.ravel()] == whole[inside.ravel()]).all()
    assert np.isnan(part[~inside.ravel()]).all()
