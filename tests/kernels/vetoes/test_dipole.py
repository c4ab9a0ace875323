import pytest

from benchmarks.veto_images import asteroid, dipole, trail
from kernels.footprint import Segment
from kernels.shape import Lobes, lobes
from kernels.vetoes.dipole import dipole_evidence


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
