import math

import numpy as np
import pyarrow as pa
import pytest
from photutils.aperture import CircularAperture, aperture_photometry
from scipy.integrate import quad

from kernels.objects.source_photometry import (
    COEFFICIENTS,
    WORST,
    Fluxes,
    FluxSum,
    _correlated,
    aperture_fluxes,
    dereddened,
    encircled,
    object_photometry,
    psf_fluxes,
    seen_once,
)
from kernels.psf.gaussian_mixture import brightness, moffat_mixture
from kernels.trails.trail_model import trail_image
from schemas.objects import BANDS
from tests.support.science import BETA, FWHM, SIGMA, bare, drawn

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


def fluxes(value, sky, error=None):
    value, sky = np.array(value, float), np.array(sky, float)
    return Fluxes(value, sky if error is None else np.array(error, float), sky, np.ones(len(value)))


def test_the_mean_is_weighted_by_the_noise_of_the_sky():
    total = FluxSum(3)
    total.add(np.array([0, 2]), fluxes([10, 5], [1, 1]), 1.0)
    total.add(np.array([0]), fluxes([16], [2]), 1.0)
    found = total.mean()
    assert found.value[0] == pytest.approx((10 + 16 / 4) / 1.25)
    assert found.error[0] == pytest.approx(1.25**-0.5)
    assert found.value[2] == 5
    assert np.isnan(found.value[1])
    assert found.exposures.tolist() == [2, 0, 1]


def test_units_are_taken_care_of_and_what_is_not_measured_left_out():
    total = FluxSum(2)
    total.add(np.array([0, 1]), fluxes([10, np.nan], [1, np.nan]), 3.0)
    found = total.mean()
    assert (found.value[0], found.error[0]) == pytest.approx((30, 3))
    assert found.exposures.tolist() == [1, 0]


def test_bright_and_faint_draws_of_one_flux_average_without_bias():
    rng = np.random.default_rng(1)
    total, flux = FluxSum(4000), 100.0
    for _ in range(4):
        value = rng.normal(flux, 10, 4000)
        total.add(np.arange(4000), fluxes(value, np.full(4000, 5.0), np.sqrt(25 + np.maximum(value, 0) * 0.75)), 1.0)
    found = total.mean()
    assert found.value.mean() == pytest.approx(flux, abs=0.3)
    assert ((found.value - flux) / found.error).std() == pytest.approx(1, abs=0.06)


def test_takes_magnitudes_with_a_small_enough_error():
    table = pa.table(
        {
            "g_apMag": pa.array([20.0, 21.0, None], pa.float32()),
            "g_apMagErr": pa.array([0.1, WORST + 0.01, None], pa.float32()),
        }
    )
    columns, errors = object_photometry(table)
    np.testing.assert_array_equal(columns["g"], np.array([20.0, np.nan, np.nan], np.float32))
    assert errors["g"][0] == np.float32(0.1)
    assert set(columns) == set("ugriz")
    assert np.isnan(columns["u"]).all()


def test_dust_takes_more_of_the_blue():
    values = list(COEFFICIENTS.values())
    assert values == sorted(values, reverse=True)


def test_takes_off_what_the_table_says_and_keeps_what_is_not_known():
    found = dereddened(np.array([20.0, 20.0]), "g", np.array([0.1, np.nan]))
    assert found[0] == pytest.approx(20 - 0.3237)
    assert np.isnan(found[1])


@pytest.mark.parametrize("radius", [3.2, 3.0])  # of the latter some pixels are just as far away
def test_variance_in_correlated_noise_is_that_of_the_sum(radius):
    """Of sum(psf * noise): psf' C psf, with the covariance of each pair of pixels written out."""
    rho = np.array([[0.0, 0.12, 0.3], [0.25, 1.0, 0.25], [0.3, 0.12, 0.0]])
    side = np.arange(-4, 5)
    shape = np.where(np.add.outer(side**2, side**2) <= radius**2, brightness(PSF, np.add.outer(side**2, side**2)), 0)
    pixels = [(y, x) for y in range(9) for x in range(9)]
    total = sum(
        shape[one] * shape[other] * rho[1 + one[0] - other[0], 1 + one[1] - other[1]]
        for one in pixels
        for other in pixels
        if max(abs(one[0] - other[0]), abs(one[1] - other[1])) <= 1
    )
    assert _correlated(PSF, radius, rho) == pytest.approx(total / np.sum(shape**2), rel=1e-12)


def point_by_loops(image, x, y, psf, radius, correlation, gain):
    """Flux, its error, and share of the light seen, of one place, pixel by pixel."""
    ny, nx = image.pixels.shape
    light = squares = cubes = everything = 0.0
    for row in range(math.floor(y - radius), math.ceil(y + radius) + 1):
        for column in range(math.floor(x - radius), math.ceil(x + radius) + 1):
            distance = (row - y) ** 2 + (column - x) ** 2
            if distance > radius**2:
                continue
            value = float(brightness(psf, np.array([distance]))[0]) / (2 * math.pi)
            everything += value**2
            if 0 <= row < ny and 0 <= column < nx and not image.bad[row, column]:
                light += value * float(image.pixels[row, column])
                squares += value**2
                cubes += value**3
    sky = image.noise[min(max(round(y), 0), ny - 1), min(max(round(x), 0), nx - 1)]
    sky = float(sky) * math.sqrt(_correlated(psf, radius, correlation) / squares)
    flux = light / squares
    return flux, math.sqrt(sky**2 + max(flux, 0) / gain * cubes / squares**2), sky, squares / everything


@pytest.mark.parametrize(("fwhm", "gain"), [(FWHM, 2.5), (FWHM, np.inf), (0.8, 0.7)])
def test_a_fit_is_that_of_least_squares_pixel_by_pixel(fwhm, gain):
    rng = np.random.default_rng(8)
    bad = rng.random((30, 34)) < 0.1
    image = bare(rng.normal(10, SIGMA, (30, 34)), bad)._replace(noise=rng.uniform(2, 9, (30, 34)).astype(np.float32))
    psf = moffat_mixture(max(fwhm, 2.0), BETA)
    x, y = np.array([12.3, 0.2, 33.4, 20.6, 7.0]), np.array([14.7, 10.1, 29.3, -0.4, 29.0])
    found = psf_fluxes(image, x, y, psf, fwhm, np.array([[0.0, 0.1, 0], [0.2, 1, 0.2], [0, 0.1, 0]]), gain)
    radius = max(2 * fwhm, 2.0)
    for n in range(5):
        expected = point_by_loops(
            image, x[n], y[n], psf, radius, np.array([[0.0, 0.1, 0], [0.2, 1, 0.2], [0, 0.1, 0]]), gain
        )
        assert found.seen[n] == pytest.approx(expected[3], rel=1e-9)
        if expected[3] >= 0.5:
            assert [part[n] for part in found[:3]] == pytest.approx(expected[:3], rel=1e-6)
        else:
            assert np.isnan([part[n] for part in found[:3]]).all()


def test_half_of_the_light_in_sight_is_enough():
    pixels = drawn([(40.0, 40.0, 3e4, 0, 1, 0)])
    at = np.array([40.0]), np.array([40.0])
    for more, seen in ((1, True), (0, False)):  # with the column in the middle it is more than half
        bad = np.zeros(pixels.shape, np.bool_)
        bad[:, 40 + more :] = True
        narrow = np.zeros(pixels.shape, np.bool_)
        narrow[:, 40 - 1 + more :] = True  # 39 of 78.5 square pixels, and 49
        for found in (
            psf_fluxes(bare(pixels, bad), *at, PSF, FWHM, WHITE, np.inf),
            aperture_fluxes(bare(pixels, narrow), *at, 5.0, PSF, WHITE, np.inf),
        ):
            assert (found.seen[0] >= 0.5) == seen
            assert np.isfinite([found.value[0], found.error[0], found.sky_error[0]]).all() == seen


def test_encircled_light_is_the_integral_of_the_psf():
    for radius in (0.5, 1.7, 4.0):
        integral = quad(lambda r: r * brightness(PSF, np.array([r * r]))[0], 0, radius)[0]
        assert encircled(PSF, radius) == pytest.approx(integral, rel=1e-9)


def test_fluxes_in_apertures_scatter_as_their_errors_say():
    rng, places = (
        np.random.default_rng(6),
        np.stack(np.meshgrid(np.arange(10.2, 600, 12), np.arange(10.7, 600, 12)), -1),
    )
    sky, bad = rng.normal(0, SIGMA, (600, 600)), rng.random((600, 600)) < 0.35
    found = aperture_fluxes(bare(sky, bad), *places.reshape(-1, 2).T, 4.0, PSF, WHITE, np.inf)
    assert np.nanstd(found.value / found.error) == pytest.approx(0.96, abs=0.04)  # a pixel at the border counts in part
    light = trail_image((31, 31), 15.2, 14.7, 0.0, 0.0, PSF) * 2e4
    seen = np.array([
        [one.value[0], one.error[0]]
        for one in (
            aperture_fluxes(bare(rng.poisson(light)), np.array([15.2]), np.array([14.7]), FWHM, PSF, WHITE, 1.0)
            for _ in range(1000)
        )
    ])  # fmt: skip
    assert seen[:, 0].std() == pytest.approx(seen[:, 1].mean(), rel=0.07)


def test_an_aperture_counts_noise_gain_and_what_is_hidden():
    rng = np.random.default_rng(9)
    bad = rng.random((60, 60)) < 0.1
    image = bare(rng.normal(20, SIGMA, (60, 60)), bad)._replace(noise=rng.uniform(2, 9, (60, 60)).astype(np.float32))
    x, y, radius = np.array([20.2, 40.8]), np.array([30.4, 25.7]), 4.5
    correlation, inside = np.array([[0.3, 1.0, 0.3]]), encircled(PSF, 4.5)
    found = aperture_fluxes(image, x, y, radius, PSF, correlation, 1.5)
    area = math.pi * radius**2
    for n in range(2):
        circle = CircularAperture((x[n], y[n]), radius)
        cover = circle.to_mask(method="subpixel", subpixels=5).to_image((60, 60))
        mean = (cover * image.pixels * ~bad).sum() / (cover * ~bad).sum()
        assert found.value[n] * inside == pytest.approx(mean * area, rel=0.01)
        hidden = np.hypot(np.arange(60)[:, None] - y[n], np.arange(60) - x[n]) < radius
        seen = 1 - (bad & hidden).sum() / area
        assert found.seen[n] == pytest.approx(seen, abs=1e-6)
        sky = image.noise[round(y[n]), round(x[n])] * math.sqrt(area * 1.6 / seen) / inside
        assert found.sky_error[n] == pytest.approx(sky)
        assert found.error[n] == pytest.approx(math.sqrt(sky**2 + found.value[n] / (1.5 * inside * seen)))
    dark = aperture_fluxes(image._replace(pixels=-image.pixels), x, y, radius, PSF, -correlation, 1.5)
    np.testing.assert_allclose(dark.error, dark.sky_error)
    noise = image.noise[np.rint(y).astype(int), np.rint(x).astype(int)]
    np.testing.assert_allclose(dark.sky_error, noise * np.sqrt(area * 0.1 / found.seen) / inside)  # a tenth at least
    cut = aperture_fluxes(image, np.array([2.0, 30.0]), np.array([30.0, 58.0]), radius, PSF, WHITE, 1.5)
    assert not cut.seen.any()
    assert np.isnan([cut.value, cut.error, cut.sky_error]).all()


def test_variance_in_correlated_noise_is_a_tenth_at_least():
    assert _correlated(PSF, 3.0, np.array([[-1.0, 1.0, -1.0]])) == 0.1
    assert _correlated(PSF, 3.0, WHITE) == 1


def test_the_error_of_a_mean_is_that_of_its_fluxes_and_those_without_an_error_are_left_out():
    total = FluxSum(2)
    total.add(np.array([0, 1]), fluxes([10, 7], [1, 0], [3, 2]), 1.0)
    total.add(np.array([0, 1]), fluxes([16, 9], [2, 4], [5, 6]), 0.5)
    found = total.mean()
    weight = np.array([1.0, 1.0])  # 1 / 1 and 1 / (0.5 x 2) squared
    assert found.value.tolist() == [(10 + 8) / 2, 4.5]
    assert found.error[0] == pytest.approx(math.hypot(3, 2.5) / weight.sum())
    assert found.error[1] == pytest.approx(3)
    assert found.exposures.tolist() == [2, 1]


def test_magnitudes_up_to_an_error_of_three_tenths_count():
    error = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.25], np.float32)
    table = pa.table({"r_apMag": pa.array(np.full(3, 20, np.float32)), "r_apMagErr": pa.array(error)})
    assert np.isfinite(object_photometry(table)[0]["r"]).tolist() == [True, False, True]


def test_extinction_is_that_of_schlafly_and_finkbeiner():
    table = {"u": 4.145, "g": 3.237, "r": 2.273, "i": 1.684, "z": 1.323, "y": 1.088}  # table 6, LSST, R_V = 3.1
    assert table == COEFFICIENTS


def test_nothing_is_seen_of_a_place_that_is_not_a_number(image):
    nowhere = np.array([np.nan, np.inf, 2e9]), np.full(3, 40.0)
    assert psf_fluxes(image, *nowhere, PSF, FWHM, WHITE, np.inf).seen.tolist() == [0.0, 0.0, 0.0]


def test_no_places_have_no_fluxes(image):
    nowhere = np.zeros(0)
    for found in (
        psf_fluxes(image, nowhere, nowhere, PSF, FWHM, WHITE, np.inf),
        aperture_fluxes(image, nowhere, nowhere, 4.0, PSF, WHITE, np.inf),
    ):
        assert [len(part) for part in found] == [0] * 4


def test_light_that_is_missing_adds_no_photon_noise(image):
    dark = image._replace(pixels=-image.pixels)
    quiet, poisson = (psf_fluxes(dark, X, Y, PSF, FWHM, WHITE, gain) for gain in (np.inf, 1e-3))
    assert (quiet.value < 0).all()
    np.testing.assert_array_equal(poisson.error, quiet.error)


def test_what_was_seen_once_is_of_one_source_on_two_exposures_or_more():
    exposures = {f"{band}_nExposures": [0] * 6 for band in BANDS}
    exposures["g_nExposures"], exposures["y_nExposures"] = [1, 1, 2, 0, 3, 0], [0, 1, 0, 2, 3, 0]
    table = pa.table(exposures | {"nSources": [1, 1, 1, 1, 2, 0]})
    assert seen_once(table).tolist() == [False, True, True, True, False, False]
