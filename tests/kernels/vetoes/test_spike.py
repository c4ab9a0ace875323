import pytest

from benchmarks.veto_images import Picture, asteroid, masked_star, sky, spike, trail
from kernels.footprint import Segment
from kernels.vetoes.spike import spike_evidence


def evidence(picture):
    return spike_evidence(picture.scene(), picture.mask, picture.trail, 0.0)


@pytest.mark.parametrize("angle", [0.0, 25.0, 45.0, 77.0])
def test_spikes_of_any_direction(angle):
    assert evidence(spike(angle)) >= 1


def test_a_knot_further_out_on_a_spike_counts_because_light_leads_up_to_the_star():
    picture = spike(25.0)
    far = picture._replace(trail=Segment(60 + 45 * 0.906, 80 + 45 * 0.423, 12.0, 25.0))
    assert evidence(far) >= 1


def test_an_asteroid_that_points_at_a_star_from_afar_is_none():
    x = 60 + 12 + 14 + 10  # 14 px of empty sky between the mask and its near end
    picture = Picture(sky() + trail(x, 80, 20, 0, 4000), masked_star(), Segment(x, 80.0, 20.0, 0.0))
    assert evidence(picture) < 1


@pytest.mark.parametrize("angle", [60.0, 90.0, 120.0])
def test_an_asteroid_beside_a_star_that_does_not_point_at_it_is_none(angle):
    picture = Picture(sky() + trail(84, 80, 25, angle, 4000), masked_star(), Segment(84.0, 80.0, 25.0, angle))
    assert evidence(picture) == 0


def test_no_star_no_spike():
    assert evidence(asteroid()) == 0


def test_a_point_has_no_direction():
    assert evidence(spike()._replace(trail=Segment(80.0, 89.0, 1.0, 25.0))) == 0
