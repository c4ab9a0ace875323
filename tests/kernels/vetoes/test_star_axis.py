import numpy as np
import pytest

from benchmarks.veto_images import SIDE, Picture, X, Y, sky
from kernels.footprint import Segment
from kernels.vetoes.star_axis import star_on_axis
from schemas.mask import MaskPlane


def evidence(mask, trail, light=0.0):
    on_line = (np.abs(Y - trail.y) <= 1) & (X > 40)
    picture = Picture(sky() + np.where(on_line, light, 0), mask, trail)
    return star_on_axis(picture.scene(), mask, trail, 0.3, 0.0)


def disc(x, y, radius):
    return np.where(np.hypot(X - x, Y - y) <= radius, np.uint16(MaskPlane.SAT), np.uint16(0))


def test_falls_with_the_distance_from_the_middle():
    offsets = [0.0, 2.0, 3.0, 5.0, 8.0]
    found = [evidence(disc(40, 80 + offset, 10), Segment(75.0, 80.0, 20.0, 0.0), 50.0) for offset in offsets]
    assert found == sorted(found, reverse=True)
    assert found[0] == 2
    assert found[-1] < 0.6


def test_light_must_lead_up_to_the_mask():
    trail = Segment(75.0, 80.0, 20.0, 0.0)
    assert evidence(disc(40, 80, 10), trail, 50.0) >= 1
    assert evidence(disc(40, 80, 10), trail, 0.0) < 0.5


def test_a_trail_that_runs_into_the_mask_needs_no_bridge():
    assert evidence(disc(60, 80, 10), Segment(66.0, 80.0, 30.0, 0.0), 0.0) >= 1


@pytest.mark.parametrize("radius", [1.0, 1.5])
def test_thin_areas_are_no_stars(radius):
    assert evidence(disc(60, 80, radius), Segment(75.0, 80.0, 20.0, 0.0), 50.0) == 0


def test_areas_at_the_border_are_no_stars():
    assert evidence(disc(2, 80, 10), Segment(24.0, 80.0, 20.0, 0.0), 50.0) == 0
    mask = disc(40, 80, 10) | np.where(X < 38, np.uint16(MaskPlane.EDGE), np.uint16(0))
    assert evidence(mask, Segment(75.0, 80.0, 20.0, 0.0), 50.0) == 0


def test_far_areas_do_not_count():
    assert evidence(disc(15, 80, 5), Segment(140.0, 80.0, 20.0, 0.0), 50.0) == 0
    assert SIDE > 150
