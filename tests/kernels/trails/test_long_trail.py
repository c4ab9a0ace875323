import math

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails.geometry import DetectedSegment, distance
from kernels.trails.long_trail import (
    OFFSET_STEP,
    Frame,
    cross_filtered,
    erase_trail,
    grow_trail,
    half_width,
    sky_level,
    straighten,
)
from kernels.trails.trail_model import trail_image

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
    return DetectedSegment(
        trail[0] + along * math.cos(theta), trail[1] + along * math.sin(theta), 60.0, trail[3] + turn, 10.0
    )


def ends(segment):
    return sorted(map(tuple, segment.points(max(segment.length, 1))))


@pytest.mark.parametrize("brightness", [4.0, 30.0, 1000.0])
@pytest.mark.parametrize(("angle", "along"), [(20.0, 0.0), (75.0, -60.0), (131.0, 60.0), (0.0, 30.0)])
def test_follows_a_trail_to_both_ends(brightness, angle, along):
    trail = (160.0, 150.0, 220.0, angle, brightness)
    found = grow_trail(frame_of([trail]), seed_on(trail, along))
    assert found.is_trail
    wanted = ends(DetectedSegment(160.0, 150.0, 220.0, angle, 0.0))
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
        found = grow_trail(frame, DetectedSegment(150.0, 150.0, 60.0, 0.0, 10.0))
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
    segment = DetectedSegment(30.0, 25.0, 30.0, 40.0, 1.0)
    erase_trail(usable, segment, 4.0)
    y, x = np.mgrid[:60, :70]
    np.testing.assert_array_equal(usable, distance(x.astype(float), y.astype(float), segment) > 4.0)


RNG = np.random.default_rng(8)


def test_strip_is_the_image_along_the_line():
    image = RNG.normal(size=(80, 90)).astype(np.float32)
    theta = math.radians(25)
    ours = straighten(image, np.ones(image.shape, bool), (44.3, 39.6), (math.cos(theta), math.sin(theta)), (5, 20))
    s, t = np.mgrid[-5:6, -20:21]
    x = 44.3 + t * math.cos(theta) - s * math.sin(theta)
    y = 39.6 + t * math.sin(theta) + s * math.cos(theta)
    np.testing.assert_allclose(ours, map_coordinates(image.astype(float), [y, x], order=1), atol=1e-5)


def test_what_is_unusable_or_outside_is_unknown():
    image, usable = np.ones((40, 40), np.float32), np.ones((40, 40), bool)
    usable[20, 25] = False
    strip = straighten(image, usable, (20.0, 20.0), (1.0, 0.0), (2, 30))
    assert np.isnan(strip[:, :10]).all()
    assert np.isnan(strip[2, 35])
    assert strip[2, 33] == 1


def test_sky_is_found_beside_the_trail():
    strip = RNG.normal(0, 1, (31, 100)).astype(np.float32) + np.linspace(50, 60, 100, dtype=np.float32)
    strip[13:18] += 200
    strip[:, 40:44] = np.nan
    np.testing.assert_allclose(sky_level(strip, 4), np.linspace(50, 60, 100), atol=2.0)
    assert (sky_level(np.full((31, 40), np.nan, np.float32), 4) == 0).all()


def test_noise_keeps_its_deviation_and_gaps_do_not_matter():
    strip = RNG.normal(0, 1, (31, 4000)).astype(np.float32)
    strip[10:13, ::2] = np.nan
    filtered = cross_filtered(strip, 2.5, 4.0)
    assert filtered.shape == (17, 4000)
    np.testing.assert_allclose(np.nanstd(filtered, 1), 1, atol=0.06)


def test_brightness_peaks_at_the_offset_of_the_trail():
    across = np.arange(-15, 16)
    strip = np.exp(-4 * math.log(2) * np.square((across - 2.5) / 2.5))[:, None] * np.ones(10)
    filtered = cross_filtered(strip.astype(np.float32), 2.5, 4.0)
    assert (filtered.argmax(0) - 8) * OFFSET_STEP == pytest.approx(2.5)


def test_cross_section_that_is_mostly_unusable_is_unknown():
    strip = np.ones((31, 5), np.float32)
    strip[:16] = np.nan
    filtered = cross_filtered(strip, 2.5, 4.0)
    assert np.isnan(filtered[:7]).all()
    assert np.isfinite(filtered[10:]).all()


@pytest.mark.parametrize(("gap", "least", "most"), [(40, 3, 10), (10, 3, 7)])
def test_width_reaches_over_the_wings_but_not_to_the_neighbour(gap, least, most):
    psf = moffat_mixture(2.3, 3.0)
    image = trail_image((91, 60), 30.0, 45.0, 200.0, 0.0, psf) + trail_image(
        (91, 60), 30.0, 45.0 + gap, 200.0, 0.0, psf
    )
    strip = (1e5 * image).astype(np.float32)
    assert least <= half_width(strip, np.zeros(60), 10.0, 1.0) <= most
