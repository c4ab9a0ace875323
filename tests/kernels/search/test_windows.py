import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from kernels.search.windows import WindowedSearch, fill_windows
from schemas.pixels import Tiling
from tests.support.fused_fixture import cut, grid_of, sky


def reference(image, usable, background, window, stride):
    """Windows by numpy's masked arrays, in float64."""
    boxes = sliding_window_view(image.astype(float), (window, window))[::stride, ::stride].reshape(-1, window, window)
    good = sliding_window_view(usable, (window, window))[::stride, ::stride].reshape(-1, window, window)
    masked = np.ma.array(boxes, mask=~good)
    mean, std = masked.mean((1, 2)).filled(0), masked.std((1, 2)).filled(0)
    scored = (2 * good.sum((1, 2)) >= window * window) & (std > 1.2e-7 * np.abs(masked).max((1, 2)).filled(0))
    z = (np.where(good, boxes, background) - mean[:, None, None]) / np.where(std > 0, std, 1)[:, None, None]
    return np.where(scored[:, None, None], z, 0), scored


def all_windows(image, usable, background, stride=7, window=26, batch=64):
    grid = Tiling(image.shape, stride * 144, window, stride).grid
    out = np.full((batch, 1, window, window), 9.0, np.float32)
    found, flags = [], []
    for start in range(0, grid[0] * grid[1], batch):
        count, scored = fill_windows(image[None], usable, background, grid, stride, start, out)
        assert (out[count:] == 0).all()
        found.append(out[:count, 0].copy())
        flags.append(scored[:count])
    return np.concatenate(found), np.concatenate(flags)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    pedestal=st.sampled_from([0.0, -3.0, 1e4]),
    stride=st.integers(3, 26),
    masked=st.sampled_from([0.0, 0.05, 0.45, 0.6]),
    shape=st.tuples(st.integers(26, 70), st.integers(26, 70)),
)
def test_agrees_with_numpy(seed, pedestal, stride, masked, shape):
    rng = np.random.default_rng(seed)
    image = rng.normal(pedestal, 5, shape).astype(np.float32)
    usable = rng.random(shape) >= masked
    ours, scored = all_windows(np.where(usable, image, np.nan), usable, pedestal, stride)
    theirs, expected = reference(image, usable, pedestal, 26, stride)
    np.testing.assert_array_equal(scored, expected)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_bands_are_scaled_on_their_own():
    rng = np.random.default_rng(1)
    bands = np.stack([rng.normal(0, 1, (40, 40)), rng.normal(50, 9, (40, 40))]).astype(np.float32)
    out = np.empty((9, 2, 26, 26), np.float32)
    fill_windows(bands, np.ones((40, 40), bool), 0.0, (3, 3), 7, 0, out)
    np.testing.assert_allclose(out.mean((2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(out[:, 1], reference(bands[1], np.ones((40, 40), bool), 0, 26, 7)[0], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.5, 1e4, 1e30])
def test_constant_window_is_not_scored(value):
    image = np.full((26, 26), value, np.float32)
    windows, scored = all_windows(image, np.ones((26, 26), bool), 0.0)
    assert not scored.any()
    assert (windows == 0).all()


def test_exactly_half_masked_is_scored_and_one_more_is_not():
    image = np.random.default_rng(2).normal(0, 1, (26, 26)).astype(np.float32)
    usable = np.ones((26, 26), bool)
    usable[:13] = False
    assert all_windows(image, usable, 0.0)[1].all()
    usable[13, 0] = False
    assert not all_windows(image, usable, 0.0)[1].any()


def test_masked_pixels_take_the_background():
    image = np.random.default_rng(3).normal(100, 2, (26, 26)).astype(np.float32)
    usable = np.ones((26, 26), bool)
    usable[5, 6] = False
    inside = image[usable].astype(float)
    window = all_windows(image, usable, 97.0)[0][0]
    assert window[5, 6] == pytest.approx((97.0 - inside.mean()) / inside.std(), rel=1e-5)


def test_scores_every_window_and_counts_those_it_cannot():
    image, usable = sky((60, 120), bad=0.0)
    usable[:, :30] = False
    image[:, 50, 100] = np.nan
    windows, scored = cut(image, usable & np.isfinite(image[0]), 0.0)
    search = WindowedSearch(lambda batch: batch[:, 0, 3, 4], 26, 16)
    logits, unscored = search.search(image, usable, 0.0, grid_of((60, 120)), 7)
    assert unscored == (~scored).sum() > 0
    assert (logits[scored] == windows[scored, 0, 3, 4]).all()
    assert np.isneginf(logits[~scored]).all()
