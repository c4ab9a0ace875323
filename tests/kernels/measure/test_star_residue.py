import math

import numpy as np
import pytest

from kernels.image.noise import Noise
from kernels.measure.star_residue import _above_sky, share_left
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.scene import Scene
from kernels.trails.trail_model import trail_image

SIDE, FWHM, SIGMA = 640, 2.4, 3.0
PSF = moffat_mixture(FWHM, 3.0)
STAMP = trail_image((41, 41), 20.0, 20.0, 0.0, 0.0, PSF)


def stars(count, seed, flux=(2e4, 2e5)):
    """Places of stars that do not overlap, on a grid, and their fluxes."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(13 * 13)[:count]
    places = 50 + 44 * np.stack(np.divmod(cells, 13), 1) + rng.integers(-8, 9, (count, 2))
    return places, np.exp(rng.uniform(*np.log(flux), count))


def drawn(places, fluxes):
    image = np.zeros((SIDE, SIDE))
    for (y, x), flux in zip(places, fluxes, strict=True):
        image[y - 20 : y + 21, x - 20 : x + 21] += flux * STAMP
    return image


def images(count=100, share=0.0, scatter=0.0, sky=700.0, level=1.5, flux=(2e4, 2e5)):
    """Difference and science image in which so much of each star is left, and a seeded noise."""
    rng = np.random.default_rng(count)
    places, fluxes = stars(count, 1, flux)
    left = rng.normal(share, scatter, count)
    difference = level + rng.normal(0, SIGMA, (SIDE, SIDE)) + drawn(places, left * fluxes)
    return difference.astype(np.float32), (difference + sky + drawn(places, fluxes)).astype(np.float32)


def found(difference, science, usable=None):
    usable = np.ones(difference.shape, bool) if usable is None else usable
    return share_left(Scene(difference, usable, PSF, FWHM, Noise(SIGMA, np.ones((1, 1)))), science)


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
def test_an_error_of_the_flux_scale_is_told(share):
    assert found(*images(share=share)) == pytest.approx(share, abs=0.002)


@pytest.mark.parametrize("share", [-0.1, -0.03])
def test_stars_of_which_too_much_was_taken_leave_nothing(share):
    assert found(*images(share=share)) == 0


@pytest.mark.parametrize("share", [0.0, 0.04])
def test_a_scatter_counts_once(share):
    assert found(*images(150, share, 0.05)) == pytest.approx(share + 0.05, rel=0.2)


def test_noise_alone_is_no_scatter():
    assert found(*images(150, flux=(1.5e4, 2.5e4))) < 0.003


def test_neither_sky_nor_background_matters():
    difference, science = images(share=0.02)
    ramp = np.linspace(0, 400, SIDE, dtype=np.float32)
    assert found(difference + ramp / 50, science + ramp) == pytest.approx(found(difference, science), abs=0.001)


@pytest.mark.parametrize(("count", "told"), [(19, False), (20, True)])
def test_a_few_stars_tell_nothing(count, told):
    assert (found(*images(count, 0.05)) > 0) == told


def test_faint_stars_tell_nothing():
    assert found(*images(100, 0.5, flux=(300, 900))) == 0


@pytest.mark.parametrize("hidden", ["mask", "science"])
def test_spoilt_pixels_do_not_count(hidden):
    """Nor do stars one of whose pixels is spoilt: of these ten times as much is left."""
    places, fluxes = stars(100, 1)
    difference, science = images(share=0.02)
    difference = difference + drawn(places[:60], 0.2 * fluxes[:60]).astype(np.float32)
    science = science + drawn(places[:60], 0.2 * fluxes[:60]).astype(np.float32)
    usable = np.ones(difference.shape, bool)
    for y, x in places[:60]:
        if hidden == "mask":
            usable[y, x] = False
        else:
            science[y, x + 1] = np.nan
    assert found(difference, science, usable) == pytest.approx(0.02, abs=0.003)


def test_the_formula():
    """Of two stars 0.01 and 0.04 is left: median 0.025, and 1.4826 of the median deviation of 0.015."""
    places, fluxes = stars(40, 2, (1e6, 1e6))
    left = np.where(np.arange(40) < 20, 0.01, 0.04)
    difference = drawn(places, left * fluxes).astype(np.float32)
    science = difference + drawn(places, fluxes).astype(np.float32)
    noise = 7 * SIGMA / (1e6 * STAMP[17:24, 17:24].sum() - 49 * STAMP[14:27, 14].mean() * 1e6)
    expected = 0.025 + math.sqrt((1.4826 * 0.015) ** 2 - noise**2)
    assert found(difference, science) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("hidden", "missing", "light"), [(0, 0, 100.0), (1, 1, 100.0), (12, 4, 100.0), (13, 4, 0.0), (16, 0, 100.0)]
)
def test_the_sky_about_a_star_is_that_of_the_rim_of_a_box_if_half_of_it_is_seen(hidden, missing, light):
    """A star of 100 on light of 4, in 5 by 5 px; the rim, 4 px away, has 32 pixels."""
    pixels, science, usable = np.ones((21, 21), np.float32), np.full((21, 21), 5, np.float32), np.ones((21, 21), bool)
    science[10, 10] += 100
    away = np.maximum(*np.abs(np.indices((21, 21)) - 10))
    science[(away == 3) | (away > 4)] = 900  # neither star nor sky
    rim = np.argwhere(away == 4)
    science[tuple(rim[:hidden].T)], usable[tuple(rim[:hidden].T)] = 1e6, False
    science[tuple(rim[hidden : hidden + missing].T)] = np.nan
    assert _above_sky.py_func(pixels, usable, science, 10, 10, 2) == pytest.approx((light, 0.0))
