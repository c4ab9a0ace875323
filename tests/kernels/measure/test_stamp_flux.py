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


def by_lstsq(stamp, x, y, psf, radius):
    """Flux and error of a point and a level by numpy, of the finite pixels up to ``radius`` from a place."""
    row, column = np.indices(stamp.shape)
    square = (column - x) ** 2 + (row - y) ** 2
    shape = sum(
        w / (2 * np.pi * s**2) * np.exp(-square / (2 * s**2)) for w, s in zip(psf.weights, psf.sigmas, strict=True)
    )
    use = (square <= radius**2) & np.isfinite(stamp)
    design = np.stack([shape[use], np.ones(use.sum())], axis=1)
    solution, (squares,), *_ = np.linalg.lstsq(design, stamp[use].astype(float), rcond=None)
    return solution[0], np.sqrt(np.linalg.inv(design.T @ design)[0, 0] * squares / (use.sum() - 2))


@pytest.mark.parametrize(("fwhm", "radius"), [(2.0, 7.0), (1.5, 6.0)])
def test_a_fit_is_least_squares_of_the_pixels_up_to_three_and_a_half_fwhm_away(fwhm, radius):
    psf, rng = moffat_mixture(fwhm, BETA), np.random.default_rng(5)
    stamps = rng.normal(50, 9, (4, SIDE, SIDE)).astype(np.float32)
    stamps[:, 13:18, 13:18] += 200
    stamps[1, 16, 12] = stamps[1, 0, 0] = np.nan
    stamps[2, 15, 15 + int(radius)] = 1e4  # just as far away
    stamps[3, 15, 16 + int(radius)] = 1e4
    middle = np.full(4, 15.0)
    found = stamp_fluxes(stamps, middle, middle, psf, fwhm)
    for n in range(4):
        expected = by_lstsq(stamps[n], 15.0, 15.0, psf, radius)
        assert (found.value[n], found.error[n]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("seen", "measured"), [(12, True), (11, False)])
def test_twelve_pixels_are_needed(seen, measured):
    psf, rng = moffat_mixture(2.0, BETA), np.random.default_rng(5)
    row, column = np.indices((SIDE, SIDE))
    nearest = np.argsort(((row - 15) ** 2 + (column - 15) ** 2).ravel(), kind="stable")
    stamp = rng.normal(50, 9, (1, SIDE, SIDE)).astype(np.float32)
    stamp.reshape(-1)[nearest[seen:]] = np.nan
    found = stamp_fluxes(stamp, np.full(1, 15.0), np.full(1, 15.0), psf, 2.0)
    assert np.isfinite(found.value[0]) == np.isfinite(found.error[0]) == measured
