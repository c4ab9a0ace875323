import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from kernels.footprint import Segment, comes_near, erase_stadium, grow, place, stadium

segments = st.builds(
    Segment, st.floats(-20, 60), st.floats(-20, 50), st.floats(0, 80), st.one_of(st.floats(0, 180), st.just(90.0))
)


def brute(shape, segment, radius):
    x1, y1, x2, y2 = segment.ends()
    y, x = np.mgrid[: shape[0], : shape[1]]
    square = (x2 - x1) ** 2 + (y2 - y1) ** 2
    t = np.clip(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / (square or 1), 0, 1)
    return np.hypot(x - x1 - t * (x2 - x1), y - y1 - t * (y2 - y1))


@settings(deadline=None)
@given(segment=segments, radius=st.floats(0.5, 12))
def test_pixels_are_those_within_the_radius(segment, radius):
    footprint = stadium((37, 43), segment, radius)
    distance = brute((37, 43), segment, radius)
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


@settings(deadline=None, max_examples=40)
@given(segment=segments, radius=st.floats(0.5, 12))
def test_erased_are_the_pixels_within_the_radius(segment, radius):
    usable = np.ones((37, 43), bool)
    erase_stadium(usable, segment, radius)
    distance = brute((37, 43), segment, radius)
    assert usable[distance > radius + 1e-9].all()
    assert not usable[distance < radius - 1e-9].any()


def test_segments_come_near_where_they_cross_and_not_beyond_their_ends():
    long = Segment(50, 50, 80, 0)
    assert comes_near(Segment(50, 60, 30, 90), long, 1.0)
    assert comes_near(Segment(95, 50, 0, 0), long, 5.5)
    assert not comes_near(Segment(97, 50, 0, 0), long, 5.5)
    assert not comes_near(Segment(50, 80, 30, 90), long, 14.0)
