import numpy as np
import pytest

from kernels.image.noise import Noise
from kernels.measure.photometry import fit_flux, stamp_fluxes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene, view
from kernels.trails.trail_model import trail_image

FWHM, BETA, SIDE = 2.4, 3.0, 31
PSF = moffat_mixture(FWHM, BETA)


def pictures(count, noise, flux=500.0, seed=1):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(14, 16, (2, count))
    light = np.stack([trail_image((SIDE, SIDE), *place, 0.0, 0.0, PSF) for place in zip(x, y, strict=True)])
    return (flux * light + 80 + rng.normal(0, noise, light.shape)).astype(np.float32), x, y


def test_the_flux_of_a_point_without_noise():
    found = stamp_fluxes(*pictures(20, 0.0), PSF, FWHM)
    np.testing.assert_allclose(found.value, 500.0, rtol=2e-3)


def test_errors_are_those_of_many_points():
    found = stamp_fluxes(*pictures(2000, 5.0), PSF, FWHM)
    pull = (found.value - 500.0) / found.error
    assert abs(pull.mean()) < 0.1
    assert pull.std() == pytest.approx(1.0, abs=0.06)


def test_it_agrees_with_the_fit_of_one_at_a_time():
    stamps, x, y = pictures(5, 5.0)
    found = stamp_fluxes(stamps, x, y, PSF, FWHM)
    for n in range(5):
        scene = Scene(stamps[n], np.ones((SIDE, SIDE), bool), PSF, FWHM, Noise(5.0, np.ones((1, 1)), np.inf))
        segment = Segment(x[n], y[n], 0.0, 0.0)
        one = fit_flux(scene, view(scene, segment, 3.5 * FWHM), segment)
        assert found.value[n] == pytest.approx(one.value, rel=2e-3)
        assert found.error[n] == pytest.approx(one.error, rel=0.2)


def test_what_is_not_seen_is_not_measured():
    stamps, x, y = pictures(3, 5.0)
    stamps[0, 13:18, 13:18] = np.nan  # most of the light
    stamps[1] = np.nan
    stamps[2, 0, 0] = np.nan
    found = stamp_fluxes(stamps, x, y, PSF, FWHM)
    assert np.isnan(found.value).tolist() == [True, True, False]
    assert np.isnan(found.error).tolist() == [True, True, False]
