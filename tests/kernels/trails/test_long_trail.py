import math

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from kernels.psf.gaussian_mixture import moffat_mixture
from kernels.trails import long_trail
from kernels.trails.geometry import DetectedSegment, distance, from_ends
from kernels.trails.long_trail import (
    OFFSET_STEP,
    Frame,
    LongTrail,
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
    assert np.isnan(strip[:, 49:]).all()  # between the last two pixels is the last place that is known
    assert not np.isnan(strip[:, 48]).any()
    across = straighten(image, usable, (20.0, 20.0), (0.0, 1.0), (2, 30))
    assert np.isnan(across[:, [*range(10), *range(49, 61)]]).all()
    assert not np.isnan(across[:, [10, 48]]).any()
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


def test_a_strip_is_known_where_all_four_pixels_are():
    image, usable = np.arange(1600, dtype=np.float32).reshape(40, 40), np.ones((40, 40), bool)
    strip = straighten(image, usable, (20.0, 20.0), (1.0, 0.0), (22, 25))
    known = np.zeros((45, 51), bool)
    known[2:41, 5:44] = True  # the last row and column have no neighbour
    np.testing.assert_array_equal(np.isfinite(strip), known)
    np.testing.assert_array_equal(strip[2:41, 5:44], image[:39, :39])
    usable[10, 12] = False
    lost = np.argwhere(known & np.isnan(straighten(image, usable, (20.0, 20.0), (1.0, 0.0), (22, 25))))
    assert lost.tolist() == [[11, 16], [11, 17], [12, 16], [12, 17]]


@pytest.mark.parametrize("columns", [31, 32, 33, 70])
def test_sky_is_the_median_of_what_lies_beyond_the_trail_in_each_block_of_32_columns(columns):
    strip = np.random.default_rng(columns).normal(5, 2, (11, columns)).astype(np.float32)
    strip[np.random.default_rng(1).random(strip.shape) < 0.1] = np.nan
    beyond = strip[[0, 1, 2, 8, 9, 10]]  # more than 2 px from the middle
    expected = np.concatenate(
        [np.full(min(32, columns - k), np.nanmedian(beyond[:, k : k + 32])) for k in range(0, columns, 32)]
    )
    np.testing.assert_allclose(sky_level(strip, 2), expected, rtol=1e-6)


def test_brightness_is_the_weighted_sum_over_the_known_part_of_the_cross_section():
    strip = np.random.default_rng(2).normal(size=(13, 40)).astype(np.float32)
    strip[np.random.default_rng(3).random(strip.shape) < 0.4] = np.nan
    ours = cross_filtered(strip, 2.0, 2.6)
    offsets, place, known = np.arange(-5, 6) * 0.5, np.arange(13) - 6, np.isfinite(strip)
    for row, offset in enumerate(offsets):
        weight = np.exp(-4 * np.log(2) * ((place - offset) / 2.0) ** 2)[:, None]
        square = np.where(known, weight**2, 0).sum(0)
        expected = (weight * np.nan_to_num(strip)).sum(0) / np.sqrt(square)
        share = square / (weight**2).sum()
        expected[share < 0.5] = np.nan
        clear = np.abs(share - 0.5) > 1e-6  # elsewhere the last digit decides
        np.testing.assert_allclose(ours[row, clear], expected[clear], rtol=1e-5, atol=1e-5)
    assert 20 < np.isnan(ours).sum() < 300
    assert cross_filtered(strip, 2.0, 0.0).shape == (1, 40)
    assert cross_filtered(strip, 2.0, 2.49).shape == (9, 40)


def test_light_falls_to_its_floor_or_to_the_first_valley():
    assert long_trail._fall(np.array([1.2, 5.0, 3.0, 2.0, 1.0, 0.5]), 1.0) == 5  # the first beside it may be the peak
    assert long_trail._fall(np.array([9.0, 5.0, 3.0, 2.0, 1.0]), 1.0) == 4
    assert long_trail._fall(np.array([9.0, 5.0, 3.0, 3.3, 3.64]), 1.0) == 4  # by more than a tenth
    assert long_trail._fall(np.array([9.0, 5.0, 4.0, 4.39, 4.0, 4.41]), 1.0) == 5
    assert long_trail._fall(np.array([9.0, 5.0, 6.0, 4.0, 4.0]), 1.0) == 2
    assert long_trail._fall(np.array([9.0, 5.0, 4.0, 3.0]), 1.0) == 3


def strip_of(upward, downward, columns=50, size=31):
    """A strip with the same cross-section at each column."""
    strip = np.zeros((size, columns), np.float32)
    strip[size // 2 : size // 2 + len(upward)] = np.array(upward)[:, None]
    strip[size // 2 + 1 - len(downward) : size // 2 + 1] = np.array(downward[::-1])[:, None]
    return strip


@pytest.mark.parametrize(
    ("upward", "downward", "noise", "columns", "width"),
    [
        ([100, 60, 30, 10, 2.1, 1.9], [100, 60, 1], 0.1, 50, 5),  # 2 % of the peak
        ([100, 60, 1], [100, 60, 30, 10, 2.1, 1.9], 0.1, 50, 5),
        ([100, 60, 30, 10, 5.1, 4.9, 3], [100, 60, 1], 25.0, 100, 5),  # twice the noise of the median of 100 columns
        ([100, 60, 30, 20, 25, 30, 9], [100, 60, 1], 0.1, 50, 4),
        ([100, 90, 80, 70, 60, 50, 40, 30, 20], [100, 60, 1], 0.1, 50, 7),  # the limit
    ],
)
def test_width_by_hand(upward, downward, noise, columns, width):
    strip = strip_of(upward, downward, columns)
    assert half_width(strip, np.zeros(columns), 7.9, noise) == width
    assert half_width(strip, np.full(columns, 0.4), 7.9, noise) == width
    moved = np.full((31, columns), np.nan, np.float32)
    offsets = np.random.default_rng(1).integers(-3, 4, columns)
    for column, offset in enumerate(offsets):
        moved[:, column] = np.roll(strip[:, column], offset)
    assert half_width(moved, offsets.astype(float), 7.9, noise) == width
    moved[:, ::2] = np.nan
    assert half_width(moved, offsets.astype(float), 7.9, noise) == width


def test_width_at_the_side_of_the_strip_and_without_light():
    flat = np.full((11, 20), 5.0, np.float32)
    assert half_width(flat, np.full(20, 4.0), 3.0, 0.1) == 3
    assert half_width(flat, np.full(20, -4.0), 3.0, 0.1) == 3
    assert half_width(np.full((11, 20), np.nan, np.float32), np.zeros(20), 3.0, 0.1) == 2


@pytest.mark.parametrize(
    ("length", "least"), [(10.0, 0.85), (75.0, 0.85), (150.0, 0.725), (105.0, 0.8), (225.0, 0.6), (900.0, 0.6)]
)
def test_the_longer_a_trail_the_more_gaps_it_may_have(length, least):
    segment = DetectedSegment(0.0, 0.0, length, 0.0, 9.0)
    assert LongTrail(segment, 3.0, least + 1e-9).is_trail
    assert not LongTrail(segment, 3.0, least - 1e-9).is_trail
    assert LongTrail(segment, 3.0, 1.0).is_trail
    if length in (75.0, 900.0):
        assert LongTrail(segment, 3.0, least).is_trail


def looked_at(monkeypatch, lengths, seed_length=30.0, shape=(300, 400)):
    """Reaches of the strips in which pieces of these lengths are found, and the last of these."""
    reaches, left = [], list(lengths)

    def found(frame, seed, reach):
        reaches.append(reach)
        return LongTrail(DetectedSegment(0.0, 0.0, left.pop(0), 0.0, 9.0), 3.0, 1.0)

    monkeypatch.setattr(long_trail, "_fit_in_strip", found)
    frame = Frame(np.zeros(shape, np.float32), np.ones(shape, bool), 1.0, 2.3)
    last = grow_trail(frame, DetectedSegment(0.0, 0.0, seed_length, 0.0, 9.0))
    return reaches, last.segment.length


@pytest.mark.parametrize(
    ("seed", "lengths", "reaches"),
    [
        (30.0, [0.9], [60]),
        (30.0, [1.0, 1.0], [60, 90]),
        (80.0, [20.0, 21.9], [80, 120]),  # as long as before, to 2 px, and 60 px beyond it looked at
        (80.0, [20.0, 22.0, 20.1], [80, 120, 180]),
        (80.0, [79.0, 79.0], [80, 139]),
        (80.0, [79.0, 79.5, 79.5], [80, 139, 209]),
        (100.0, [99.0, 98.0], [100, 159]),
        (90.0, [30.0, 30.0], [90, 135]),
        (90.0, [91.0, 91.0], [90, 151]),
        (20.0, [20.0, 20.0], [60, 90]),
        (20.0, [0.0], [60]),
        (200.0, [140.0, 141.0], [200, 300]),
        (200.0, [199.0, 300.0, 301.0], [200, 300, 450]),
        (200.0, [201.0, 202.0], [200, 300]),
        (400.0, [600.0, 500.0], [400, 660]),  # from 500 px on, the diagonal of the image, that will do
        (400.0, [600.0, 900.0, 990.0, 2000.0], [400, 660, 990, 1000]),
    ],
)
def test_strips_grow_until_both_ends_lie_well_inside(monkeypatch, seed, lengths, reaches):
    assert looked_at(monkeypatch, lengths, seed) == (reaches, lengths[-1])


def test_a_piece_is_placed_between_two_points_of_the_strip():
    seed = DetectedSegment(20.0, 30.0, 9.0, math.degrees(math.atan2(4, 3)), 1.0)
    found = long_trail._placed(seed, (-5, 10), np.array([1.0, -2.0]), 7.0)
    one = (20 - 5 * 0.6 - 1 * 0.8, 30 - 5 * 0.8 + 1 * 0.6)
    other = (20 + 10 * 0.6 + 2 * 0.8, 30 + 10 * 0.8 - 2 * 0.6)
    assert found == pytest.approx(from_ends(*one, *other, 7.0))


def test_the_typical_brightness_is_a_median_of_half_a_sigma_at_least():
    assert long_trail._level(np.array([1.0, np.nan, 3.0, 9.0], np.float32)) == 3
    assert long_trail._level(np.array([0.1, 0.3, 0.4], np.float32)) == 0.5
    assert long_trail._level(np.array([0.6], np.float32)) == pytest.approx(0.6)
    assert long_trail._level(np.full(3, np.nan, np.float32)) == 0.5


def test_the_best_path_is_the_line_of_the_largest_clipped_sum():
    for seed in range(20):
        profile = np.random.default_rng(seed).normal(0.3, 2, (5, 9)).astype(np.float32)
        profile[1, 3], profile[4, 2], profile[0, 7] = np.nan, 50.0, -50.0
        slope, start = long_trail._best_path(profile, 0.8, 3)
        clipped = np.clip(np.where(np.isnan(profile), 0, profile), -1.6, 3.2)
        column = np.arange(9)
        sums = {
            (left, right): clipped[(left + (right - left) / 8 * column + 0.5).astype(int), column].sum(dtype=float)
            for left in range(5)
            for right in range(5)
        }
        left, right = max(sums, key=sums.get)
        assert start + slope * np.array([3.0, 11.0]) == pytest.approx([left, right])
    slope, start = long_trail._best_path(np.array([[0.0], [2.0], [1.0]], np.float32), 1.0, 4)
    assert start + 4 * slope == 1


def test_the_heaviest_run_is_that_of_all_runs():
    for seed in range(40):
        gain = np.random.default_rng(seed).normal(-0.1, 1, 12)
        runs = {(i, j): gain[i : j + 1].sum() for i in range(12) for j in range(i, 12)}
        if max(runs.values()) > 0:
            assert long_trail._heaviest_run(gain) == max(runs, key=runs.get)
    assert long_trail._heaviest_run(np.array([0.0, 1.0, 0.0, 1.0, 0.0])) == (1, 3)
    assert long_trail._heaviest_run(np.array([-1.0, -2.0])) == (0, 0)


def test_ends_are_those_of_the_run_that_is_brighter_than_half_its_median():
    brightness = np.array([0, 0, 9, 2, 2, 2, 0, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 2, 2], np.float32)
    assert long_trail._ends(brightness, 2.0) == (2, 10, 2.0)
    assert long_trail._ends(brightness, 1.2) == (2, 10, 2.0)
    # A star on the sky counts as 1.25 of the trail, less half of it: not as much as two columns without light.
    star = np.array([9, 0, 0, 2, 2, 2, 2, 2, 2], np.float32)
    assert long_trail._ends(star, 2.0) == (3, 8, 2.0)
    star = np.array([9, 0, 2, 2, 2, 2, 2, 2, np.nan], np.float32)  # but as more than one of them
    assert long_trail._ends(star, 2.0) == (0, 7, 2.0)
    # Half of 2.4 is more than the 1.1 of the first three columns, half of 2 is not.
    steps = np.array([1.1] * 3 + [2.0] * 5 + [2.4] * 4, np.float32)
    assert long_trail._ends(steps, 2.4)[:2] == (0, 11)
    assert long_trail._ends(steps * 1.0, 2.4)[2] == pytest.approx(2.0)


def test_covered_is_what_is_brighter_than_half_the_level_over_seven_columns():
    rng = np.random.default_rng(4)
    for _ in range(20):
        bright = rng.choice([0.0, 1.0, 2.0, 9.0, np.nan], 30, p=[0.45, 0.1, 0.25, 0.1, 0.1]).astype(np.float32)
        known, shares = np.isfinite(bright), []
        for i in np.flatnonzero(known):
            near = slice(max(i - 3, 0), i + 4)
            shares.append(np.minimum(bright[near][known[near]], 4.0).mean() > 1.0)
        assert long_trail._coverage(bright, 2.0) == pytest.approx(np.mean(shares))
    assert long_trail._coverage(np.full(6, 2.0, np.float32), 2.0) == 0
    assert long_trail._coverage(np.full(7, 2.0, np.float32), 2.0) == 1
    assert long_trail._coverage(np.full(7, np.nan, np.float32), 2.0) == 0
    assert long_trail._coverage(np.full(7, 1.0, np.float32), 2.0) == 0  # not brighter than half of it


@pytest.mark.parametrize("place", [(20.0, 15.0), (1.0, 1.0), (38.0, 28.0), (-3.0, 15.0), (20.0, 33.0), (80.0, 80.0)])
@pytest.mark.parametrize("angle", [0.0, 90.0, 33.0])
def test_a_pixel_at_the_radius_itself_is_erased(place, angle):
    usable = np.ones((30, 40), bool)
    segment = DetectedSegment(*place, 6.0, angle, 1.0)
    erase_trail(usable, segment, 5.0)
    y, x = np.mgrid[:30, :40].astype(float)
    apart = distance(x, y, segment)
    clear = (np.abs(apart - 5) > 1e-9) | (angle == 0)  # elsewhere the last digit decides
    np.testing.assert_array_equal(usable[clear], apart[clear] > 5)


def test_a_strip_about_a_trail_tells_its_ends_signal_and_width():
    """Without noise, of a line whose brightness, width and ends are known."""
    row, column = np.mgrid[:121, :261]
    image = 8.0 * np.exp(-4 * np.log(2) * ((row - 60 - 0.02 * (column - 130)) / 2.3) ** 2) + 3
    image[:, :70] = image[:, 181:] = 3.0
    frame = Frame(image.astype(np.float32), np.ones(image.shape, bool), 2.0, 2.3)
    found = long_trail._fit_in_strip(frame, DetectedSegment(128.0, 61.0, 60.0, 0.0, 1.0), 100)
    (x1, y1), (x2, y2) = ends(found.segment)
    assert (x1, x2) == pytest.approx((70, 180), abs=1)
    assert (y1, y2) == pytest.approx((60 - 1.2, 60 + 1.0), abs=0.3)
    weight = np.exp(-4 * np.log(2) * (np.arange(-13, 14) / 2.3) ** 2)
    brightness = 8 / 2 * np.sqrt((weight**2).sum())
    assert found.segment.snr == pytest.approx(brightness * math.sqrt(111), rel=0.03)
    assert found.half_width in (3.0, 4.0)
    assert found.coverage == 1


@pytest.mark.parametrize(
    ("length", "found", "stretches"),
    [
        (60.0, (20, 190), [(50, 101), (0, 201)]),  # 20 px more at both ends, or a quarter
        (4.0, (80, 180), [(70, 61), (55, 146)]),
        (90.0, (30, 120), [(33, 135), (8, 135)]),
        (300.0, (0, 200), [(0, 201), (0, 201)]),
    ],
)
def test_the_line_is_looked_for_a_little_beyond_the_ends(monkeypatch, length, found, stretches):
    looked, levels, widths = [], [], []
    level_of = long_trail._level

    def best_path(profile, level, first):
        looked.append((first, profile.shape[1], level))
        return 0.02, 7.0

    def level(brightness):
        levels.append(len(brightness))
        return level_of(brightness)

    def width(strip, offsets, limit, noise):
        widths.append((strip.shape, offsets, limit, noise))
        return 4.0

    monkeypatch.setattr(long_trail, "_best_path", best_path)
    monkeypatch.setattr(long_trail, "_ends", lambda brightness, level: (*found, 1.2))
    monkeypatch.setattr(long_trail, "_level", level)
    monkeypatch.setattr(long_trail, "half_width", width)
    image = np.random.default_rng(4).normal(0, 3, (260, 260)).astype(np.float32)
    image[:, 100:103] += 400.0
    frame = Frame(image, np.ones(image.shape, bool), 2.0, 2.3)
    seed = DetectedSegment(130.0, 128.0, length, 0.0, 1.0)
    trail = long_trail._fit_in_strip(frame, seed, 100)
    assert [one[:2] for one in looked] == stretches
    assert looked[1][2] == 1.2
    assert levels == [2 * min(100, max(10, int(length / 2))) + 1]
    first, last = found
    strip = straighten(image, frame.usable, (130.0, 128.0), (1.0, 0.0), (13, 100))  # 3 FWHM and 6 px
    profile = cross_filtered(strip - sky_level(strip, 5), 2.3, 4.0) / 2
    assert looked[0][2] == pytest.approx(max(np.median(profile[8, 100 - levels[0] // 2 : 101 + levels[0] // 2]), 0.5))
    row = np.rint(np.clip(7 + 0.02 * np.arange(201), 0, 16)).astype(int)
    bright = profile[row, np.arange(201)][first : last + 1]
    assert trail.segment.snr == pytest.approx(np.minimum(bright, 3.6).sum() / math.sqrt(len(bright)), rel=1e-4)
    assert trail.coverage == long_trail._coverage(bright, 1.2)
    offsets = (7 + 0.02 * np.arange(first, last + 1) - 8) / 2
    ((shape, across, limit, noise),) = widths
    assert (shape, limit, noise, trail.half_width) == ((27, last - first + 1), pytest.approx(9.2), 2.0, 4.0)
    np.testing.assert_allclose(across, offsets)
    expected = from_ends(30.0 + first, 128 + offsets[0], 30.0 + last, 128 + offsets[-1], trail.segment.snr)
    assert trail.segment == pytest.approx(expected)
