import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.segment import Segment, between, distance, from_ends, in_line, overlap, union

coordinate = st.floats(-50, 50)


@given(coordinate, coordinate, coordinate, coordinate)
def test_ends_make_the_segment_that_has_them(x1, y1, x2, y2):
    segment = from_ends(x1, y1, x2, y2, 5.0)
    assert 0 <= segment.angle <= 180
    points = segment.points(1.0)
    ends = {tuple(np.round(point, 6) + 0.0) for point in (points[0], points[-1])}
    if segment.length > 1e-3:
        assert ends == {tuple(np.round(end, 6) + 0.0) for end in ([x1, y1], [x2, y2])}


@given(coordinate, coordinate, st.floats(0, 60), st.floats(0, 180))
def test_distance_is_that_of_the_nearest_of_many_points(x, y, length, angle):
    segment = Segment(3.0, -4.0, length, angle, 1.0)
    many = segment.points(0.01)
    nearest = np.hypot(many[:, 0] - x, many[:, 1] - y).min()
    assert distance(np.array(x), np.array(y), segment) == pytest.approx(nearest, abs=0.01)


def test_points_of_a_point_are_one():
    np.testing.assert_array_equal(Segment(1.0, 2.0, 0.0, 33.0, 1.0).points(1.0), [[1.0, 2.0]])


def test_overlap_of_crossing_trails_is_small_and_of_shifted_ones_their_common_part():
    trail = Segment(0.0, 0.0, 40.0, 0.0, 1.0)
    assert overlap(trail._replace(angle=90.0), trail, 2.0) < 0.15
    assert overlap(trail.shifted(20.0, 0.0), trail, 0.5) == pytest.approx(0.5, abs=0.03)
    assert overlap(trail.shifted(0.0, 10.0), trail, 3.0) == 0


def test_pieces_of_a_line_are_in_line_and_their_union_spans_both():
    whole = from_ends(10.0, 20.0, 110.0, 70.0, 0.0)
    cosine, sine = whole.direction
    first = Segment(whole.x - 30 * cosine, whole.y - 30 * sine, 30.0, whole.angle, 3.0)
    second = Segment(whole.x + 40 * cosine, whole.y + 40 * sine, 20.0, whole.angle, 4.0)
    assert in_line(first, second, 0.1)
    assert between(first, second).length == pytest.approx(70 - 15 - 10)
    joined = union(first, second)
    assert joined == union(second, first)
    assert joined.length == pytest.approx(45 + 50)
    assert joined.snr == 5
    assert not in_line(first, second.shifted(-10 * sine, 10 * cosine), 3.0)


def test_nothing_lies_between_segments_that_overlap():
    trail = Segment(0.0, 0.0, 40.0, 30.0, 1.0)
    assert between(trail, trail._replace(length=10.0)).length == 0
