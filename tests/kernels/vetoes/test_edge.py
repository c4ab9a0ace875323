import pytest

from benchmarks.veto_images import SIDE, Picture, asteroid, blank, edge, sky
from kernels.footprint import Segment
from kernels.vetoes.edge import edge_evidence


def evidence(picture):
    return edge_evidence(picture.scene(), picture.mask, picture.trail)


def test_a_rim_along_the_border_of_the_coverage():
    assert evidence(edge()) >= 1


@pytest.mark.parametrize(
    "trail",
    [Segment(80.0, 2.0, 40.0, 0.0), Segment(SIDE - 3.0, 80.0, 40.0, 90.0), Segment(80.0, SIDE - 2.0, 30.0, 179.0)],
)
def test_along_the_last_pixels(trail):
    assert evidence(Picture(sky(), blank(), trail)) >= 1


def test_an_asteroid_that_leaves_the_image_is_none():
    assert evidence(Picture(sky(), blank(), Segment(15.0, 80.0, 30.0, 0.0))) < 0.5
    assert evidence(edge()._replace(trail=Segment(50.0, 80.0, 40.0, 10.0))) < 0.5


def test_an_asteroid_elsewhere_is_none():
    assert evidence(asteroid()) == 0
