import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.search import fused_convolutions, fused_features
from kernels.search.fused_features import crop_features, features_of_band, features_of_bands, window_features
from kernels.search.fused_net import Dense, FusedNet, WindowGrid, fuse, layers_of
from kernels.search.window_statistics import window_statistics
from tests.support.fused_fixture import cut, features, grid_of, network, sky


def windows_of(image, usable, background, stride, side=26):
    grid = grid_of(usable.shape, side, stride)
    statistics = window_statistics(image, usable, background, grid, stride, side)
    return WindowGrid(image, usable, np.float32(background), statistics.mean, statistics.inverse, stride)


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


def small(bands):
    """Convolutions of 2 x 2 and 3 x 3 with two maps each on windows of 15 px: one pooled value of each map."""
    rng = np.random.default_rng(bands)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((2, bands, 2, 2), (2,), (2, 2, 3, 3), (2,))]
    net = FusedNet(15, *weights, (), Dense(np.zeros((1, 2), np.float32), np.zeros(1, np.float32)))
    assert (net.feature_side, net.pooled_side) == (1, 6)
    return layers_of(net)


@pytest.mark.parametrize(("bands", "stride"), [(1, 1), (1, 3), (1, 17), (2, 1), (2, 4), (2, 16)])
def test_nothing_beyond_the_buffers_is_read_or_written(bands, stride, monkeypatch):
    """As plain Python, which checks bounds."""
    image, usable = sky((15 + stride, 15 + 2 * stride), bands, seed=stride)
    windows, layers = windows_of(image, usable, 1.0, stride, 15), small(bands)
    rows, columns = windows.mean.shape[1:]
    assert (rows, columns) == (2, 3)
    whole = features_of_band if bands == 1 else features_of_bands
    expected = np.empty((6, 2), np.float32)
    whole(windows, layers, 0, rows, 0, columns, expected)
    for module in (fused_convolutions, fused_features):
        for name in dir(module):
            if hasattr(getattr(module, name), "py_func"):
                monkeypatch.setattr(module, name, getattr(module, name).py_func)
    made = np.empty_like(expected)
    getattr(fused_features, whole.py_func.__name__)(windows, layers, 0, rows, 0, columns, made)
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    part = np.full_like(expected, np.nan)
    getattr(fused_features, whole.py_func.__name__)(windows, layers, 1, 2, 1, 3, part)
    assert np.isnan(part[:4]).all()
    np.testing.assert_array_equal(part[4:], made[4:])
