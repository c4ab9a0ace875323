import galsim
import numpy as np
import pytest

from kernels.psf.flux_error import UNKNOWN_FLATNESS, psf_flux_error, psf_length_error

LENGTHS = np.array([0.0, 6.0, 20.0])


def fitted_share(source, model, length):
    """Flux that a least-squares fit of one drawn shape finds in another, by pixels: an independent way."""
    shapes = []
    for one in (source, model):
        drawn = galsim.Convolve(one, galsim.Box(max(length, 0.01), 0.01)) if length else one
        shapes.append(drawn.drawImage(nx=101, ny=101, scale=1.0, dtype=float).array)
    found, fit = shapes
    return float((found * fit).sum() / (fit * fit).sum())


@pytest.mark.parametrize("length", [0.0, 6.0, 20.0])
def test_a_gaussian_taken_for_a_moffat_profile_is_within_its_error(length):
    off = fitted_share(galsim.Gaussian(fwhm=3.0), galsim.Moffat(beta=3.0, fwhm=3.0), length) - 1
    error = psf_flux_error(3.0, 3.0, 0.0, UNKNOWN_FLATNESS, np.array([length]))[0]
    assert 0.13 < off < 0.28  # what was seen where nothing was said of it
    assert off < 1.5 * error


@pytest.mark.parametrize("length", [0.0, 20.0])
def test_the_error_of_the_width_is_that_of_fluxes(length):
    wider = fitted_share(galsim.Moffat(beta=3.0, fwhm=3.3), galsim.Moffat(beta=3.0, fwhm=3.0), length)
    narrower = fitted_share(galsim.Moffat(beta=3.0, fwhm=2.7), galsim.Moffat(beta=3.0, fwhm=3.0), length)
    error = psf_flux_error(3.0, 3.0, 0.3, 0.0, np.array([length]))[0]
    assert error == pytest.approx(max(1 - wider, narrower - 1), rel=0.1)


def test_what_is_known_makes_no_error():
    assert psf_flux_error(2.5, 3.0, 0.0, 0.0, LENGTHS).tolist() == [0.0, 0.0, 0.0]
    assert psf_flux_error(2.5, 3.0, 0.1, 0.1, np.zeros(0)).shape == (0,)


def test_errors_add_in_squares_and_grow():
    both = psf_flux_error(2.5, 3.0, 0.1, 0.05, LENGTHS)
    width, profile = psf_flux_error(2.5, 3.0, 0.1, 0.0, LENGTHS), psf_flux_error(2.5, 3.0, 0.0, 0.05, LENGTHS)
    assert both == pytest.approx(np.hypot(width, profile))
    assert (psf_flux_error(2.5, 3.0, 0.2, 0.05, LENGTHS) > both).all()


@pytest.mark.parametrize("fwhm_err", [1.0, 10.0])
def test_no_error_is_too_large_to_be_told(fwhm_err):
    assert np.isfinite(psf_flux_error(2.5, 3.0, fwhm_err, 0.9, LENGTHS)).all()


def fitted_length(width, fwhm, length):
    """Length that a least-squares fit of drawn trails of one width finds of one of another."""
    found = galsim.Convolve(galsim.Gaussian(fwhm=width), galsim.Box(max(length, 0.01), 0.01))
    image = found.drawImage(nx=81, ny=41, scale=0.5, method="no_pixel", dtype=float).array
    tried = np.arange(0.0, 1.6 * length + 2.5 * fwhm, 0.1)
    shapes = [galsim.Convolve(galsim.Gaussian(fwhm=fwhm), galsim.Box(max(one, 0.01), 0.01)) for one in tried]
    drawn = np.stack([one.drawImage(nx=81, ny=41, scale=0.5, method="no_pixel", dtype=float).array for one in shapes])
    return tried[np.argmax((drawn * image).sum((1, 2)) ** 2 / (drawn**2).sum((1, 2)))]


@pytest.mark.parametrize("length", [0.0, 2.5, 6.0])
def test_a_psf_of_another_width_moves_lengths_by_their_error(length):
    moved = max(abs(fitted_length(width, 2.5, length) - length) for width in (2.2, 2.8))
    assert psf_length_error(2.5, 0.3, np.array([length]))[0] == pytest.approx(moved, abs=0.11)


def test_long_trails_have_their_length_whatever_the_psf():
    error = psf_length_error(2.5, 0.5, np.array([0.0, 5.0, 10.0, 100.0]))
    assert (np.diff(error) <= 0).all()
    assert error[-1] <= error[-2] < 0.1 < 2.0 < error[0]
    assert psf_length_error(2.5, 0.0, np.array([0.0, 5.0])).tolist() == [0.0, 0.0]
    assert psf_length_error(2.5, 1.0, np.zeros(0)).shape == (0,)
