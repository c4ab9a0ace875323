import numpy as np
import pytest

from flows.report.sky import compass, depth
from schemas.exposure import PsfModel

SINGULAR = "CTYPE1  = 'RA---TAN'\nCTYPE2  = 'DEC--TAN'\nCD1_1   = 1.0\nCD1_2   = 1.0\nCD2_1   = 1.0\nCD2_2   = 1.0"


@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0, 200.0])
def test_compass_of_a_turned_field(kit, turn):
    found = compass(kit.info(wcs_header=kit.cards((420, 380), turn)))
    angle = np.radians(turn)
    assert found.scale == pytest.approx(1.0, rel=1e-4)
    assert found.north == pytest.approx((-np.sin(angle), np.cos(angle)), abs=1e-3)
    assert found.east == pytest.approx((-np.cos(angle), -np.sin(angle)), abs=1e-3)


@pytest.mark.parametrize("cards", [None, "CTYPE1  = 'RA---TAN'", "no cards at all", SINGULAR])
def test_no_compass_without_a_sky(kit, cards):
    assert compass(kit.info(wcs_header=cards)) is None


def test_depth_of_a_gaussian_in_white_noise(kit):
    # sum(m^2) of a well sampled unit Gaussian is 1 / (4 pi sigma^2); King 1983, PASP 95, 163.
    fwhm, noise, zero_point = 8.0, 3.0, 25.0
    sigma = fwhm / np.sqrt(8 * np.log(2))
    expected = zero_point - 2.5 * np.log10(5 * noise * np.sqrt(4 * np.pi) * sigma)
    found = depth(kit.info(psf=PsfModel(fwhm_px=fwhm, beta=100.0), noise=noise, zero_point=zero_point))
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("rho", [0.1, 0.3])
def test_correlated_noise_costs_depth(kit, rho):
    correlation = ((rho**2, rho, rho**2), (rho, 1.0, rho), (rho**2, rho, rho**2))
    white, correlated = depth(kit.info()), depth(kit.info(noise_correlation=correlation))
    # The filtered noise grows by less than the square root of the summed correlation.
    assert 0 < white - correlated < 2.5 * np.log10(1 + 2 * rho)


def test_no_depth_without_a_zero_point(kit):
    assert depth(kit.info(zero_point=None)) is None
