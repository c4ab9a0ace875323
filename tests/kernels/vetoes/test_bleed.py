import numpy as np

from benchmarks.veto_images import Picture, blank, bleed, masked_star, sky, trail
from kernels.footprint import Segment
from kernels.vetoes.bleed import bleed_evidence
from schemas.mask import MaskPlane


def evidence(picture):
    return bleed_evidence(picture.scene(), picture.mask, picture.trail, 0.0)


def test_charge_on_the_column_of_a_star():
    assert evidence(bleed()) >= 1


def test_a_knot_of_it_counts_whatever_its_angle():
    assert evidence(bleed()._replace(trail=Segment(61.0, 104.0, 2.0, 10.0))) >= 1


def test_an_asteroid_across_the_column_is_none():
    picture = Picture(sky() + trail(61, 112, 30, 20, 4000), masked_star(), Segment(61.0, 112.0, 30.0, 20.0))
    assert evidence(picture) == 0


def test_an_asteroid_along_the_column_with_empty_sky_below_is_none():
    picture = Picture(sky() + trail(60, 130, 20, 90, 4000), masked_star(), Segment(60.0, 130.0, 20.0, 90.0))
    assert evidence(picture) < 1


def test_an_asteroid_along_another_column_is_none():
    picture = Picture(sky() + trail(78, 80, 25, 90, 4000), masked_star(), Segment(78.0, 80.0, 25.0, 90.0))
    assert evidence(picture) == 0


def test_a_masked_bad_column_and_the_border_are_no_stars():
    column, border = blank(), blank()
    column[:60, 80] = MaskPlane.BAD
    border[:60] = MaskPlane.EDGE
    pixels = sky() + trail(80, 72, 22, 90, 4000)
    for mask in (column, border):
        assert evidence(Picture(pixels, np.asarray(mask), Segment(80.0, 72.0, 22.0, 90.0))) == 0
