import pytest

from kernels.duplicates import first_of_each, same_trail
from kernels.footprint import Segment


def test_fits_that_came_to_one_place_are_one():
    fits = [Segment(50, 50, 20, 30), Segment(50.8, 49.5, 18, 32), Segment(49, 50, 0, 0), Segment(90, 50, 20, 30)]
    assert first_of_each(fits, 2.3) == [0, 3]


@pytest.mark.parametrize("fwhm", [2.3, 4.0, 7.0])
def test_parallel_trails_ten_pixels_apart_stay_two(fwhm):
    assert first_of_each([Segment(50, 50, 40, 0), Segment(50, 60, 40, 0)], fwhm) == [0, 1]


def test_pieces_of_a_long_trail_are_one():
    whole = Segment(100, 100, 200, 0)
    pieces = [Segment(40, 100.5, 60, 1), Segment(150, 99, 80, 179)]
    assert first_of_each([whole, *pieces], 2.3) == [0]
    assert first_of_each([pieces[0], whole], 2.3) == [0]


def test_trails_that_cross_stay_two():
    assert first_of_each([Segment(50, 50, 40, 10), Segment(50, 50, 40, 60)], 2.3) == [0, 1]


def test_it_does_not_matter_which_is_asked_first():
    one, other = Segment(50, 50, 30, 20), Segment(52, 51, 12, 25)
    assert same_trail(one, other, 3.0) == same_trail(other, one, 3.0)


def test_nothing_in_nothing_out():
    assert first_of_each([], 2.3) == []
