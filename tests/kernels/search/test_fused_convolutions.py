import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.search.fused_convolutions import (
    _pool,
    add_weighted,
    convolve_rows,
    extend_phases,
    max_of_four,
    scratch,
    second_maps,
    split_row,
)
from kernels.search.fused_net import fuse, layers_of
from tests.support.fused_fixture import cut, features, first_maps, network, sky


@settings(deadline=None, max_examples=40)
@given(stride=st.integers(1, 9), extra=st.integers(0, 5), x0=st.integers(0, 30), y=st.integers(0, 6))
def test_a_split_row_holds_every_pixel_at_its_phase(stride, extra, x0, y):
    rng = np.random.default_rng(stride)
    image, usable = rng.normal(10, 1, (5, 50)).astype(np.float32), rng.random((5, 50)) > 0.2
    image[:, 3], usable[:, 3] = np.nan, False
    out = np.full((stride + extra, 9), 7, np.float32)
    split_row(image, usable, np.float32(10), y, x0, stride, out)
    for phase in range(stride + extra):
        for k in range(9):
            x = x0 + k * stride + phase
            there = y < 5 and x < 50 and usable[y, x]
            assert out[phase, k] == (image[y, x] - np.float32(10) if there else 0)


@settings(deadline=None, max_examples=40)
@given(taps=st.integers(0, 26), length=st.integers(1, 70), seed=st.integers(0, 99))
def test_weighted_sums_are_those_of_numpy(taps, length, seed):
    rng = np.random.default_rng(seed)
    source, weights = rng.normal(size=200).astype(np.float32), rng.normal(size=taps).astype(np.float32)
    starts = rng.integers(0, 200 - length, taps)
    out = rng.normal(size=length).astype(np.float32)
    expected = out + sum(w * source[s : s + length].astype(float) for w, s in zip(weights, starts, strict=True))
    add_weighted(out, source, starts, weights)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_a_sum_does_not_depend_on_what_is_beside_it():
    rng = np.random.default_rng(0)
    source, weights = rng.normal(size=300).astype(np.float32), rng.normal(size=25).astype(np.float32)
    starts = rng.integers(0, 100, 25)
    whole = np.zeros(150, np.float32)
    add_weighted(whole, source, starts, weights)
    for first, length in ((0, 1), (3, 37), (149, 1), (64, 80)):
        part = np.zeros(length, np.float32)
        add_weighted(part, source, starts + first, weights)
        assert (part == whole[first : first + length]).all()


def test_greatest_of_four():
    source = np.random.default_rng(0).normal(size=90).astype(np.float32)
    out = np.empty(20, np.float32)
    max_of_four(out, source, (0, 5, 30, 70))
    assert (out == np.max([source[s : s + 20] for s in (0, 5, 30, 70)], 0)).all()


def test_later_phases_are_earlier_ones_moved_on():
    pixels = np.arange(100, dtype=np.float32)
    plane = np.zeros((6, 10), np.float32)
    for phase in range(3):
        plane[phase] = pixels[phase::3][:10]
    extend_phases(plane, 3)
    for phase in range(6):
        assert (plane[phase, :8] == pixels[phase::3][:8]).all()


def test_scratch_begins_at_a_cache_line():
    for size in (1, 7, 1000):
        made = scratch(size)
        assert made.ctypes.data % 64 == 0
        assert len(made) == size
        assert not made.any()


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("stride", [1, 7, 9])
def test_rows_are_those_of_torch(bands, stride):
    net = network(bands)
    image, usable = sky((12, 200), bands, bad=0.0)
    layers, length = layers_of(fuse(net)), 16
    pixels = np.zeros((bands, 5, stride + 4, length), np.float32)
    for y in range(3, 8):
        for band in range(bands):
            split_row(image[band], usable, np.float32(0), y, 2, stride, pixels[band, y % 5])
    out = np.empty((6, bands, stride * length), np.float32)
    convolve_rows(pixels, 3, layers, out)
    for band in range(bands):
        with torch.no_grad():
            weight = net.conv1.weight[:, band : band + 1]
            expected = torch.conv2d(torch.from_numpy(image[band : band + 1, 3:8, 2:]), weight)[:, 0].numpy()
        for phase in range(stride):
            found = out[:, band].reshape(6, stride, length)[:, phase]
            true = expected[:, phase::stride][:, : length - 4]
            np.testing.assert_allclose(found[:, : true.shape[1]], true, rtol=1e-4, atol=1e-3)


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


@pytest.mark.parametrize("pool", [_pool, _pool.py_func], ids=["compiled", "python"])
def test_a_pool_is_the_greatest_of_its_box_or_0_and_reads_nothing_beyond(pool):
    """As compiled, and as plain Python, which checks bounds."""
    lanes, wide = 16, 8  # three boxes of 4 x 4 at stride 2 along each side
    values = np.random.default_rng(3).normal(-1.5, 1, (wide, wide, lanes)).astype(np.float32)
    boxes = np.lib.stride_tricks.sliding_window_view(values, (4, 4), axis=(0, 1))[::2, ::2]
    expected = np.maximum(boxes.max(axis=(-2, -1)), 0)
    assert (expected == 0).any()
    assert (expected > 0).any()
    for y, x in np.ndindex(3, 3):
        out = np.full(11, np.nan, np.float32)  # fewer windows than lanes
        pool(values.reshape(wide, wide * lanes), y, x, lanes, out)
        assert (out == expected[y, x, :11]).all()
