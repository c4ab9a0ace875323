import numpy as np
import pytest

from benchmarks.veto_images import SIDE, Picture, X, Y, asteroid, blank, bleed, masked_star, sky, spike, trail
from kernels.measure.vetoes.star_lines import bleed_evidence, spike_evidence, star_on_axis
from kernels.trails.geometry import Segment
from schemas.pixels import MaskPlane


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


def evidence_bleed(picture):
    return bleed_evidence(picture.scene(), picture.mask, picture.trail, 0.0)


def test_charge_on_the_column_of_a_star():
    assert evidence_bleed(bleed()) >= 1


def test_a_knot_of_it_counts_whatever_its_angle():
    assert evidence_bleed(bleed()._replace(trail=Segment(61.0, 104.0, 2.0, 10.0))) >= 1


def test_an_asteroid_across_the_column_is_none():
    picture = Picture(sky() + trail(61, 112, 30, 20, 4000), masked_star(), Segment(61.0, 112.0, 30.0, 20.0))
    assert evidence_bleed(picture) == 0


def test_an_asteroid_along_the_column_with_empty_sky_below_is_none():
    picture = Picture(sky() + trail(60, 130, 20, 90, 4000), masked_star(), Segment(60.0, 130.0, 20.0, 90.0))
    assert evidence_bleed(picture) < 1


def test_an_asteroid_along_another_column_is_none():
    picture = Picture(sky() + trail(78, 80, 25, 90, 4000), masked_star(), Segment(78.0, 80.0, 25.0, 90.0))
    assert evidence_bleed(picture) == 0


def test_a_masked_bad_column_and_the_border_are_no_stars():
    column, border = blank(), blank()
    column[:60, 80] = MaskPlane.BAD
    border[:60] = MaskPlane.EDGE
    pixels = sky() + trail(80, 72, 22, 90, 4000)
    for mask in (column, border):
        assert evidence_bleed(Picture(pixels, np.asarray(mask), Segment(80.0, 72.0, 22.0, 90.0))) == 0


def evidence_spike(picture):
    return spike_evidence(picture.scene(), picture.mask, picture.trail, 0.0)


@pytest.mark.parametrize("angle", [0.0, 25.0, 45.0, 77.0])
def test_spikes_of_any_direction(angle):
    assert evidence_spike(spike(angle)) >= 1


def test_a_knot_further_out_on_a_spike_counts_because_light_leads_up_to_the_star():
    picture = spike(25.0)
    far = picture._replace(trail=Segment(60 + 45 * 0.906, 80 + 45 * 0.423, 12.0, 25.0))
    assert evidence_spike(far) >= 1


def test_an_asteroid_that_points_at_a_star_from_afar_is_none():
    x = 60 + 12 + 14 + 10  # 14 px of empty sky between the mask and its near end
    picture = Picture(sky() + trail(x, 80, 20, 0, 4000), masked_star(), Segment(x, 80.0, 20.0, 0.0))
    assert evidence_spike(picture) < 1


@pytest.mark.parametrize("angle", [60.0, 90.0, 120.0])
def test_an_asteroid_beside_a_star_that_does_not_point_at_it_is_none(angle):
    picture = Picture(sky() + trail(84, 80, 25, angle, 4000), masked_star(), Segment(84.0, 80.0, 25.0, angle))
    assert evidence_spike(picture) == 0


def test_no_star_no_spike():
    assert evidence_spike(asteroid()) == 0


def test_a_point_has_no_direction():
    assert evidence_spike(spike()._replace(trail=Segment(80.0, 89.0, 1.0, 25.0))) == 0
