import pytest

from benchmarks.veto_images import SIDE, Picture, asteroid, blank, dipole, edge, sky, trail
from kernels.measure.vetoes.subtraction import Lobes, dipole_evidence, edge_evidence, lobes
from kernels.trails.geometry import Segment


def evidence(picture):
    return dipole_evidence(lobes(picture.scene(), picture.trail, 0.0))


def test_a_star_less_itself():
    assert evidence(dipole()) >= 1


def test_an_asteroid_is_none():
    assert evidence(asteroid()) < 0.5


def test_the_hole_of_a_star_beside_a_long_trail_does_not_make_it_one():
    picture = asteroid(length=50.0, flux=3000.0)
    picture = picture._replace(pixels=picture.pixels - trail(86, 79, 0, 0, 2500))
    assert lobes(picture.scene(), picture.trail, 0.0).negative > 0
    assert evidence(picture) < 1


def test_a_dark_trail_beside_a_bright_one_does():
    picture = asteroid(length=30.0, flux=4000.0)
    picture = picture._replace(pixels=picture.pixels - trail(82.2, 76.7, 30, 35, 4000))
    assert evidence(picture) >= 1


@pytest.mark.parametrize(
    ("light", "expected"),
    [
        (Lobes(10.0, 0.0, -1.0, 0.0), 0.0),
        (Lobes(10.0, 5.0, -4.0, 0.5), 1.0),
        (Lobes(10.0, 5.0, -2.0, 1.0), 0.5),
        (Lobes(10.0, 5.0, -8.0, 0.1), 0.2),
        (Lobes(0.0, 50.0, -40.0, 1.0), 2.0),
    ],
)
def test_the_least_of_three_ratios(light, expected):
    assert dipole_evidence(light) == pytest.approx(expected)


def test_a_point_with_nothing_dark():
    assert evidence(asteroid(length=0.0)._replace(trail=Segment(80.3, 79.8, 0.0, 0.0))) < 0.5


def evidence_edge(picture):
    return edge_evidence(picture.scene(), picture.mask, picture.trail)


def test_a_rim_along_the_border_of_the_coverage():
    assert evidence_edge(edge()) >= 1


@pytest.mark.parametrize(
    "trail",
    [Segment(80.0, 2.0, 40.0, 0.0), Segment(SIDE - 3.0, 80.0, 40.0, 90.0), Segment(80.0, SIDE - 2.0, 30.0, 179.0)],
)
def test_along_the_last_pixels(trail):
    assert evidence_edge(Picture(sky(), blank(), trail)) >= 1


def test_an_asteroid_that_leaves_the_image_is_none():
    assert evidence_edge(Picture(sky(), blank(), Segment(15.0, 80.0, 30.0, 0.0))) < 0.5
    assert evidence_edge(edge()._replace(trail=Segment(50.0, 80.0, 40.0, 10.0))) < 0.5


def test_an_asteroid_elsewhere_is_none():
    assert evidence_edge(asteroid()) == 0
