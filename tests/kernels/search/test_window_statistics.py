import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.search import window_statistics as module
from kernels.search.window_statistics import _two_passes, window_statistics
from tests.support.fused_fixture import cut, grid_of, sky


def statistics_of(image, usable, background=0.0, stride=7):
    return window_statistics(image, usable, background, grid_of(usable.shape, 26, stride), stride, 26)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), pedestal=st.sampled_from([0.0, 40.0, 1e4, -1e6]), stride=st.integers(1, 12))
def test_mean_and_spread_are_those_of_numpy(seed, pedestal, stride):
    image, usable = sky((60, 75), 2, seed, 0.3, pedestal)
    image[:, 5, 5], usable[5, 5] = np.nan, False
    found = statistics_of(image, usable, 3.0, stride)
    for row in range(found.scored.shape[0]):
        for column in range(found.scored.shape[1]):
            box = (slice(row * stride, row * stride + 26), slice(column * stride, column * stride + 26))
            pixels = image[:, *box][:, usable[box]].astype(np.float64)
            assert found.scored[row, column]
            np.testing.assert_allclose(found.mean[:, row, column] + 3.0, pixels.mean(1), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(found.inverse[:, row, column], 1 / pixels.std(1), rtol=1e-6)


def test_a_pedestal_costs_no_digits():
    image, usable = sky((100, 100), bad=0.0)
    raised = (image.astype(np.float64) + 10_000).astype(np.float32)
    exact = np.lib.stride_tricks.sliding_window_view(raised[0].astype(np.float64), (26, 26))[::7, ::7].std((2, 3))
    for background in (10_000.0, 0.0, 9_000.0, 1e5):
        found = statistics_of(raised, usable, background)
        np.testing.assert_allclose(1 / found.inverse[0], exact, rtol=1e-7)


@pytest.mark.parametrize("level", [0.0, 3.3, 1e4, -1e6])
@pytest.mark.parametrize("background", [0.0, 7.0, 1e4])
def test_windows_without_spread_are_not_scored(level, background):
    image, usable = sky((60, 120))
    image[:, :, :60] = level
    found = statistics_of(image, usable, background)
    assert (found.scored.ravel() == cut(image, usable, background)[1]).all()
    assert not found.scored[:, :5].any()
    assert found.scored[:, -5:].all()
    assert (found.inverse[0] > 0).tolist() == found.scored.tolist()


def test_windows_more_than_half_masked_are_not_scored():
    image, usable = sky((40, 200), bad=0.0)
    usable[:, 100:] = False
    image[:, :, 100:] = np.nan
    found = statistics_of(image, usable)
    assert found.scored.tolist() == [[column * 7 + 13 <= 100 for column in range(found.scored.shape[1])]] * 3


def test_only_windows_far_from_the_background_are_far():
    image, usable = sky((60, 200), bad=0.0)
    image[:, :, 100:] += 5000
    far = statistics_of(image, usable).far
    assert not far[:, :10].any()
    assert far[:, 15:].all()
    assert not statistics_of(image, usable, 5000.0).far[:, 15:].any()


@pytest.mark.parametrize("scale", [1e-38, 1e34])
def test_windows_beyond_the_range_of_float32_products_are_far(scale):
    image, usable = sky((40, 60), bad=0.0)
    found = statistics_of((image * scale).astype(np.float32), usable)
    assert found.scored.all()
    assert found.far.all()


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1e6])
def test_the_unit_of_the_pixels_does_not_matter(unit):
    image, usable = sky((60, 75))
    plain, other = statistics_of(image, usable), statistics_of((image * unit).astype(np.float32), usable)
    assert other.scored.all()
    np.testing.assert_allclose(other.inverse * unit, plain.inverse, rtol=1e-6)
    np.testing.assert_allclose(other.mean / unit, plain.mean, rtol=1e-5, atol=1e-5)


def pattern(mean, spread):
    """A window of 26 px with this mean and standard deviation: half of the pixels above, half below."""
    signs = np.indices((26, 26)).sum(0) % 2 * 2 - 1
    return (mean + spread * signs).astype(np.float32)[None], np.ones((26, 26), bool)


@pytest.mark.parametrize("sign", [1, -1])
def test_far_is_a_mean_of_more_than_64_standard_deviations(sign):
    for mean, far in ((63.9, False), (64.0, False), (64.25, True)):
        found = statistics_of(*pattern(sign * mean, 1.0))
        assert found.far.tolist() == [[far]]
    image, usable = pattern(sign * 100 + 50, 1.0)
    assert statistics_of(image, usable, 50.0).far.all()
    assert not statistics_of(image, usable, sign * 100.0 + 50).far.any()


def test_far_is_a_spread_beyond_1e_30_and_1e30():
    for spread, far in ((0.99e-30, True), (1.01e-30, False), (0.99e30, False), (1.01e30, True), (1.5e30, True)):
        assert statistics_of(*pattern(0.0, spread)).far.tolist() == [[far]]


def test_exactly_half_a_window_is_enough():
    image, usable = sky((26, 26), bad=0.0)
    usable[:, 13:] = False
    found = statistics_of(image, usable)
    assert found.scored.all()
    assert found.mean[0, 0, 0] == pytest.approx(image[0, :, :13].astype(float).mean())
    usable[0, 0] = False
    found = statistics_of(image, usable)
    assert not found.scored.any()
    assert not found.far.any()
    assert found.inverse[0, 0, 0] == 0


@pytest.mark.parametrize("level", [1e4, -1e6])
def test_a_spread_below_the_step_of_float32_is_none(level):
    """One pixel a step above the others: the spread is a 26th of the step, below the relative 1.2e-7."""
    image = np.full((1, 26, 26), level, np.float32)
    image[0, 3, 4] = np.nextafter(image[0, 3, 4], np.float32(np.inf))
    usable = np.ones((26, 26), bool)
    assert not statistics_of(image, usable, level).scored.any()
    assert not statistics_of(image, usable, 0.0).scored.any()
    image[0, 3, 4] = level + abs(level) * 1e-5  # a spread of 3.8e-7
    for background in (level, 0.0):
        found = statistics_of(image, usable, background)
        assert found.scored.all()
        np.testing.assert_allclose(1 / found.inverse[0, 0, 0], image.astype(float).std(), rtol=1e-6)
        assert found.mean[0, 0, 0] + background == pytest.approx(image.astype(float).mean(), rel=1e-12)


def test_a_spread_is_summed_again_where_one_pass_would_lose_its_digits():
    image, usable = pattern(3e6, 4.0)
    image[0, 2:9, 3:20] += np.float32(2)
    usable[5, 6] = usable[20, 25] = False
    exact = image[0][usable].astype(float)
    for background in (0.0, 2.9e6, 3e6, -1e7):
        found = statistics_of(image, usable, background)
        np.testing.assert_allclose(1 / found.inverse[0, 0, 0], exact.std(), rtol=1e-9 if background else 1e-12)


def test_one_band_without_spread_is_enough():
    image, usable = sky((26, 40), 3, bad=0.0)
    image[1, :, :26] = 7
    found = statistics_of(image, usable)
    assert found.scored.tolist() == [[False, True, True]]
    assert (found.inverse[:, 0, 0] == 0).all()
    assert (found.inverse[:, 0, 1:] > 0).all()


def test_nothing_beyond_a_window_is_read(monkeypatch):
    """As plain Python, which checks bounds."""
    image, usable = sky((12, 17), 2, bad=0.2, pedestal=1e7)
    image[:, :8, :6] += 10
    given = image, usable, 0.0, (2, 3), 4, 8
    compiled = window_statistics(*given)
    for name in ("_statistics", "_column_sums", "_two_passes"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    plain = window_statistics(*given)
    np.testing.assert_allclose(plain.mean, compiled.mean, rtol=1e-12)
    np.testing.assert_allclose(plain.inverse, compiled.inverse, rtol=1e-9)
    assert plain.scored.all()


@pytest.mark.parametrize("unit", [2.0**-40, 1.0, 2.0**20])
def test_two_passes_measure_in_the_unit_of_the_pixels(unit):
    image = (unit * np.random.default_rng(3).normal(7, 2, (20, 20))).astype(np.float32)
    mean, spread = _two_passes(image, np.ones((20, 20), np.bool_), np.float32(3 * unit), 2, 3, 15)
    seen = image[2:17, 3:18].astype(np.float64)
    assert (mean / unit, spread / unit) == pytest.approx((seen.mean() / unit - 3, seen.std() / unit), rel=1e-6)
