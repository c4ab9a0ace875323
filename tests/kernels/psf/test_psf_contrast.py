import galsim
import numpy as np
import pytest

from kernels.psf.moments import adaptive_moments
from kernels.psf.psf_contrast import WIDTHS, psf_contrast

PSF = galsim.Moffat(beta=3.0, fwhm=3.2)


def drawn(profile, x=0.0, y=0.0):
    return profile.drawImage(nx=26, ny=26, scale=1.0, offset=(x, y)).array[None].astype(np.float32)


def contrast(image, psf):
    source, point = adaptive_moments(image), adaptive_moments(psf)
    features = np.zeros((len(image), 1 + 2 * len(WIDTHS)), np.float32)
    left = np.zeros_like(image)
    shift = np.stack([source.x - point.x, source.y - point.y], 1)
    psf_contrast(image, psf, shift, np.stack([source.x, source.y], 1), point.sigma, features, left)
    return features, left


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.4, -0.3), (-0.5, 0.5), (1.2, 0.7)])
def test_a_point_source_leaves_nothing_wherever_it_lies(x, y):
    psf = drawn(PSF)
    features, left = contrast(drawn(500 * PSF, x, y), psf / psf.max())
    assert np.abs(left[:, 4:-4, 4:-4]).max() < 1.2
    assert features[0, 0] < 0
    np.testing.assert_allclose(features[0, 1 + len(WIDTHS) :], 0, atol=0.03)


def test_a_galaxy_has_more_light_outside_the_more_so_the_wider():
    psf = drawn(PSF)
    features, _ = contrast(drawn(500 * galsim.Convolve(PSF, galsim.Exponential(scale_radius=1.0))), psf / psf.max())
    shares = features[0, 1 + len(WIDTHS) :]
    assert shares[0] < 0 < shares[-1]
    assert (np.diff(shares) > 0).all()
    assert features[0, 0] > 1


def test_significance_grows_with_brightness_the_share_does_not():
    psf = drawn(PSF)
    galaxy = galsim.Convolve(PSF, galsim.Exponential(scale_radius=0.8))
    faint, bright = (contrast(drawn(flux * galaxy), psf / psf.max())[0][0] for flux in (100, 300))
    assert bright[len(WIDTHS)] > faint[len(WIDTHS)]
    np.testing.assert_allclose(faint[1 + len(WIDTHS) :], bright[1 + len(WIDTHS) :], atol=1e-3)


def test_without_psf_nothing_is_written():
    features, left = np.full((1, 9), 7, np.float32), np.full((1, 26, 26), 7, np.float32)
    nothing = np.zeros((1, 2), np.float32)
    psf_contrast(drawn(PSF), drawn(PSF), nothing, nothing, np.zeros(1, np.float32), features, left)
    assert (features == 7).all()
    assert (left == 7).all()
