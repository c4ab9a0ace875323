import numpy as np
import pytest
from astropy.stats import mad_std, sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve as smoothed
from scipy.signal import correlate2d, fftconvolve
from scipy.special import ndtri

from kernels.image.noise import (
    Noise,
    _moments,
    _within,
    background_and_noise,
    convolve,
    filtered_noise,
    noise_correlation,
    variance,
    without_steps,
)


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


@pytest.mark.parametrize("step", [1.6, 1 / 30, 1e-9])
@pytest.mark.parametrize("sigma", [1.0, 2.2, 4.0])
def test_nor_do_whole_numbers_times_a_gain(sigma, step):
    counts = np.rint(sky(3, 0.3, sigma))
    counts[::40, ::50] = 900
    usable = np.ones(counts.shape, bool)
    scaled = background_and_noise((counts * step).astype(np.float32), usable)
    assert np.array(scaled) / step == pytest.approx(background_and_noise(counts, usable), rel=1e-3, abs=1e-3)


def test_few_numbers_that_repeat_now_and_then_are_left_as_they_are():
    values = np.random.default_rng(1).normal(size=300).astype(np.float32).repeat(2)
    np.testing.assert_array_equal(without_steps(values), values)


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


def clipped(values):
    """Median and 1.4826 MAD of what lies within 4 of these, ten times over."""
    for _ in range(11):
        centre = np.median(values)
        spread = np.median(np.abs(values - centre)) / ndtri(0.75)
        if _ < 10:
            values = values[np.abs(values - centre) <= 4 * spread]
    return centre, spread


@pytest.mark.parametrize("seed", range(4))
def test_clips_ten_times_at_most(seed):
    values = np.cumsum(np.random.default_rng(seed).exponential(1, 400)) ** 2 * 10.0 ** np.linspace(-3, 2, 400)
    found = background_and_noise(values[None], np.ones((1, 400), bool))
    assert found == pytest.approx(clipped(values), rel=1e-9)


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3, width=16)), min_size=1, max_size=25))
def test_median_and_deviation_of_sorted_values_are_those_of_numpy(values):
    centre, spread = _moments(np.sort(values))
    assert centre == np.median(values)
    assert spread == pytest.approx(np.median(np.abs(np.array(values) - centre)) / ndtri(0.75), rel=1e-9, abs=1e-12)


def test_limits_of_clipping_belong_to_what_is_kept():
    values = np.array([-2.0, -1.0, -1.0, 0.0, 1.0, 1.5])
    assert _within(values, 0.0, 1.0).tolist() == [-1, -1, 0, 1]
    assert _within(values, 0.0, 9.0).tolist() == values.tolist()
    assert _within(values, 0.0, 0.0).tolist() == [0]


def test_counts_are_spread_over_their_unit_always_alike():
    counts = np.random.default_rng(1).poisson(4, (60, 60)).astype(np.float32)
    values = counts.ravel() + np.random.default_rng(0).uniform(-0.5, 0.5, 3600)
    assert background_and_noise(counts, np.ones(counts.shape, bool)) == pytest.approx(clipped(values), rel=1e-6)


@pytest.mark.parametrize(("seen", "background"), [(1001, 3.25), (1000, 100.25)])
def test_a_large_image_is_sampled_on_a_grid_unless_that_holds_a_thousand_pixels_or_fewer(seen, background):
    image = np.full((3000, 3000), 100.25, np.float32)  # every third pixel of every third row is taken
    image[::3, ::3] = 3.25
    usable = np.zeros(image.shape, bool)
    usable[1::3, :200] = True
    grid = np.zeros((1000, 1000), bool)
    grid.flat[:seen] = True
    usable[::3, ::3] = grid
    assert background_and_noise(image, usable) == (background, 0.0)


def correlation_by_pairs(image, usable, background, noise, reach):
    """Mean product of all pairs of good pixels at each lag, in the quieter three quarters of the patches."""
    sides = [min(64, size) for size in image.shape]
    rows, columns = (range(0, size - side + 1, side) for size, side in zip(image.shape, sides, strict=True))
    boxes = [np.s_[y : y + sides[0], x : x + sides[1]] for y in rows for x in columns]
    if len(boxes) > 144:
        boxes = [boxes[round(n)] for n in np.linspace(0, len(boxes) - 1, 144)]
    patches = []
    for box in boxes:
        z, good = (image[box].astype(float) - background) / noise, usable[box]
        z = np.where(good, z, 0)
        z -= z[good & (abs(z) < 3.5)].mean() if (good & (abs(z) < 3.5)).any() else 0
        kept = good & (abs(z) < 3.5)
        for y, x in np.argwhere(good & (abs(z) > 5)):
            kept[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = False
        patches.append((np.sum(~kept), z, kept))
    patches.sort(key=lambda patch: patch[0])
    total, pairs = 0, 0
    for _, z, kept in patches[: max(1, round(0.75 * len(patches)))]:
        inside = kept & (abs(z) < 3.5)
        z = np.where(kept, z - z[inside].mean(), 0) if inside.any() else np.where(kept, z, 0)
        for part, name in ((z, "total"), (kept.astype(float), "pairs")):
            lags = fftconvolve(part, part[::-1, ::-1])
            middle = [size - 1 for size in part.shape]
            lags = lags[tuple(slice(one - reach, one + reach + 1) for one in middle)]
            total, pairs = (total + lags, pairs) if name == "total" else (total, pairs + lags)
    rho = total / pairs
    rho = (rho + rho[::-1, ::-1]) / 2 / rho[reach, reach]
    rho[abs(rho) < 3 * np.sqrt(np.sum(rho**2) / np.maximum(pairs, 1))] = 0
    rho[reach, reach] = 1
    away = abs(np.argwhere(rho) - reach).max()
    return rho[reach - away : reach + away + 1, reach - away : reach + away + 1]


@pytest.mark.parametrize(
    ("shape", "reach"), [((40, 30), 5), ((64, 64), 5), ((130, 200), 5), ((70, 150), 3), ((832, 770), 5)]
)
def test_correlation_is_that_of_the_pairs_of_good_pixels_of_the_patches(shape, reach):
    image = noise_through(np.array([[0.2, 0.5, 0.1], [0.4, 1.0, 0.6], [0.1, 0.3, 0.3]]), 11, shape)
    y, x = np.indices(shape)
    image = image + 2 * image.std() * np.sin(y / 64 + x / 100)  # a level of its own in each patch
    rng = np.random.default_rng(3)
    usable = rng.random(shape) > 0.15 * (x / shape[1])
    image[rng.random(shape) < 0.002] *= 7
    level, sigma = 0.3, 0.8 * float(image.std())
    found = noise_correlation(image.astype(np.float32), usable, level, sigma, reach)
    expected = correlation_by_pairs(image.astype(np.float32), usable, level, sigma, reach)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_an_image_without_scatter_counts_as_white():
    flat = np.full((80, 80), 2.0, np.float32)
    np.testing.assert_array_equal(noise_correlation(flat, np.ones(flat.shape, bool), 2.0, 1.0), [[1.0]])


def test_light_adds_its_poisson_noise_and_what_is_dark_none():
    model = np.array([-3.0, 0.0, 10.0])
    assert variance(model, Noise(3.0, np.ones((1, 1)), 2.0)).tolist() == [9.0, 9.0, 14.0]
    assert variance(model, Noise(3.0, np.ones((1, 1)))).tolist() == [9.0, 9.0, 9.0]


def test_noise_behind_a_filter_is_never_less_than_a_tenth_of_white():
    correlation = np.array([[0, 0, 0], [-1.5, 1, -1.5], [0, 0, 0]])  # no noise has such
    assert filtered_noise(np.array([[1.0, 1.0]]), 3.0, correlation) == pytest.approx(0.3 * np.sqrt(2))


@pytest.mark.parametrize("weight", [-0.25, -0.24, -0.1, 0.0, 0.1])
def test_large_areas_have_noise_however_contrary_that_of_neighbours_is(weight):
    kernel = np.array([[0, weight, 0], [weight, 1, weight], [0, weight, 0]])
    kernel /= np.sqrt(np.square(kernel).sum())
    true = fftconvolve(kernel, kernel[::-1, ::-1])
    for seed in range(5):
        white = np.random.default_rng(seed).normal(size=(65, 65))
        noise = fftconvolve(white, kernel)[1:-1, 1:-1].astype(np.float32)
        found = noise_correlation(noise, np.ones(noise.shape, bool), 0.0, 1.0)
        middle = len(found) // 2
        assert found.sum() >= 0.01 - 1e-9
        assert found[middle, middle] == 1
        if weight in (-0.1, 0.1):
            assert found[middle, middle + 1] == pytest.approx(true[2, 3], abs=0.06)
