import numpy as np
import pytest

from benchmarks.veto_images import Picture, asteroid, blank, hot_column, sky, trail
from kernels.footprint import Segment
from kernels.vetoes.hot_column import hot_column_evidence


def evidence(picture):
    return hot_column_evidence(picture.scene(), picture.trail)


def turned(picture):
    """The same along a row."""
    x, y, length, angle = picture.trail
    return Picture(picture.pixels.T.copy(), picture.mask.T.copy(), Segment(y, x, length, 90 - angle))


@pytest.mark.parametrize("side", [lambda picture: picture, turned], ids=["column", "row"])
def test_a_piece_of_a_hot_column(side):
    assert evidence(side(hot_column())) >= 1.5
    assert evidence(side(hot_column()._replace(trail=Segment(80.0, 80.0, 3.0, 40.0)))) >= 1


def test_a_trail_that_is_the_whole_defect():
    picture = hot_column(60, 101)._replace(trail=Segment(80.0, 80.0, 41.0, 90.0))
    assert evidence(picture) >= 1.5


@pytest.mark.parametrize("fwhm", [1.6, 2.3])
@pytest.mark.parametrize("x", [80.0, 80.5])
@pytest.mark.parametrize("flux", [2000.0, 30000.0])
def test_an_asteroid_along_a_column_is_none(fwhm, x, flux):
    picture = asteroid(x, 80.0, 40.0, 90.0, flux, fwhm)
    assert hot_column_evidence(picture.scene(fwhm), picture.trail) < 1


def test_a_bright_asteroid_on_a_warm_column_is_none():
    pixels = hot_column(0, 161).pixels + trail(80.2, 80, 10, 90, 15000)
    assert evidence(Picture(pixels, blank(), Segment(80.2, 80.0, 10.0, 90.0))) < 1


def test_an_asteroid_across_a_hot_column_is_none():
    pixels = hot_column(0, 161).pixels + trail(80, 80, 30, 30, 6000)
    assert evidence(Picture(pixels, blank(), Segment(80.0, 80.0, 30.0, 30.0))) == 0


def test_noise_and_the_border():
    assert evidence(Picture(sky(), blank(), Segment(80.0, 80.0, 20.0, 90.0))) < 1
    for x, y in ((0.0, 80.0), (160.0, 2.0), (3.0, 160.0)):
        assert np.isfinite(evidence(Picture(sky(), blank(), Segment(x, y, 10.0, 90.0))))
