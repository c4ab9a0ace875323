import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st
from photutils.aperture import RectangularAperture
from scipy.special import expit

from benchmarks.measurement.magnitudes import figures
from benchmarks.measurement.pulls import correlated_noise
from kernels.image.noise import Noise
from kernels.measure.photometry import Flux, ab_magnitude, aperture_flux, fit_flux, njy_per_unit, point_or_trail
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment
from kernels.trails.scene import Scene, trail_shape, view
from kernels.trails.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)
SHAPE = (70, 80)
TRAIL = Segment(40.3, 33.8, 15.0, 35.0)


def scene(pixels, usable=None):
    _, correlation = correlated_noise(np.random.default_rng(0), (5, 5))
    usable = np.ones(SHAPE, bool) if usable is None else usable
    return Scene(pixels.astype(np.float32), usable, PSF, 2.3, Noise(10.0, correlation))


def realisations(n, flux=0.0):
    rng = np.random.default_rng(12)
    for _ in range(n):
        yield scene(10 * correlated_noise(rng, SHAPE)[0] + flux * trail_image(SHAPE, *TRAIL, PSF))


def test_rectangle_holds_the_area_it_says():
    flux = aperture_flux(scene(np.ones(SHAPE)), TRAIL, 3.5)
    assert flux.value == pytest.approx((15 + 7) * 7, rel=0.01)
    assert aperture_flux(scene(np.ones(SHAPE)), TRAIL, 3.5, level=1.0).value == pytest.approx(0, abs=1e-6)


def test_long_aperture_in_pieces_is_the_sum_over_the_rectangle():
    rng = np.random.default_rng(2)
    pixels = rng.normal(5, 1, (200, 200))
    there = Scene(pixels.astype(np.float32), np.ones((200, 200), bool), PSF, 2.3, Noise(1.0, np.array([[1.0]])))
    segment = Segment(99.2, 101.7, 170, 32)
    fine = (np.mgrid[: 200 * 8, : 200 * 8] + 0.5) / 8 - 0.5  # brute force, an eighth of a pixel
    theta = np.radians(32)
    along = (fine[1] - 99.2) * np.cos(theta) + (fine[0] - 101.7) * np.sin(theta)
    across = (fine[0] - 101.7) * np.cos(theta) - (fine[1] - 99.2) * np.sin(theta)
    cover = ((np.abs(along) < 88.5) & (np.abs(across) < 3.5)).reshape(200, 8, 200, 8).mean(axis=(1, 3))
    assert aperture_flux(there, segment, 3.5).value == pytest.approx((cover * pixels).sum(), rel=2e-3)


@pytest.mark.parametrize("segment", [TRAIL, Segment(3.2, 33.0, 0.0, 0.0), Segment(70.0, 60.0, 40.0, 118.0)])
def test_aperture_is_that_of_photutils(segment):
    rng = np.random.default_rng(6)
    there = scene(rng.normal(40, 9, SHAPE), rng.random(SHAPE) > 0.2)
    theirs = RectangularAperture((segment.x, segment.y), segment.length + 7, 7.0, theta=np.radians(segment.angle))
    cover = theirs.to_mask(method="subpixel", subpixels=5).to_image(SHAPE)
    ours = aperture_flux(there, segment, 3.5, 30.0)
    assert ours.value == pytest.approx((cover * there.usable * (there.pixels - 30.0)).sum(), rel=1e-5)


def test_aperture_error_is_the_scatter_in_correlated_noise():
    fluxes = [aperture_flux(one, TRAIL, 3.5) for one in realisations(400)]
    assert np.std([flux.value for flux in fluxes]) == pytest.approx(fluxes[0].error, rel=0.12)


@pytest.mark.parametrize("segment", [TRAIL, TRAIL._replace(length=0.0)])
def test_fitted_flux_has_the_scatter_it_says(segment):
    values, errors = [], []
    for one in realisations(400):
        flux = fit_flux(one, view(one, segment, 8.0), segment)
        values.append(flux.value)
        errors.append(flux.error)
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.12)
    assert abs(np.mean(values)) < 4 * np.mean(errors) / 20


def test_fitted_flux_is_that_of_the_source_on_any_level():
    there = scene(4000 * trail_image(SHAPE, *TRAIL, PSF) + 25)
    flux = fit_flux(there, view(there, TRAIL, 8.0), TRAIL)
    assert flux.value == pytest.approx(4000, rel=1e-4)
    point = fit_flux(there, view(there, TRAIL, 8.0), TRAIL._replace(length=0.0))
    assert point.chi2 > 10 * flux.chi2 + 100


def test_sources_fitted_together_do_not_disturb_each_other():
    beside = TRAIL._replace(x=TRAIL.x + 4, y=TRAIL.y + 5, length=0.0)
    there = scene(4000 * trail_image(SHAPE, *TRAIL, PSF) + 9000 * trail_image(SHAPE, *beside, PSF) + 25)
    seen = view(there, TRAIL, 8.0)
    other = trail_shape(there, seen.footprint, beside)
    assert fit_flux(there, seen, TRAIL, [other]).value == pytest.approx(4000, rel=1e-3)
    assert fit_flux(there, seen, TRAIL).value > 5000


def test_source_without_usable_pixels_has_no_flux():
    there = scene(np.zeros(SHAPE), np.zeros(SHAPE, bool))
    assert np.isnan(fit_flux(there, view(there, TRAIL, 8.0), TRAIL).value)


def test_noise_too_contrary_for_any_variance_leaves_the_error_unknown():
    contrary = np.full((5, 5), -0.9)  # of no real noise
    contrary[2, 2] = 1.0
    there = scene(5 * trail_image(SHAPE, *TRAIL, PSF))._replace(noise=Noise(10.0, contrary))
    found = fit_flux(there, view(there, TRAIL, 8.0), TRAIL)
    assert found.value == pytest.approx(5, rel=1e-4)
    assert np.isnan(found.error)
    assert np.isfinite(found.chi2)


def test_units_are_those_of_astropy():
    for zero_point in (20.0, 26.3, 31.4):
        assert njy_per_unit(zero_point) == pytest.approx((zero_point * u.ABmag).to_value(u.nJy), rel=2e-4)
    magnitude, error = ab_magnitude(np.array([3631e9, 100.0, -5.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    assert magnitude[:2] == pytest.approx((np.array([3631e9, 100.0]) * u.nJy).to_value(u.ABmag), abs=2e-4)
    assert error[1] == pytest.approx(2.5 * np.log10(1.01), rel=0.01)
    assert np.isnan(magnitude[2:]).all()


def test_an_uncertain_level_adds_its_own_error():
    plain = aperture_flux(scene(np.ones(SHAPE)), TRAIL, 3.5)
    unsure = aperture_flux(scene(np.ones(SHAPE)), TRAIL, 3.5, 0.0, 0.8)
    area = plain.value  # of an image of ones
    assert unsure.error == pytest.approx(np.hypot(plain.error, 0.8 * area), rel=1e-9)


@pytest.mark.parametrize("gain", [np.inf, 3.0])
def test_a_fit_is_least_squares_with_its_own_chi_squared(gain):
    rng = np.random.default_rng(4)
    there = scene(1500 * trail_image(SHAPE, *TRAIL, PSF) + rng.normal(20, 10, SHAPE), rng.random(SHAPE) > 0.1)
    there = there._replace(noise=there.noise._replace(gain=gain))
    seen = view(there, TRAIL, 8.0)
    beside = trail_shape(there, seen.footprint, TRAIL._replace(x=TRAIL.x + 3, length=0.0))
    shape, use = trail_shape(there, seen.footprint, TRAIL), seen.use > 0
    for others in ([], [beside]):
        design = np.stack([shape, np.ones_like(shape), *others], axis=1)
        solution = np.linalg.pinv(design[use]) @ seen.values[use]
        light = design @ solution - solution[1]
        squares = (seen.values - light - solution[1]) ** 2 / (100 + np.maximum(light, 0) / gain)
        found = fit_flux(there, seen, TRAIL, others)
        assert found.value == pytest.approx(solution[0], rel=1e-6)
        assert found.chi2 == pytest.approx(squares[use].sum(), rel=1e-6)


@pytest.mark.parametrize("segment", [TRAIL, TRAIL._replace(length=0.0, angle=0.0), Segment(40.0, 30.0, 3.0, 100.0)])
def test_error_of_an_aperture_is_the_overlap_with_itself_at_each_lag(segment):
    rho = np.array([[0.1, 0.3, 0.2], [0.5, 1.0, 0.5], [0.2, 0.3, 0.1]])
    there = scene(np.full(SHAPE, 4.0))._replace(noise=Noise(10.0, rho, 2.5))
    wide, long, theta = 5.0, segment.length + 5.0, np.radians(segment.angle)
    total = 0.0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            along = abs(dx * np.cos(theta) + dy * np.sin(theta))
            across = abs(dy * np.cos(theta) - dx * np.sin(theta))
            total += rho[dy + 1, dx + 1] * (long - along) * (wide - across)
    found = aperture_flux(there, segment, 2.5)
    area = found.value / 4
    variance = 100 * total * area / (long * wide) + found.value / 2.5
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-9)
    dark = aperture_flux(there, segment, 2.5, 8.0, 0.3)
    assert dark.value == pytest.approx(-4 * area)
    assert dark.error == pytest.approx(np.sqrt(100 * total * area / (long * wide) + (0.3 * area) ** 2), rel=1e-9)


def test_an_aperture_narrower_than_a_lag_has_no_overlap_there():
    there = scene(np.full(SHAPE, 4.0))._replace(noise=Noise(10.0, np.ones((7, 7))))
    found = aperture_flux(there, Segment(40.0, 30.0, 0.0, 0.0), 1.0)  # 2 px: overlaps itself up to one lag
    total = sum((2 - abs(dy)) * (2 - abs(dx)) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    assert found.error == pytest.approx(10 * np.sqrt(total * found.value / 4 / 4), rel=1e-9)
    dark = there._replace(noise=Noise(10.0, np.array([[-2.0, 1.0, -2.0]])))
    assert np.isnan(aperture_flux(dark, Segment(40.0, 30.0, 0.0, 0.0), 1.0).error)  # no noise has such a correlation


def test_a_millionth_of_the_light_in_sight_makes_a_source():
    there, point = scene(np.ones(SHAPE)), Segment(40.0, 30.0, 0.0, 0.0)
    seen = view(there, point, 8.0)
    shape = trail_shape(there, seen.footprint, point)
    for least, known in ((1.5e-6, True), (0.9e-6, False)):
        use = np.where(shape == shape.max(), least / shape.max(), 0.0)
        assert np.isfinite(fit_flux(there, seen._replace(use=use), point).value) == known


def test_magnitudes_and_their_errors_by_hand():
    flux, error = np.array([3631.0, 10.0**5, 0.0, 1e-9]), np.array([36.31, 10.0, 1.0, 1e-9])
    magnitude, deviation = ab_magnitude(flux, error)
    np.testing.assert_allclose(magnitude, [31.4 - 2.5 * np.log10(3631.0), 18.9, np.nan, 53.9], rtol=1e-12)
    np.testing.assert_allclose(deviation, [0.0108573620, 1.08573620e-4, np.nan, 1.08573620], rtol=1e-7)
    assert njy_per_unit(28.9) == pytest.approx(10.0)
    assert njy_per_unit(31.4) == pytest.approx(1.0)


POSITIVE = st.floats(10.0, 1e4)


@given(POSITIVE, POSITIVE, st.floats(0.5, 50.0), st.floats(0.5, 50.0), st.floats(-100.0, 100.0))
def test_the_flux_of_a_point_or_trail_lies_between_both_and_its_error_holds_their_difference(a, b, da, db, more):
    point, trail = Flux(a, da, 100.0 + more), Flux(b, db, 100.0)
    ends = [one.value * (1 - free / (2 * max(one.value / one.error, 3) ** 2)) for one, free in ((point, 2), (trail, 3))]
    found = point_or_trail(point, trail)
    weight = expit((more - 8) / 2)
    assert found.value == pytest.approx(weight * ends[1] + (1 - weight) * ends[0], rel=1e-9)
    mixed = weight * np.array([db**2, ends[1] ** 2]) + (1 - weight) * np.array([da**2, ends[0] ** 2])
    assert found.error**2 == pytest.approx(mixed.sum() - found.value**2, rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("length", [0.0, 1.0, 4.0, 12.0])
def test_magnitudes_of_points_and_trails_are_hardly_biased_and_their_errors_honest(length):
    count, (trail, _, either), (_, _, pull) = figures(100, 5, length, 15.0)
    assert count > 96
    assert abs(either) < 0.03  # its standard error is 0.009
    assert length > 4 or trail < either  # a trail that follows the noise is too bright
    assert 0.85 < pull < 1.25
