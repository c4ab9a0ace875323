import galsim
import numpy as np
import pytest

from benchmarks.veto_images import SIGMA, Picture, X, Y, asteroid, blank, ghost, sky
from kernels.measure.vetoes.ghost import ghost_evidence, ridge_brightness
from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import Segment


def evidence(picture, flux):
    return ghost_evidence(picture.scene(), picture.trail, flux)


def test_a_chord_of_a_ring():
    assert evidence(ghost(), 40 * 2.3 * 14.0) >= 1


def test_a_smudge():
    pixels = sky() + 20 * np.exp(-0.5 * (np.square(X - 80) + np.square(Y - 80)) / 12**2)
    assert evidence(Picture(pixels, blank(), Segment(80.0, 80.0, 15.0, 30.0)), 1000.0) >= 1


@pytest.mark.parametrize("flux", [900.0, 4000.0, 50000.0])
@pytest.mark.parametrize("length", [0.0, 10.0, 40.0])
def test_an_asteroid_is_none(flux, length):
    assert evidence(asteroid(length=length, flux=flux), flux) < 1


def test_an_asteroid_brighter_than_the_ghost_it_lies_on_is_none():
    lit = ghost().pixels + asteroid(80.0, 80.5, 40.0, 0.0, 8000.0).pixels - sky()
    assert evidence(ghost()._replace(pixels=lit), 8000.0) < 1


def test_light_on_one_side_only_is_a_neighbour():
    pixels = asteroid(length=40.0, angle=0.0).pixels + np.where(Y > 84, 2 * SIGMA, 0)
    assert evidence(asteroid(length=40.0, angle=0.0)._replace(pixels=pixels), 4000.0) < 1


def test_nothing_is_known_where_all_is_masked_or_dark():
    picture = ghost()
    assert evidence(picture._replace(mask=np.full_like(picture.mask, 2)), 1000.0) == 0
    assert evidence(picture, -5.0) == 0


@pytest.mark.parametrize("length", [0.0, 8.0, 40.0])
def test_brightness_of_the_ridge_is_that_of_a_trail_drawn_by_galsim(length):
    source = galsim.Moffat(beta=3, fwhm=2.3)
    if length:
        source = galsim.Convolve(source, galsim.Box(width=length, height=1e-3))
    image = source.drawImage(nx=81, ny=31, scale=1.0).array
    assert ridge_brightness(moffat_mixture(2.3, 3.0), length) == pytest.approx(image[15, 40], rel=0.02)
