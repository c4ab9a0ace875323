import math

import numpy as np
import pytest

from kernels.long_trail import Frame, erase_trail, grow_trail
from kernels.psf import moffat_mixture
from kernels.segment import Segment, distance
from kernels.trail_model import trail_image

PSF = moffat_mixture(2.3, 3.0)


def frame_of(trails, shape=(300, 320), seed=0, stars=()):
    """White noise of 1 with trails (x, y, length, angle, flux per px) in it."""
    image = np.random.default_rng(seed).normal(size=shape)
    for x, y, length, angle, brightness in trails:
        image += brightness * max(length, 1) * trail_image(shape, x, y, length, angle, PSF)
    for x, y, flux in stars:
        image += flux * trail_image(shape, x, y, 0.0, 0.0, PSF)
    return Frame(image.astype(np.float32), np.ones(shape, bool), 1.0, 2.3)


def seed_on(trail, along, turn=3.0):
    theta = math.radians(trail[3])
    return Segment(trail[0] + along * math.cos(theta), trail[1] + along * math.sin(theta), 60.0, trail[3] + turn, 10.0)


def ends(segment):
    return sorted(map(tuple, segment.points(max(segment.length, 1))))


@pytest.mark.parametrize("brightness", [4.0, 30.0, 1000.0])
@pytest.mark.parametrize(("angle", "along"), [(20.0, 0.0), (75.0, -60.0), (131.0, 60.0), (0.0, 30.0)])
def test_follows_a_trail_to_both_ends(brightness, angle, along):
    trail = (160.0, 150.0, 220.0, angle, brightness)
    found = grow_trail(frame_of([trail]), seed_on(trail, along))
    assert found.is_trail
    wanted = ends(Segment(160.0, 150.0, 220.0, angle, 0.0))
    for ours, theirs in zip(ends(found.segment), wanted, strict=True):
        assert math.dist(ours, theirs) < 8
    assert abs((found.segment.angle - angle + 90) % 180 - 90) < 1


def test_stars_on_and_beside_it_do_not_turn_it():
    trail = (160.0, 150.0, 240.0, 10.0, 20.0)
    stars = [(140.0, 147.0, 5e4), (200.0, 163.0, 5e4), (100.0, 133.0, 2e4)]
    found = grow_trail(frame_of([trail], stars=stars), seed_on(trail, -40.0))
    assert found.is_trail
    assert abs(found.segment.angle - 10) < 1
    assert found.segment.length == pytest.approx(240, abs=10)


def test_crosses_the_image_and_a_masked_block():
    frame = frame_of([(160.0, 150.0, 800.0, 35.0, 15.0)])
    frame.usable[120:180, 140:185] = False
    found = grow_trail(frame, seed_on((160.0, 150.0, 800.0, 35.0), 80.0))
    assert found.is_trail
    (x1, y1), (x2, y2) = ends(found.segment)
    assert min(x1, y1) < 3
    assert max(x2, y2) > 296


def test_gap_is_bridged():
    trail = (90.0, 150.0, 100.0, 0.0, 15.0)
    found = grow_trail(frame_of([trail, (220.0, 150.0, 100.0, 0.0, 15.0)]), seed_on(trail, 0.0))
    assert found.segment.length == pytest.approx(230, abs=6)


def test_row_of_stars_and_noise_are_no_trail():
    stars = [(x, 150.0, 3000.0) for x in (110, 135, 170, 195)]
    for frame in (frame_of([], stars=stars), frame_of([])):
        found = grow_trail(frame, Segment(150.0, 150.0, 60.0, 0.0, 10.0))
        assert not (found.is_trail and found.segment.length >= 60)


def test_width_covers_the_light():
    trail = (160.0, 150.0, 220.0, 20.0, 100.0)
    frame = frame_of([trail])
    found = grow_trail(frame, seed_on(trail, 0.0))
    erase_trail(frame.usable, found.segment, found.half_width)
    left = frame.image[frame.usable]
    assert left.max() < 12


def test_erases_what_is_near_and_nothing_else():
    usable = np.ones((60, 70), bool)
    segment = Segment(30.0, 25.0, 30.0, 40.0, 1.0)
    erase_trail(usable, segment, 4.0)
    y, x = np.mgrid[:60, :70]
    np.testing.assert_array_equal(usable, distance(x.astype(float), y.astype(float), segment) > 4.0)
