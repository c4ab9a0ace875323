import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from kernels.trails.geometry import (
    DetectedSegment,
    Segment,
    between,
    comes_near,
    core_radius,
    detected_segments,
    distance,
    first_of_each,
    from_ends,
    grow,
    in_line,
    lies_on,
    near_any,
    outshines,
    overlap,
    place,
    same_trail,
    stadium,
    union,
)

segments = st.builds(
    Segment, st.floats(-20, 60), st.floats(-20, 50), st.floats(0, 80), st.one_of(st.floats(0, 180), st.just(90.0))
)


def brute(shape, segment):
    x1, y1, x2, y2 = segment.ends()
    y, x = np.mgrid[: shape[0], : shape[1]]
    square = (x2 - x1) ** 2 + (y2 - y1) ** 2
    t = np.clip(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / (square or 1), 0, 1)
    return np.hypot(x - x1 - t * (x2 - x1), y - y1 - t * (y2 - y1))


@settings(deadline=None)
@given(segment=segments, radius=st.floats(0.5, 12))
def test_pixels_are_those_within_the_radius(segment, radius):
    footprint = stadium((37, 43), segment, radius)
    distance = brute((37, 43), segment)
    inside = np.zeros((37, 43), bool)
    inside[footprint.y, footprint.x] = True
    assert len(footprint.y) == inside.sum()
    assert inside[distance < radius - 1e-9].all()
    assert not inside[distance > radius + 1e-9].any()


@settings(deadline=None, max_examples=30)
@given(segment=segments)
def test_every_pixel_is_found_at_its_place_and_no_other(segment):
    f = stadium((37, 43), segment, 4.0)
    places = [[place(y, x, f.row0, f.left, f.first) for x in range(-2, 45)] for y in range(-2, 39)]
    expected = np.full((41, 47), -1)
    expected[f.y + 2, f.x + 2] = np.arange(len(f.y))
    np.testing.assert_array_equal(places, expected)


def test_growing_is_dilation_inside_the_footprint():
    f = stadium((40, 40), Segment(20, 18, 25, 33), 5.0)
    marked = np.random.default_rng(5).random(len(f.y)) < 0.03
    full, inside = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    full[f.y, f.x], inside[f.y, f.x] = marked, True
    grown = binary_dilation(full, np.ones((5, 5))) & inside
    np.testing.assert_array_equal(grow(marked, f, 2), grown[f.y, f.x])


def test_distance_is_to_the_nearest_point_of_the_segment():
    segment = Segment(10, 10, 10, 0)
    assert [segment.distance(10, 13), segment.distance(18, 14), segment.distance(5, 10)] == [3, 5, 0]


def test_segments_come_near_where_they_cross_and_not_beyond_their_ends():
    long = Segment(50, 50, 80, 0)
    assert comes_near(Segment(50, 60, 30, 90), long, 1.0)
    assert comes_near(Segment(95, 50, 0, 0), long, 5.5)
    assert not comes_near(Segment(97, 50, 0, 0), long, 5.5)
    assert not comes_near(Segment(50, 80, 30, 90), long, 14.0)


coordinate = st.floats(-50, 50)


@given(coordinate, coordinate, coordinate, coordinate)
@example(0.0, 5e-7, 0.0, 1.0)
def test_ends_make_the_segment_that_has_them(x1, y1, x2, y2):
    segment = from_ends(x1, y1, x2, y2, 5.0)
    assert 0 <= segment.angle <= 180
    ends, given = segment.points(1.0)[[0, -1]], np.array([[x1, y1], [x2, y2]])
    if segment.length > 1e-3:
        assert min(np.abs(ends - given).max(), np.abs(ends[::-1] - given).max()) < 1e-6


@given(coordinate, coordinate, st.floats(0, 60), st.floats(0, 180))
def test_distance_is_that_of_the_nearest_of_many_points(x, y, length, angle):
    segment = DetectedSegment(3.0, -4.0, length, angle, 1.0)
    many = segment.points(0.01)
    nearest = np.hypot(many[:, 0] - x, many[:, 1] - y).min()
    assert distance(np.array(x), np.array(y), segment) == pytest.approx(nearest, abs=0.01)


def test_points_of_a_point_are_one():
    np.testing.assert_array_equal(DetectedSegment(1.0, 2.0, 0.0, 33.0, 1.0).points(1.0), [[1.0, 2.0]])


def test_overlap_of_crossing_trails_is_small_and_of_shifted_ones_their_common_part():
    trail = DetectedSegment(0.0, 0.0, 40.0, 0.0, 1.0)
    assert overlap(trail._replace(angle=90.0), trail, 2.0) < 0.15
    assert overlap(trail.shifted(20.0, 0.0), trail, 0.5) == pytest.approx(0.5, abs=0.03)
    assert overlap(trail.shifted(0.0, 10.0), trail, 3.0) == 0


def test_pieces_of_a_line_are_in_line_and_their_union_spans_both():
    whole = from_ends(10.0, 20.0, 110.0, 70.0, 0.0)
    cosine, sine = whole.direction
    first = DetectedSegment(whole.x - 30 * cosine, whole.y - 30 * sine, 30.0, whole.angle, 3.0)
    second = DetectedSegment(whole.x + 40 * cosine, whole.y + 40 * sine, 20.0, whole.angle, 4.0)
    assert in_line(first, second, 0.1)
    assert between(first, second).length == pytest.approx(70 - 15 - 10)
    joined = union(first, second)
    assert joined == union(second, first)
    assert joined.length == pytest.approx(45 + 50)
    assert joined.snr == 5
    assert not in_line(first, second.shifted(-10 * sine, 10 * cosine), 3.0)


def test_nothing_lies_between_segments_that_overlap():
    trail = DetectedSegment(0.0, 0.0, 40.0, 30.0, 1.0)
    assert between(trail, trail._replace(length=10.0)).length == 0


def fitted(x, y, length, angle, snr=9.0):
    return DetectedSegment(x, y, length, angle, snr)


def test_fits_that_came_to_one_place_are_one():
    fits = [fitted(50, 50, 20, 30), fitted(50.8, 49.5, 18, 32), fitted(49, 50, 0, 0), fitted(90, 50, 20, 30)]
    assert first_of_each(fits, 2.3) == [0, 3]


@pytest.mark.parametrize("fwhm", [2.3, 4.0, 7.0])
def test_parallel_trails_ten_pixels_apart_stay_two(fwhm):
    assert first_of_each([fitted(50, 50, 40, 0), fitted(50, 60, 40, 0)], fwhm) == [0, 1]


def test_pieces_of_a_long_trail_are_one():
    whole = fitted(100, 100, 200, 0)
    pieces = [fitted(40, 100.5, 60, 1), fitted(150, 99, 80, 179)]
    assert first_of_each([whole, *pieces], 2.3) == [0]
    assert first_of_each([pieces[0], whole], 2.3) == [0]


def test_trails_that_cross_stay_two():
    assert first_of_each([fitted(50, 50, 40, 10), fitted(50, 50, 40, 60)], 2.3) == [0, 1]


LINE = fitted(100, 100, 200, 0, 20.0)  # S/N 2.1 of a FWHM


@pytest.mark.parametrize(
    ("line", "other", "apart"),
    [
        (LINE, fitted(90, 100, 0, 0, 7.0), True),
        (LINE, fitted(90, 100, 0, 0, 6.0), False),
        (LINE, fitted(90, 100, 23, 0, 22.0), True),  # S/N 7.0 of a FWHM
        (LINE, fitted(90, 100, 23, 0, 19.0), False),
        (LINE._replace(length=59.0, snr=11.0), fitted(90, 100, 0, 0, 30.0), False),  # it is no longer than others
        (LINE._replace(length=60.0, snr=11.0), fitted(90, 100, 0, 0, 30.0), True),
        (LINE._replace(snr=41.0), fitted(90, 100, 0, 0, 14.0), True),
        (LINE._replace(snr=43.0), fitted(90, 100, 0, 0, 90.0), False),  # S/N 4.6: a satellite, and maybe its flash
    ],
)
def test_what_outshines_a_long_faint_line_stays_beside_it(line, other, apart):
    assert outshines(other, line, 2.3) == apart
    assert not outshines(line, other, 2.3)
    assert first_of_each([line, other], 2.3) == ([0, 1] if apart else [0])
    assert first_of_each([other, line], 2.3) == ([0, 1] if apart else [0])


def test_it_does_not_matter_which_is_asked_first():
    one, other = Segment(50, 50, 30, 20), Segment(52, 51, 12, 25)
    assert same_trail(one, other, 3.0) == same_trail(other, one, 3.0)


def test_nothing_in_nothing_out():
    assert first_of_each([], 2.3) == []


@pytest.mark.parametrize(
    ("snr", "fwhms"), [(1.0, 1.2), (30.0, 1.2), (300.0, 1.8), (3000.0, 2.4), (30 * math.sqrt(10), 1.5)]
)
def test_the_core_of_a_trail_is_wider_from_30_sigma_on(snr, fwhms):
    assert core_radius(snr, 2.5) == pytest.approx(2.5 * fwhms)


@pytest.mark.parametrize(
    ("trail", "lies"),
    [
        ((0.0, 2.39, 0.0), True),  # within 1.2 FWHM
        ((0.0, 2.41, 0.0), False),
        ((26.39, 0.0, 0.0), True),  # 2 FWHM and 1.2 FWHM beyond the end
        ((-26.39, 0.0, 0.0), True),
        ((26.41, 0.0, 0.0), False),
        ((26.0, 0.0, 1.0), False),  # one of its two ends: not more than half of it
    ],
)
def test_what_lies_on_a_trail_is_within_its_core_for_the_most_part(trail, lies):
    x, y, length = trail
    stronger = DetectedSegment(0.0, 0.0, 40.0, 0.0, 20.0)
    assert lies_on(DetectedSegment(x, y, length, 0.0, 5.0), stronger, 2.0) == lies


def test_only_a_trail_of_three_fwhm_reaches_beyond_its_ends():
    for length, lies in ((6.0, True), (5.99, False)):
        point = DetectedSegment(length / 2 + 2.5, 0.0, 0.0, 0.0, 5.0)
        assert lies_on(point, DetectedSegment(0.0, 0.0, length, 0.0, 20.0), 2.0) == lies


@pytest.mark.parametrize("angle", [0.0, 50.0, 90.0, 179.0])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("flipped", [0.0, 180.0])
def test_the_gap_between_two_pieces_begins_and_ends_at_theirs(angle, side, flipped):
    first = DetectedSegment(5.0, 9.0, 30.0, angle, 3.0)
    c, s = first.direction
    second = DetectedSegment(5 + side * 50 * c, 9 + side * 50 * s, 20.0, angle + flipped, 4.0)
    for one, other in ((first, second), (second, first)):
        gap, whole = between(one, other), union(one, other)
        assert (gap.length, gap.snr) == (pytest.approx(50 - 15 - 10), 0.0)
        assert (gap.x, gap.y) == pytest.approx((5 + side * 27.5 * c, 9 + side * 27.5 * s))
        assert (whole.length, whole.snr) == (pytest.approx(50 + 15 + 10), 5.0)
        assert (whole.x, whole.y) == pytest.approx((5 + side * 22.5 * c, 9 + side * 22.5 * s))


@pytest.mark.parametrize(("fwhm", "tolerance"), [(2.0, 3.0), (4.0, 6.0), (7.0, 6.0)])
def test_fits_within_1_5_fwhm_and_6_px_repeat_each_other(fwhm, tolerance):
    long = fitted(50.0, 50.0, 40.0, 0.0)
    beyond = fitted(70 + tolerance, 50.0, 0.0, 0.0)
    for repeat in (fitted(50.0, 50 + tolerance, 0.0, 0.0), fitted(60 + tolerance, 50.0, 20.0, 0.0), beyond):
        for fits in ([long, repeat], [repeat, long]):
            assert first_of_each(fits, fwhm) == [0]
    for other in (fitted(50.0, 50.01 + tolerance, 0.0, 0.0), fitted(60.01 + tolerance, 50.0, 20.0, 0.0)):
        assert first_of_each([long, other], fwhm) == [0, 1]
    turned = fitted(50.0, 50.0, 2 * tolerance, 90.0)
    assert first_of_each([long, turned], fwhm) == [0]
    assert first_of_each([long, turned._replace(length=2 * tolerance + 0.01)], fwhm) == [0, 1]


@settings(deadline=None, max_examples=60)
@given(segments, segments, st.floats(0.0, 40.0))
def test_segments_come_near_where_any_of_many_points_does(one, other, radius):
    x1, y1, x2, y2 = one.ends()
    t = np.linspace(0, 1, 401)
    nearest = min(other.distance(x1 + each * (x2 - x1), y1 + each * (y2 - y1)) for each in t)
    if abs(nearest - radius) > 0.51:  # points 1 px apart stand for it
        assert comes_near(one, other, radius) == (nearest < radius)


def test_limits_of_near_and_in_line_belong_to_them():
    long = DetectedSegment(50.0, 50.0, 80.0, 0.0, 1.0)
    assert comes_near(Segment(95, 50, 0, 0), Segment(50, 50, 80, 0), 5.0)
    assert comes_near(Segment(100, 50, 10, 0), Segment(50, 50, 80, 0), 5.0)
    assert comes_near(Segment(50, 58, 10.5, 90), Segment(50, 50, 80, 0), 2.75)
    assert overlap(long.shifted(0.0, 3.0), long, 3.0) == 1
    assert in_line(long.shifted(7.0, 3.0), long, 3.0)
    assert in_line(long, long.shifted(7.0, -3.0), 3.0)
    assert not in_line(long, long.shifted(7.0, -3.01), 3.0)
    assert same_trail(Segment(50, 53, 0, 0), Segment(50, 50, 80, 0), 3.0)
    tilted = Segment(50, 50, 20, math.degrees(math.asin(0.35)))  # one end 3.5 px off, and the other
    assert same_trail(tilted, Segment(50, 50, 80, 0), 3.5001)
    assert not same_trail(tilted, Segment(50, 50, 80, 0), 3.4999)


def test_of_two_of_one_length_the_first_gives_the_direction():
    first, second = DetectedSegment(0.0, 0.0, 20.0, 0.0, 3.0), DetectedSegment(5.0, 0.0, 20.0, 10.0, 4.0)
    assert union(first, second).angle == 0
    assert union(second, first).angle == 10
    short, long = Segment(50, 50, 30, 0), Segment(50, 50, 30, 4)
    assert same_trail(short, long, 1.05)
    assert not same_trail(short, long, 1.04)
    first, second = Segment(50, 50, 30, 0), Segment(60, 50, 30, 10)  # 10.5 px from the second, which is 10.1 from it
    assert not same_trail(first, second, 10.3)
    assert same_trail(second, first, 10.3)


def test_where_segments_overlap_the_gap_is_at_the_end_of_the_longer():
    trail = DetectedSegment(1.0, 2.0, 40.0, 30.0, 1.0)
    for along, side in ((0.0, 1), (3.0, 1), (-3.0, -1), (18.0, 1)):
        c, s = trail.direction
        gap = between(trail, trail.shifted(along * c, along * s)._replace(length=10.0, angle=30.0))
        assert gap[:3] == pytest.approx((1 + side * 20 * c, 2 + side * 20 * s, 0))


def test_points_are_spread_evenly_at_the_step_or_less():
    segment = DetectedSegment(3.0, 4.0, 10.0, math.degrees(math.atan2(4, 3)), 1.0)
    for step, count in ((1.0, 11), (3.0, 5), (10.0, 2), (11.0, 2), (3.4, 4)):
        expected = np.linspace((0.0, 0.0), (6.0, 8.0), count)
        np.testing.assert_allclose(segment.points(step), expected, atol=1e-12)


def test_the_segment_between_two_points_by_hand():
    assert from_ends(1.0, 2.0, 4.0, 6.0, 9.0) == pytest.approx((2.5, 4, 5, math.degrees(math.atan2(4, 3)), 9))
    assert from_ends(4.0, 6.0, 1.0, 2.0, 9.0).angle == pytest.approx(math.degrees(math.atan2(4, 3)))
    assert from_ends(1.0, 2.0, 1.0, 9.0, 9.0).angle == 90
    assert Segment(3, 4, 10, 90).ends() == pytest.approx((3, -1, 3, 9))


def test_an_axis_parallel_stadium_holds_what_lies_on_its_rim():
    for angle, shape in ((0.0, (9, 17)), (90.0, (17, 9))):
        center = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
        f = stadium(shape, Segment(*center, 8.0, angle), 4.0)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
        apart = distance(x, y, DetectedSegment(*center, 8.0, angle, 1.0))
        inside = np.zeros(shape, bool)
        inside[f.y, f.x] = True
        clear = (np.abs(apart - 4) > 1e-9) | (angle == 0)
        np.testing.assert_array_equal(inside[clear], apart[clear] <= 4)
        outside = stadium(shape, Segment(center[0], -4.01, 0.0, angle), 4.0)
        assert (len(outside.y), len(stadium(shape, Segment(center[0], 99.0, 5.0, angle), 4.0).y)) == (0, 0)


def test_points_are_near_a_segment_within_the_radius_and_not_at_it():
    segments = [DetectedSegment(50.0, 50.0, 80.0, 0.0, 1.0), DetectedSegment(200.0, 50.0, 0.0, 0.0, 1.0)]
    x, y = np.array([95.0, 94.9, 50.0, 205.0, 204.9]), np.array([50.0, 50.0, 45.1, 50.0, 50.0])
    assert near_any(x, y, segments, 5.0).tolist() == [False, True, True, False, True]
    assert near_any(x, y, segments, np.array([5.1, 4.8, 4.8, 9.0, 1.0])).tolist() == [True, False, False, True, False]
    assert not near_any(x, y, [], 5.0).any()


@pytest.mark.parametrize(
    ("snr", "point", "apart"), [(45.0, 99.0, False), (44.9, 99.0, True), (10.0, 3.0, False), (10.0, 3.01, True)]
)
def test_limits_of_what_outshines_a_line_do_not_belong_to_it(snr, point, apart):
    line = fitted(100.0, 100.0, 200.0, 0.0, snr)  # one FWHM of 2 px has a tenth of that
    assert outshines(fitted(90.0, 100.0, 0.0, 0.0, point), line, 2.0) == apart


def test_segments_of_columns_are_their_rows_and_nothing_is_0():
    columns = (1.0, 2.0), (3.0, 4.0), (5.0, None), (6.0, 7.0), (None, 9.0)
    assert detected_segments(*columns) == [(1, 3, 5, 6, 0), (2, 4, 0, 7, 9)]
    assert detected_segments((), (), (), (), ()) == []


def test_the_first_and_the_last_pixel_of_a_footprint_are_grown_into_as_well():
    f = stadium((40, 40), Segment(20.0, 18.0, 9.0, 0.0), 3.0)
    for beside, place_of in ((1, 0), (-2, -1)):
        marked = np.zeros(len(f.y), bool)
        marked[beside] = True
        assert grow(marked, f, 1)[place_of]
