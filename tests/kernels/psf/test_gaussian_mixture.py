import galsim
import numpy as np
import pytest
from scipy.stats import norm

from kernels.psf.gaussian_mixture import brightness, fwhm_before_pixels, moffat_mixture, seen_variance


@pytest.mark.parametrize("beta", [2.0, 2.5, 3.0, 4.765, 10.0, 100.0])
@pytest.mark.parametrize("fwhm", [2.0, 5.0])
def test_follows_the_moffat_profile_to_half_a_percent_of_its_peak(fwhm, beta):
    weights, sigmas = moffat_mixture(fwhm, beta)
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
    weights, sigmas = moffat_mixture(fwhm, beta)
    ours = sum(w * np.exp(-0.5 * square / s**2) / (2 * np.pi * s**2) for w, s in zip(weights, sigmas, strict=True))
    assert np.abs(ours - theirs).max() < 0.006 * theirs.max()


@pytest.mark.parametrize(("fwhm", "beta"), [(2.0, 3.0), (4.0, 4.765)])
def test_brightness_is_that_of_galsim_up_to_a_factor(fwhm, beta):
    theirs = galsim.Moffat(fwhm=fwhm, beta=beta).drawImage(nx=31, ny=31, scale=1).array
    dy, dx = np.mgrid[:31, :31]
    ours = brightness(moffat_mixture(fwhm, beta), np.square(dx - 15) + np.square(dy - 15))
    assert np.abs(ours / ours.max() - theirs / theirs.max()).max() < 0.006


def test_weights_sum_to_one_and_nobody_can_change_them():
    weights, sigmas = moffat_mixture(2.3, 3.0)
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
