import galsim
import numpy as np
import pytest
from scipy.stats import norm

from kernels.psf.gaussian_mixture import (
    GaussianMixture,
    brightness,
    filter_taps,
    fwhm_before_pixels,
    moffat_mixture,
    seen_variance,
)


@pytest.mark.parametrize("beta", [2.0, 2.5, 3.0, 4.765, 10.0, 100.0])
@pytest.mark.parametrize("fwhm", [2.0, 5.0])
def test_follows_the_moffat_profile_to_half_a_percent_of_its_peak(fwhm, beta):
    weights, sigmas, _ = moffat_mixture(fwhm, beta)
    bare = np.square(sigmas) - 1 / 12  # without the pixel
    radius = np.linspace(0, 6 * fwhm, 500)
    ours = np.exp(-0.5 * np.square(radius[:, None]) / bare) @ (weights / (2 * np.pi * bare))
    alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
    theirs = (beta - 1) / (np.pi * alpha**2) * (1 + np.square(radius / alpha)) ** -beta
    assert np.abs(ours - theirs).max() < 0.005 * theirs[0]


@pytest.mark.parametrize(("fwhm", "beta"), [(2.0, 3.0), (2.5, 2.5), (4.0, 4.765)])
def test_pixels_are_those_of_galsim(fwhm, beta):
    theirs = galsim.Moffat(fwhm=fwhm, beta=beta).drawImage(nx=31, ny=31, scale=1, offset=(0.3, -0.2)).array
    dy, dx = np.mgrid[:31, :31]
    square = np.square(dx - 15.3) + np.square(dy - 14.8)
    weights, sigmas, _ = moffat_mixture(fwhm, beta)
    ours = sum(w * np.exp(-0.5 * square / s**2) / (2 * np.pi * s**2) for w, s in zip(weights, sigmas, strict=True))
    assert np.abs(ours - theirs).max() < 0.006 * theirs.max()


@pytest.mark.parametrize(("fwhm", "beta"), [(2.0, 3.0), (4.0, 4.765)])
def test_brightness_is_that_of_galsim_up_to_a_factor(fwhm, beta):
    theirs = galsim.Moffat(fwhm=fwhm, beta=beta).drawImage(nx=31, ny=31, scale=1).array
    dy, dx = np.mgrid[:31, :31]
    ours = brightness(moffat_mixture(fwhm, beta), np.square(dx - 15) + np.square(dy - 15))
    assert np.abs(ours / ours.max() - theirs / theirs.max()).max() < 0.006


def test_weights_sum_to_one_and_nobody_can_change_them():
    weights, sigmas, _ = moffat_mixture(2.3, 3.0)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert (weights > 0).all()
    assert (np.diff(sigmas) > 0).all()
    with pytest.raises(ValueError, match="read-only"):
        sigmas[0] = 1.0


@pytest.mark.parametrize(("fwhm", "beta"), [(0.0, 3.0), (-1.0, 3.0), (2.0, 1.0), (np.nan, 3.0)])
def test_profile_that_is_none_is_refused(fwhm, beta):
    with pytest.raises(ValueError, match="FWHM > 0 and beta > 1"):
        moffat_mixture(fwhm, beta)


@pytest.mark.parametrize("fwhm", [1.4, 2.3, 5.0])
def test_variance_seen_is_that_of_light_summed_over_pixels(fwhm):
    place = np.arange(-30, 31) + np.arange(0, 1, 0.125)[:, None]  # of pixels, from sources at some places between them
    seen = norm.cdf(place + 0.5, scale=fwhm / 2.354820045) - norm.cdf(place - 0.5, scale=fwhm / 2.354820045)
    assert seen_variance(fwhm) == pytest.approx(np.average(place**2, weights=seen), rel=1e-8)


@pytest.mark.parametrize("beta", [2.5, 3.0, 10.0])
@pytest.mark.parametrize("fwhm", [1.4, 2.0, 3.5])
def test_width_before_the_pixels_gives_the_width_seen(fwhm, beta):
    """Draw with galsim's pixel and measure the width of the result, in finer steps than a pixel."""
    narrow = galsim.Moffat(beta=beta, fwhm=fwhm_before_pixels(fwhm, beta))
    seen = galsim.Convolve(narrow, galsim.Pixel(1.0)).drawImage(nx=801, ny=1, scale=0.01, method="no_pixel").array[0]
    half = np.flatnonzero(seen >= seen.max() / 2)
    assert 0.01 * (half[-1] - half[0] + 1) == pytest.approx(fwhm, rel=0.025)


@pytest.mark.parametrize(
    ("beta", "weights", "sigmas"),
    [
        (1.3, [0.044863, 0.178809, 0.246153, 0.240392, 0.289783], [0.270468, 0.488736, 0.948713, 2.215842, 10.3778]),
        (2.5, [0.063428, 0.321812, 0.381138, 0.190821, 0.042802], [0.276871, 0.412507, 0.636066, 1.076173, 2.31854]),
        (4.765, [0.04981, 0.340026, 0.43205, 0.162088, 0.016026], [0.291461, 0.387987, 0.524615, 0.74745, 1.207412]),
    ],
)
def test_the_mixture_stays_the_one_that_was_measured(beta, weights, sigmas):
    """Accuracies in the docs hold for this weighing of core and wings; pixels add a twelfth to the variance."""
    found = moffat_mixture(3.0, beta)
    np.testing.assert_allclose(found.weights, weights, rtol=5e-4)
    np.testing.assert_allclose(np.sqrt(found.sigmas**2 - 1 / 12) / 3, sigmas, rtol=5e-4)


def test_a_mixture_scales_with_its_width_but_for_the_pixels():
    narrow, wide = moffat_mixture(0.9, 1.5), moffat_mixture(9.0, 1.5)
    np.testing.assert_array_equal(narrow.weights, wide.weights)
    np.testing.assert_allclose((wide.sigmas**2 - 1 / 12) / (narrow.sigmas**2 - 1 / 12), 100)


def test_brightness_is_the_sum_of_the_gaussians():
    mixture = GaussianMixture(np.array([0.25, 0.75]), np.array([1.0, 2.0]))
    square = np.array([[0.0, 1.0], [4.0, 30.0]])
    expected = 0.25 * np.exp(-square / 2) + 0.75 / 4 * np.exp(-square / 8)
    np.testing.assert_allclose(brightness(mixture, square), expected)


def test_width_before_the_pixels_by_hand():
    assert fwhm_before_pixels(2.0, 3.5) == pytest.approx(np.sqrt(4 - 1.5 * 0.4620981))  # 8 ln 2 / 12
    assert fwhm_before_pixels(3.0, 1.75) == pytest.approx(np.sqrt(9 - 2 * 0.4620981))
    assert fwhm_before_pixels(0.6, 3.0) == 0.3  # never less than half


@pytest.mark.parametrize("fwhm", [1.5, 4.0])
def test_the_filter_is_a_gaussian_with_the_pixels_in_it(fwhm):
    taps = filter_taps(fwhm)
    expected = norm.pdf(np.arange(-8, 9), scale=np.sqrt((fwhm / 2.354820045) ** 2 + 1 / 12))
    np.testing.assert_allclose(taps, expected / expected.sum(), rtol=1e-5)
