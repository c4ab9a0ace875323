import numpy as np
import pytest
from astropy.stats import mad_std, sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve as smoothed
from scipy.signal import correlate2d, fftconvolve

from kernels.image.noise import background_and_noise, convolve, filtered_noise, noise_correlation


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


KERNELS = {
    "bilinear": np.outer([0.3, 0.7], [0.45, 0.55]),
    "smoothing": np.outer([0.13, 0.74, 0.13], [0.05, 0.9, 0.05]),
    "sharpening": np.array([[0, -0.1, 0], [-0.1, 1.4, -0.1], [0, -0.1, 0]]),
    "slanted": np.array([[0.4, 0.1, 0], [0.1, 0.6, 0.1], [0, 0.1, 0.4]]),
}


def noise_through(kernel, seed, shape, sigma=7.0):
    white = np.random.default_rng(seed).normal(0, 1, shape)
    image = smoothed(white, kernel, mode="wrap")
    return (sigma * image / np.sqrt(np.sum(kernel**2))).astype(np.float32)


def expected(kernel, reach):
    own = correlate2d(kernel, kernel)
    own /= own.max()
    full = np.zeros((2 * reach + 1, 2 * reach + 1))
    y, x = (np.array(own.shape) - 1) // 2
    full[reach - y : reach + y + 1, reach - x : reach + x + 1] = own
    return full


def grown(rho, reach):
    return np.pad(rho, reach - rho.shape[0] // 2)


def estimate(image, usable=None):
    usable = np.ones(image.shape, bool) if usable is None else usable
    return noise_correlation(image, usable, *background_and_noise(image, usable))


@pytest.mark.parametrize("name", KERNELS)
def test_agrees_with_the_kernel_that_made_the_noise(name):
    rho = grown(estimate(noise_through(KERNELS[name], 1, (1500, 1500))), 5)
    np.testing.assert_allclose(rho, expected(KERNELS[name], 5), atol=0.015)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), name=st.sampled_from(sorted(KERNELS)))
def test_is_symmetric_with_one_at_the_centre(seed, name):
    rho = estimate(noise_through(KERNELS[name], seed, (200, 150)))
    assert rho[rho.shape[0] // 2, rho.shape[1] // 2] == 1
    np.testing.assert_array_equal(rho, rho[::-1, ::-1])
    assert np.abs(rho).max() == 1


def test_white_noise_has_none():
    rho = estimate(noise_through(np.ones((1, 1)), 2, (1000, 1000)))
    # 0.3 % of 60 pairs of lags pass three standard errors.
    assert np.count_nonzero(rho) <= 5
    assert np.abs(rho).sum() < 1.06


def test_stars_masks_and_gradients_do_not_bias_it():
    kernel = KERNELS["smoothing"]
    image = noise_through(kernel, 3, (1024, 1024))
    y, x = np.mgrid[:1024, :1024]
    image += (0.02 * x - 0.01 * y).astype(np.float32)  # three sigma from side to side
    rng = np.random.default_rng(4)
    for cy, cx in rng.uniform(0, 1024, (300, 2)):
        image += np.float32(rng.exponential(500)) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 4.0).astype(np.float32)
    usable = rng.uniform(size=image.shape) > 0.2
    usable[:, 300:340] = False
    image[~usable] = 1e5
    rho = grown(estimate(image, usable), 5)
    np.testing.assert_allclose(rho, expected(kernel, 5), atol=0.03)


def test_an_image_without_usable_pixels_counts_as_white():
    image = noise_through(np.ones((1, 1)), 5, (100, 100))
    np.testing.assert_array_equal(noise_correlation(image, np.zeros(image.shape, bool), 0, 1), [[1.0]])


def test_small_images_are_one_patch():
    rho = estimate(noise_through(KERNELS["bilinear"], 6, (63, 40)))
    centre = rho.shape[0] // 2
    assert rho[centre, centre + 1] == pytest.approx(0.495 / 1.01, abs=0.15)  # 0.45 0.55 / (0.45^2 + 0.55^2)


@given(st.tuples(*[st.integers(1, 20)] * 4), st.integers(0, 1000))
def test_convolution_is_scipys_bit_for_bit(sides, seed):
    rng = np.random.default_rng(seed)
    image, kernel = rng.normal(size=sides[:2]), rng.normal(size=sides[2:])
    assert np.array_equal(convolve(image, kernel), fftconvolve(image, kernel))


@given(st.tuples(st.integers(1, 15), st.integers(1, 15)), st.integers(0, 4), st.integers(0, 1000))
def test_filtered_noise_is_the_sum_over_lags(sides, reach, seed):
    rng = np.random.default_rng(seed)
    template = rng.normal(size=sides)
    correlation = np.zeros((2 * reach + 1, 2 * reach + 1))
    correlation[reach, reach] = 1.0
    half = rng.uniform(-0.02, 0.02, correlation.shape)
    correlation += half + half[::-1, ::-1]
    padded = np.pad(template, reach)
    own = correlate2d(padded, template, mode="valid")
    want = 3.0 * np.sqrt(max(np.sum(own * correlation), 0.0))
    assert filtered_noise(template, 3.0, correlation) == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_clips_until_nothing_more_is_cut():
    rng = np.random.default_rng(9)
    image = rng.normal(50.0, 5.0, (200, 200))
    image[:60] += rng.exponential(60.0, (60, 200))  # what the first cut leaves still widens the second
    clipped = sigma_clip(image, 4.0, maxiters=10, cenfunc="median", stdfunc="mad_std", masked=False)
    background, noise = background_and_noise(image, np.ones(image.shape, bool))
    assert background == pytest.approx(np.median(clipped), rel=1e-9)
    assert noise == pytest.approx(mad_std(clipped), rel=1e-4)
    once = sigma_clip(image, 4.0, maxiters=1, cenfunc="median", stdfunc="mad_std", masked=False)
    assert len(once) > len(clipped) + 100
