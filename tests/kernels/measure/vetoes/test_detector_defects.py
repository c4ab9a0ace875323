import math

import galsim
import numpy as np
import pytest

from benchmarks.veto_images import SIGMA, Picture, asteroid, blank, cosmic_ray, hot_column, sky, trail
from kernels.measure.vetoes.detector_defects import cosmic_ray_evidence, hot_column_evidence, neighbour_share
from kernels.psf.gaussian_mixture import fwhm_before_pixels, moffat_mixture
from kernels.trails.geometry import Segment


def evidence(picture, flux, fwhm=2.3):
    return cosmic_ray_evidence(picture.scene(fwhm), picture.trail, flux, 0.0)


@pytest.mark.parametrize("length", [1, 2, 5, 14, 40])
@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0])
def test_tracks_of_any_length_whatever_the_psf(length, fwhm):
    assert evidence(cosmic_ray(length), 420.0 * length, fwhm) >= 1.5


@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0])
@pytest.mark.parametrize("length", [0.0, 3.0, 25.0])
@pytest.mark.parametrize("flux", [600.0, 4000.0, 100000.0])
def test_what_came_through_the_telescope_is_none_at_any_place_on_the_pixels(fwhm, length, flux):
    for shift in (0.0, 0.25, 0.5):
        picture = asteroid(80 + shift, 80 - shift, length, 20 + 100 * shift, flux, fwhm)
        assert evidence(picture, flux, fwhm) < 0.5


def test_the_psf_may_be_taken_for_15_per_cent_too_wide():
    for shift in (0.0, 0.3):
        picture = asteroid(80 + shift, 80.0, 0.0, 0.0, 9000.0, 2.0)
        assert evidence(picture, 9000.0, 2.3) < 1


def test_a_ray_on_a_bright_trail_leaves_it_an_asteroid():
    picture = asteroid(length=30.0, flux=20000.0)
    picture.pixels[80, 80] += 30 * SIGMA
    assert evidence(picture, 20000.0) < 1


def test_noise_is_none():
    assert evidence(asteroid(flux=0.0), 100.0) == 0
    assert evidence(asteroid(flux=0.0), -100.0) == 0


@pytest.mark.parametrize("fwhm", [1.6, 2.3, 4.0])
def test_share_of_a_neighbour_is_that_of_a_star_drawn_by_galsim(fwhm):
    image = galsim.Moffat(beta=3, fwhm=fwhm).drawImage(nx=15, ny=15, scale=1.0).array
    psf = moffat_mixture(fwhm, 3.0)
    assert neighbour_share(psf, 1.0) == pytest.approx(image[7, 8] / image[7, 7], rel=0.05)
    assert neighbour_share(psf, math.sqrt(2)) == pytest.approx(image[8, 8] / image[7, 7], rel=0.08)
    assert fwhm_before_pixels(fwhm, 3.0) < fwhm


def test_at_the_border_and_beside_masked_pixels():
    picture = cosmic_ray(14)
    picture.mask[78] = 1
    picture.pixels[0, 0] += 3000
    assert evidence(picture, 3000.0) >= 1
    assert np.isfinite(evidence(picture._replace(trail=Segment(0.0, 0.0, 3.0, 0.0)), 3000.0))


def evidence_hot_column(picture):
    return hot_column_evidence(picture.scene(), picture.trail)


def turned(picture):
    """The same along a row."""
    x, y, length, angle = picture.trail
    return Picture(picture.pixels.T.copy(), picture.mask.T.copy(), Segment(y, x, length, 90 - angle))


@pytest.mark.parametrize("side", [lambda picture: picture, turned], ids=["column", "row"])
def test_a_piece_of_a_hot_column(side):
    assert evidence_hot_column(side(hot_column())) >= 1.5
    assert evidence_hot_column(side(hot_column()._replace(trail=Segment(80.0, 80.0, 3.0, 40.0)))) >= 1


def test_a_trail_that_is_the_whole_defect():
    picture = hot_column(60, 101)._replace(trail=Segment(80.0, 80.0, 41.0, 90.0))
    assert evidence_hot_column(picture) >= 1.5


@pytest.mark.parametrize("fwhm", [1.6, 2.3])
@pytest.mark.parametrize("x", [80.0, 80.5])
@pytest.mark.parametrize("flux", [2000.0, 30000.0])
def test_an_asteroid_along_a_column_is_none(fwhm, x, flux):
    picture = asteroid(x, 80.0, 40.0, 90.0, flux, fwhm)
    assert hot_column_evidence(picture.scene(fwhm), picture.trail) < 1


def test_a_bright_asteroid_on_a_warm_column_is_none():
    pixels = hot_column(0, 161).pixels + trail(80.2, 80, 10, 90, 15000)
    assert evidence_hot_column(Picture(pixels, blank(), Segment(80.2, 80.0, 10.0, 90.0))) < 1


def test_an_asteroid_across_a_hot_column_is_none():
    pixels = hot_column(0, 161).pixels + trail(80, 80, 30, 30, 6000)
    assert evidence_hot_column(Picture(pixels, blank(), Segment(80.0, 80.0, 30.0, 30.0))) == 0


def test_noise_and_the_border():
    assert evidence_hot_column(Picture(sky(), blank(), Segment(80.0, 80.0, 20.0, 90.0))) < 1
    for x, y in ((0.0, 80.0), (160.0, 2.0), (3.0, 160.0)):
        assert np.isfinite(evidence_hot_column(Picture(sky(), blank(), Segment(x, y, 10.0, 90.0))))
