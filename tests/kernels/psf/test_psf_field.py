import os
from pathlib import Path

import galsim
import numpy as np
import pyarrow as pa
import pytest
from astropy.io.fits import getdata

from kernels.image.cutouts import cut
from kernels.image.science_image import science_image
from kernels.objects.source_shapes import find_shapes
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.psf.psf_field import LEAST_SNR, PsfShape, constant, draw_psfs, fit_psf_field, psf_stars
from schemas.objects import SOURCE
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
    values = {
        "visit": 7,
        "detector": 0,
        "snr": LEAST_SNR,
        "flags": 0,
        "x": np.arange(6.0),
        "y": np.arange(6.0),
    } | changed
    columns = {}
    for field in SOURCE.schema:
        nothing = "r" if pa.types.is_string(field.type) else None if field.nullable else 0
        given = values.get(field.name)
        columns[field.name] = pa.array([nothing] * 6 if given is None else np.broadcast_to(given, 6), field.type)
    return pa.table(columns, schema=SOURCE.schema)


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
