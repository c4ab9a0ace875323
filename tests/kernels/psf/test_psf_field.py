import os
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io.fits import getdata

from kernels.image.cutouts import cut
from kernels.image.science_image import ScienceImage, science_image
from kernels.image.variation import varied
from kernels.objects.source_shapes import find_shapes
from kernels.psf import psf_field
from kernels.psf.gaussian_mixture import brightness, moffat_mixture
from kernels.psf.moments import Moments
from kernels.psf.psf_field import (
    LEAST_SNR,
    PsfField,
    constant,
    draw_psfs,
    field_of,
    fit_psf_field,
    psf_stars,
    stamp_ellipticity,
    variation_of,
)
from kernels.psf.psf_shape import PsfShape
from schemas.exposure import PsfModel, Variation
from schemas.objects import SOURCE
from tests.support.filled import filled
from tests.support.science_night import exposure

SHAPE = (1500, 1200)
FWHM, BETA = 2.6, 3.2
PSF = moffat_mixture(FWHM, BETA)


def truth(x, y):
    """Width against the PSF of the image, and shear, at a place."""
    u, v = 2 * x / (SHAPE[1] - 1) - 1, 2 * y / (SHAPE[0] - 1) - 1
    return 1.03 + 0.05 * u - 0.04 * v + 0.03 * (u**2 + v**2), 0.02 + 0.01 * u, -0.03 + 0.015 * v


def ellipticity(g):
    """Distortion (a2 - b2) / (a2 + b2) of a shear (a - b) / (a + b)."""
    return 2 * g / (1 + g**2)


def sky(count, seed, snr=200.0, galaxies=0.0, radius=2.0):
    """Stamps of stars, and a share of galaxies, with noise."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(20, SHAPE[1] - 20, count), rng.uniform(20, SHAPE[0] - 20, count)
    stamps = np.empty((count, 26, 26), np.float32)
    for n in range(count):
        width, g1, g2 = truth(x[n], y[n])
        profile = galsim.Moffat(beta=BETA, fwhm=FWHM * width).shear(g1=g1, g2=g2)
        if rng.random() < galaxies:
            disc = galsim.Exponential(half_light_radius=radius * np.exp(rng.normal(0, 0.5)))
            oval = min(abs(rng.normal(0, 0.25)), 0.7)
            profile = galsim.Convolve(profile, disc.shear(g=oval, beta=rng.uniform(0, 180) * galsim.degrees))
        image = galsim.ImageF(27, 27, scale=1.0)
        profile.drawImage(image=image, offset=rng.uniform(-0.5, 0.5, 2))
        light = image.array[:26, :26]
        stamps[n] = light + rng.normal(0, np.sqrt((light**2).sum()) / snr, light.shape)
    return stamps, x, y


def test_a_round_psf_is_that_of_galsim_on_the_same_pixel():
    (picture,) = draw_psfs(PSF, PsfShape(np.ones(1), np.zeros(1), np.zeros(1)), 26)
    theirs = galsim.Moffat(beta=BETA, fwhm=FWHM).drawImage(nx=27, ny=27, scale=1.0).array[:26, :26]
    assert picture.sum() == pytest.approx(1, abs=1e-5)
    assert np.unravel_index(picture.argmax(), picture.shape) == (13, 13)
    np.testing.assert_allclose(picture, theirs, atol=0.012 * theirs.max())


@pytest.mark.parametrize(
    ("width", "g1", "g2"), [(1.1, 0.0, 0.0), (0.9, 0.08, 0.0), (1.0, 0.0, -0.08), (1.2, 0.05, 0.05)]
)
def test_a_wider_or_sheared_psf_is_that_of_galsim(width, g1, g2):
    square = g1**2 + g2**2
    e1, e2 = (np.array([2 * g / (1 + square)]) for g in (g1, g2))
    (picture,) = draw_psfs(PSF, PsfShape(np.array([width]), e1, e2), 26)
    theirs = galsim.Moffat(beta=BETA, fwhm=FWHM * width).shear(g1=g1, g2=g2)
    theirs = theirs.drawImage(nx=27, ny=27, scale=1.0).array[:26, :26]
    np.testing.assert_allclose(picture, theirs, atol=0.025 * theirs.max())


@pytest.mark.parametrize("radius", [1.0, 2.0])
@pytest.mark.parametrize("galaxies", [0.0, 0.35, 0.65, 0.85])
def test_finds_how_width_and_shape_vary_or_that_galaxies_hide_it(galaxies, radius):
    stamps, x, y = sky(220, 3, 60.0, galaxies, radius)
    field = fit_psf_field(stamps, x, y, PSF, SHAPE)
    if galaxies > 0.5 and not field.stars:
        return  # the PSF of the image, then, rather than a galaxy's
    assert field.stars > 220 * (1 - galaxies) * 0.6
    at_x, at_y = np.random.default_rng(4).uniform(50, 1150, (2, 60))
    width, e1, e2 = field.at(at_x, at_y)
    true_width, g1, g2 = truth(at_x, at_y)
    few = galaxies > 0.5
    for told, true in ((width, true_width), (e1, ellipticity(g1)), (e2, ellipticity(g2))):
        np.testing.assert_allclose(told, true, atol=0.1 if few else 0.04)
        assert np.median(np.abs(told - true)) < (0.03 if few else 0.015)


def test_beyond_the_outermost_star_it_stays_as_it_is_there():
    stamps, x, y = sky(400, 9)
    corner = (x < SHAPE[1] / 2) & (y < SHAPE[0] / 2)
    field = fit_psf_field(stamps[corner], x[corner], y[corner], PSF, SHAPE)
    assert field.coefficients.shape == (3, 6)
    last_x, last_y = x[corner].max(), y[corner].max()
    far = field.at(np.array([SHAPE[1] - 1.0]), np.array([SHAPE[0] - 1.0]))
    np.testing.assert_allclose(far, field.at(np.array([last_x]), np.array([last_y])))


@pytest.mark.parametrize(("count", "terms", "stars"), [(4, 1, 0), (9, 1, 9), (30, 3, 30), (80, 6, 80)])
def test_few_stars_tell_little(count, terms, stars):
    stamps, x, y = sky(count, 5)
    field = fit_psf_field(stamps, x, y, PSF, SHAPE)
    assert field.coefficients.shape == (3, terms)
    assert 0.7 * stars <= field.stars <= stars


def test_stamps_with_a_missing_pixel_do_not_count():
    stamps, x, y = sky(12, 6)
    stamps[2:, 3, 4] = np.nan
    field = fit_psf_field(stamps, x, y, PSF, SHAPE)
    np.testing.assert_array_equal(field.coefficients, constant(SHAPE).coefficients)
    np.testing.assert_array_equal(field.at(x, y)[0], 1)
    nothing = fit_psf_field(stamps[:0], x[:0], y[:0], PSF, SHAPE)
    assert nothing.stars == 0


def test_noise_alone_tells_nothing_wild():
    stamps = np.random.default_rng(7).normal(0, 1, (40, 26, 26)).astype(np.float32)
    x, y = np.random.default_rng(8).uniform(0, 1000, (2, 40))
    at = fit_psf_field(stamps, x, y, PSF, SHAPE).at(x, y)
    assert (np.abs(np.log(at.width)) <= 0.41).all()
    assert (np.hypot(at.e1, at.e2) <= 0.61).all()
    assert np.isfinite(draw_psfs(PSF, at, 26)).all()


@pytest.mark.skipif("NIGHTSTRIDE_DATA" not in os.environ, reason="NIGHTSTRIDE_DATA is not set: no real images")
def test_follows_the_stretched_stars_of_a_real_frame():
    """Of a frame whose tracking made all stars oval: half of its stars tell the shape of the others."""
    frame = getdata(Path(os.environ["NIGHTSTRIDE_DATA"]) / "01_fits_streaks/astride_long.fits").astype(np.float32)
    image = science_image(frame, np.zeros(frame.shape, np.uint16), 64)
    shapes = find_shapes(image, 3.6, 10.0, 5, 0.005)
    peak = image.pixels[np.rint(shapes.y).astype(int), np.rint(shapes.x).astype(int)]
    chosen = np.flatnonzero((peak > 15 * image.noise[0, 0]) & ~shapes.blended & (shapes.elongation < 3))
    x, y = shapes.x[chosen], shapes.y[chosen]
    stamps = np.empty((len(x), 1, 26, 26), np.float32)
    cut(image.pixels, image.bad, 1.0, np.rint(y).astype(int), np.rint(x).astype(int), np.arange(len(x)), 0, stamps)
    psf = moffat_mixture(3.6, 6.0)
    learnt = fit_psf_field(stamps[::2, 0], x[::2], y[::2], psf, frame.shape)
    told = fit_psf_field(stamps[1::2, 0], x[1::2], y[1::2], psf, frame.shape)
    assert min(learnt.stars, told.stars) >= 8
    (width, e1, e2), (other_width, other_e1, other_e2) = learnt.at(x[1::2], y[1::2]), told.at(x[1::2], y[1::2])
    assert np.hypot(e1, e2).min() > 0.25
    assert np.median(np.abs(width / other_width - 1)) < 0.03
    assert np.median(np.hypot(e1 - other_e1, e2 - other_e2)) < 0.05


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fwhm", [0.9, 1.2, 1.5])
def test_a_psf_too_narrow_to_be_measured_stays_that_of_the_image(fwhm):
    stamps, x, y = sky(40, 2)
    assert fit_psf_field(stamps, x, y, moffat_mixture(fwhm, BETA), SHAPE).stars == 0


INFO = exposure(7, "r")


def sources(**changed):
    """Six sources of the exposure, by default all bright and without a flag."""
    values = {"visit": 7, "snr": LEAST_SNR, "x": np.arange(6.0), "y": np.arange(6.0)} | changed
    return filled(SOURCE.schema, 6, **values)


def test_bright_sources_of_the_exposure_without_a_flag_count():
    assert psf_stars(sources(), INFO)[0].tolist() == list(range(6))
    assert psf_stars(sources(visit=[7, 7, 8, 7, 8, 7]), INFO)[0].tolist() == [0, 1, 3, 5]
    assert psf_stars(sources(detector=[0, 1, 0, 0, 0, 1]), INFO)[0].tolist() == [0, 2, 3, 4]
    assert psf_stars(sources(flags=[0, 8, 0, 2, 1, 0]), INFO)[0].tolist() == [0, 2, 5]
    assert psf_stars(sources(snr=[31, 29.9, 31, 31, 5, 31]), INFO)[0].tolist() == [0, 2, 3, 5]
    assert len(psf_stars(SOURCE.empty(), INFO)[0]) == 0


def test_the_brightest_come_first_and_equals_by_their_place():
    x, y = psf_stars(sources(snr=[40, 90, 40, 50, 40, 60], y=[3, 0, 1, 0, 1, 0]), INFO)
    assert x.tolist() == [1, 5, 3, 2, 4, 0]
    assert y.tolist() == [0, 0, 0, 1, 1, 3]


def ovals(width, e1, e2):
    """Covariances of n ovals, that of the round PSF being 1."""
    matrices = np.array([[1 + e1, e2], [e2, 1 - e1]]) * width**2 / np.sqrt(1 - e1**2 - e2**2)
    return np.moveaxis(matrices, 2, 0)


AT = PsfShape(
    np.array([1.0, 1.3, 0.8, 1.0, 1.1]), np.array([0.0, 0.3, -0.4, 0.0, 0.35]), np.array([0, 0.1, 0.2, -0.5, 0.4])
)


def test_the_distance_is_that_of_the_oval_of_the_same_area():
    matrices = ovals(*AT)
    np.testing.assert_allclose(np.linalg.det(matrices), AT.width**4)
    inverse = np.linalg.inv(matrices)
    expected = np.stack([inverse[:, 0, 0], inverse[:, 1, 1], 2 * inverse[:, 0, 1]], 1)
    np.testing.assert_allclose(AT.inverse(), expected, atol=1e-14)


@pytest.mark.parametrize("side", [25, 26])
def test_a_picture_is_the_profile_at_those_distances(side):
    place = np.arange(side) - side // 2
    grid = np.stack(np.meshgrid(place, place), -1).astype(float)
    for n, picture in enumerate(draw_psfs(PSF, AT, side)):
        inverse = np.linalg.inv(ovals(*AT))[n]
        expected = brightness(PSF, np.einsum("yxi,ij,yxj->yx", grid, inverse, grid))
        np.testing.assert_allclose(picture, expected / expected.sum(), rtol=2e-3, atol=2e-4 * picture.max())


def test_a_field_is_a_polynomial_within_its_limits():
    coefficients = np.array([[0.01, 0.02, -0.03, 0.04, 0.05, -0.06], [0.1, 0, 0.05, 0, 0, 0], [0, 0.1, 0, 0, 0, 0.02]])
    field = PsfField(coefficients, (101, 201), 60, np.array([[-0.8, -1.0], [1.0, 0.5]]))
    x, y = np.array([20.0, 100.0, 150.0, 200.0, 0.0]), np.array([50.0, 75.0, 20.0, 100.0, 0.0])
    u, v = np.array([-0.8, 0.0, 0.5, 1.0, -0.8]), np.array([0.0, 0.5, -0.6, 0.5, -1.0])  # the last two are beyond
    terms = np.array([np.ones(5), u, v, u * u, u * v, v * v])
    width, e1, e2 = coefficients @ terms
    np.testing.assert_allclose(field.at(x, y), [np.exp(width), e1, e2], atol=1e-14)
    for given, told in ((0.39, 0.39), (0.41, 0.4), (-0.39, -0.39), (-5.0, -0.4)):
        flat = PsfField(np.array([[given], [0.0], [0.0]]), (9, 9), 5, field.box)
        assert np.log(flat.at(x, y).width) == pytest.approx(np.full(5, told))
    for e1, e2, shrunk in ((0.35, 0.48, 1.0), (-0.36, 0.48, 1.0), (0.7, -2.4, 0.24), (0.0, 0.61, 0.6 / 0.61)):
        at = PsfField(np.array([[0.0], [e1], [e2]]), (9, 9), 5, field.box).at(x[:1], y[:1])
        assert (at.e1[0], at.e2[0]) == pytest.approx((shrunk * e1, shrunk * e2))


def test_a_field_without_change_reaches_over_the_whole_image():
    field = constant((11, 21))
    assert field.box.tolist() == [[-1, -1], [1, 1]]
    assert (field.stars, field.shape, field.coefficients.tolist()) == (0, (11, 21), [[0], [0], [0]])
    single = PsfField(np.array([[0.0, 0.1, 0.1]] * 3), (1, 1), 9, field.box)
    assert np.isfinite(single.at(np.zeros(1), np.zeros(1))).all()


def fitted(monkeypatch, seen, x=None, y=None, shape=(101, 101)):
    """Field of sources whose ln width, e1 and e2 are given."""
    seen = np.array(seen, float).reshape(-1, 3)
    monkeypatch.setattr(psf_field, "_measured", lambda stamps, psf: seen)
    place = np.random.default_rng(1).uniform(0, 100, (2, len(seen)))
    x, y = place[0] if x is None else x, place[1] if y is None else y
    return fit_psf_field(np.zeros((len(seen), 3, 3), np.float32), x, y, PSF, shape)


@pytest.mark.parametrize(
    ("count", "terms", "stars"), [(4, 1, 0), (5, 1, 5), (14, 1, 14), (15, 3, 15), (49, 3, 49), (50, 6, 50)]
)
def test_the_degree_goes_up_with_the_number_of_stars(monkeypatch, count, terms, stars):
    x, y = np.random.default_rng(3).uniform(0, 100, (2, count))
    field = fitted(monkeypatch, np.tile([0.02, 0.01, -0.03], (count, 1)), x, y)
    assert (field.coefficients.shape, field.stars) == ((3, terms), stars)
    if stars:
        np.testing.assert_allclose(field.coefficients[:, 0], [0.02, 0.01, -0.03])
        np.testing.assert_allclose(field.coefficients[:, 1:], 0, atol=1e-12)
        np.testing.assert_allclose(
            field.box, [[x.min() / 50 - 1, y.min() / 50 - 1], [x.max() / 50 - 1, y.max() / 50 - 1]]
        )


def test_the_coefficients_are_those_of_the_stars(monkeypatch):
    x, y = np.random.default_rng(5).uniform(0, 100, (2, 80))
    u, v = x / 50 - 1, y / 50 - 1
    truth = np.random.default_rng(6).uniform(-0.008, 0.008, (3, 6))
    seen = (truth @ [np.ones(80), u, v, u * u, u * v, v * v]).T
    np.testing.assert_allclose(fitted(monkeypatch, seen, x, y).coefficients, truth, atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_what_lies_off_its_neighbours_is_no_star(monkeypatch, axis):
    seen = np.zeros((14, 3))
    seen[3, axis] = 6.4e-3  # less than 6e-3 from the mean of all
    assert fitted(monkeypatch, seen).stars == 14
    seen[3, axis] = 6.6e-3
    assert fitted(monkeypatch, seen).stars == 13
    seen[3] = np.nan
    assert fitted(monkeypatch, seen).stars == 13


def test_stars_scatter_by_three_standard_deviations_but_no_further_than_a_fifth(monkeypatch):
    near, wide = np.tile([0.01, -0.01], 6), np.tile([0.09, -0.09, 0.085, -0.085, 0.0, 0.0], 2)
    for axis in (1, 2):
        for values, outlier, stars in ((near, 0.044, 14), (near, 0.045, 12), (wide, 0.199, 14), (wide, 0.201, 12)):
            seen = np.zeros((14, 3))  # 3 times 1.4826 times 0.01 are 0.0445
            seen[:, axis] = [*values, outlier, -outlier]
            assert fitted(monkeypatch, seen).stars == stars


def test_widths_that_scatter_by_more_than_six_percent_are_those_of_galaxies(monkeypatch):
    for scatter, stars in ((0.0404, 12), (0.0406, 0)):  # 0.06 / 1.4826 = 0.04047
        seen = np.zeros((12, 3))
        seen[:, 0] = np.tile([scatter, -scatter], 6)
        field = fitted(monkeypatch, seen)
        assert field.stars == stars
        assert (field.coefficients == 0).all() == (stars == 0)
        assert fitted(monkeypatch, seen[:, ::-1]).stars == 12


def test_stars_lie_within_a_tenth_of_the_densest_place():
    seen = np.zeros((9, 3))
    seen[6:, 0] = [0.0999, 0.1001, 0.3]
    assert psf_field._densest(seen).tolist() == [True] * 7 + [False] * 2
    diagonal = np.zeros((9, 3))
    diagonal[7], diagonal[8] = [0.06, 0.06, 0.05], [0.06, -0.06, 0.06]
    assert psf_field._densest(diagonal).tolist() == [True] * 8 + [False]
    # Four at 0.02 from each other count more than five that are 0.1 and more apart.
    groups = np.zeros((9, 3))
    groups[:4, 1], groups[4:, 2] = 5 + 0.02 * np.arange(4), 0.11 * np.arange(5)
    assert psf_field._densest(groups).tolist() == [True] * 4 + [False] * 5
    assert psf_field._densest(np.zeros((0, 3))).tolist() == []


def test_five_percent_of_width_and_shape_are_measured_as_such():
    """The response is taken from such a step: what the step itself does is told without error."""
    at = PsfShape(np.array([1.0, 1.05, 1.0, 1.0]), np.array([0, 0, 0.05, 0]), np.array([0, 0, 0, 0.05]))
    stamps = 500 * draw_psfs(PSF, at, 26)
    stamps = np.concatenate([stamps, -stamps[:1]])
    found = psf_field._measured(stamps, PSF)
    expected = np.array([[0, 0, 0], [np.log(1.05), 0, 0], [0, 0.05, 0], [0, 0, 0.05]])
    np.testing.assert_allclose(found[:3], expected[:3], atol=1e-5)
    np.testing.assert_allclose(found[3], expected[3], atol=1e-3)
    assert np.isnan(found[4]).all()


def test_the_stars_of_an_image_are_measured_where_they_are_the_brightest_first():
    at = PsfShape(np.full(1, 1.1), np.full(1, 0.1), np.full(1, -0.05))
    (star,) = draw_psfs(PSF, at, 26)
    columns, rows = 20, 16
    image = ScienceImage(1000 * np.tile(star, (rows, columns)), np.zeros((26 * rows, 26 * columns), bool), None)
    x, y = (26 * each.ravel() + 13.0 for each in np.meshgrid(np.arange(columns), np.arange(rows)))
    field = field_of(image, PSF, x + 0.4, y - 0.4)
    assert field.stars == 300
    assert (field.shape, field.coefficients.shape) == ((416, 520), (3, 6))
    width, e1, e2 = field.at(np.array([100.0]), np.array([200.0]))
    assert (width[0], e1[0], e2[0]) == pytest.approx((1.1, 0.1, -0.05), abs=0.01)
    image.bad[13, 13] = True
    image.pixels[13, 13] = 0
    assert field_of(image, PSF, x, y).stars == 299


@pytest.mark.parametrize(("response", "measured"), [(0.51, True), (0.49, False), (1.99, True), (2.01, False)])
def test_widths_are_measured_where_they_follow_those_of_the_psf(monkeypatch, response, measured):
    """From half as fast to twice as fast."""
    zero, three = np.zeros(3), np.ones(3)
    sigma = np.array([2.0, 2.0 * 1.05**response, 2.0])
    plain = Moments(three, zero, zero, sigma, np.array([0.0, 0.0, 0.04]), zero, zero)
    seen = Moments(np.array([1.0, 0.0]), *np.zeros((2, 2)), np.array([2.1, 2.1]), *np.full((2, 2), 0.02), np.zeros(2))
    told = iter([plain, seen])
    monkeypatch.setattr(psf_field, "adaptive_moments", lambda images: next(told))
    found = psf_field._measured(np.zeros((2, 13, 13), np.float32), PSF)
    if measured:
        np.testing.assert_allclose(found[0], [np.log(1.05) / response, 0.025, 0.025])
        assert np.isnan(found[1]).all()
    else:
        assert found.shape == (2, 3)
        assert np.isnan(found).all()


def test_too_few_stars_for_the_terms_leave_the_last_fit(monkeypatch):
    """Of 15 about a plane one is clipped: the other 14 do not give a plane."""
    x, y = np.random.default_rng(5).uniform(0, 100, (2, 15))
    seen = np.zeros((15, 3))
    seen[7, 2] = 0.05
    field = fitted(monkeypatch, seen, x, y)
    assert (field.stars, field.coefficients.shape) == (15, (3, 3))
    terms = np.stack([np.ones(15), x / 50 - 1, y / 50 - 1], 1)
    np.testing.assert_allclose(field.coefficients[2], np.linalg.lstsq(terms, seen[:, 2], rcond=None)[0])


def test_after_eight_rounds_the_fit_stays(monkeypatch):
    """One source is taken in and left out again in turn."""
    rng = np.random.default_rng(10)
    seen = np.zeros((40, 3))
    seen[:, 1] = rng.standard_t(1.2, 40) * 0.01
    x, y = rng.uniform(0, 100, (2, 40))
    u, v = x / 50 - 1, y / 50 - 1
    terms, kept = np.stack([np.ones(40), u, v], 1), psf_field._densest(seen)
    for _ in range(8):
        stars = kept
        part = terms[:, : 3 if stars.sum() >= 15 else 1]
        fit = np.linalg.lstsq(part[stars], seen[stars], rcond=None)[0]
        left = np.abs(seen - part @ fit)
        kept = (left < np.clip(3 * 1.4826 * np.median(left[stars], 0), 6e-3, 0.2)).all(1)
        assert (kept != stars).any()
    field = fitted(monkeypatch, seen, x, y)
    assert field.stars == stars.sum()
    np.testing.assert_allclose(field.coefficients, fit.T, atol=1e-12)


def test_a_strong_change_about_an_elliptic_psf_stays_a_psf():
    box = np.array([[-1.0, -1.0], [1.0, 1.0]])
    strong = PsfField(np.array([[0, 0, 0], [0.1, 0.5, 0], [0, 0, 0.1]]), SHAPE, 40, box)
    oval = Variation(values=(((0.0,),), ((0.55,),), ((0.0,),)), y=(0.0, 1.0), x=(0.0, 1.0))
    found = variation_of(strong, PsfModel(fwhm_px=FWHM, beta=BETA, source="stamp", variation=oval))
    assert found is not None
    assert np.hypot(*np.array(found.values)[1:]).max() < 0.61
    for x, y in ((0.0, 0.0), (SHAPE[1] - 1.0, 0.0), (SHAPE[1] - 1.0, SHAPE[0] - 1.0)):
        assert np.isfinite(PsfShape.at(found, x, y).stretch()).all()


SLOPED = PsfField(np.array([[-0.1, 0.05], [0.1, 0.02], [-0.05, 0.03]]), (81, 161), 40, np.array([[-1.0, -1], [1, 1]]))
OVAL = Variation(values=(((0.0,),), ((0.2,),), ((-0.1,),)), y=(0.0, 1.0), x=(0.0, 1.0))


def told(given=None):
    """What is held of a field that has a slope along x, at five places along it: ln width, e1, e2."""
    found = variation_of(SLOPED, given)
    return varied(found, np.linspace(0, 160, 5), np.full(5, 33.0))


def test_where_no_star_tells_the_psf_is_as_it_is_given():
    assert variation_of(constant(SHAPE)) is None
    assert variation_of(constant(SHAPE), PsfModel(fwhm_px=FWHM)) is None
    assert variation_of(constant(SHAPE), PsfModel(fwhm_px=FWHM, variation=OVAL)) == OVAL


def test_what_is_held_of_a_field_is_that_of_its_places():
    shape = SLOPED.at(np.linspace(0, 160, 5), np.full(5, 33.0))
    np.testing.assert_allclose(told(), [np.log(shape.width), shape.e1, shape.e2], atol=1e-5)
    assert told()[0] == pytest.approx(-0.1 + 0.05 * np.linspace(-1, 1, 5), abs=1e-5)


@pytest.mark.parametrize(("given", "e1", "e2"), [(None, 0.1, -0.05), (OVAL, 0.2, -0.1)])
def test_a_psf_that_is_given_is_that_of_the_middle_and_wider_ones_change_less(given, e1, e2):
    slope, less = np.linspace(-1, 1, 5), np.exp(-0.2)  # the science image is narrower by exp(-0.1)
    found = told(PsfModel(fwhm_px=FWHM, variation=given))
    expected = [0.05 * less * slope, e1 + 0.02 * less * slope, e2 + 0.03 * less * slope]
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(41, 41), (41, 47), (48, 41)])
def test_the_ellipticity_of_a_picture_is_that_of_what_it_shows(shape):
    image = galsim.ImageF(shape[1], shape[0], scale=1.0)
    galsim.Moffat(beta=BETA, fwhm=FWHM).shear(g1=0.06, g2=-0.04).drawImage(image=image, method="no_pixel")
    found = stamp_ellipticity(image.array, PSF)
    change, e1, e2 = (values[0][0] for values in found.values)
    assert change == 0
    assert (e1, e2) == pytest.approx(tuple(ellipticity(g) for g in (0.06, -0.04)), rel=0.05, abs=2e-3)
    blank = image.array.copy()
    blank[0, 0] = np.nan
    assert stamp_ellipticity(blank, PSF) is not None


def test_what_is_no_picture_of_a_psf_has_no_ellipticity():
    assert stamp_ellipticity(np.zeros((41, 41), np.float32), PSF) is None
    bar = np.zeros((41, 41), np.float32)
    bar[20, 5:36] = 1
    assert stamp_ellipticity(bar, PSF) is None
