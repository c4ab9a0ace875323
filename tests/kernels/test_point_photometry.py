import numpy as np
import pytest
from photutils.aperture import CircularAperture, aperture_photometry

from kernels.point_photometry import aperture_fluxes, encircled, psf_fluxes
from kernels.psf import moffat_mixture
from tests.kernels.science_support import BETA, FWHM, SIGMA, bare, drawn

PSF = moffat_mixture(FWHM, BETA)
WHITE = np.array([[1.0]])
GRID = [(14.3 + 25 * i, 16.8 + 25 * j) for i in range(12) for j in range(12)]
X, Y = np.array(GRID).T
FLUX = 900.0


@pytest.fixture(scope="module")
def image():
    return bare(drawn([(x, y, FLUX, 0, 1, 0) for x, y in GRID], (320, 320)))


def test_fluxes_of_point_sources_are_true_within_their_errors(image):
    point = psf_fluxes(image, X, Y, PSF, FWHM, WHITE, np.inf)
    circle = aperture_fluxes(image, X, Y, 2 * FWHM, PSF, WHITE, np.inf)
    for found, share in ((point, 0.02), (circle, 0.03)):
        pull = (found.value - FLUX) / found.error
        assert np.mean(found.value) == pytest.approx(FLUX, rel=share)
        assert 0.8 < pull.std() < 1.25
        assert (found.seen > 0.999).all()
    assert point.error.mean() < 0.6 * circle.error.mean()


def test_an_aperture_is_what_photutils_sums(image):
    found = aperture_fluxes(image, X, Y, 4.0, PSF, WHITE, np.inf)
    theirs = aperture_photometry(image.pixels, CircularAperture(np.array(GRID), 4.0))["aperture_sum"]
    np.testing.assert_allclose(found.value * encircled(PSF, 4.0), theirs, rtol=0.005)


def test_the_source_itself_adds_noise_and_correlation_adds_more(image):
    quiet = psf_fluxes(image, X, Y, PSF, FWHM, WHITE, np.inf)
    poisson = psf_fluxes(image, X, Y, PSF, FWHM, WHITE, 2.0)
    smooth = np.outer([0.4, 1, 0.4], [0.4, 1, 0.4])
    correlated = psf_fluxes(image, X, Y, PSF, FWHM, smooth, np.inf)
    np.testing.assert_array_equal(quiet.value, poisson.value)
    assert (poisson.error > quiet.error).all()
    assert (correlated.error > 1.3 * quiet.error).all()
    np.testing.assert_array_equal(poisson.sky_error, quiet.sky_error)


def test_correlated_noise_scatters_as_its_errors_say():
    white = np.random.default_rng(3).normal(0, SIGMA, (420, 420))
    noise = sum(np.roll(white, (j, i), (0, 1)) for i in (0, 1) for j in (0, 1)) / 2
    pair = np.array([0.5, 1, 0.5])
    places = np.stack(np.meshgrid(np.arange(12.2, 400, 9), np.arange(12.7, 400, 9)), -1).reshape(-1, 2)
    found = psf_fluxes(bare(noise), *places.T, PSF, FWHM, np.outer(pair, pair), np.inf)
    assert (found.value / found.error).std() == pytest.approx(1, abs=0.05)


def test_a_masked_core_gives_no_flux_and_a_masked_wing_the_right_one():
    pixels = drawn([(40.0, 40.0, 3e4, 0, 1, 0), (90.0, 40.0, 3e4, 0, 1, 0)])
    bad = np.zeros(pixels.shape, np.bool_)
    bad[38:43, 38:43] = True
    bad[:, 92] = True
    found = psf_fluxes(bare(pixels, bad), np.array([40.0, 90]), np.array([40.0, 40]), PSF, FWHM, WHITE, np.inf)
    assert np.isnan(found.value[0])
    assert np.isnan(found.error[0])
    assert found.seen[0] < 0.5
    assert found.value[1] == pytest.approx(3e4, rel=0.03)
    assert 0.5 < found.seen[1] < 1


def test_places_off_the_image_or_not_a_number_have_no_flux(image):
    x, y = np.array([-50.0, np.nan, 40.0]), np.array([40.0, 40.0, 1e5])
    for found in (
        psf_fluxes(image, x, y, PSF, FWHM, WHITE, np.inf),
        aperture_fluxes(image, x[::2], y[::2], 5.0, PSF, WHITE, np.inf),
        aperture_fluxes(image, x[:0], y[:0], 5.0, PSF, WHITE, np.inf),
    ):
        assert np.isnan(found.value).all()


def test_encircled_light_grows_to_all():
    assert encircled(PSF, 0.0) == 0
    assert encircled(PSF, 100.0) == pytest.approx(1, abs=1e-3)
    assert encircled(PSF, FWHM / 2) < encircled(PSF, FWHM) < encircled(PSF, 2 * FWHM)
