import numpy as np
import pytest
from photutils.profiles import CurveOfGrowth

from kernels.objects import source_shapes
from kernels.objects.source_shapes import any_in_boxes, find_shapes, petrosian_radii
from tests.support.science import FWHM, bare, drawn


def found(sources, shape=(160, 180), **settings):
    return find_shapes(
        bare(drawn(sources, shape)), FWHM, **{"threshold": 6.0, "min_area": 3, "contrast": 0.005} | settings
    )


def test_finds_stars_and_galaxies_with_their_shapes():
    sources = [(40.3, 40.7, 3e4, 0, 1, 0), (120.2, 60.4, 6e4, 5.0, 0.4, 30), (60.0, 120.0, 5e4, 4.0, 0.5, 150)]
    shapes = found(sources)
    assert len(shapes.x) == 3
    np.testing.assert_allclose(shapes.x, [40.3, 120.2, 60.0], atol=0.1)
    np.testing.assert_allclose(shapes.y, [40.7, 60.4, 120.0], atol=0.1)
    assert shapes.elongation[0] < 1.1
    assert (shapes.elongation[1:] > 1.5).all()
    np.testing.assert_allclose(shapes.angle[1:], [30, 150], atol=4)
    assert shapes.half_light[0] < 0.8 * shapes.half_light[1]
    assert not shapes.blended.any()


def test_the_half_light_radius_is_that_of_the_curve_of_growth():
    pixels = drawn([(80.0, 80.0, 2e5, 5.0, 1.0, 0)], (160, 160))
    shapes = find_shapes(bare(pixels), FWHM, 6.0, 3, 0.005)
    growth = CurveOfGrowth(pixels, (80, 80), np.arange(1, 45))
    growth.normalize()
    assert shapes.half_light[0] == pytest.approx(growth.calc_radius_at_ee(0.5), rel=0.05)


def test_the_petrosian_radius_of_an_exponential_disc_is_the_known_one():
    scale = 6.0  # of the disc; GalSim's half-light radius is 1.678 of it
    pixels = drawn([(150.0, 150.0, 1e7, 1.678 * scale, 1.0, 0)], (301, 301))
    (radius,) = petrosian_radii(bare(pixels), np.array([150.0]), np.array([150.0]), np.array([1.678 * scale]))
    r = np.linspace(0.01, 12, 4000)  # in disc scales: eta = I(annulus) / <I>

    def light(u):
        return 1 - (1 + u) * np.exp(-u)

    eta = (light(1.25 * r) - light(0.8 * r)) / (1.25**2 - 0.8**2) / light(r)
    expected = scale * r[np.argmax(eta < 0.2)]
    assert radius == pytest.approx(expected, rel=0.04)  # the PSF widens it a little


def test_close_neighbours_are_taken_apart_and_flagged():
    shapes = found([(80.0, 80.0, 4e4, 0, 1, 0), (86.5, 80.0, 4e4, 0, 1, 0), (30.0, 30.0, 4e4, 0, 1, 0)])
    assert len(shapes.x) == 3
    assert shapes.blended.tolist() == [False, True, True]
    assert len(found([(80.0, 80.0, 4e4, 0, 1, 0), (86.5, 80.0, 4e4, 0, 1, 0)], contrast=1.0).x) == 1


def test_what_the_image_cuts_is_told():
    shapes = found([(0.0, 80.0, 4e4, 0, 1, 0), (90.0, 80.0, 4e4, 0, 1, 0)])
    cut = shapes.truncated | (shapes.box[:, 2] == 0)
    assert cut[np.argsort(shapes.x)].tolist() == [True, False]


def test_noise_alone_has_hardly_any_and_nothing_is_no_error():
    assert len(found([]).x) == 0
    blank = find_shapes(bare(np.zeros((60, 60), np.float32)), FWHM, 3.0, 3, 0.005)
    assert len(blank.x) == len(blank.box) == 0


def test_a_crowded_image_is_searched_at_a_higher_threshold(monkeypatch):
    monkeypatch.setattr(source_shapes, "_PIXELS", 2000)
    rng = np.random.default_rng(1)
    crowd = [(x, y, 3e3, 0, 1, 0) for x, y in rng.uniform(5, 155, (400, 2))]
    few = found(crowd)
    monkeypatch.setattr(source_shapes, "_PIXELS", 1_000_000)
    assert 0 < len(few.x) <= len(found(crowd).x)


def test_boxes_hold_what_they_hold():
    pixels = np.zeros((20, 20), np.bool_)
    pixels[5, 7] = True
    boxes = np.array([[0, 5, 0, 7], [6, 9, 0, 9], [5, 5, 7, 7]])
    assert any_in_boxes(pixels, boxes).tolist() == [True, False, True]


def test_a_neighbour_does_not_widen_a_source():
    alone = found([(80.0, 80.0, 4e4, 0, 1, 0)])
    pair = found([(80.0, 80.0, 4e4, 0, 1, 0), (87.0, 80.0, 4e4, 0, 1, 0)])
    assert len(pair.x) == 2
    np.testing.assert_allclose(pair.half_light, alone.half_light[0], rtol=0.25)
