import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from kernels.search import windows as windows_module
from kernels.search.windows import FLAT, MARGIN, WindowedSearch, fill_windows, require_on_image
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


def test_no_spread_is_one_that_float32_cannot_hold():
    assert pytest.approx(np.finfo(np.float32).eps, rel=0.01) == FLAT
    # One pixel of 26 x 26 that is off by d: a spread of d / 26.001.
    for off, scored in ((1.01, True), (0.99, False)):
        image = np.ones((1, 26, 26), np.float32)
        step = np.float64(np.spacing(np.float32(1.0)))
        steps = int(np.ceil(off * FLAT * 26 / step)) if scored else int(off * FLAT * 26 / step)
        image[0, 4, 7] = 1 + steps * step
        assert all_windows(image[0], np.ones((26, 26), bool), 0.0)[1].all() == scored
        image[0, 4, 7] = 1 - steps * step
        assert all_windows(-image[0], np.ones((26, 26), bool), 0.0)[1].all() == scored


def test_the_margin_is_an_eighth():
    assert MARGIN == 1 / 8


def test_a_grid_may_reach_the_last_pixel_but_no_further():
    for shape in ((40, 33), (3, 40, 33)):
        require_on_image(shape, (3, 2), 7, 26)  # 2 * 7 + 26 and 7 + 26
        require_on_image(shape, (0, 99), 7, 26)
        require_on_image(shape, (99, 0), 7, 26)
        for grid in ((4, 2), (3, 3), (4, 1), (1, 3)):
            with pytest.raises(ValueError, match="does not fit"):
                require_on_image(shape, grid, 7, 26)
    for less in ((39, 33), (40, 32)):
        with pytest.raises(ValueError, match="does not fit"):
            require_on_image(less, (3, 2), 7, 26)


def test_a_search_refuses_windows_beyond_the_image():
    image, usable = sky((60, 60), bad=0.0)
    search = WindowedSearch(lambda batch: batch[:, 0, 0, 0], 26, 8)
    assert len(search.search(image, usable, 0.0, (5, 5), 7)[0]) == 25
    with pytest.raises(ValueError, match="does not fit"):
        search.search(image, usable, 0.0, (6, 5), 7)


def test_windows_go_on_where_a_batch_begins():
    image, usable = sky((60, 70), bad=0.1)
    whole = np.empty((35, 1, 26, 26), np.float32)
    assert fill_windows(image, usable, 0.0, (5, 7), 7, 0, whole)[0] == 35
    for start, count in ((0, 8), (3, 8), (27, 8), (30, 5), (34, 1)):
        part = np.full((8, 1, 26, 26), 5, np.float32)
        written, scored = fill_windows(image, usable, 0.0, (5, 7), 7, start, part)
        assert (written, scored.sum()) == (count, count)
        np.testing.assert_array_equal(part[:count], whole[start : start + count])
        assert not part[count:].any()


def test_a_search_puts_whole_batches_to_the_network_and_none_of_nothing():
    image, usable = sky((26, 26 + 7 * 11), bad=0.0)
    usable[:, :61] = False
    seen = []

    def score(batch):
        seen.append(batch.copy())
        return np.arange(len(batch), dtype=np.float32)

    logits, unscored = WindowedSearch(score, 26, 5).search(image, usable, 0.0, (1, 12), 7)
    scored = np.array([column * 7 + 13 >= 61 for column in range(12)])
    assert unscored == (~scored).sum()
    np.testing.assert_array_equal(logits, np.where(scored, np.arange(12) % 5, -np.inf))
    assert [len(batch) for batch in seen] == [5, 5]  # the first five are not asked for
    assert not seen[-1][2:].any()


def test_plain_python_reads_nothing_beyond_a_window(monkeypatch):
    image, usable = sky((12, 16), 2, bad=0.2)
    compiled, made = np.empty((9, 2, 8, 8), np.float32), np.empty((9, 2, 8, 8), np.float32)
    fill_windows(image, usable, 3.0, (2, 3), 4, 0, compiled)
    for name in ("_fill", "_standardise"):
        monkeypatch.setattr(f"kernels.search.windows.{name}", getattr(windows_module, name).py_func)
    fill_windows(image, usable, 3.0, (2, 3), 4, 0, made)
    np.testing.assert_allclose(made, compiled, atol=1e-6)
