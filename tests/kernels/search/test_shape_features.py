import numpy as np
import pytest

from kernels.image.search_image import SearchImage
from kernels.psf.gaussian_mixture import GaussianMixture
from kernels.search.candidate_search import find_candidates, lines_of
from kernels.search.shape_features import FEATURES, shape_features
from kernels.trails.trail_model import trail_image

PSF = GaussianMixture(np.array([1.0]), np.array([np.sqrt((2.3 / np.sqrt(8 * np.log(2))) ** 2 + 1 / 12)]))


def described(image, usable=None):
    usable = np.ones(image.shape, bool) if usable is None else usable
    plane = SearchImage(image.astype(np.float32), usable, 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 4.5)
    features = shape_features(plane, snr, peaks, lines_of(plane, snr, peaks))
    return dict(zip(FEATURES, features[peaks.snr.argmax()], strict=True))


def test_a_clean_trail_fits_a_trail_and_no_point():
    found = described(400 * trail_image((160, 160), 80.0, 80.0, 30.0, 25.0, PSF))
    assert found["trail_chi2"] < 0.3 * found["point_chi2"]
    assert found["trail_share"] > 0.9
    assert found["length"] == pytest.approx(30, abs=5)
    assert found["off_axis"] == pytest.approx(25, abs=2)


@pytest.mark.parametrize(("x", "y"), [(80.0, 80.0), (80.3, 79.6)])
def test_a_star_fits_a_point_and_no_trail(x, y):
    found = described(600 * trail_image((160, 160), x, y, 0.0, 0.0, PSF))
    assert found["point_chi2"] < 0.1 * found["trail_chi2"]


def test_a_single_hot_pixel_is_sharper_than_a_star():
    star = described(60 * trail_image((160, 160), 80.0, 80.0, 0.0, 0.0, PSF))
    image = np.zeros((160, 160))
    image[80, 80] = 20
    assert described(image)["sharpest"] > star["sharpest"] + 0.2


def test_a_dipole_is_dark_on_one_side():
    bright = 60 * trail_image((160, 160), 80.0, 80.0, 0.0, 0.0, PSF)
    dipole = bright - 60 * trail_image((160, 160), 83.0, 80.0, 0.0, 0.0, PSF)
    assert described(dipole)["least_1"] < -3
    assert described(bright)["least_1"] > -1


def test_masked_pixels_are_counted():
    usable = np.ones((160, 160), bool)
    usable[86:90, 70:90] = False
    found = described(200 * trail_image((160, 160), 80.0, 80.0, 20.0, 0.0, PSF), usable)
    assert found["masked_far"] > 40


def test_noise_and_borders_give_finite_numbers():
    image = np.random.default_rng(1).normal(size=(130, 140))
    image[3, 4], image[128, 70] = 50, 40
    plane = SearchImage(image.astype(np.float32), np.ones(image.shape, bool), 0.0, 1.0, np.array([[1.0]]), 2.3)
    snr, peaks = find_candidates(plane, 3.5)
    features = shape_features(plane, snr, peaks, lines_of(plane, snr, peaks))
    assert features.shape == (len(peaks.y), len(FEATURES))
    assert np.isfinite(features).all()
