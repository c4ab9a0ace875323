import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.noise import background_and_noise


def sky(seed, level=0.0, sigma=5.0, shape=(300, 310)):
    return np.random.default_rng(seed).normal(level, sigma, shape).astype(np.float32)


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 1000),
    level=st.floats(-1e3, 1e3),
    sigma=st.floats(0.1, 100),
    shape=st.sampled_from([(60, 60), (300, 310), (1500, 1400)]),
)
def test_finds_level_and_scatter_of_gaussian_noise(seed, level, sigma, shape):
    image = sky(seed, level, sigma, shape)
    background, noise = background_and_noise(image, np.ones(shape, bool))
    count = min(image.size, 1e6)
    assert abs(background - level) < 6 * 1.2533 * sigma / count**0.5  # standard error of a median
    assert noise == pytest.approx(sigma, rel=6 * 1.17 / count**0.5)  # of a MAD (Rousseeuw & Croux 1993)


def test_stars_and_dead_pixels_hardly_count():
    image = sky(3, 100.0)
    image[::12, ::12] += 5000  # 0.7 %
    image[:3] = -1e6
    background, noise = background_and_noise(image, np.ones(image.shape, bool))
    assert background == pytest.approx(100, abs=0.15)
    assert noise == pytest.approx(5, rel=0.03)


def test_masked_pixels_do_not_count_at_all():
    image = sky(4)
    usable = np.ones(image.shape, bool)
    usable[:, :200] = False
    expected = background_and_noise(np.ascontiguousarray(image[:, 200:]), usable[:, 200:])
    image[:, :200] = np.nan
    assert background_and_noise(image, usable) == expected


@pytest.mark.parametrize("sigma", [1.3, 2.0, 5.7])
def test_whole_numbers_do_not_coarsen_the_answer(sigma):
    counts = np.rint(sky(5, 293.4, sigma))
    background, noise = background_and_noise(counts, np.ones(counts.shape, bool))
    assert background == pytest.approx(293.4, abs=0.05)
    assert noise == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.04)


def test_few_usable_pixels_between_the_sampled_ones_are_found():
    image = sky(6, 7.0, 1.0, (3000, 3000))
    usable = np.zeros(image.shape, bool)
    usable[1::3, 1] = True  # off the sampling grid
    background, _ = background_and_noise(image, usable)
    assert background == pytest.approx(7, abs=0.2)


def test_constant_image_has_no_noise():
    image = np.full((50, 50), 3.25, np.float32)
    assert background_and_noise(image, np.ones(image.shape, bool)) == (3.25, 0.0)


def test_nothing_usable_is_an_error():
    with pytest.raises(ValueError, match="no pixel is usable"):
        background_and_noise(np.zeros((9, 9), np.float32), np.zeros((9, 9), bool))
